"""DiffAugment: the same kinds of change for every image that the discriminator sees, without a p.

Zhao et al., 2020, "Differentiable augmentation for data-efficient GAN training", section 4. Cheap
on every device: selections and elementwise work only.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.models.augment_geometry import EXACT


def colour(x: jax.Array, key: jax.Array) -> jax.Array:
    """Brightness + U(-1/2, 1/2), saturation x U(0, 2), contrast x U(1/2, 3/2); not of alpha."""
    k_brightness, k_saturation, k_contrast = jax.random.split(key, 3)
    shape = (len(x), 1, 1, 1)
    x, alpha = x[..., :3], x[..., 3:]
    x = x + jax.random.uniform(k_brightness, shape, x.dtype, -0.5, 0.5)
    for k, axes, low, high in ((k_saturation, -1, 0, 2), (k_contrast, (1, 2, 3), 0.5, 1.5)):
        mean = x.mean(axes, keepdims=True)
        x = (x - mean) * jax.random.uniform(k, shape, x.dtype, low, high) + mean
    return jnp.concatenate([x, alpha], -1)


def translation(x: jax.Array, key: jax.Array) -> jax.Array:
    """Whole pixels, up to an eighth of the size to each side; zeros come in."""
    size = x.shape[1]
    most = int(size / 8 + 0.5)
    by = jax.random.randint(key, (2, len(x), 1, 1), -most, most + 1)
    place = jnp.arange(size)
    rows, columns = (place[:, None] - by == place).astype(x.dtype)  # [n, result, image] each
    x = jnp.einsum("nij,njwc->niwc", rows, x, precision=EXACT)
    return jnp.einsum("nij,nhjc->nhic", columns, x, precision=EXACT)


def cutout(x: jax.Array, key: jax.Array) -> jax.Array:
    """Zeros in a square of half the size around any pixel, cut at the borders."""
    size = x.shape[1]
    side = int(size / 2 + 0.5)
    first = jax.random.randint(key, (2, len(x), 1), 0, size + 1 - side % 2) - side // 2
    place = jnp.arange(size)
    rows, columns = (place >= first) & (place < first + side)
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0.0, x)


TRANSFORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "color": colour,
    "translation": translation,
    "cutout": cutout,
}


def diffaugment(x: jax.Array, key: jax.Array, policy: tuple[str, ...]) -> jax.Array:
    """Applies the transforms of `policy` in turn to `x` [n, s, s, c] in [-1, 1], c = 1, 3 or 4."""
    for k, name in zip(jax.random.split(key, len(policy)), policy, strict=True):
        x = TRANSFORMS[name](x, k)
    return x
