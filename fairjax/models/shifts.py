"""Moving, splitting and joining the pixels of one axis, for the CPU forms of the resampling."""

import jax
import jax.numpy as jnp
from jax import lax


def shift(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Moves the pixels `by` places along `axis`; zeros come in."""
    pad = [(0, 0, 0)] * x.ndim
    pad[axis] = (by, -by, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pad)


def interleave(*parts: jax.Array, axis: int) -> jax.Array:
    """Arrays of equal shape -> a longer one: the first pixel of each, the second of each, .."""
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return jnp.stack(parts, axis + 1).reshape(shape)


def split(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The inverse of `interleave` of two; the length must be even."""
    shape = list(x.shape)
    pairs = x.reshape(shape[:axis] + [shape[axis] // 2, 2] + shape[axis + 1 :])
    return lax.index_in_dim(pairs, 0, axis + 1, False), lax.index_in_dim(pairs, 1, axis + 1, False)
