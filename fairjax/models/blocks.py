"""Batches cut into blocks of samples, whose intermediate arrays fit the cache of a CPU."""

from collections.abc import Callable

import jax
from jax import lax


def block_size(n: int, pixels: int, most: int) -> int:
    """The largest divisor of n whose samples have at most `most` pixels together, at least 1.

    All n where a batch may be split over devices: blocks would cut across them.
    """
    if jax.device_count() > 1:
        return n
    return max((d for d in range(1, n + 1) if n % d == 0 and d * pixels <= most), default=1)


def cut(x: jax.Array, size: int) -> jax.Array:
    """[n, ...] -> [n / size, size, ...]."""
    return x.reshape(x.shape[0] // size, size, *x.shape[1:])


def by_blocks(f: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    """f(x) for a function of each sample alone, computed for `size` samples at a time."""
    if size == x.shape[0]:
        return f(x)
    y = lax.map(f, cut(x, size))
    return y.reshape(x.shape[0], *y.shape[2:])
