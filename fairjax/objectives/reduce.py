"""From a loss vector to the scalar that is minimised: means, group DRO, CVaR.

All sums run over the global batch; nothing here knows about devices.
"""

import jax
import jax.numpy as jnp

LEAST = 1e-9  # of the mass of the groups that are updated together, what each keeps at least


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    """sum(w * l) / batch, both [batch] (Choi et al., 2020, eq. 4: not divided by sum(w))."""
    _vectors(losses=losses, weights=weights)
    return jnp.mean(weights * losses)


def self_normalised(weights: jax.Array) -> jax.Array:
    """Weights [batch] >= 0 divided by their mean over the batch; all zero stays all zero.

    The weighted mean then is a ratio of sums: its variance does not contain that of the total
    weight of a batch, at the price of a bias of order 1/batch (Owen 2013, section 9.2).
    """
    mean = jnp.mean(weights)
    return weights / jnp.where(mean > 0, mean, 1)


def ramped(weights: jax.Array, share: jax.Array) -> jax.Array:
    """weights ** share with share >= 0: from equal weights (0) to the full ones (1).

    A weight of 0 stays 0, so that what is never used is not used at the start either.
    """
    positive = weights > 0
    return jnp.where(positive, jnp.where(positive, weights, 1) ** share, 0)


def group_means(
    losses: jax.Array, weights: jax.Array, groups: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """Weighted mean loss within each group over the examples of the batch.

    Args:
      losses: [batch].
      weights: [batch], >= 0.
      groups: int [batch] in [0, k); negative = belongs to no group.
      k: number of groups.

    Returns:
      (means [k], 0 where the group is absent; present bool [k]). A group whose examples all have
      weight 0 is absent.
    """
    _vectors(losses=losses, weights=weights, groups=groups)
    member = jax.nn.one_hot(groups, k, dtype=losses.dtype)  # a negative group is a zero row
    mass = weights @ member
    present = mass > 0
    means = (weights * losses) @ member / jnp.where(present, mass, 1)
    return means, present


def group_dro(
    means: jax.Array,
    present: jax.Array,
    q: jax.Array,
    *,
    eta: float,
    adjustment: jax.Array | float = 0.0,
    absent: str = "skip",
    scores: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """One exponentiated-gradient step on q and the loss under the new q.

    Sagawa et al., 2020, algorithm 1, in the form of the design: only the present groups are
    updated, and they share among themselves the mass they had; so equal losses, and a constant
    added to all losses, leave q alone. (A shift of the losses cancels in that sharing: centring
    them on their q-mean or, as here for the sake of rounding, on the largest is the same.) Unlike
    there, a group whose q is above 0 keeps `LEAST`: in float32 it would end at 0, for ever.

    Args:
      means: loss per group [k], from `group_means`.
      present: bool [k].
      q: group weights [k], sum 1.
      eta: step size.
      adjustment: C / sqrt(n_g) per group (their section 3.3), only for the update of q.
      absent: "skip", or "zero": an absent group counts as loss 0 (plus its adjustment) and is
        updated too, as in the published classifier code.
      scores: [k], what q follows in place of the means, such as `running_losses`.

    Returns:
      (loss = sum over the present groups of q_g L_g, new q [k]). No gradient flows through q.
    """
    _vectors(means=means, present=present, q=q)
    followed = means if scores is None else scores
    scores = jax.lax.stop_gradient(jnp.where(present, followed, 0)) + adjustment
    active = present if absent == "skip" else jnp.ones_like(present)
    largest = jnp.max(jnp.where(active & (q > 0), scores, -jnp.inf))
    # A group with q = 0 stays there, however large its loss (0 * inf would be NaN).
    raised = jnp.where(active, q * jnp.exp(eta * jnp.minimum(scores - largest, 0)), 0)
    mass = jnp.sum(jnp.where(active, q, 0))
    # One that fell to the bit would do so too: it keeps a share from which it can rise.
    raised = jnp.where(active & (q > 0), jnp.maximum(raised, LEAST * mass), raised)
    # The quotient first: it is exactly 1 where all losses are equal.
    raised = raised * (mass / jnp.maximum(jnp.sum(raised), 1e-30))
    q = jax.lax.stop_gradient(jnp.where(active, raised, q))
    return jnp.sum(jnp.where(present, q * means, 0)), q


def running_losses(
    means: jax.Array, present: jax.Array, before: jax.Array, momentum: float
) -> jax.Array:
    """Losses per group [k] averaged over steps: momentum * before + (1 - momentum) * means.

    A group's own examples move it only: an absent group keeps its average, and one that was never
    seen (below 0 before; no loss of ours is) starts at its first mean. The noise of small groups,
    of which a batch holds one or two, then hardly drives q.
    """
    _vectors(means=means, present=present, before=before)
    moved = jnp.where(before < 0, means, momentum * before + (1 - momentum) * means)
    return jax.lax.stop_gradient(jnp.where(present, moved, before))


def present_mean(means: jax.Array, present: jax.Array) -> jax.Array:
    """Mean over the present groups of their mean losses; 0 where none is present."""
    return jnp.sum(jnp.where(present, means, 0)) / jnp.maximum(jnp.sum(present), 1)


def cvar(losses: jax.Array, weights: jax.Array, alpha: float) -> jax.Array:
    """Mean of the worst share alpha of a batch, the examples having masses proportional to weights.

    CVaR (Rockafellar and Uryasev, 2000); alpha = 1 is the weighted mean over the total weight. The
    example at the boundary counts in part; the gradient takes who is worst as given.
    """
    _vectors(losses=losses, weights=weights)
    mass = weights / jnp.maximum(jnp.sum(weights), 1e-30)
    order = jnp.argsort(-jax.lax.stop_gradient(losses))
    before = jnp.cumsum(mass[order]) - mass[order]
    counted = jnp.clip(alpha - before, 0, mass[order])
    return jnp.sum(counted * losses[order]) / alpha


def cvar_groups(
    means: jax.Array, present: jax.Array, shares: jax.Array, scores: jax.Array, alpha: float
) -> jax.Array:
    """CVaR over groups: mass alpha is filled from the group with the largest score (Oren et al.,
    2019; greedy, as in the published code of group DRO).

    Args:
      means: loss per group [k], from `group_means`. present: bool [k].
      shares: [k], of the training images, sum 1.
      scores: [k], by which groups are ordered, such as `running_losses` plus an adjustment.
      alpha: in (0, 1]; 1 weighs each group by its share.

    Returns:
      sum over the present groups of (mass it gets / alpha) * mean; no gradient through the order.
    """
    _vectors(means=means, present=present, shares=shares, scores=scores)
    order = jnp.argsort(-jax.lax.stop_gradient(scores))
    before = jnp.cumsum(shares[order]) - shares[order]
    counted = jnp.clip(alpha - before, 0, shares[order]) / alpha
    return jnp.sum(jnp.where(present[order], counted * means[order], 0))


def top_k(losses: jax.Array, weights: jax.Array, k: int) -> jax.Array:
    """Mean of the k largest weighted losses of a batch (Fan et al., 2017); k = batch: the mean."""
    _vectors(losses=losses, weights=weights)
    return jax.lax.top_k(weights * losses, k)[0].mean()


def _vectors(**named: jax.Array) -> None:
    """(n,) times (n, 1) would silently give an (n, n) matrix."""
    shapes = {name: x.shape for name, x in named.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"vectors of one length are needed, found {found}")
