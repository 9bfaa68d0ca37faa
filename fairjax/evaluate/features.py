"""Features of many images: batches of one shape through a frozen network, with progress."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fairjax.data.decode import opaque
from fairjax.models import efficientnet, random_features

Told = Callable[[int], None]  # given the number of images so far, after each batch


def imagenet(
    images: np.ndarray,
    resolution: int,
    positions: np.ndarray | None = None,
    done: Told = lambda images: None,
) -> np.ndarray:
    """EfficientNet-Lite0 features of uint8 images [.., h, w, 1, 3 or 4] -> float32 [n, 1280].

    Args:
      images: may be memory-mapped; a batch is read at a time.
      resolution: pixels at which the network sees them.
      positions: int [n], which images; None = all.
      done: progress.

    Raises:
      InputError: the network's weights are missing or damaged.
    """
    of = functools.partial(efficientnet.features, _params(), resolution=resolution)
    return _batches(of, efficientnet.FEATURES, images, positions, done)


def imagenet_levels(
    images: np.ndarray,
    resolution: int,
    positions: np.ndarray | None = None,
    done: Told = lambda images: None,
) -> np.ndarray:
    """As `imagenet`, the means of all levels of the network but the last -> float32 [n, 819]."""
    of = functools.partial(efficientnet.levels, _params(), resolution=resolution)
    return _batches(of, efficientnet.LEVELS, images, positions, done)


def random_conv(
    images: np.ndarray,
    widths: tuple[int, ...],
    positions: np.ndarray | None = None,
    done: Told = lambda images: None,
) -> np.ndarray:
    """As `imagenet`, of the random network of these widths at its own resolution."""
    of = functools.partial(random_features.features, widths=widths)
    return _batches(of, random_features.size(widths), images, positions, done)


def _batches(
    of: Callable[[Any], Any],
    width: int,
    images: np.ndarray,
    positions: np.ndarray | None,
    done: Told,
    batch: int = 100,
) -> np.ndarray:
    which = np.arange(len(images)) if positions is None else positions
    out = np.empty((len(which), width), np.float32)
    for start in range(0, len(which), batch):
        part = opaque(np.asarray(images[which[start : start + batch]]))
        padded = np.zeros((batch, *part.shape[1:]), part.dtype)  # one shape, one program
        padded[: len(part)] = part
        out[start : start + len(part)] = np.asarray(of(padded))[: len(part)]
        done(start + len(part))
    return out


@functools.cache
def _params() -> efficientnet.Params:
    """Read and checked once: an evaluation asks for the features of several sets."""
    return efficientnet.load_params()
