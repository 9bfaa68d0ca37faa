"""What is kept of a set of images in one feature space, however many images there are.

The Frechet distance and the Inception score need sums only, which are gathered over all images.
Kernel distances, balls and neighbours look at pairs of images: they are of the first `KEPT`.
"""

import hashlib
import os
import sys
import tempfile
import zipfile
import zlib
from typing import NamedTuple

import jax
import numpy as np

import fairjax
from fairjax.data import cache
from fairjax.evaluate.features import Network, Told, extract
from fairjax.evaluate.inception_score import ScoreSums
from fairjax.evaluate.moments import Moments, merged, moments

PART = 512  # images whose features are added at once
KEPT = 10_000  # images whose features are kept: 80 MB of 2048 numbers each


def fair_part(positions: np.ndarray, limit: int = sys.maxsize) -> np.ndarray:
    """At most `limit` of the positions, which stand for all: where not all are kept, they are in
    random order, the same each time. Images often lie sorted, by folder or by class."""
    if len(positions) <= min(limit, KEPT):
        return positions
    return np.random.default_rng(0).permutation(positions)[:limit]


class Rows(NamedTuple):
    """Features float [n, d] and how much each counts, float [n] (None: all the same)."""

    x: np.ndarray
    weights: np.ndarray | None = None

    @property
    def counting(self) -> int:
        """How many count, i.e. have a weight above 0."""
        return len(self.x) if self.weights is None else int(np.count_nonzero(self.weights))

    def at(self, which: np.ndarray) -> "Rows":
        """Those at these positions, or where a mask is true."""
        return Rows(self.x[which], None if self.weights is None else self.weights[which])


class Measured(NamedTuple):
    """A set of images.

    Attributes:
      rows: the features of the first images, float32 [min(n, KEPT), d].
      moments: of all n. scores: Inception scores of the splits, None without classes.
    """

    rows: Rows
    moments: Moments
    scores: np.ndarray | None = None


class Measuring:
    """Takes images part by part, then tells what it saw.

    Args:
      n: images that will come.
      weights: float [n], how much each counts in all figures (None: all the same).
    """

    def __init__(self, network: Network, n: int, weights: np.ndarray | None = None):
        self._network, self._weights, self._seen = network, weights, 0
        self._rows = np.empty((min(n, KEPT), network.width), np.float32)
        self._moments: Moments | None = None
        self._scores = None if network.classes is None else ScoreSums(n, network.classes.shape[1])

    def add(
        self,
        images: np.ndarray,
        positions: np.ndarray | None = None,
        done: Told = lambda images: None,
    ) -> None:
        """The next images, uint8 [m, h, w, c]; or those at the positions [m]."""
        which = np.arange(len(images)) if positions is None else positions
        for start in range(0, len(which), PART):
            x = extract(self._network, images, which[start : start + PART])
            end = self._seen + len(x)
            kept = self._rows[self._seen : end]
            kept[:] = x[: len(kept)]
            weights = None if self._weights is None else self._weights[self._seen : end]
            block = moments(x, weights)
            self._moments = block if self._moments is None else merged(self._moments, block)
            if self._scores is not None and self._network.classes is not None:
                self._scores.add(x @ self._network.classes, weights)
            self._seen = end
            done(end)

    def result(self) -> Measured:
        """Of all images that came; at least one must have."""
        assert self._moments is not None
        assert self._moments.n >= len(self._rows)
        weights = None if self._weights is None else self._weights[: len(self._rows)]
        scores = None if self._scores is None else self._scores.scores()
        return Measured(Rows(self._rows, weights), self._moments, scores)


def measured_once(
    network: Network,
    images: np.ndarray,
    positions: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    done: Told = lambda images: None,
) -> Measured:
    """What `Measuring` says of these images, from the user's cache folder where it was measured
    before: an entry belongs to the content of the images, the weights and the network. Without
    scores.

    Args: as of `features.extract`, at least one image, and `Measuring`.
    """
    which = np.arange(len(images)) if positions is None else positions
    folder = cache.root() / "features"
    path = folder / f"{network.name}-{_key(network, images, which, weights)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            kept = {name: saved[name][()] for name in saved.files}
            rows, found = kept["rows"], Moments(*(kept[name] for name in Moments._fields))
    # A file that was cut short or damaged is measured anew, like one that is not there.
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        measuring = Measuring(network._replace(classes=None), len(which), weights)
        measuring.add(images, which, done)
        (rows, _), found, _ = measuring.result()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".draft", delete=False) as draft:
            np.savez(draft, allow_pickle=False, rows=rows, **found._asdict())
        os.replace(draft.name, path)
    return Measured(Rows(rows, None if weights is None else weights[: len(rows)]), found)


def _key(
    network: Network, images: np.ndarray, which: np.ndarray, weights: np.ndarray | None
) -> str:
    # Rounding differs between kinds and numbers of devices: what is read is what would be computed.
    devices = f"{jax.__version__} {jax.default_backend()} {jax.local_device_count()}"
    about = [fairjax.__version__, devices, network.identity, str(images.shape[1:]), str(len(which))]
    digest = hashlib.blake2b("\n".join(about).encode(), digest_size=10)
    for start in range(0, len(which), network.batch):
        digest.update(images[which[start : start + network.batch]].tobytes())
    if weights is not None:
        digest.update(np.asarray(weights, np.float64).tobytes())
    return digest.hexdigest()
