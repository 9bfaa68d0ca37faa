"""Distances between two sets of images in the space of a feature network: KID and Frechet."""

import math

import numpy as np

from fairjax.evaluate.figures import Figure
from fairjax.evaluate.moments import Moments

_ROWS = 1024  # rows and columns of the kernel at a time: the memory does not depend on the sets
ENOUGH = 3  # images of each set below which a kernel distance does not exist


def kid(
    x: np.ndarray, y: np.ndarray, u: np.ndarray | None = None, v: np.ndarray | None = None
) -> tuple[float, float]:
    """Kernel Inception distance: the unbiased MMD^2 with the kernel (x.y / d + 1)^3.

    Binkowski et al. 2018, "Demystifying MMD GANs", section 3 and eq. 4; here over all pairs and not
    over subsets. Its mean is 0 for equal distributions, so single values may be below 0. The
    standard error is the jackknife over the images of both sets. By Efron and Stein 1981 it is not
    below the true one on average; where the distributions are equal it can be 1.4 times too large.

    Args:
      x: [n, d] features, n >= 3.
      y: [m, d] features, m >= 3.
      u: [n] how much each row of x counts, v: [m] each of y (None: all the same). A pair counts
        as the product of its weights; no row is paired with itself, however large its weight.

    Returns:
      the distance and its standard error, in float64.

    Raises:
      ValueError: fewer than 3 images with a weight in a set, or different d.
    """
    x, y = np.asarray(x), np.asarray(y)
    a, b = _shares(x, u), _shares(y, v)
    n, m = np.count_nonzero(a), np.count_nonzero(b)
    if min(n, m) < ENOUGH:
        raise ValueError(f"KID needs at least {ENOUGH} images in each set, got {n} and {m}")
    if x.shape[1:] != y.shape[1:] or x.ndim != 2:
        raise ValueError(f"features do not fit: {x.shape} and {y.shape}")
    xx, yy = _within(x, a), _within(y, b)
    xy, yx = _across(x, y, a, b)
    within_x, within_y, across = xx.sum(), yy.sum(), xy.sum()
    mean_x, mean_y = within_x / (1 - a @ a), within_y / (1 - b @ b)
    value = mean_x + mean_y - 2 * across
    # Leaving out image i of x removes its row and its column of the first block, its row of xy.
    without_x = (within_x - 2 * xx) / _pairs_without(a) + mean_y - 2 * (across - xy) / (1 - a)
    without_y = mean_x + (within_y - 2 * yy) / _pairs_without(b) - 2 * (across - yx) / (1 - b)
    variance = (len(x) - 1) * np.var(without_x) + (len(y) - 1) * np.var(without_y)
    return float(value), float(math.sqrt(variance))


def kid_figure(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray | None = None,
    v: np.ndarray | None = None,
) -> Figure:
    """`kid` as a figure: value +- 1.96 standard errors, n = number of samples.

    Args:
      name: e.g. `kid/efficientnet_lite0`.
      x: [n, d] features of the samples.
      y: [m, d] features of the images that they are compared with.
      u, v: weights of both, see `kid`.
    """
    value, error = kid(x, y, u, v)
    return Figure(name, value, value - 1.96 * error, value + 1.96 * error, len(x))


def frechet(x: Moments, y: Moments) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017).

    Biased upwards for small sets; compare only values with equal n.

    Raises:
      ValueError: fewer than 2 images with a weight in a set.
    """
    return frechet_of_moments(x.mean, x.covariance(), y.mean, y.covariance())


def frechet_of_moments(
    mean_x: np.ndarray, covariance_x: np.ndarray, mean_y: np.ndarray, covariance_y: np.ndarray
) -> float:
    """|mx - my|^2 + tr(Sx + Sy - 2 (Sx^1/2 Sy Sx^1/2)^1/2), float64, never below 0.

    The root is taken of symmetric matrices only, by eigenvalues, so no complex part can appear.

    Args:
      mean_x: [d]. covariance_x: [d, d]. mean_y: [d]. covariance_y: [d, d].
    """
    values, vectors = np.linalg.eigh(covariance_x)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariance_y @ root)
    cross = np.sqrt(np.maximum(product, 0)).sum()
    spread = np.trace(covariance_x) + np.trace(covariance_y) - 2 * cross
    return float(max(0.0, np.sum((mean_x - mean_y) ** 2) + spread))


def frechet_figure(name: str, x: Moments, y: Moments) -> Figure:
    """`frechet` as a figure, without an interval.

    Args:
      name: e.g. `frechet/efficientnet_lite0`; only `frechet/inception` may be called FID.
      x: of the samples. y: of the images that they are compared with.
    """
    small = min(x.n, y.n) <= len(x.mean)
    note = "biased upwards: fewer images than features" if small else ""
    return Figure(name, frechet(x, y), math.nan, math.nan, x.n, note)


def _shares(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weights of rows as shares of their sum."""
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    return w / max(w.sum(), 1e-300)


def _pairs_without(a: np.ndarray) -> np.ndarray:
    """[n]: the weight of all pairs of two rows without row i."""
    left = 1 - a
    found: np.ndarray = left * left - (a @ a - a * a)
    return found


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
    base /= x.shape[1]
    base += 1
    return base * base * base


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]


def _within(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """[n]: a_i times the sum over j != i of a_j k(x_i, x_j)."""
    sums, _ = _across(x, x, a, a)
    own = np.concatenate([np.sum(np.square(x[i], dtype=np.float64), 1) for i in _blocks(len(x))])
    return sums - a * a * (own / x.shape[1] + 1) ** 3


def _across(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[n] and [m]: row and column sums of a_i b_j k(x_i, y_j)."""
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    for i in _blocks(len(x)):
        for j in _blocks(len(y)):
            block = _kernel(x[i], y[j])
            rows[i] += block @ b[j]
            columns[j] += a[i] @ block
    return a * rows, b * columns
