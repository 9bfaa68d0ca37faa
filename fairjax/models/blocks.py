"""Work on a batch in blocks of samples that fit the processor's cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def block_size(n: int, values: int, most: int) -> int:
    """The largest divisor of n whose samples have at most `most` values together, at least 1.

    All n where a batch may be split over devices, as blocks would cut across them, and where the
    number is a symbol (`jax.export`).
    """
    if jax.device_count() > 1 or not isinstance(n, int):
        return n
    return max((d for d in range(1, n + 1) if n % d == 0 and d * values <= most), default=1)


def map_blocks(f: Callable[[jax.Array], jax.Array], size: int, x: jax.Array) -> jax.Array:
    """f of each `size` samples of `x` [n, ..], joined again."""
    if size == x.shape[0]:
        return f(x)
    y = lax.map(f, _split(x, size))
    return y.reshape(x.shape[0], *y.shape[2:])


def sum_blocks(f: Callable[..., Any], size: int, *arrays: jax.Array) -> Any:
    """The sum of f over each `size` samples of all the arrays [n, ..]; f returns a tree."""
    if size == arrays[0].shape[0]:
        return f(*arrays)
    blocks = [_split(x, size) for x in arrays]
    shapes = jax.eval_shape(f, *(x[0] for x in blocks))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = lax.scan(
        lambda total, block: (jax.tree.map(jnp.add, total, f(*block)), None), zero, tuple(blocks)
    )
    return total


def _split(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(x.shape[0] // size, size, *x.shape[1:])
