"""Weights of training examples from their labels: float64 [n], mean 1, in NumPy.

All of them are >= 0 and equal 1 where groups are equally large (of `reweighing`: independent).
"""

import numpy as np


def by_group(groups: np.ndarray, kind: str, beta: float = 0.999) -> np.ndarray:
    """A weight for each example that depends on the size n_g of its group.

    Args:
      groups: int [n] >= 0.
      kind: "inverse" 1 / n_g, "sqrt" 1 / sqrt(n_g), "effective" (1 - beta) / (1 - beta^n_g), the
        effective number of Cui et al., 2019, eq. 2.
      beta: in [0, 1); 0 gives equal weights, towards 1 the inverse ones.
    """
    sizes = np.bincount(groups).astype(np.float64)[groups]
    raw = {
        "inverse": lambda: 1 / sizes,
        "sqrt": lambda: sizes**-0.5,
        "effective": lambda: (1 - beta) / (1 - beta**sizes),
    }[kind]()
    return raw / raw.mean()


def reweighing(target: np.ndarray, protected: np.ndarray) -> np.ndarray:
    """p(y) p(a) / p(y, a): weighted so, target and protected attribute are independent (Kamiran and
    Calders, 2012, section 4.2). Both int [n] >= 0; every pair that occurs is in the training set.
    """
    n = len(target)
    pairs = np.zeros((target.max() + 1, protected.max() + 1))
    np.add.at(pairs, (target, protected), 1)
    independent = pairs.sum(1)[target] * pairs.sum(0)[protected] / n
    raw = independent / pairs[target, protected]
    return raw / raw.mean()


def upweighted(wrong: np.ndarray, factor: float) -> np.ndarray:
    """`factor` for what a first classifier got wrong, 1 for the rest, scaled to mean 1 (JTT: Liu et
    al., 2021). `wrong`: bool [n]."""
    raw = np.where(wrong, factor, 1.0)
    return raw / raw.mean()


def clipped(weights: np.ndarray, largest: float) -> np.ndarray:
    """Weights [n] of mean 1, cut where they are above `largest` (1 or more) and scaled to mean 1
    again: the largest is then above that, by the more the more was cut."""
    cut = np.minimum(weights, largest)
    return cut / cut.mean()
