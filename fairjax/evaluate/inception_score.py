"""The Inception score, from sums over the images of each split."""

import math

import numpy as np
from scipy import stats

from fairjax.evaluate.figures import Figure

SPLITS = 10


class ScoreSums:
    """exp of the mean KL divergence between the classes of an image and those of all images of its
    split (Salimans et al. 2016, "Improved techniques for training GANs", section 4).

    The rule of the published code: of n images, split i holds those from i n / 10 up to, without
    it, (i + 1) n / 10 in their order; the score is the mean over the splits.

    Args:
      n: images that will come. classes: of the network.
    """

    def __init__(self, n: int, classes: int):
        self._ends = np.arange(1, SPLITS + 1) * n // SPLITS
        self._seen = 0
        self._mass = np.zeros((SPLITS, classes))  # sums of w p
        self._own = np.zeros(SPLITS)  # sums of w p log p
        self._total = np.zeros(SPLITS)  # sums of w

    def add(self, logits: np.ndarray, weights: np.ndarray | None = None) -> None:
        """The next images: logits [m, classes], weights [m] (None: 1 each)."""
        logits = np.asarray(logits, np.float64)
        w = np.ones(len(logits)) if weights is None else weights
        log_p = logits - logits.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        p = np.exp(log_p)
        split = np.searchsorted(self._ends, self._seen + np.arange(len(p)), side="right")
        np.add.at(self._mass, split, w[:, None] * p)
        np.add.at(self._own, split, w * (p * log_p).sum(1))
        np.add.at(self._total, split, w)
        self._seen += len(p)

    def scores(self) -> np.ndarray:
        """[splits]; only of splits with images."""
        some = self._total > 0
        q = self._mass[some] / self._total[some, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(q > 0, q * np.log(q), 0.0).sum(1)
        scores: np.ndarray = np.exp(self._own[some] / self._total[some] + entropy)
        return scores


def score_figure(name: str, scores: np.ndarray, n: int) -> Figure:
    """Mean over the splits [s] with the t interval over them; n = number of samples."""
    mean, deviation = float(scores.mean()), float(scores.std())
    note = f"mean over {len(scores)} splits, standard deviation {deviation:.4g}"
    free = len(scores) - 1
    t = float(stats.t.ppf(0.975, free)) if free else math.nan
    error = t * deviation / math.sqrt(max(1, free))
    return Figure(name, mean, mean - error, mean + error, n, note)
