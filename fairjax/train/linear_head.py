"""Logistic regression on frozen features: the density ratio where few images are at hand.

The features are standardised and divided by the root of their number, so that one grid of
penalties suits every network; both sets have equal mass, so that the logit is the log density
ratio (Choi et al., 2020, section 3.3). Cross-fitted: a row is rated by the head of its own fold,
which was fitted without it. Fitted by scikit-learn's L-BFGS.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fairjax.objectives.ratio import balanced_log_loss

# Inverse strength of the ridge penalty, from strong to weak. The first is taken after which the
# cross-fitted log-loss rises: it has one minimum, and weak penalties take longest to fit.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Heads(NamedTuple):
    """One linear head per fold on features of width d."""

    mean: np.ndarray  # [d], of all training features
    scale: np.ndarray  # [d], standard deviation times sqrt(d)
    weight: np.ndarray  # [folds, d]
    bias: np.ndarray  # [folds]
    strength: np.ndarray  # scalar: the chosen one of STRENGTHS

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features [n, d] -> logits float64 [folds, n]."""
        logits: np.ndarray = self.weight @ self.standardised(features).T + self.bias[:, None]
        return logits

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Features [n, d] as the heads see them: no level of a network outweighs another."""
        return (features - self.mean) / self.scale


def equal_mass(labels: np.ndarray) -> np.ndarray:
    """Weight of each row [n], such that both values of the bool `labels` have the same mass."""
    sizes = np.where(labels, labels.sum(), (~labels).sum())
    return len(labels) / 2 / sizes


def fit(features: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> tuple[Heads, np.ndarray]:
    """The heads of all folds and the cross-fitted logit of every row.

    Args:
      features: float [n, d]. labels: bool [n], both values in every fold's complement.
      fold: int [n] in [0, folds).

    Returns:
      (heads, logits float64 [n]). The strength of the penalty is the one number that was chosen
      with all rows in view.
    """
    mean = features.mean(0)
    scale = np.maximum(features.std(0), 1e-6) * np.sqrt(features.shape[1])
    x = ((features - mean) / scale).astype(np.float32)
    own = np.arange(len(x))
    best, best_loss, best_logits = None, np.inf, np.zeros(0)
    for weight, bias, strength in _path(x, labels, fold):
        logits = (weight @ x.T + bias[:, None])[fold, own]
        loss, _ = balanced_log_loss(logits, labels)
        if loss >= best_loss:
            break
        best_loss, best_logits = loss, logits
        best = Heads(mean, scale, weight, bias, np.asarray(strength))
    assert best is not None
    return best, best_logits


def _path(
    x: np.ndarray, labels: np.ndarray, fold: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """(weights [folds, d], biases [folds], strength), each fit started from the one before."""
    from sklearn.linear_model import LogisticRegression  # a second that few commands need

    models = [LogisticRegression(max_iter=500, warm_start=True) for _ in range(fold.max() + 1)]
    for strength in STRENGTHS:
        for k, model in enumerate(models):
            seen = fold != k
            model.set_params(C=strength)
            model.fit(x[seen], labels[seen], sample_weight=equal_mass(labels[seen]))
        yield (
            np.concatenate([model.coef_ for model in models]).astype(np.float64),
            np.concatenate([model.intercept_ for model in models]).astype(np.float64),
            strength,
        )
