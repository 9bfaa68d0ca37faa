"""From a loss vector to the scalar that is minimised: weighted mean and group DRO.

All sums run over the global batch; nothing here knows about devices.
"""

import jax
import jax.numpy as jnp


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    """sum(w * l) / batch, both [batch] (Choi et al., 2020, eq. 4: not divided by sum(w))."""
    if losses.shape != weights.shape:  # (n,) * (n, 1) would silently give an (n, n) matrix
        raise ValueError(f"losses {losses.shape} and weights {weights.shape} differ in shape")
    return jnp.mean(weights * losses)


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
      (means [k], 0 where the group is absent; present bool [k]).
    """
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
) -> tuple[jax.Array, jax.Array]:
    """One exponentiated-gradient step on q and the loss under the new q.

    Sagawa et al., 2020, algorithm 1, in the form of the design: only the present groups are
    updated, with losses centred on their q-mean, and they share among themselves the mass they
    had; equal losses, and a constant added to all losses, leave q alone.

    Args:
      means: loss per group [k], from `group_means`.
      present: bool [k].
      q: group weights [k], sum 1.
      eta: step size.
      adjustment: C / sqrt(n_g) per group (their section 3.3), only for the update of q.
      absent: "skip", or "zero": an absent group counts as loss 0 and is updated too, as in the
        published classifier code.

    Returns:
      (loss = sum over the present groups of q_g L_g, new q [k]). No gradient flows through q.
    """
    scores = jax.lax.stop_gradient(means) + adjustment
    active = present if absent == "skip" else jnp.ones_like(present)
    if absent == "zero":
        scores = jnp.where(present, scores, 0)
    mass = jnp.sum(jnp.where(active, q, 0))
    centre = jnp.sum(jnp.where(active, q * scores, 0)) / jnp.maximum(mass, 1e-12)
    raised = jnp.where(active, q * jnp.exp(eta * (scores - centre)), 0)
    raised = raised * mass / jnp.maximum(jnp.sum(raised), 1e-12)
    q = jax.lax.stop_gradient(jnp.where(active, raised, q))
    return jnp.sum(jnp.where(present, q * means, 0)), q
