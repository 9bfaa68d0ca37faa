"""Mean and covariance of any number of features, gathered block by block in float64."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """What is known of weighted rows of d numbers; [d, d] numbers, however many rows there are.

    Attributes:
      n: rows. total, squares: sums of their weights and of the squares of these.
      mean: [d]. scatter: [d, d], the sum of w (x - mean) (x - mean)^T.
    """

    n: int
    total: float
    squares: float
    mean: np.ndarray
    scatter: np.ndarray

    def covariance(self) -> np.ndarray:
        """[d, d], unbiased where weights and rows are independent of each other.

        Raises ValueError where fewer than two rows have a weight.
        """
        freedom = self.total - self.squares / max(self.total, 1e-300)
        if self.n < 2 or freedom <= 1e-9 * self.total:
            raise ValueError(f"a covariance needs 2 rows with a weight, {self.n} rows were given")
        return self.scatter / freedom


def moments(x: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Of rows [n, d], n >= 1, and weights [n] of 0 or more (None: 1 each)."""
    x = np.asarray(x, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    total = float(w.sum())
    mean = w @ x / total if total else x.mean(0)
    centred = (x - mean) * np.sqrt(w)[:, None]
    return Moments(len(x), total, float(w @ w), mean, centred.T @ centred)


def merged(a: Moments, b: Moments) -> Moments:
    """Of the rows of both (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
    variance", eq. 2.1, for weights): no digits are lost where the mean is large."""
    total = a.total + b.total
    share = b.total / total if total else 0.0
    apart = b.mean - a.mean
    scatter = np.outer(apart, (a.total * share) * apart)
    scatter += a.scatter
    scatter += b.scatter
    return Moments(a.n + b.n, total, a.squares + b.squares, a.mean + share * apart, scatter)
