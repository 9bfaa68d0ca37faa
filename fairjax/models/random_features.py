"""A fixed, untrained convolutional network: cheap features for which nothing was chosen.

Random convolutions followed by pooling already separate image distributions (Saxe et al. 2011,
"On random weights and unsupervised feature learning"); no attribute and no data set shapes them.
A narrow one follows a distance in training: it says whether samples come nearer to a reference,
and is no measure of perceived quality, for which `efficientnet` is used at the end. A wide one,
with a linear head, is one of the density-ratio classifiers: colours and places are plain in it.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.models.resample import conv

RESOLUTION = 32
NARROW = (16, 32, 64)  # channels of the three levels
WIDE = (64, 128, 256)
CELLS = (2, 2, 1)  # by side, over which a level is averaged
SEED = 20200112


def size(widths: tuple[int, ...] = NARROW) -> int:
    """The number of features of an image."""
    return sum(width * cells**2 for width, cells in zip(widths, CELLS, strict=True))


@cache
def _kernels(widths: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(SEED)
    widths = (3, *widths)
    return tuple(
        rng.normal(0, np.sqrt(2 / (9 * i)), (3, 3, i, o)).astype(np.float32)
        for i, o in zip(widths[:-1], widths[1:], strict=True)
    )


@partial(jax.jit, static_argnames="widths")
def features(images: jax.Array, widths: tuple[int, ...] = NARROW) -> jax.Array:
    """uint8 images [n, h, w, 3 or 1] -> float32 [n, size(widths)], about 1 in root mean square.

    Images of another size are brought to 32 pixels first. The means over the four quarters of the
    first two levels keep where things are; the last level is averaged over the whole image.
    """
    n, h, w, c = images.shape
    x = jnp.broadcast_to(images, (n, h, w, 3)) if c == 1 else images
    x = x.astype(jnp.float32) / 127.5 - 1
    if (h, w) != (RESOLUTION, RESOLUTION):
        x = jax.image.resize(x, (n, RESOLUTION, RESOLUTION, 3), "bilinear", antialias=True)
    levels = []
    for kernel, cells in zip(_kernels(widths), CELLS, strict=True):
        x = jax.nn.relu(conv(x, jnp.asarray(kernel)))
        levels.append(_cell_means(x, cells).reshape(n, -1))
        x = _cell_means(x, x.shape[1] // 2)
    return 2 * jnp.concatenate(levels, axis=1)


def _cell_means(x: jax.Array, cells: int) -> jax.Array:
    """[n, h, w, c] -> the means over cells x cells equal parts of each image."""
    n, h, w, c = x.shape
    return jnp.mean(x.reshape(n, cells, h // cells, cells, w // cells, c), axis=(2, 4))
