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


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, eq. 4, by loops over pairs of images."""
    d, n, m = x.shape[1], len(x), len(y)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / d + 1) ** 3

    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


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
