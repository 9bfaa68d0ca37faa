"""Fairness penalties in the generator's step (`gan.penalty`), and their part of the state.

"marginals" adds a distance of the shares that a frozen judge sees in the fakes (of the batch, or
lately) from a target, "constraint" bounds that distance by a Lagrange multiplier, "adversary" lets
a small network guess the judged class from the style and trains the generator against it, "quality"
weights the classes of the fakes by how badly D takes them for real. All train on what one judge
says and can game it: the figures of a run must come from another judge.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from fairjax.models.adversary import StyleClassifier
from fairjax.objectives.penalties import (
    chance_level,
    lagrangian,
    raised,
    slope_along,
    soft_cross_entropy,
    squared_distance,
)
from fairjax.objectives.reduce import group_dro, group_means
from fairjax.train.devices import put_replicated

# Steps split their keys in two; the adversary's first weights come from another branch.
_ROOT = 0xAD7E


class FrozenJudge(struct.PyTreeNode):
    """A trained judge that a penalty asks, and the shares it should see. Data of a program: another
    judge of the same shape, or another target, compiles nothing anew.

    Of several networks each step asks the next: what pleases one of them by chance does not last.
    """

    variables: Any  # arrays [networks, ..]
    target: jax.Array  # [k], sum 1
    network: nn.Module = struct.field(pytree_node=False)  # (images, train) -> logits [n, k]

    def __call__(self, images: jax.Array, step: jax.Array | int) -> jax.Array:
        """Fakes [n, H, W, C] of a step -> probabilities [n, k].

        Clipped to [-1, 1], as samples are: else the judge could be pleased by what no image shows.
        """
        x = jnp.clip(images.astype(float), -1.0, 1.0)
        turn = step % len(jax.tree.leaves(self.variables)[0])
        variables = jax.tree.map(lambda of_all: of_all[turn], self.variables)
        logits: Any = self.network.apply(variables, x, train=False)
        return jax.nn.softmax(logits)


def frozen_judge(network: nn.Module, members: Sequence[Any], target: np.ndarray) -> FrozenJudge:
    """Puts the judge, the variables of each of its networks, on all devices."""
    return FrozenJudge(
        variables=jax.tree.map(lambda *own: put_replicated(np.stack(own)), *members),
        target=put_replicated(np.asarray(target, np.float32)),
        network=network,
    )


class Running(struct.PyTreeNode):
    """The state of "marginals" with `gan.penalty_momentum`."""

    shares: jax.Array  # running means of the fakes' shares [k], from equal ones on


class Multiplier(struct.PyTreeNode):
    """The state of "constraint"."""

    mu: jax.Array


class Adversary(struct.PyTreeNode):
    """The state of "adversary"."""

    params: Any
    optimiser: Any


class Worst(struct.PyTreeNode):
    """The state of "quality"."""

    q: jax.Array  # weights of the classes [k], sum 1


PenaltyState = Running | Multiplier | Adversary | Worst | None


def penalty_start(gan: ConfigDict, key: jax.Array, classes: int) -> PenaltyState:
    """The first state of a penalty; None where it has none.

    Args:
      gan: the config tree.
      key: decides the adversary's weights.
      classes: of the judge. With 0 (no judge is known) there is no adversary either: such a state
        has the shapes of both networks, but cannot be trained with a penalty.
    """
    if gan.penalty == "constraint":
        return Multiplier(jnp.zeros(()))
    if gan.penalty == "marginals" and gan.penalty_momentum and classes:
        return Running(jnp.full(classes, 1 / classes))
    if gan.penalty == "quality" and classes:
        return Worst(jnp.full(classes, 1 / classes))
    if gan.penalty == "adversary" and classes:
        w = jnp.zeros((1, gan.w_dim))
        params = _adversary(gan, classes).init(jax.random.fold_in(key, _ROOT), w)["params"]
        return Adversary(params, _adam(gan).init(params))
    return None


class Fakes(NamedTuple):
    """A batch of them.

    Attributes:
      images: [n, H, W, C] as the generator makes them, without augmentation.
      ws: their styles [n, num_ws, w_dim].
      losses: what each adds to the generator's adversarial loss [n].
    """

    images: jax.Array
    ws: jax.Array
    losses: jax.Array


class Seen(NamedTuple):
    """What a penalty saw: probabilities [n, k], w [n, w_dim], losses [n]."""

    p: jax.Array
    w: jax.Array
    losses: jax.Array


def penalty_term(
    gan: ConfigDict,
    state: PenaltyState,
    judge: FrozenJudge,
    fakes: Fakes,
    step: jax.Array | int,
) -> tuple[jax.Array, Seen]:
    """What the penalty adds to the generator's loss.

    Args:
      gan: the config tree.
      state: before the step.
      judge: is asked about the images; gradients flow through it.
      fakes: the adversary is told the mean of their styles over the layers: w itself, but for style
        mixing, where each of both styles counts by its layers.
      step: decides which network of the judge is asked.

    With "marginals" and a momentum the slope is that of |m - target|^2 at the running shares m: by
    chance a batch of eight is far from its mean.

    "quality" is a min-max over groups on the generator's side, with the update of group DRO: with
    a weight of 1 its loss is sum_g q_g L_g, L_g the mean over the fakes that the judge takes for g.

    Returns: (term, what `penalty_moved` needs).
    """
    p, w = judge(fakes.images, step), fakes.ws.mean(1)
    if isinstance(state, Adversary):
        guess = _guess(gan, state.params, w, p.shape[1])
        # The reversed loss reaches mapping through w, and mapping and synthesis through the label.
        added = -gan.penalty_weight * soft_cross_entropy(guess, p)
    elif isinstance(state, Running):
        added = gan.penalty_weight * slope_along(state.shares, judge.target, p)
    elif isinstance(state, Worst):
        worst = _worst(gan, state, p, fakes.losses)[0]
        added = gan.penalty_weight * (worst - fakes.losses.mean())
    else:
        distance = squared_distance(p, judge.target, gan.penalty_unbiased)
        if isinstance(state, Multiplier):
            added = lagrangian(state.mu, distance, gan.penalty_slack)
        else:
            added = gan.penalty_weight * distance
    return added, Seen(p, w, fakes.losses)


def penalty_moved(
    gan: ConfigDict, state: PenaltyState, judge: FrozenJudge, seen: Seen
) -> tuple[PenaltyState, dict[str, Any]]:
    """The state after the batch of `penalty_term`, and metrics.

    Both the generator and the adversary (or mu) are updated from where they stood before the step.
    """
    p, w, losses = seen
    distance = squared_distance(p, judge.target, gan.penalty_unbiased)
    metrics: dict[str, Any] = {"penalty/distance": distance}
    metrics |= {f"penalty/share/{u}": share for u, share in enumerate(p.mean(0))}
    if isinstance(state, Running):
        beta = gan.penalty_momentum
        state = Running(beta * state.shares + (1 - beta) * p.mean(0))
        metrics |= {f"penalty/running/{u}": share for u, share in enumerate(state.shares)}
    elif isinstance(state, Multiplier):
        state = Multiplier(raised(state.mu, distance, gan.penalty_slack, gan.penalty_rate))
        metrics["penalty/mu"] = state.mu
    elif isinstance(state, Worst):
        _, state, means, present = _worst(gan, state, p, losses)
        for u, there in enumerate(present.astype(float)):  # an absent class adds nothing to a mean
            metrics[f"quality/loss/{u}"] = (means[u] * there, there)
            metrics[f"quality/q/{u}"] = state.q[u]
    elif isinstance(state, Adversary):

        def loss_of(params: Any) -> jax.Array:
            return soft_cross_entropy(_guess(gan, params, w, p.shape[1]), p)

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        updates, optimiser = _adam(gan).update(grads, state.optimiser)
        state = Adversary(optax.apply_updates(state.params, updates), optimiser)
        metrics |= {"adversary/loss": loss, "adversary/chance": chance_level(p)}
    return state, metrics


def _worst(
    gan: ConfigDict, state: Worst, p: jax.Array, losses: jax.Array
) -> tuple[jax.Array, Worst, jax.Array, jax.Array]:
    """(sum_g q_g L_g with the new q, the new state, L [k], bool [k]: which classes are there)."""
    means, present = group_means(losses, jnp.ones_like(losses), p.argmax(1), p.shape[1])
    loss, q = group_dro(means, present, state.q, eta=gan.penalty_rate)
    return loss, Worst(q), means, present


def _adversary(gan: ConfigDict, classes: int) -> StyleClassifier:
    return StyleClassifier(classes=classes, width=gan.adversary_width)


def _guess(gan: ConfigDict, params: Any, w: jax.Array, classes: int) -> jax.Array:
    logits: Any = _adversary(gan, classes).apply({"params": params}, w)
    return logits


def _adam(gan: ConfigDict) -> optax.GradientTransformation:
    return optax.adam(gan.adversary_learning_rate, b1=gan.beta1, b2=gan.beta2)
