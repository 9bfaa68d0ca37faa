"""Repairs by fairlearn, which draw lots: the optimal thresholds, and reductions on features.

They meet their constraint in expectation; whom it hits is chance. A seed keeps what was drawn.
"""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from fairjax.errors import InputError

# What is made alike: fairlearn's constraint of ThresholdOptimizer, its moment for reductions.
CONSTRAINTS = {
    "parity": ("demographic_parity", "DemographicParity"),
    "opportunity": ("true_positive_rate_parity", "TruePositiveRateParity"),
    "odds": ("equalized_odds", "EqualizedOdds"),
}


class Drawn(NamedTuple):
    """Decisions by lot.

    Attributes:
      decided: bool [n]. otherwise: share of the rows that the next seed decides otherwise.
    """

    decided: np.ndarray
    otherwise: float


class _Scores(ClassifierMixin, BaseEstimator):
    """Scores, as a column, for what wants a fitted classifier."""

    classes_ = np.array([0, 1])

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_Scores":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.c_[1 - x[:, 0], x[:, 0]]


def check() -> None:
    """Raises InputError where fairlearn is not there."""
    try:
        import fairlearn  # noqa: F401
    except ImportError as error:
        raise InputError(f"fairlearn cannot be imported ({error})", "--repair_with",
                         'Install it with pip install -e ".[tools]"') from error  # fmt: skip


def optimal_thresholds(
    truth: np.ndarray, scores: np.ndarray, of: np.ndarray, kind: str,
    new: np.ndarray, new_of: np.ndarray, otherwise: np.ndarray, seed: int,
) -> Drawn:  # fmt: skip
    """Each group's best mixture of two thresholds (Hardt et al. 2016; fairlearn's
    ThresholdOptimizer).

    Args:
      truth: bool [m], scores: float [m], of: int [m], group of each row that is learnt from, -1 =
        none. kind: one of `CONSTRAINTS`.
      new: float [n], new_of: int [n]: scores and groups that are decided on; `otherwise` bool [n]
        is kept where there is no group.
    """
    from fairlearn.postprocessing import ThresholdOptimizer

    known, asked = of >= 0, new_of >= 0
    model = ThresholdOptimizer(estimator=_Scores(), constraints=CONSTRAINTS[kind][0], prefit=True,
                               predict_method="predict_proba")  # fmt: skip
    model.fit(scores[known, None], truth[known].astype(int), sensitive_features=of[known])

    def drawn(seed: int) -> np.ndarray:
        found = otherwise.copy()
        found[asked] = model.predict(new[asked, None], sensitive_features=new_of[asked],
                                     random_state=seed) == 1  # fmt: skip
        return found

    return _both(drawn(seed), drawn(seed + 1))


def reduced(
    truth: np.ndarray, features: np.ndarray, of: np.ndarray, kind: str, tolerance: float,
    new: np.ndarray, seed: int,
) -> Drawn:  # fmt: skip
    """A mixture of logistic regressions on features under a constraint (Agarwal et al. 2018;
    fairlearn's ExponentiatedGradient). It needs no group where it decides.

    Args:
      truth: bool [m], features: float [m, d], of: int [m], group, -1 = none: of the rows that are
        learnt from. kind: one of `CONSTRAINTS`. tolerance: largest difference from the rate of all.
      new: float [n, d], features that are decided on.
    """
    from fairlearn import reductions

    known = of >= 0
    mean, spread = features[known].mean(0), features[known].std(0)
    scaled = lambda x: (x - mean) / np.where(spread > 0, spread, 1)
    moment = getattr(reductions, CONSTRAINTS[kind][1])(difference_bound=tolerance)
    model = reductions.ExponentiatedGradient(LogisticRegression(max_iter=1000), moment)
    model.fit(scaled(features[known]), truth[known].astype(int), sensitive_features=of[known])
    drawn = lambda seed: np.asarray(model.predict(scaled(new), random_state=seed)) == 1
    return _both(drawn(seed), drawn(seed + 1))


def _both(first: np.ndarray, second: np.ndarray) -> Drawn:
    return Drawn(first, float((first != second).mean()))
