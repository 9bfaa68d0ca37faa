"""The slots of a classifier's loss: the objective and the penalties, by the words of `fit`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fairjax.models.adversary import StyleClassifier, reverse_gradient
from fairjax.models.occam import Exits
from fairjax.objectives import group_penalties, losses, occam, reduce
from fairjax.objectives.penalties import lagrangian, raised


def objective(
    fit: ConfigDict,
    each: jax.Array,
    weight: jax.Array,
    means: jax.Array,
    present: jax.Array,
    running: jax.Array,
    q: jax.Array,
    shares: jax.Array,
    adjustment: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """From the losses of a batch to the scalar of `fit.objective`.

    Args:
      each, weight: [b], losses and weights.
      means, present, running: [k], of the groups; see `reduce`.
      q: [k], of group DRO. shares: [k], of the groups in training. adjustment: [k], C / sqrt(n_g).

    Returns:
      (the scalar, q); all but group DRO leave q alone.
    """
    if fit.objective == "group_dro":
        return reduce.group_dro(
            means, present, q, eta=fit.dro_eta, adjustment=adjustment,
            absent=fit.dro_absent,
        )  # fmt: skip
    scalar = {
        "mean": lambda: reduce.weighted_mean(each, weight),
        "group_mean": lambda: reduce.present_mean(means, present),
        "max": lambda: jnp.max(jnp.where(present, means, 0)),
        "cvar": lambda: reduce.cvar(each, weight, fit.cvar_alpha),
        "cvar_groups": lambda: reduce.cvar_groups(
            means, present, shares, running + adjustment, fit.cvar_alpha
        ),
        "top_k": lambda: reduce.top_k(each, weight, fit.top_k),
    }[fit.objective]()
    return scalar, q


def exits(
    fit: ConfigDict,
    found: Exits,
    target: jax.Array,
    index: jax.Array,
    memory: occam.Memory,
    step: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array, occam.Memory, dict[str, jax.Array]]:
    """The losses of an OccamNet; see `occam.losses` for arguments and results. An epoch is as many
    images as there are to train on, whatever the sampler draws."""
    epoch = max(1, len(memory["correct"]) // len(target))  # steps
    return occam.losses(
        *found, target, index, occam.new_epoch(memory, step % epoch == 0), loss=loss,
        first=step < epoch, gamma0=fit.occam_gamma0, gamma=fit.occam_gamma,
        factor=fit.occam_suppression, thresholds=fit.occam_thresholds,
    )  # fmt: skip


def adversary(fit: ConfigDict, values: int) -> StyleClassifier:
    """The network that guesses the protected attribute."""
    return StyleClassifier(values, fit.adversary_width)


def shown(fit: ConfigDict, features: jax.Array, logits: jax.Array, target: jax.Array) -> jax.Array:
    """What the adversary is shown."""
    seen = features if fit.adversary_on == "features" else logits
    if fit.adversary_given == "target":  # conditional on y: Zhang et al., 2018
        return jnp.concatenate([seen, jax.nn.one_hot(target, logits.shape[1])], -1)
    return seen


def irm_factor(fit: ConfigDict, done: jax.Array) -> jax.Array:
    """Factor of IRM's penalty after the share `done` of the training: `fit.irm`, before
    `fit.irm_start` at most 1, as in the published code. There the whole loss is divided by a factor
    above 1, so that steps do not grow with it."""
    return jnp.where(done >= fit.irm_start, fit.irm, min(fit.irm, 1.0))


def penalties(
    fit: ConfigDict,
    params: Any,
    features: jax.Array,
    logits: jax.Array,
    target: jax.Array,
    protected: jax.Array,
    group: jax.Array,
    *,
    values: int,
    groups: int,
    multiplier: jax.Array,
    done: jax.Array,
) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
    """All penalties of `fit` that are on.

    Args:
      params: {"encoder", "head"} and, with an adversary, "adversary".
      features: [b, d]. logits: [b, c].
      target, protected, group: int [b]; protected is -1 where unknown.
      values: of the protected attribute. groups: how many there are.
      multiplier: of the constraint.
      done: share of the training that lies behind.

    Returns:
      (their weighted sum, the multiplier after a step of ascent, logs).
    """
    total = jnp.zeros(())
    logs: dict[str, Any] = {}
    if fit.spectral:
        value = group_penalties.spectral(logits, target, jnp.asarray(fit.spectral_gamma))
        total += jnp.where(done >= fit.spectral_start, fit.spectral * value, 0)
        logs["penalty/spectral"] = value
    if fit.l1:
        value = group_penalties.l1({k: params[k] for k in ("encoder", "head")})
        total += fit.l1 * value
        logs["penalty/l1"] = value
    if fit.gap != "none":
        value = group_penalties.gap(logits, target, protected, values, fit.gap)
        if fit.gap_form == "penalty":
            total += fit.gap_weight * value
        else:
            total += lagrangian(multiplier, value, fit.gap_slack)
            multiplier = raised(multiplier, value, fit.gap_slack, fit.gap_rate)
            logs["penalty/multiplier"] = multiplier
        logs["penalty/gap"] = value
    if fit.irm:
        of_groups = fit.irm_environments == "groups"
        value = group_penalties.invariance(
            logits, target, group if of_groups else protected, groups if of_groups else values,
            losses.of_examples(fit.loss, fit.focal_gamma),
        )  # fmt: skip
        total += irm_factor(fit, done) * value
        logs["penalty/irm"] = value
    if fit.mmd:
        value = group_penalties.mmd(features, target, protected, logits.shape[1], values)
        total += fit.mmd * value
        logs["penalty/mmd"] = value
    if fit.adversary:
        # The factor grows from 0 to `adversary` (Ganin et al., 2016, section 5.2.2).
        factor = fit.adversary * (2 / (1 + jnp.exp(-10 * done)) - 1)
        seen = reverse_gradient(shown(fit, features, logits, target), factor)
        guess: Any = adversary(fit, values).apply({"params": params["adversary"]}, seen)
        there = (protected >= 0).astype(jnp.float32)
        count = jnp.maximum(there.sum(), 1)
        value = (losses.cross_entropy(guess, jnp.maximum(protected, 0)) * there).sum() / count
        right = ((guess.argmax(-1) == protected) * there).sum()
        total += value
        logs |= {"adversary/loss": value, "adversary/accuracy": (right, there.sum())}
    return total, multiplier, logs
