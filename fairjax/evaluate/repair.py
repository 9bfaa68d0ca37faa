"""Repairs of a classifier after its training: thresholds, calibration, ensembles.

Everything here is deterministic: the same row always gets the same decision. What a randomised rule
(Hardt et al. 2016, fairlearn's ThresholdOptimizer) reaches exactly is reached up to one row of a
group for one rate; equalised odds, two rates at once, only where the groups' ROC curves come near
each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Rates that thresholds can make alike over the groups.
THRESHOLDS = ("parity", "opportunity", "odds")
NOBODY = float(np.nextafter(1.0, 2.0))  # the threshold that no score reaches
TARGETS = 1001  # rates tried for parity and opportunity
CORNERS = 201  # rates tried on each axis for odds
MOST_CUTS = 200  # thresholds of a group tried for odds
EDGE = 1e-6  # scores are kept this far from 0 and 1 before their logit is taken


class Cuts(NamedTuple):
    """What m thresholds do to the rows of one group, from deciding for nobody to everybody.

    Attributes:
      threshold: float [m], falling. selected, true, false: int [m], rows, positives and negatives
        with at least that score. correct: int [m], right decisions.
      size: rows; positives: of them.
    """

    threshold: np.ndarray
    selected: np.ndarray
    true: np.ndarray
    false: np.ndarray
    correct: np.ndarray
    size: int
    positives: int


def thresholds(
    truth: np.ndarray, scores: np.ndarray, of: np.ndarray, k: int, kind: str, tolerance: float
) -> np.ndarray:
    """float [k]: for each group the score from which on it is decided positive.

    Args:
      truth: bool [n]. scores: float [n] in [0, 1]. of: int [n], group of each row, -1 = none; every
        group has positives and negatives (for "parity" a row is enough).
      kind: "parity" and "opportunity" match quantiles: of all selection rates (true positive rates)
        the one is taken that keeps most decisions right, and each group's threshold is the one that
        comes nearest to it. "odds": of all thresholds whose true and false positive rates lie
        within `tolerance` of each other those that keep most decisions right; with "nobody" and
        "everybody" there is always a solution, and where ROC curves are far apart it is one.
    """
    cuts = [_cuts(truth[of == group], scores[of == group]) for group in range(k)]
    if kind == "odds":
        return _boxed(cuts, tolerance)
    rates = [c.selected / c.size if kind == "parity" else c.true / c.positives for c in cuts]
    return _matched(cuts, rates)


def decided_by(
    scores: np.ndarray, of: np.ndarray, found: np.ndarray, otherwise: np.ndarray
) -> np.ndarray:
    """bool [n]: decisions by the threshold of each row's group; `otherwise` [n] where it has none.

    Args:
      found: float [k], see `thresholds`.
    """
    return np.where(of >= 0, scores >= found[of], otherwise)


def platt(truth: np.ndarray, scores: np.ndarray, of: np.ndarray, k: int) -> np.ndarray:
    """float [k, 2]: slope and intercept of each group's calibration in logits (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression  # takes a second that few commands need

    found = []
    for group in range(k):
        model = LogisticRegression(C=1e6)  # as good as no penalty, finite where classes part
        model.fit(logit(scores[of == group])[:, None], truth[of == group])
        found.append((model.coef_[0, 0], model.intercept_[0]))
    return np.array(found)


def calibrated(scores: np.ndarray, of: np.ndarray, found: np.ndarray) -> np.ndarray:
    """float [n] in [0, 1]: scores by the calibration of each row's group; as they are without one.

    Args:
      found: float [k, 2], see `platt`.
    """
    slope, intercept = found[of].T
    return np.where(of >= 0, 1 / (1 + np.exp(-slope * logit(scores) - intercept)), scores)


def majority(scores: np.ndarray, threshold: float) -> np.ndarray:
    """bool [n]: whether more than half of the classifiers with scores [m, n] decide positive."""
    return 2 * (scores >= threshold).sum(0) > len(scores)


def _cuts(truth: np.ndarray, scores: np.ndarray) -> Cuts:
    order = np.argsort(-scores, kind="stable")
    s = scores[order]
    last = np.flatnonzero(np.r_[s[1:] != s[:-1], True])  # rows of one score go together
    selected = np.r_[0, last + 1]
    true = np.r_[0, np.cumsum(truth[order])[last]]
    false = selected - true
    positives = int(truth.sum())
    correct = true + (len(s) - positives) - false
    return Cuts(np.r_[NOBODY, s[last]], selected, true, false, correct, len(s), positives)


def _matched(cuts: Sequence[Cuts], rates: Sequence[np.ndarray]) -> np.ndarray:
    targets = np.linspace(0, 1, TARGETS)
    correct, chosen = np.zeros(TARGETS), []
    for of, rate in zip(cuts, rates, strict=True):
        # Of thresholds with the same rate the highest, which has fewest false positives.
        values, first = np.unique(rate, return_index=True)
        above = np.clip(np.searchsorted(values, targets), 1, len(values) - 1)
        nearest = above - (targets - values[above - 1] < values[above] - targets)
        chosen.append(of.threshold[first[nearest]])
        correct += of.correct[first[nearest]]
    return np.array(chosen)[:, correct.argmax()]


def _boxed(cuts: Sequence[Cuts], tolerance: float) -> np.ndarray:
    """Moves a box of side `tolerance` over the ROC plane; a group's best point inside counts."""
    corners = np.linspace(0, 1, CORNERS)
    correct = np.zeros((CORNERS, CORNERS))
    chosen = np.zeros((len(cuts), CORNERS, CORNERS))
    for group, of in enumerate(cuts):
        few = np.unique(np.linspace(0, len(of.threshold) - 1, MOST_CUTS).astype(int))
        false = _inside(of.false[few] / (of.size - of.positives), corners, tolerance)
        true = _inside(of.true[few] / of.positives, corners, tolerance)
        for row in range(CORNERS):
            right = np.where(false[row] & true, of.correct[few], -np.inf)
            best = right.argmax(1)
            correct[row] += right[np.arange(CORNERS), best]
            chosen[group, row] = of.threshold[few[best]]
    return chosen.reshape(len(cuts), -1)[:, correct.argmax()]


def _inside(rates: np.ndarray, corners: np.ndarray, side: float) -> np.ndarray:
    """bool [corners, rates]."""
    above = rates - corners[:, None]
    return (above >= -1e-9) & (above <= side + 1e-9)


def logit(scores: np.ndarray) -> np.ndarray:
    """Of scores [..] in [0, 1], kept `EDGE` away from both ends."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))
