"""How good samples are beside reference images in one feature space, overall and within classes."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fairjax.evaluate import manifold
from fairjax.evaluate.distances import ENOUGH, frechet_figure, kid_figure
from fairjax.evaluate.features import UNTRAINED
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.inception_score import score_figure
from fairjax.evaluate.manifold import manifold_figures
from fairjax.evaluate.measured import Measured, Rows

ENOUGH_IN_CLASS = 30  # samples, and reference images, below which a class gets no distance
# (<attributes>/<class>, note, features of the samples, features of the reference images)
Part = tuple[str, str, Rows, Rows]


def by_class(
    decided: np.ndarray, truth: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """(class, its name, which samples are judged to be of it, which reference images are) for the
    classes with enough of both; decided int [n], truth int [m], -1 = unknown."""
    for k, name in enumerate(names):
        x, y = np.flatnonzero(decided == k), np.flatnonzero(truth == k)
        if min(len(x), len(y)) >= ENOUGH_IN_CLASS:
            yield k, name, x, y


def overall(features: str, x: Measured, y: Measured, full: bool) -> Iterator[Figure]:
    """KID of samples and reference images, in trained features with the Frechet distance and, where
    they know classes, the Inception score; in `full` with fidelity and variety."""
    counting = min(x.rows.counting, y.rows.counting)
    if counting >= ENOUGH:
        yield kid_figure(f"kid/{features}", *_pair(x.rows, y.rows))
    if features != UNTRAINED:
        yield frechet_figure(f"frechet/{features}", x.moments, y.moments)
    if x.scores is not None:
        yield score_figure(f"inception_score/{features}", x.scores, x.moments.n)
    if full and counting >= manifold.ENOUGH:
        yield from manifold_figures(features, *_pair(x.rows, y.rows))


def within(features: str, parts: Iterable[Part], full: bool) -> Iterator[Figure]:
    """KID of each part, in `full` with fidelity and variety; its note is that of the figures. Parts
    whose weights leave too few images are left out."""
    for of, note, x, y in parts:
        if min(x.counting, y.counting) < ENOUGH_IN_CLASS:
            continue
        yield kid_figure(f"kid/{features}/{of}", *_pair(x, y))._replace(note=note)
        for figure in manifold_figures(f"{features}/{of}", *_pair(x, y)) if full else ():
            yield figure._replace(note=note)


def _pair(x: Rows, y: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    return x.x, y.x, x.weights, y.weights
