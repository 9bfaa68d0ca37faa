"""Distances between two sets of images in the space of a feature network: KID and Frechet."""

import math

import numpy as np

from fairjax.evaluate.figures import Figure

_ROWS = 1024  # kernel rows at a time: bounds the memory at a few tens of megabytes


def kid(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Kernel Inception distance: the unbiased MMD^2 with the kernel (x.y / d + 1)^3.

    Binkowski et al. 2018, "Demystifying MMD GANs", section 3 and eq. 4; here over all pairs and not
    over subsets. Its mean is 0 for equal distributions, so single values may be below 0. The
    standard error is the jackknife over the images of both sets. By Efron and Stein 1981 it is not
    below the true one on average; where the distributions are equal it can be 1.4 times too large.

    Args:
      x: [n, d] features, n >= 3.
      y: [m, d] features, m >= 3.

    Returns:
      the distance and its standard error, in float64.

    Raises:
      ValueError: fewer than 3 images in a set, or different d.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"KID needs at least 3 images in each set, got {n} and {m}")
    if x.shape[1:] != y.shape[1:] or x.ndim != 2:
        raise ValueError(f"features do not fit: {x.shape} and {y.shape}")
    xx, yy = _kernel_sums(x), _kernel_sums(y)
    xy, yx = _cross_sums(x, y)
    within_x, within_y, across = xx.sum(), yy.sum(), xy.sum()
    value = _mmd(within_x, within_y, across, n, m)
    # Leaving out image i of x removes its row and its column of the first block, its row of xy.
    without_x = _mmd(within_x - 2 * xx, within_y, across - xy, n - 1, m)
    without_y = _mmd(within_x, within_y - 2 * yy, across - yx, n, m - 1)
    variance = (n - 1) * np.var(without_x) + (m - 1) * np.var(without_y)
    return float(value), float(math.sqrt(variance))


def kid_figure(name: str, x: np.ndarray, y: np.ndarray) -> Figure:
    """`kid` as a figure: value +- 1.96 standard errors, n = number of samples.

    Args:
      name: e.g. `kid/efficientnet_lite0`.
      x: [n, d] features of the samples.
      y: [m, d] features of the images that they are compared with.
    """
    value, error = kid(x, y)
    return Figure(name, value, value - 1.96 * error, value + 1.96 * error, len(x))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017).

    Biased upwards for small sets; compare only values with equal n.

    Args:
      x: [n, d] features, n >= 2.
      y: [m, d] features, m >= 2.

    Raises:
      ValueError: fewer than 2 images in a set.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"Frechet needs 2 images in each set, got {len(x)} and {len(y)}")
    return frechet_of_moments(*_moments(x), *_moments(y))


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


def frechet_figure(name: str, x: np.ndarray, y: np.ndarray, blocks: int = 0) -> Figure:
    """`frechet` as a figure.

    Args:
      name: e.g. `frechet/efficientnet_lite0`; only `frechet/inception` may be called FID.
      x: [n, d] features of the samples.
      y: [m, d] features of the images that they are compared with.
      blocks: 0 gives no interval; otherwise the standard error is a jackknife that leaves out one
        of this many blocks of each set in turn (2 * blocks further distances; seconds each
        for d = 1280).
    """
    value = frechet(x, y)
    small = min(len(x), len(y)) <= x.shape[1]
    note = "biased upwards: fewer images than features" if small else ""
    if not blocks:
        return Figure(name, value, math.nan, math.nan, len(x), note)
    variance = 0.0
    for own, other in ((x, y), (y, x)):
        block = np.arange(len(own)) % blocks
        rest = [frechet(own[block != b], other) for b in range(blocks)]
        variance += (blocks - 1) * float(np.var(rest))
    error = 1.96 * math.sqrt(variance)
    return Figure(name, value, max(0.0, value - error), value + error, len(x), note)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T
    base /= x.shape[1]
    base += 1
    return base * base * base


def _kernel_sums(x: np.ndarray) -> np.ndarray:
    """[n]: sum over j != i of k(x_i, x_j)."""
    sums = np.concatenate([_kernel(x[i : i + _ROWS], x).sum(1) for i in range(0, len(x), _ROWS)])
    return sums - ((x * x).sum(axis=1) / x.shape[1] + 1) ** 3


def _cross_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] and [m]: row and column sums of k(x_i, y_j)."""
    rows, columns = [], np.zeros(len(y))
    for i in range(0, len(x), _ROWS):
        block = _kernel(x[i : i + _ROWS], y)
        rows.append(block.sum(axis=1))
        columns += block.sum(axis=0)
    return np.concatenate(rows), columns


def _mmd(within_x, within_y, across, n: int, m: int):
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)
