"""The geometric part of the augmentation pipe: one affine matrix per image, and its application.

Karras et al., 2020, "Training generative adversarial networks with limited data", appendix B.
Coordinates are (x, y, 1) in pixels from the centre of the image, x to the right and y downwards; a
matrix maps a pixel of the result to the place in the image from which it is read. Outside its
borders an image goes on as in a mirror (without repeating the border pixel).

Flips, quarter turns and whole pixels are index operations, exact to the bit. Everything else goes
through one bilinear sampling at twice the resolution, between the filters of an orthogonal wavelet
(sym6). A mirrored image is periodic, so one period holds every place that could be read: no padding
depends on the data, all shapes are static.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairjax.models.shifts import interleave, split

# The low-pass of Daubechies' least asymmetric wavelet with 6 vanishing moments, sum sqrt(2).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
BEFORE = len(SYM6) // 2 - 1  # samples of the fine grid that a filter reaches to the left
EXACT = lax.Precision.HIGHEST  # matrices, not images: 10 bits of a GPU's or TPU's default move them

Drawn = dict[str, jax.Array]


def _matrix(rows: list[list[jax.Array | float]]) -> jax.Array:
    """Rows of scalars and [n] vectors -> [n, 3, 3]."""
    n = next(len(x) for row in rows for x in row if isinstance(x, jax.Array))
    return jnp.stack([jnp.stack([jnp.broadcast_to(jnp.asarray(x, jnp.result_type(float)), (n,))
                                 for x in row], -1) for row in rows], -2)  # fmt: skip


def _stretch(x: jax.Array, y: jax.Array | float) -> jax.Array:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def _move(by: jax.Array) -> jax.Array:
    return _matrix([[1.0, 0.0, by[:, 0]], [0.0, 1.0, by[:, 1]], [0.0, 0.0, 1.0]])


def _turn(cos: jax.Array, sin: jax.Array) -> jax.Array:
    return _matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _product(matrices: list[jax.Array]) -> jax.Array:
    result = matrices[0]
    for matrix in matrices[1:]:
        result = jnp.matmul(result, matrix, precision=EXACT)
    return result


def blit_inverse(drawn: Drawn, size: int) -> jax.Array | None:
    """Flip, then quarter turns against the clock, then whole pixels: [n, 3, 3]; None without any.

    Args:
      drawn: `xflip` 1 or -1 [n], `rot90` 0 to 3 [n], `xint` (x, y) as shares of the size [n, 2];
        any may be missing.
      size: of the image; a share becomes the nearest whole number of pixels.
    """
    inverses = []  # the first transform is the last to be undone: its inverse stands on the left
    if "xflip" in drawn:
        inverses.append(_stretch(drawn["xflip"], 1.0))
    if "rot90" in drawn:
        k = drawn["rot90"]
        cos = jnp.asarray([1.0, 0.0, -1.0, 0.0])[k]
        inverses.append(_turn(cos, jnp.asarray([0.0, 1.0, 0.0, -1.0])[k]))
    if "xint" in drawn:
        inverses.append(_move(-jnp.round(drawn["xint"] * size)))
    return _product(inverses) if inverses else None


def geom_inverse(drawn: Drawn, size: int) -> tuple[jax.Array, jax.Array] | None:
    """Scale, turn, stretch, turn, move: ([n, 3, 3], whether any of them is on [n]), or None.

    Args:
      drawn: `scale` factor [n], `rotate` angles before and after the stretch [n, 2] in radians
        (positive turns against the clock), `aniso` factor of x, whose inverse is that of y [n],
        `xfrac` (x, y) as shares of the size [n, 2]; any may be missing.
      size: of the image.
    """
    inverses, fired = [], []
    if "scale" in drawn:
        inverses.append(_stretch(1 / drawn["scale"], 1 / drawn["scale"]))
        fired.append(drawn["scale"] != 1)
    if "rotate" in drawn:
        before, after = drawn["rotate"][:, 0], drawn["rotate"][:, 1]
        inverses.append(_turn(jnp.cos(before), jnp.sin(before)))
        fired.append((before != 0) | (after != 0))
    if "aniso" in drawn:
        inverses.append(_stretch(1 / drawn["aniso"], drawn["aniso"]))
        fired.append(drawn["aniso"] != 1)
    if "rotate" in drawn:
        inverses.append(_turn(jnp.cos(after), jnp.sin(after)))
    if "xfrac" in drawn:
        inverses.append(_move(-drawn["xfrac"] * size))
        fired.append((drawn["xfrac"] != 0).any(1))
    return (_product(inverses), jnp.stack(fired).any(0)) if inverses else None


def moved(x: jax.Array, drawn: Drawn) -> jax.Array:
    """Applies the geometric transforms among `drawn` to `x` [n, s, s, c].

    An image for which only index operations were drawn is exact to the bit, also where others of
    the batch are sampled.
    """
    size = x.shape[1]
    blit, geom = blit_inverse(drawn, size), geom_inverse(drawn, size)
    exact = x if blit is None else _indexed(x, blit, turns="rot90" in drawn)
    if geom is None:
        return exact
    inverse, fired = geom
    if blit is not None:
        inverse = _product([blit, inverse])
    return jnp.where(fired[:, None, None, None], sampled(x, inverse), exact)


def _indexed(x: jax.Array, inverse: jax.Array, *, turns: bool) -> jax.Array:
    """`x` at whole pixels: a product with a 0/1 matrix per axis, which needs no gather."""
    size = x.shape[1]
    centre = (size - 1) / 2
    along = jnp.arange(size) - centre
    (a, b, right), (c, d, down) = inverse[:, 0].T, inverse[:, 1].T
    if turns:  # after a quarter turn rows are read along x: transpose first
        turned = jnp.abs(b) > 0.5
        x = jnp.where(turned[:, None, None, None], jnp.swapaxes(x, 1, 2), x)
        a, d = jnp.where(turned, c, a), jnp.where(turned, b, d)
        right, down = jnp.where(turned, down, right), jnp.where(turned, right, down)

    def chooser(slope: jax.Array, shift: jax.Array) -> jax.Array:
        place = jnp.round(slope[:, None] * along + shift[:, None] + centre).astype(jnp.int32)
        place = place % (2 * size - 2)
        place = jnp.minimum(place, 2 * size - 2 - place)
        return (place[:, :, None] == jnp.arange(size)).astype(x.dtype)

    x = jnp.einsum("nij,njwc->niwc", chooser(d, down), x, precision=EXACT)
    return jnp.einsum("nij,nhjc->nhic", chooser(a, right), x, precision=EXACT)


def sampled(x: jax.Array, inverse: jax.Array) -> jax.Array:
    """`x` [n, s, s, c] read at the places of the affine `inverse` [n, 3, 3].

    Linear in `x`, so every derivative with respect to it exists.
    """
    size = x.shape[1]
    centre = (size - 1) / 2
    for axis in (1, 2):
        x = _finer(_period(x, axis), axis)
    period = x.shape[1]
    # Pixel i lies at 2 i of the fine grid: the centre of mass of the taps is 5.10, nearly BEFORE.
    # The result is made on a fine grid as well, with what the filter needs beyond the borders.
    fine = (jnp.arange(2 * size + 2 * BEFORE) - BEFORE) / 2 - centre
    across, down = fine[None, None, :], fine[None, :, None]
    rows = inverse[:, :, :, None, None]
    places = [rows[:, k, 0] * across + rows[:, k, 1] * down + rows[:, k, 2] for k in (1, 0)]
    places = [2 * (place + centre) for place in places]
    low = [jnp.floor(place) for place in places]
    (y, x0), (v, u) = ([n.astype(jnp.int32) % period for n in low],
                       [(place - n)[..., None].astype(x.dtype)
                        for place, n in zip(places, low, strict=True)])  # fmt: skip
    y1, x1 = (y + 1) % period, (x0 + 1) % period

    def read(row: jax.Array, column: jax.Array) -> jax.Array:
        take = jax.vmap(lambda image, r, c: image.at[r, c].get(mode="promise_in_bounds"))
        return take(x, row, column)

    top = read(y, x0) * (1 - u) + read(y, x1) * u
    bottom = read(y1, x0) * (1 - u) + read(y1, x1) * u
    result = top * (1 - v) + bottom * v
    for axis in (1, 2):
        result = _coarser(result, axis)
    return result


def _period(x: jax.Array, axis: int) -> jax.Array:
    """One period of the mirrored image: s pixels -> 2 s - 2."""
    back = jnp.flip(lax.slice_in_dim(x, 1, x.shape[axis] - 1, axis=axis), axis)
    return jnp.concatenate([x, back], axis)


def _finer(x: jax.Array, axis: int) -> jax.Array:
    """Doubles the samples of a periodic axis: pixel i adds taps[k] to place 2 i + k - BEFORE."""
    size, reach = x.shape[axis], len(SYM6) // 4
    taps = np.asarray(SYM6) * math.sqrt(2)
    pad = [(0, 0)] * x.ndim
    pad[axis] = (reach, reach)
    x = jnp.pad(x, pad, mode="wrap")

    def term(k: int) -> jax.Array:
        first = reach - (k - BEFORE) // 2
        return float(taps[k]) * lax.slice_in_dim(x, first, first + size, axis=axis)

    even, odd = (functools.reduce(jnp.add, map(term, range(start, 12, 2))) for start in (1, 0))
    return interleave(even, odd, axis=axis)


def _coarser(x: jax.Array, axis: int) -> jax.Array:
    """The transpose of the filter in `_finer`, at half the gain: 2 s + 10 samples -> s pixels."""
    taps = np.asarray(SYM6) / math.sqrt(2)
    halves = split(x, axis)
    size = halves[0].shape[axis] - BEFORE
    terms = (float(taps[k]) * lax.slice_in_dim(halves[k % 2], k // 2, k // 2 + size, axis=axis)
             for k in range(len(SYM6)))  # fmt: skip
    return functools.reduce(jnp.add, terms)
