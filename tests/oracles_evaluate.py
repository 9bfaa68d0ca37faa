"""The equations behind `fairjax/evaluate`, written again in float64 NumPy, slow and literal."""

import numpy as np


def cleam_two_classes(judged_first: float, right_first: float, right_second: float) -> float:
    """CLEAM (Teo et al. 2023): true share of class 0 from the judged one and the two recalls."""
    return (judged_first - (1 - right_second)) / (right_first - (1 - right_second))


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """Euclidean projection on the simplex: bisection on the shift in max(point - shift, 0)."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.maximum(point - shift, 0).sum() > 1 else (low, shift)
    return np.maximum(point - (low + high) / 2, 0)


def kid(x: np.ndarray, y: np.ndarray, of_x=None, of_y=None) -> float:
    """Binkowski et al. 2018, eq. 4, by loops over pairs of images.

    `of_x` and `of_y` say which image a row is a copy of: copies of an image are no pair.
    """
    d = x.shape[1]
    of_x = range(len(x)) if of_x is None else of_x
    of_y = range(len(y)) if of_y is None else of_y

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / d + 1) ** 3

    def within(z: np.ndarray, of) -> float:
        n = range(len(z))
        return np.mean([kernel(z[i], z[j]) for i in n for j in n if of[i] != of[j]])

    across = np.mean([kernel(a, b) for a in x for b in y])
    return within(x, of_x) + within(y, of_y) - 2 * across


def kid_jackknife_error(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sample jackknife standard error, every left-out image computed anew."""
    without_x = [kid(np.delete(x, i, axis=0), y) for i in range(len(x))]
    without_y = [kid(x, np.delete(y, i, axis=0)) for i in range(len(y))]
    parts = [(len(v) - 1) / len(v) * np.sum((v - np.mean(v)) ** 2) for v in (without_x, without_y)]
    return float(np.sqrt(sum(parts)))


def nearest(samples: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All distances, then the smallest of each row."""
    distance = np.sqrt(((samples[:, None, :] - training[None, :, :]) ** 2).sum(axis=2))
    return distance.argmin(axis=1), distance.min(axis=1)
