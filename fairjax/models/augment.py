"""The augmentation pipe of ADA: random changes of the images that a discriminator sees.

Karras et al., 2020, "Training generative adversarial networks with limited data", appendix B. Every
transform fires with the probability p times its multiplier, each image and transform on its own. As
long as p is below 1, an undistorted image stays the most likely one and the generator cannot settle
on augmented images ("leak", section 2.2 of the paper).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fairjax.augmentations import CATEGORIES, TRANSFORMS
from fairjax.models.augment_colour import coloured, corrupted, filtered
from fairjax.models.augment_geometry import Drawn, moved

# Uniform shares of the size, standard deviations of log2, of shares of the size, of values.
INTEGER_SHIFT, SCALE, STRETCH, SHIFT = 0.125, 0.2, 0.2, 0.125
BRIGHTNESS, CONTRAST, SATURATION, BAND, NOISE, CUTOUT = 0.2, 0.5, 1.0, 1.0, 0.1, 0.5

Make = Callable[[jax.Array, int], jax.Array]


def _spread_of(log2: float) -> Make:
    return lambda key, n: jnp.exp2(log2 * jax.random.normal(key, (n,)))


def _sign(key: jax.Array, n: int) -> jax.Array:
    return jax.random.rademacher(key, (n,), jnp.result_type(float))


def _angle(key: jax.Array, n: int) -> jax.Array:
    return jax.random.uniform(key, (n,), minval=-jnp.pi, maxval=jnp.pi)


def _square(key: jax.Array, n: int) -> jax.Array:
    centre = jax.random.uniform(key, (n, 2))
    return jnp.concatenate([centre, jnp.full((n, 1), CUTOUT)], 1)


# What a transform draws where it fires, and its value where it does not.
_DRAWS: dict[str, tuple[Make, float]] = {
    "xflip": (_sign, 1.0),
    "rot90": (lambda key, n: jax.random.randint(key, (n,), 0, 4), 0),
    "xint": (lambda key, n: jax.random.uniform(
        key, (n, 2), minval=-INTEGER_SHIFT, maxval=INTEGER_SHIFT), 0.0),
    "scale": (_spread_of(SCALE), 1.0),
    "aniso": (_spread_of(STRETCH), 1.0),
    "xfrac": (lambda key, n: SHIFT * jax.random.normal(key, (n, 2)), 0.0),
    "brightness": (lambda key, n: BRIGHTNESS * jax.random.normal(key, (n,)), 0.0),
    "contrast": (_spread_of(CONTRAST), 1.0),
    "lumaflip": (_sign, 1.0),
    "hue": (_angle, 0.0),
    "saturation": (_spread_of(SATURATION), 1.0),
    **{band: (_spread_of(BAND), 1.0) for band in CATEGORIES["filter"]},
    "noise": (lambda key, n: NOISE * jnp.abs(jax.random.normal(key, (n,))), 0.0),
    "cutout": (_square, 0.0),
}  # fmt: skip


def draw(key: jax.Array, n: int, p: jax.Array | float, multipliers: Mapping[str, float]) -> Drawn:
    """The parameters of each transform for n images; the identity where it does not fire.

    Args:
      key: gives every transform a key of its own, whichever others are on.
      n: images.
      p: probability, scalar; it may be traced.
      multipliers: from `fairjax.augmentations.multipliers`.

    Returns: {transform: [n] or [n, k]}, as `moved`, `coloured`, `filtered`, `corrupted` read them.
    """
    keys = dict(zip(TRANSFORMS, jax.random.split(key, len(TRANSFORMS)), strict=True))
    drawn = {}
    for name, factor in multipliers.items():
        k_fire, k_value, k_second = jax.random.split(keys[name], 3)
        if name == "rotate":
            # Two turns, before and after the stretch, of which either fires with probability p.
            once = 1 - jnp.sqrt(jnp.clip(1 - factor * p, 0, 1))
            fires = jax.random.uniform(k_fire, (n, 2)) < once
            angles = jnp.stack([_angle(k_value, n), _angle(k_second, n)], 1)
            drawn[name] = jnp.where(fires, angles, 0.0)
            continue
        make, off = _DRAWS[name]
        value = make(k_value, n)
        fires = jax.random.uniform(k_fire, (n,) + (1,) * (value.ndim - 1)) < factor * p
        drawn[name] = jnp.where(fires, value, off)
    return drawn


def apply(x: jax.Array, drawn: Drawn, key: jax.Array) -> jax.Array:
    """Applies what was drawn: geometry, colour, filter, noise, cutout; affine in `x`.

    Args:
      x: [n, s, s, c] in [-1, 1], c = 1, 3 or 4.
      drawn: from `draw`; a transform that is missing costs nothing.
      key: of the noise image.

    Returns: the same shape; values may leave [-1, 1].
    """
    return corrupted(filtered(coloured(moved(x, drawn), drawn), drawn), drawn, key)


def augment(
    x: jax.Array, p: jax.Array | float, key: jax.Array, multipliers: Mapping[str, float]
) -> jax.Array:
    """Draws and applies; p = 0 returns `x` to the bit. See `draw` and `apply`."""
    k_draw, k_noise = jax.random.split(key)
    return apply(x, draw(k_draw, len(x), p, multipliers), k_noise)
