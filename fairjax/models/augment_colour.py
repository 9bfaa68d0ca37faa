"""The other parts of the augmentation pipe: colour, filter bands, noise, cutout.

Karras et al., 2020, "Training generative adversarial networks with limited data", appendix B.
Images are [n, h, w, c] in [-1, 1] with 1 (gray), 3, or 4 channels, of which the last is alpha:
colour, filter and noise leave it alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.models.augment_geometry import EXACT, Drawn

BANDS = 4
# Share of the expected power (1/f) in each band, the lowest first.
POWER = np.array([10.0, 1.0, 1.0, 1.0]) / 13
# The low-pass of Daubechies' wavelet with two vanishing moments, sum sqrt(2).
SYM2 = np.array([1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5]) / 32**0.5


def colour_matrix(drawn: Drawn) -> tuple[jax.Array, jax.Array, jax.Array] | None:
    """Brightness, contrast, luma flip, hue and saturation, in this order, as one matrix.

    With the luma axis v = (1, 1, 1) / sqrt(3), P = I - v v^T and the cross product K of v, the
    product of the five is

        C = contrast (flip v v^T + saturation (cos(hue) P + sin(hue) K)),

    since each of them maps v to a multiple of v; the offset is contrast flip brightness (1, 1, 1).

    Args:
      drawn: `brightness`, `contrast`, `lumaflip` (1 or -1), `hue` (radians), `saturation`, [n]
        each; any may be missing.

    Returns: matrix [n, 3, 3], its eigenvalue for v [n], which is what a gray value is multiplied
      by, and offset [n]; None without any of the five.
    """
    names = ("brightness", "contrast", "lumaflip", "hue", "saturation")
    there = [drawn[name] for name in names if name in drawn]
    if not there:
        return None
    one, zero = jnp.ones_like(there[0]), jnp.zeros_like(there[0])
    brightness, hue = drawn.get("brightness", zero), drawn.get("hue", zero)
    contrast, flip, saturation = (
        drawn.get(name, one) for name in ("contrast", "lumaflip", "saturation")
    )
    third = np.full((3, 3), 1 / 3)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5

    def each(x: jax.Array) -> jax.Array:
        return x[:, None, None]

    plane = each(jnp.cos(hue)) * (np.eye(3) - third) + each(jnp.sin(hue)) * cross
    matrix = each(contrast) * (each(flip) * third + each(saturation) * plane)
    return matrix, contrast * flip, contrast * flip * brightness


def coloured(x: jax.Array, drawn: Drawn) -> jax.Array:
    """Applies the colour transforms among `drawn`.

    A gray image is the mean of its three equal channels after the change: hue and saturation leave
    it alone.
    """
    found = colour_matrix(drawn)
    if found is None:
        return x
    matrix, gain, offset = (a.astype(x.dtype) for a in found)
    offset = offset[:, None, None, None]
    if x.shape[-1] == 1:
        return x * gain[:, None, None, None] + offset
    colours, alpha = x[..., :3], x[..., 3:]
    colours = jnp.einsum("nhwc,ndc->nhwd", colours, matrix, precision=EXACT) + offset
    return jnp.concatenate([colours, alpha], -1)


def band_gains(drawn: Drawn) -> jax.Array | None:
    """`band1` .. `band4` (factors [n], 1 = off) -> the gain of each band [n, 4], or None.

    After each of the four amplifications all gains are divided by the square root of the expected
    power, which becomes 1 + POWER_i (t_i^2 - 1).
    """
    names = [f"band{i + 1}" for i in range(BANDS)]
    there = [drawn[name] for name in names if name in drawn]
    if not there:
        return None
    one = jnp.ones_like(there[0])
    gains = jnp.stack([drawn.get(name, one) for name in names], -1)
    power = 1 + POWER.astype(gains.dtype) * (jnp.square(gains) - 1)
    return gains / jnp.sqrt(power.prod(-1, keepdims=True))


@functools.cache
def band_matrices(size: int) -> np.ndarray:
    """Each band's filter along an axis of a mirrored image of `size` pixels: [4, size, size].

    With L(z) = H(z) H(1/z) / 2 of sym2 the bands are L(z) L(z^2) L(z^4), L(z) L(z^2) L(-z^4),
    L(z) L(-z^2) and L(-z), which sum to 1: octaves below pi/8, pi/4, pi/2 and pi.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = low * (-1.0) ** (np.arange(len(low)) - len(low) // 2)

    def dilated(taps: np.ndarray, by: int) -> np.ndarray:
        out = np.zeros((len(taps) - 1) * by + 1)
        out[::by] = taps
        return out

    both = np.convolve(low, dilated(low, 2))
    filters = (np.convolve(both, dilated(low, 4)), np.convolve(both, dilated(high, 4)),
               np.convolve(low, dilated(high, 2)), high)  # fmt: skip
    matrices = np.zeros((BANDS, size, size))
    for matrix, taps in zip(matrices, filters, strict=True):
        for offset, tap in zip(range(-(len(taps) // 2), len(taps) // 2 + 1), taps, strict=True):
            place = (np.arange(size) + offset) % (2 * size - 2)
            place = np.minimum(place, 2 * size - 2 - place)
            np.add.at(matrix, (np.arange(size), place), tap)
    return matrices


def filtered(x: jax.Array, drawn: Drawn) -> jax.Array:
    """Amplifies the bands among `drawn` along both axes: one small matrix per image and axis."""
    gains = band_gains(drawn)
    if gains is None:
        return x
    size = x.shape[1]
    bands = band_matrices(size).astype(x.dtype)
    # The bands sum to the identity; written like this, gains of 1 change no bit.
    change = jnp.einsum("nb,bij->nij", gains.astype(x.dtype) - 1, bands, precision=EXACT)
    matrix = jnp.eye(size, dtype=x.dtype) + change
    colours, alpha = x[..., :3], x[..., 3:]
    colours = jnp.einsum("nij,njwc->niwc", matrix, colours, precision=EXACT)
    colours = jnp.einsum("nij,nhjc->nhic", matrix, colours, precision=EXACT)
    return jnp.concatenate([colours, alpha], -1)


def corrupted(x: jax.Array, drawn: Drawn, key: jax.Array) -> jax.Array:
    """Noise and cutout.

    Args:
      x: [n, h, w, c].
      drawn: `noise` standard deviation [n]; `cutout` (centre x, centre y, side) as shares of the
        size [n, 3], where a side of 0 is off; the square becomes 0 in all channels. Either may be
        missing.
      key: of the noise image.
    """
    if "noise" in drawn:
        shape = (*x.shape[:3], min(x.shape[3], 3))
        noise = jax.random.normal(key, shape, x.dtype) * drawn["noise"][:, None, None, None]
        x = x + jnp.pad(noise, ((0, 0),) * 3 + ((0, x.shape[3] - shape[3]),))
    if "cutout" in drawn:
        across, down, side = drawn["cutout"].T
        place = (jnp.arange(x.shape[1]) + 0.5) / x.shape[1]
        columns = jnp.abs(place - across[:, None]) < side[:, None] / 2
        rows = jnp.abs(place - down[:, None]) < side[:, None] / 2
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        x = jnp.where(inside, 0.0, x)
    return x
