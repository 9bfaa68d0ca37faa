"""How good samples are beside reference images in one feature space, overall and within classes."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fairjax.evaluate import manifold
from fairjax.evaluate.distances import frechet_figure, kid_figure
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.manifold import manifold_figures

ENOUGH_IN_CLASS = 30  # samples, and reference images, below which a class gets no distance
# (<attributes>/<class>, note, features of the samples, features of the reference images)
Part = tuple[str, str, np.ndarray, np.ndarray]


def by_class(
    ours: np.ndarray,
    theirs: np.ndarray,
    judged: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """(class, its name, rows of `ours` that are judged to be of it, rows of `theirs` that are),
    for the classes with enough of both. There may be fewer rows than judgements and labels."""
    decided, truth = judged[: len(ours)].argmax(-1), truth[: len(theirs)]
    for k, name in enumerate(names):
        x, y = ours[decided == k], theirs[truth == k]
        if min(len(x), len(y)) >= ENOUGH_IN_CLASS:
            yield k, name, x, y


def overall(features: str, x: np.ndarray, y: np.ndarray, full: bool) -> Iterator[Figure]:
    """KID of samples [n, d] and reference images [m, d], of ImageNet features with the Frechet
    distance; in `full` with fidelity and variety."""
    yield kid_figure(f"kid/{features}", x, y)
    if features == "efficientnet_lite0":
        yield frechet_figure(f"frechet/{features}", x, y)
    if full and min(len(x), len(y)) >= manifold.ENOUGH:
        yield from manifold_figures(features, x, y)


def within(features: str, parts: Iterable[Part], full: bool) -> Iterator[Figure]:
    """KID of each part, in `full` with fidelity and variety; its note is that of the figures."""
    for of, note, x, y in parts:
        yield kid_figure(f"kid/{features}/{of}", x, y)._replace(note=note)
        for figure in manifold_figures(f"{features}/{of}", x, y) if full else ():
            yield figure._replace(note=note)
