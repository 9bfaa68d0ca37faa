"""`launch/sample.py --flip=JUDGE --keep=JUDGES`: pairs of images that differ in one attribute.

After "Fair Attribute Classification through Latent Space De-biasing" (Ramaswamy, Kim, Russakovsky
2021), in W instead of Z, where attributes are closer to linear, for any number of attributes, and
with what the paper leaves out: the edited images are judged again, and only pairs that became what
was asked for are handed on.
"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.manifold import wilson
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.experiments.saved_generator import Trained, fingerprint, labels_of
from fairjax.objectives.latent import solve

log = logging.getLogger("fairjax")

HELD_OUT = 5  # each 5th latent measures the planes, the others fit them
FEWEST = 20  # of the images that fit a plane, of the rarer value


class Plane(NamedTuple):
    """Where an attribute changes in W: its score is normal @ w + offset, positive for class 1.

    Attributes:
      normal: [d], of length 1. accuracy: of its sign on latents that did not fit it.
    """

    normal: np.ndarray
    offset: float
    accuracy: Figure


class Pairs(NamedTuple):
    """n images and what became of them.

    Attributes:
      latent: int [n], number of the image of its seed.
      images, edited: uint8 [n, H, W, C].
      before, after: bool [n, k], what each judge sees in them; the first judge is the flipped one.
      kept: bool [n], whether exactly the first value changed.
      away: float [n], how far the edited w is from the mean, in multiples of the distance below
        which 99 % of all w lie.
    """

    latent: np.ndarray
    images: np.ndarray
    edited: np.ndarray
    before: np.ndarray
    after: np.ndarray
    kept: np.ndarray
    away: np.ndarray


def fit_planes(w: np.ndarray, judged: np.ndarray, names: Sequence[str]) -> list[Plane]:
    """A separating plane in W for each judge, by logistic regression.

    Args:
      w: [m, d]. judged: bool [m, k], what the judges see in the images of these.

    Raises:
      InputError: nearly all images have the same value of an attribute.
    """
    held = np.arange(len(w)) % HELD_OUT == 0
    mean, deviation = w[~held].mean(0), w[~held].std(0) + 1e-8
    planes = []
    for values, name in zip(judged.T, names, strict=True):
        rarer = min(int(values[~held].sum()), int((~values[~held]).sum()))
        if rarer < FEWEST:
            raise InputError(f"{rarer} of {int((~held).sum())} images are of the rarer value",
                             f"--flip and --keep: {name}", f"At least {FEWEST} are needed to find "
                             "its direction: raise --fit, or leave it out")  # fmt: skip
        fitted = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        fitted.fit((w[~held] - mean) / deviation, values[~held])
        normal = fitted.coef_[0] / deviation
        size = float(np.linalg.norm(normal))
        offset = float(np.ravel(fitted.intercept_)[0] - normal @ mean) / size
        normal = normal / size
        right = (w[held] @ normal + offset > 0) == values[held]
        planes.append(Plane(normal, offset, wilson(f"plane_accuracy/{name}", right)))
    return planes


def make_pairs(
    saved: Trained, judges: Sequence[SavedJudge], n: int, fit: int, seed: int = 0, batch: int = 32
) -> tuple[Pairs, list[Plane]]:
    """Draws `fit` images to find the planes and n others to edit; the first judge's value flips.

    Image i depends on (seed, i) alone, and its edited form has the same noise.

    Raises:
      InputError: a judge of more than two classes, or of images of another size; see `fit_planes`.
    """
    for judge in judges:
        if len(judge.classes) != 2:
            raise InputError(f"{len(judge.classes)} classes", f"--flip and --keep: {judge.label}",
                             "Give judges of two classes")  # fmt: skip
        if (judge.resolution, judge.channels) != (saved.net.resolution, saved.net.image_channels):
            raise InputError(f"it sees {judge.resolution} pixels and {judge.channels} channels",
                             f"--flip and --keep: {judge.label}",
                             "Take the judges of the generator's run")  # fmt: skip
    draw = _Drawing(saved, seed, batch)
    w, judged = [], []
    for images, styles in draw.parts(range(fit)):
        w.append(styles)
        judged.append(_values(judges, images))
    known = np.concatenate(w)
    planes = fit_planes(known, np.concatenate(judged), [judge.label for judge in judges])
    normals = np.stack([plane.normal for plane in planes])
    offsets = np.array([plane.offset for plane in planes])
    middle, deviation = known.mean(0), known.std(0) + 1e-8

    def distance(styles: np.ndarray) -> np.ndarray:
        return np.linalg.norm((styles - middle) / deviation, axis=1)

    edge = np.quantile(distance(known), 0.99)
    found: list[tuple[np.ndarray, ...]] = []
    for start in range(fit, fit + n, batch):
        latent = np.arange(start, min(start + batch, fit + n))
        ((images, styles),) = draw.parts(latent)
        scores = styles @ normals.T + offsets
        scores[:, 0] *= -1
        moved = solve(styles, normals, offsets, scores)
        edited = draw.images(latent, moved)
        before, after = _values(judges, images), _values(judges, edited)
        changed = before != after
        kept = changed[:, 0] & ~changed[:, 1:].any(1)
        found.append((latent, images, edited, before, after, kept, distance(moved) / edge))
    return Pairs(*(np.concatenate(part) for part in zip(*found, strict=True))), planes


def figures_of(pairs: Pairs, planes: Sequence[Plane], names: Sequence[str]) -> list[Figure]:
    """`plane_accuracy`, `cosine` of each pair of planes, `flip_rate`, `keep_rate`, `pair_rate`."""
    changed = pairs.before != pairs.after
    figures = [plane.accuracy for plane in planes]
    for i in range(1, len(names)):
        cosine = float(planes[0].normal @ planes[i].normal)
        figures.append(Figure(f"cosine/{names[0]}/{names[i]}", cosine, np.nan, np.nan, 0))
    figures.append(wilson(f"flip_rate/{names[0]}", changed[:, 0]))
    figures += [wilson(f"keep_rate/{name}", ~changed[:, i])
                for i, name in enumerate(names) if i]  # fmt: skip
    figures.append(wilson("pair_rate", pairs.kept))
    return [*figures, wilson("outside_rate", pairs.away > 1)._replace(
        note="edited w farther from the mean than 99 % of all w")]  # fmt: skip


def write(
    out: Path, saved: Trained, judges: Sequence[SavedJudge], pairs: Pairs, planes: Sequence[Plane],
    seed: int,
) -> list[Figure]:  # fmt: skip
    """Writes images, labels.csv (of the pairs that are handed on, with the judges' words),
    pairs.csv (of all, with why), pairs.json and an overview."""
    out.mkdir(parents=True, exist_ok=True)
    names = [judge.label for judge in judges]
    with (
        (out / "labels.csv").open("w", newline="") as labels,
        (out / "pairs.csv").open("w", newline="") as all_pairs,
    ):
        of_images, of_pairs = csv.writer(labels), csv.writer(all_pairs)
        of_images.writerow(["file", *names])
        of_pairs.writerow(
            [
                "latent",
                "handed_on",
                "away",
                *(f"{name}_{when}" for name in names for when in ("before", "after")),
            ]
        )
        for i, latent in enumerate(pairs.latent):
            words = [[judge.classes[int(v)] for judge, v in zip(judges, row, strict=True)]
                     for row in (pairs.before[i], pairs.after[i])]  # fmt: skip
            of_pairs.writerow(
                [
                    latent,
                    int(pairs.kept[i]),
                    f"{pairs.away[i]:.3f}",
                    *(word for both in zip(*words, strict=True) for word in both),
                ]
            )
            if pairs.kept[i]:
                for edited, image in enumerate((pairs.images[i], pairs.edited[i])):
                    name = f"{latent:06d}{'_flipped' if edited else ''}.png"
                    Image.fromarray(image.squeeze()).save(out / name)
                    of_images.writerow([name, *words[edited]])
    figures = figures_of(pairs, planes, names)
    about = {"flip": names[0], "keep": names[1:], "seed": seed, "fingerprint": fingerprint(saved)}
    write_figures(out / "pairs.json", figures, about)
    shown = np.flatnonzero(pairs.kept)[:8]
    if len(shown):
        from fairjax.train.gan import grid

        both = np.concatenate([pairs.images[shown], pairs.edited[shown]])
        Image.fromarray(grid(both, len(shown)).squeeze()).save(out / "grid.png")
    return figures


def _values(judges: Sequence[SavedJudge], images: np.ndarray) -> np.ndarray:
    """bool [n, k]: whether each judge decides for its class 1."""
    return np.stack([judge.score(images)[:, 1] > 0.5 for judge in judges], 1)


class _Drawing:
    """Images of a generator by number and style, without truncation, with noise of their own."""

    def __init__(self, saved: Trained, seed: int, batch: int):
        import jax

        from fairjax.experiments.sample import programs
        from fairjax.models.stylegan2 import num_ws
        from fairjax.train.conditions import cumulative

        self._styles, self._images = programs(saved.net, "random")
        self._variables = {"params": saved.params}
        labels, prior = labels_of(saved, None, None)
        self._given = self._variables, np.asarray(labels, np.float32), cumulative(prior)
        self._key, self._batch = jax.random.key(seed), batch
        self._layers = num_ws(saved.net.resolution)

    def parts(self, latents: Any) -> Any:
        """(images, w [.., d] float64) of the images with these numbers, batch by batch."""
        latents = np.asarray(latents)
        for start in range(0, len(latents), self._batch):
            part = latents[start : start + self._batch]
            w, _ = self._styles(self._padded(part), self._key, *self._given)
            w = np.asarray(w, np.float64)[: len(part)]
            yield self.images(part, w), w

    def images(self, latents: np.ndarray, w: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, C] of n <= batch images with styles w [n, d]."""
        styles = np.zeros((self._batch, w.shape[1]), np.float32)
        styles[: len(w)] = w
        made = self._images(self._padded(latents), self._key, self._variables, styles,
                            np.zeros_like(styles), np.ones(self._batch), self._layers)  # fmt: skip
        return np.asarray(made)[: len(w)]

    def _padded(self, latents: np.ndarray) -> np.ndarray:
        return np.resize(latents, self._batch)
