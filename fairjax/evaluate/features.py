"""Features of many images: batches of one shape through a frozen network, with progress."""

import functools
from collections.abc import Callable

import numpy as np

from fairjax.data.decode import opaque
from fairjax.models import efficientnet


def imagenet(
    images: np.ndarray,
    resolution: int,
    positions: np.ndarray | None = None,
    batch: int = 100,
    done: Callable[[int], None] = lambda images: None,
) -> np.ndarray:
    """EfficientNet-Lite0 features of uint8 images [.., h, w, 1, 3 or 4] -> float32 [n, 1280].

    Args:
      images: may be memory-mapped; a batch is read at a time.
      resolution: pixels at which the network sees them.
      positions: int [n], which images; None = all.
      done: told the number of images so far, after each batch.

    Raises:
      InputError: the network's weights are missing or damaged.
    """
    params = _params()
    which = np.arange(len(images)) if positions is None else positions
    out = np.empty((len(which), efficientnet.FEATURES), np.float32)
    for start in range(0, len(which), batch):
        part = opaque(np.asarray(images[which[start : start + batch]]))
        padded = np.zeros((batch, *part.shape[1:]), np.uint8)  # one shape, one program
        padded[: len(part)] = part
        found = efficientnet.features(params, padded, resolution)
        out[start : start + len(part)] = np.asarray(found)[: len(part)]
        done(start + len(part))
    return out


@functools.cache
def _params() -> efficientnet.Params:
    """Read and checked once: an evaluation asks for the features of several sets."""
    return efficientnet.load_params()
