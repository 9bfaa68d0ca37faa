"""3x3 convolutions in fewer products, for XLA on CPU: for every four pixels of the small image 16
instead of 36 with stride one, 25 with stride two.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016, section 4.1
(after Winograd 1980). Each 2x2 tile of the small image meets one tile of the large image, 4x4 or,
with stride two, 5x5 pixels. With the matrices of `FORMS`, small = A [(G kernel G') * (B tile B')]
A', where * is, at each place, a matrix product over the channels; gradients are the same form read
from its other ends. With stride two the odd taps stay apart (2 places of an axis) and the even ones
are F(2, 2) (3 places). The entries are 0, 1 and 1/2: rounding stays near that of a direct sum.

Shapes as in `strided`: `small` [n, h, w, i] with even h and w; `kernel` [3, 3, i, o]; `large`
[n, 2h + 1, 2w + 1, o] with stride two; with stride one [n, h, w, o], and zeros around it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairjax.models.blocks import block_size, map_blocks, sum_blocks
from fairjax.models.shifts import interleave

BLOCK = 2**19  # values of the large image in a block: its transformed parts stay in the cache
NARROW = 64  # channels below which transforms and compiling cost more than the products saved

Grid = Sequence[Sequence[Any]]  # rows of arrays of one shape; or a matrix of numbers


class Form(NamedTuple):
    """The matrices of one axis: `b` places x pixels of a large tile, `g` places x 3 taps, `a` two
    pixels of a small tile x places."""

    b: Grid
    g: Grid
    a: Grid


FORMS = {
    1: Form(
        b=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        g=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        a=((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    2: Form(
        b=((1, 0, -1, 0, 0), (0, 0, 1, 0, 0), (0, 0, -1, 0, 1), (0, 1, 0, 0, 0), (0, 0, 0, 1, 0)),
        g=((1, 0, 0), (1, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0)),
        a=((1, 1, 0, 1, 0), (0, 1, 1, 0, 1)),
    ),
}


def pays(image: jax.Array, stride: int, *channels: int) -> bool:
    """Whether these forms suit an image (`stride` times as large as the small one): its small image
    has whole tiles, no channel count is narrow, and it is not rounded coarser than float32."""
    whole = all(size // stride % 2 == 0 for size in image.shape[1:3])
    return whole and jnp.finfo(image.dtype).bits >= 32 and min(channels) >= NARROW


def shrink(large: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Correlates `large` with `kernel` -> small."""
    return _correlate(large, _of_kernel(kernel, stride), 1, stride)


def grow(small: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The transpose of `shrink`: each small pixel adds its 3x3 patch -> large."""
    weights = _of_kernel(kernel, stride)
    if stride == 1:  # a turned kernel; with it the places of the outer taps change sides
        turned = [[weights[a][b] for b in (3, 1, 2, 0)] for a in (3, 1, 2, 0)]
        return _correlate(small, turned, 0, stride)
    form = FORMS[stride]

    def block(small: jax.Array) -> jax.Array:
        places = _products(_both(_turned(form.a), _small_tiles(small)), weights, 0)
        rows = _both(_turned(form.b), places)
        return _overlapped([_overlapped(row, 2) for row in rows], 1)

    return map_blocks(block, _block_size(small, stride, *kernel.shape[2:]), small)


def kernel_gradient(small: jax.Array, large: jax.Array) -> jax.Array:
    """Sum over samples and pixels of small[r, c, i] and the pixel of `large` under each tap, stride
    one (with stride two `taps` takes as long)."""
    form = FORMS[1]

    def block(small: jax.Array, large: jax.Array) -> Grid:
        ours = _both(_turned(form.a), _small_tiles(small))
        theirs = _both(form.b, _large_tiles(large, 1))
        return _each(lambda x, y: x.reshape(-1, i).T @ y.reshape(-1, o), ours, theirs)

    i, o = small.shape[-1], large.shape[-1]
    places = sum_blocks(block, _block_size(small, 1, i, o), small, large)
    return jnp.stack([jnp.stack(row) for row in _both(_turned(form.g), places)])


def _correlate(large: jax.Array, weights: Grid, axis: int, stride: int) -> jax.Array:
    """The transformed kernel is [i, o] at each place; `axis` of it is summed."""
    form = FORMS[stride]

    def block(large: jax.Array) -> jax.Array:
        places = _products(_both(form.b, _large_tiles(large, stride)), weights, axis)
        rows = [interleave(*row, axis=2) for row in _both(form.a, places)]
        return interleave(*rows, axis=1)

    return map_blocks(block, _block_size(large, 1, *weights[0][0].shape), large)


def _block_size(image: jax.Array, stride: int, *channels: int) -> int:
    n, h, w, _ = image.shape  # of a large image of stride two without its last, odd line
    return block_size(n, stride**2 * (h - h % 2) * (w - w % 2) * max(channels), BLOCK)


def _of_kernel(kernel: jax.Array, stride: int) -> Grid:
    return _both(FORMS[stride].g, [list(row) for row in kernel])


def _products(images: Grid, weights: Grid, axis: int) -> Grid:
    """At each place [n, h/2, w/2, c] times [c, d], or times [d, c] with `axis` 1."""
    return _each(
        lambda x, weight: lax.dot_general(x, weight, (((3,), (axis,)), ((), ()))), images, weights
    )


def _small_tiles(small: jax.Array) -> Grid:
    """Each pixel of all 2x2 tiles: 2 x 2 arrays [n, h/2, w/2, i]."""
    return [[small[:, a::2, b::2] for b in range(2)] for a in range(2)]


def _large_tiles(large: jax.Array, stride: int) -> Grid:
    """Each pixel of all tiles: 4 x 4 or, with stride two, 5 x 5 arrays [n, h/2, w/2, o]."""
    if stride == 1:
        large = jnp.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0)))
    width, step = 3 + stride, 2 * stride
    h, w = (size - width + 1 for size in large.shape[1:3])  # one more than the last tile's start
    return [
        [large[:, a : a + h : step, b : b + w : step] for b in range(width)] for a in range(width)
    ]


def _overlapped(parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """The five pixels of all tiles, joined along `axis`: a tile's last is the next one's first."""

    def padded(x: jax.Array, before: int) -> jax.Array:
        pad = [(0, 0)] * x.ndim
        pad[axis] = (before, 1 - before)
        return jnp.pad(x, pad)

    first, *middle, last = parts
    whole = [padded(first, 0) + padded(last, 1), *(padded(x, 0) for x in middle)]
    line = interleave(*whole, axis=axis)
    return lax.slice_in_dim(line, 0, line.shape[axis] - 3, axis=axis)


def _both(matrix: Grid, grid: Grid) -> Grid:
    """matrix grid matrix', where the entries of `grid` are arrays."""
    rows = [[_sum(factors, column) for column in _turned(grid)] for factors in matrix]
    return [[_sum(factors, row) for factors in matrix] for row in rows]


def _sum(factors: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    terms = [f * x for f, x in zip(factors, arrays, strict=True) if f]
    return sum(terms[1:], start=terms[0])


def _each(f: Any, ours: Grid, theirs: Grid) -> Grid:
    return [list(map(f, *rows)) for rows in zip(ours, theirs, strict=True)]


def _turned(matrix: Grid) -> Grid:
    return list(zip(*matrix, strict=True))
