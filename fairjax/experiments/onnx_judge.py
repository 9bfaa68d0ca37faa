"""A classifier of anybody's as judge: an ONNX file, and labelled images that measure its errors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.errors import InputError
from fairjax.evaluate.fairness import judge_errors
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.models.onnx_network import OnnxNetwork


class OnnxJudge:
    """An ONNX classifier; rows of its first output are logits or probabilities.

    Args: as of `OnnxNetwork`, which also says what it raises.
    """

    def __init__(self, path: Path, scale: str):
        self._network = OnnxNetwork(path, scale, f"--judge={path}")
        self.resolution = self._network.resolution

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, s, s, 3] -> probabilities float64 [n, k]."""
        return _probabilities(self._network(images))


def _probabilities(rows: np.ndarray) -> np.ndarray:
    """Rows as they are where they are probabilities, else their softmax."""
    if rows.min() >= 0 and np.allclose(rows.sum(1), 1, atol=1e-3):
        return rows / rows.sum(1, keepdims=True)
    powers = np.exp(rows - rows.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


def with_errors(
    score: Callable[[np.ndarray], np.ndarray],
    label: str,
    classes: Sequence[str],
    resolution: int,
    tested: Any,
    truth: np.ndarray,
    where: str,
) -> SavedJudge:
    """The judge with the errors that it makes on labelled images.

    Args:
      classes: names of its outputs, in their order. tested: uint8 [n, s, s, 3].
      truth: int [n], the classes of these, -1 = unknown.

    Raises InputError where the network has another number of outputs, or no class is known.
    """
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        raise InputError(f"no image has a class of {label}", where, "Give labels of some images")
    judged = score(tested[known])
    if judged.shape[1] != len(classes):
        raise InputError(f"the network has {judged.shape[1]} outputs, named are {list(classes)}",
                         where, "Name all outputs in their order")  # fmt: skip
    errors = judge_errors(judged, truth[known])
    return SavedJudge(label, tuple(classes), errors, resolution, 3, score)
