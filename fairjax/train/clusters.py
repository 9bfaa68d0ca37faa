"""Groups without labels: clusters of frozen features, and of ratios (k-means by scikit-learn)."""

import numpy as np

DIMENSIONS = 32  # principal components that are clustered; noise lies in the others


def clusters(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The cluster of every row: float [n, d] -> int32 [n] in [0, k), the largest first.

    Args:
      k: number of clusters, at most n.
      seed: of the principal components and of the starts.
    """
    from sklearn.cluster import MiniBatchKMeans  # a second that few commands need
    from sklearn.decomposition import PCA

    state = seed % 2**32
    x = features - features.mean(0)
    parts = min(DIMENSIONS, *x.shape)
    x = PCA(parts, svd_solver="randomized", random_state=state).fit_transform(x)
    found = MiniBatchKMeans(k, n_init=5, batch_size=4096, random_state=state).fit_predict(x)
    return _numbered(found, np.argsort(-np.bincount(found, minlength=k), kind="stable"))


def on_a_line(values: np.ndarray, k: int) -> np.ndarray:
    """The cluster of every value: float [n] -> int32 [n] in [0, k), the smallest values first.

    Args:
      k: number of clusters, at most that of different values.
    """
    from sklearn.cluster import KMeans

    found = KMeans(k, n_init=10, random_state=0).fit(values[:, None])
    return _numbered(found.labels_, np.argsort(found.cluster_centers_[:, 0]))


def _numbered(found: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Clusters [n] renumbered, so that order[i] is called i."""
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    return rank[found]
