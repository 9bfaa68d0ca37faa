"""Generated images as one more source beside the real ones of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from fairjax.data.dataset import Dataset


class Joined:
    """Several arrays of images, one after the other, looked up by position; none is copied.

    Args:
      parts: uint8 [n_i, H, W, C] each, of one size.
    """

    def __init__(self, *parts: np.ndarray):
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: Any) -> np.ndarray:
        """uint8 [m, H, W, C] of positions [m]."""
        positions = np.asarray(positions)
        found = np.empty((len(positions), *self.shape[1:]), np.uint8)
        of = np.searchsorted(self._starts, positions, side="right") - 1
        for i, part in enumerate(self._parts):
            found[of == i] = part[positions[of == i] - self._starts[i]]
        return found


def mounted(
    dataset: Dataset,
    images: Sequence[np.ndarray],
    labels: Mapping[str, np.ndarray],
    ids: Sequence[str],
    roles: Mapping[str, np.ndarray],
) -> Dataset:
    """The dataset with generated images behind its own.

    Args:
      images: uint8 [n_i, H, W, C] each.
      labels: attribute -> int [n], n the sum of the n_i; what is not named is unknown.
      ids: of the n images.
      roles: further roles (the tags of generated images) -> int positions in these n images.
    """
    start, n = len(dataset.ids), len(ids)
    attributes = np.full((n, len(dataset.attribute_names)), -1, np.int8)
    for name, values in labels.items():
        attributes[:, dataset.attribute_names.index(name)] = values
    return replace(
        dataset,
        images=cast(np.ndarray, Joined(dataset.images, *images)),
        attributes=np.concatenate([dataset.attributes, attributes]),
        domain=np.concatenate([dataset.domain, np.full(n, -1, np.int8)]),
        ids=(*dataset.ids, *ids),
        roles=dataset.roles
        | {tag: (start + positions).astype(np.int32) for tag, positions in roles.items()},
    )
