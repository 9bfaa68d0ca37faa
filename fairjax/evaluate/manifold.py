"""How good and how varied samples are: precision, recall, density, coverage in a feature space.

Balls around the images of one set, as large as the distance to the k-th nearest image of the same
set, stand for the region where that set lies. Precision and recall: Kynkaanniemi et al. 2019,
"Improved precision and recall metric for assessing generative models", eq. 1 and 2, k = 3. Density
and coverage: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models",
eq. 3 and 4, k = 5; they are less at the mercy of single outliers.
"""

import math
from collections.abc import Iterator

import numpy as np

from fairjax.evaluate.figures import Figure, score_interval

NEIGHBOURS = 3  # of precision and recall
NEIGHBOURS_DENSITY = 5  # of density and coverage
ENOUGH = NEIGHBOURS_DENSITY + 1  # images below which a set has no such figures
_ROWS = 512  # rows and columns of distances at a time


def manifold_figures(
    features: str,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray | None = None,
    v: np.ndarray | None = None,
) -> Iterator[Figure]:
    """`precision/<features>`, `recall/..`, `density/..` and `coverage/..`.

    Each is a mean over images: precision and density over the samples, recall and coverage over
    the reference images. The 95 % intervals carry the drawing of these images, while the balls
    stay as they are: Wilson's for shares, normal for density.

    Args:
      features: name of the feature network, and of a class where there is one.
      x: [n, d] features of the samples, n >= 6. y: [m, d] of the reference images, m >= 6.
      u: [n] how much each sample counts in these means, v: [m] each reference image, and its ball
        in the density (None: all the same). Balls do not depend on weights; a row without weight
        is not in the set.

    Raises:
      ValueError: fewer than 6 images with a weight in a set, or different d.
    """
    x, u = _weighted(x, u)
    y, v = _weighted(y, v)
    if min(len(x), len(y)) < ENOUGH or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"needs {ENOUGH} images in each set, of the same features: "
                         f"{x.shape} and {y.shape}")  # fmt: skip
    own = radii(x, NEIGHBOURS)
    narrow, wide = radii(y, NEIGHBOURS), radii(y, NEIGHBOURS_DENSITY)
    ball = v * (len(y) / v.sum())
    precise, dense = np.zeros(len(x), bool), np.zeros(len(x))
    recalled, covered = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        squared = _squared(x[rows], y)
        precise[rows] = (squared <= narrow).any(axis=1)
        dense[rows] = (squared <= wide) @ ball / NEIGHBOURS_DENSITY
        recalled |= (squared <= own[rows, None]).any(axis=0)
        covered |= (squared <= wide).any(axis=0)
    mean = float(np.average(dense, weights=u))
    spread = u * u @ (dense - mean) ** 2 / u.sum() ** 2
    error = 1.96 * math.sqrt(spread * len(x) / (len(x) - 1))
    yield wilson(f"precision/{features}", precise, u)
    yield wilson(f"recall/{features}", recalled, v)
    yield Figure(f"density/{features}", mean, max(0.0, mean - error), mean + error, len(x))
    yield wilson(f"coverage/{features}", covered, v)


def _weighted(x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a weight, and their weights."""
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    return (x if w.all() else x[w > 0]), w[w > 0]


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """[n]: squared distance of each row to the k-th nearest other row."""
    found = []
    for start in range(0, len(x), _ROWS):
        squared = _squared(x[start : start + _ROWS], x)
        here = np.arange(len(squared))
        squared[here, start + here] = -1.0  # the row itself, whatever rounding says
        squared.partition(k, axis=1)
        found.append(squared[:, k].copy())  # a view would keep all distances
    return np.concatenate(found)


def wilson(name: str, hits: np.ndarray, weights: np.ndarray | None = None) -> Figure:
    """The weighted share of true values [n] with its 95 % score interval (Wilson 1927), that of as
    many equal weights as these are worth (Kish 1965)."""
    weights = np.ones(len(hits)) if weights is None else weights
    share = float(np.average(hits, weights=weights))
    n = float(weights.sum() ** 2 / (weights @ weights))
    return Figure(name, share, *score_interval(share, n, 1.96), len(hits))


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, m] squared Euclidean distances in float64, not below 0."""
    # By products they lose digits where the mean is far away.
    centre = y[:_ROWS].mean(axis=0, dtype=np.float64)
    x = x - centre
    own = (x * x).sum(1)[:, None]
    found = np.empty((len(x), len(y)))
    for start in range(0, len(y), _ROWS):
        part = y[start : start + _ROWS] - centre
        found[:, start : start + _ROWS] = own - 2 * (x @ part.T) + (part * part).sum(1)
    return np.maximum(found, 0, out=found)
