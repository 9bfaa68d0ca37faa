"""Learning from failure (Nam et al., 2020): weights by what a network of shortcuts fails at.

Losses here are cross-entropies of each training image, averaged over the steps that saw it.
"""

import jax
import jax.numpy as jnp


def averaged(before: jax.Array, losses: jax.Array, index: jax.Array, momentum: float) -> jax.Array:
    """Averages [n] after a batch: momentum * before + (1 - momentum) * loss for what it holds.

    The first loss of an image is taken whole; an image that a batch holds twice counts with the
    mean of its losses. No gradient flows through.

    Args:
      before: [n], below 0 = never seen.
      losses: [b]. index: int [b] in [0, n).
    """
    times = jnp.zeros_like(before).at[index].add(1)
    now = jnp.zeros_like(before).at[index].add(losses) / jnp.maximum(times, 1)
    moved = jnp.where(before < 0, now, momentum * before + (1 - momentum) * now)
    return jax.lax.stop_gradient(jnp.where(times > 0, moved, before))


def relative(
    biased: jax.Array, other: jax.Array, target: jax.Array, classes: int, index: jax.Array
) -> jax.Array:
    """W = biased / (biased + other) of a batch, [b] in [0, 1] (their eq. 2).

    Both losses are first divided by the largest that any image of the same class has, so that a
    class which is harder as a whole is not taken for one of exceptions (their appendix).

    Args:
      biased, other: [n], averaged losses of the biased network and of the one that is wanted;
        those of `index` are not below 0.
      target: int [n]. classes: how many there are.
      index: int [b] in [0, n).
    """

    def scaled(losses: jax.Array) -> jax.Array:
        largest = jax.ops.segment_max(losses, target, classes)
        return losses[index] / jnp.maximum(largest[target[index]], 1e-8)

    b, d = scaled(biased), scaled(other)
    return b / (b + d + 1e-8)
