"""What scores say beside decisions: ranking, calibration, and how far groups' scores are apart."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from fairjax.evaluate.figures import Figure, score_interval
from fairjax.evaluate.rates import UNDEFINED, Groups, Z

BINS = 15  # of the calibration error (Guo et al. 2017)
KL_BINS = 50  # Ramaswamy et al. 2021, here with fixed edges: own ranges would not line up
CHUNK = 4_000_000  # numbers of a bootstrap that are held at once


class Bin(NamedTuple):
    """The rows of a group whose scores lie in [start, end): n of them, with their mean score, and
    the share of positives with its 95 % score interval."""

    attributes: str
    group: str
    start: float
    end: float
    n: int
    score: float
    positives: float
    low: float
    high: float


def reliability(truth: np.ndarray, scores: np.ndarray, groups: Groups) -> Iterator[Bin]:
    """Each group's bins, equally wide and the same for all, that hold a row.

    Args:
      truth: bool [n]. scores: float [n] in [0, 1], of the positive class.
    """
    of_bin = _bin_of(scores)
    for k, group in enumerate(groups.names):
        for b in range(BINS):
            there = (groups.of == k) & (of_bin == b)
            n = int(there.sum())
            if n:
                mean, share = float(scores[there].mean()), float(truth[there].mean())
                ends = score_interval(share, n, Z)
                yield Bin(groups.label, group, b / BINS, (b + 1) / BINS, n, mean, share, *ends)


def score_figures(
    truth: np.ndarray, scores: np.ndarray, groups: Groups, draws: int = 200, seed: int = 0
) -> Iterator[Figure]:
    """`average_precision`, `roc_auc`, `calibration_error` of each group.

    Args:
      truth: bool [n]. scores: float [n] in [0, 1], of the positive class.
      draws: of the bootstrap over rows that makes the intervals: quantiles, for the calibration
        error mirrored at its value (the basic bootstrap, Davison and Hinkley 1997, equation 5.6),
        because a mean of absolute values is too large by as much again in each draw.
    """
    rng = np.random.default_rng(seed)
    for k, group in enumerate(groups.names):
        members = groups.of == k
        t, s = truth[members], scores[members]
        n = len(t)
        ends: dict[str, tuple[float, float, float]] = {}
        if n and t.any() and not t.all():
            order = np.argsort(-s, kind="stable")
            t, s = t[order], s[order]
            whole = _figures(t, s, np.ones((1, n)))
            step = max(1, CHUNK // n)
            parts = [
                _figures(t, s, rng.multinomial(n, np.full(n, 1 / n), min(step, draws - i)))
                for i in range(0, draws, step)
            ]
            for name, found in whole.items():
                drawn = np.concatenate([part[name] for part in parts])
                low, high = np.nanquantile(drawn, (0.025, 0.975))
                value = float(found[0])
                if name == "calibration_error":
                    low, high = max(0.0, 2 * value - high), max(value, 2 * value - low)
                ends[name] = value, float(low), float(high)
        for name in ("average_precision", "roc_auc", "calibration_error"):
            value, low, high = ends.get(name, (np.nan, np.nan, np.nan))
            note = "" if name in ends else UNDEFINED
            yield Figure(f"{name}/{groups.label}/{group}", value, low, high, n, note)


def _figures(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each figure [draws] of rows sorted by falling score, with weights [draws, n]."""
    first = np.flatnonzero(np.r_[True, np.diff(scores) != 0])  # where another score begins
    positive = np.add.reduceat(weights * truth, first, axis=1)
    negative = np.add.reduceat(weights * ~truth, first, axis=1)
    hits, alarms = positive.cumsum(1), negative.cumsum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = hits / (hits + alarms)
        # A draw may hold none of the first scores: no step there.
        ap = np.nansum(positive * precision, axis=1) / hits[:, -1]
        below = alarms[:, -1:] - alarms
        auc = (positive * (below + negative / 2)).sum(1) / (hits[:, -1] * alarms[:, -1])
    bins = _bin_of(scores)
    gap = weights * (scores - truth)
    error = sum(np.abs(gap[:, bins == b].sum(1)) for b in range(BINS)) / weights.sum(1)
    return {"average_precision": ap, "roc_auc": auc, "calibration_error": np.asarray(error)}


def class_calibration(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Expected calibration error [k] of each class's probability, all classes having equal mass.

    A judge is fitted on balanced batches, so its probabilities are those of equal classes; the
    images that test it need not be balanced.

    Args:
      probabilities: float [n, k]. truth: int [n], the classes of the images.
    """
    k = probabilities.shape[1]
    of_class = np.bincount(truth, minlength=k)
    mass = 1 / (np.count_nonzero(of_class) * of_class[truth])
    bins = _bin_of(probabilities)
    gaps = mass[:, None] * (probabilities - np.eye(k)[truth])
    return np.array([np.abs(np.bincount(bins[:, c], gaps[:, c])).sum() for c in range(k)])


def _bin_of(scores: np.ndarray) -> np.ndarray:
    return np.minimum((scores * BINS).astype(int), BINS - 1)


def surest_errors(
    truth: np.ndarray, decided: np.ndarray, scores: np.ndarray | None, groups: Groups, most: int
) -> Iterator[tuple[str, int, float]]:
    """(group, row, loss) of the wrong decisions of each group, the surest `most` of each.

    The loss is -log of the probability that the row's own label was given; without scores it is NaN
    and rows come as in the table.
    """
    given = np.full(len(truth), np.nan) if scores is None else np.where(truth, scores, 1 - scores)
    loss = -np.log(np.maximum(given, np.finfo(float).tiny))
    for k, group in enumerate(groups.names):
        wrong = np.flatnonzero((groups.of == k) & (truth != decided))
        for row in wrong[np.argsort(-loss[wrong], kind="stable")][:most]:
            yield group, int(row), float(loss[row])


def score_distance_figures(
    truth: np.ndarray, scores: np.ndarray, groups: Groups
) -> Iterator[Figure]:
    """How differently scores are distributed: `score_kl/<attributes>` of two groups; of more,
    `score_kl/<attributes>/<group>` of each beside all others.

    Median of the divergences in both directions among positives and among negatives, of histograms
    with 50 bins on [0, 1], smoothed with sigma 1, 1e-6 added (after Ramaswamy et al. 2021).
    """
    if len(groups.names) == 2:
        yield _distance(f"score_kl/{groups.label}", truth, scores, groups.of)
        return
    for k, group in enumerate(groups.names):
        of = np.where(groups.of < 0, -1, groups.of != k)
        yield _distance(f"score_kl/{groups.label}/{group}", truth, scores, of)


def _distance(name: str, truth: np.ndarray, scores: np.ndarray, of: np.ndarray) -> Figure:
    found = []
    for label in (True, False):
        sides = [scores[(of == k) & (truth == label)] for k in (0, 1)]
        if min(map(len, sides)) == 0:
            return Figure(name, np.nan, np.nan, np.nan, 0, UNDEFINED)
        p, q = (_histogram(side) for side in sides)
        found += [float(np.sum(p * np.log(p / q))), float(np.sum(q * np.log(q / p)))]
    return Figure(name, float(np.median(found)), np.nan, np.nan, int((of >= 0).sum()))


def _histogram(scores: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(scores, np.linspace(0, 1, KL_BINS + 1))
    smooth = gaussian_filter1d(counts.astype(np.float64), 1.0)
    return smooth / smooth.sum() + 1e-6
