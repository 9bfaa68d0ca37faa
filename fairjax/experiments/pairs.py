"""`launch/sample.py --flip=JUDGES --keep=JUDGES`: pairs of images that differ in one attribute.

After "Fair Attribute Classification through Latent Space De-biasing" (Ramaswamy, Kim, Russakovsky
2021), in Z or in W, where attributes are closer to linear, for any number of attributes, and with
what the paper leaves out: the edited images are judged again, and only pairs that became what was
asked for are handed on.
"""

import csv
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.manifold import wilson
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.experiments.latents import Drawing
from fairjax.experiments.saved_generator import Trained, fingerprint
from fairjax.objectives.latent import solve

log = logging.getLogger("fairjax")

HELD_OUT = 5  # each 5th latent measures the planes, the others fit them
GIVEN = "--flip and --keep (data.group_attributes): {}"
SAME = 0.999  # cosine of two planes above which one of their scores cannot be set alone
MOST_WEIGHT = 10.0  # of an image that fits a plane; the average one has 1
FEWEST = 20  # of the images that fit a plane, of the rarer value
THRESHOLD = 0.5  # of a judge's probability of its class 1


class Plane(NamedTuple):
    """Where an attribute changes: its score is normal @ latent + offset, positive for class 1.

    Attributes:
      normal: [d], of length 1. accuracy: of its sign on latents that did not fit it.
    """

    normal: np.ndarray
    offset: float
    accuracy: Figure


class Directions(NamedTuple):
    """What is known of a latent space.

    Attributes:
      planes: of the judges, in their order.
      middle, deviation: float [d], of the latents.
      edge: the distance from the middle, in deviations, below which 99 % of the latents lie.
      spread: float [k], standard deviations of the latents' scores.
    """

    planes: list[Plane]
    middle: np.ndarray
    deviation: np.ndarray
    edge: float
    spread: np.ndarray

    def away(self, latents: np.ndarray) -> np.ndarray:
        """[n] distances of latents [n, d] from the middle, in multiples of the edge."""
        apart: np.ndarray = np.linalg.norm((latents - self.middle) / self.deviation, axis=1)
        return apart / self.edge


class Pairs(NamedTuple):
    """n images and what became of them.

    Attributes:
      latent: int [n], number of the image of its seed.
      images, edited: uint8 [n, H, W, C].
      before, after: float [n, k], each judge's probability of its class 1, in them; the judges of
        what is flipped come first.
      kept: bool [n], whether exactly the values to be flipped changed.
      away: float [n], how far the edited latent is from the mean, in multiples of the distance
        below which 99 % of all latents lie.
    """

    latent: np.ndarray
    images: np.ndarray
    edited: np.ndarray
    before: np.ndarray
    after: np.ndarray
    kept: np.ndarray
    away: np.ndarray

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """bool [n, k] twice: what the judges decide for, before and after."""
        return self.before > THRESHOLD, self.after > THRESHOLD


def fit_planes(w: np.ndarray, judged: np.ndarray, names: Sequence[str]) -> list[Plane]:
    """A separating plane for each judge, by logistic regression.

    All combinations of values that occur have the same weight, up to `MOST_WEIGHT` times that of
    the average image: attributes that go together in the images shall not have one direction for
    this reason alone.

    Args:
      w: [m, d]. judged: bool [m, k], what the judges see in the images of these.

    Raises:
      InputError: nearly all images have the same value of an attribute.
    """
    held = np.arange(len(w)) % HELD_OUT == 0
    mean, deviation = w[~held].mean(0), w[~held].std(0) + 1e-8
    _, of, sizes = np.unique(judged[~held], axis=0, return_inverse=True, return_counts=True)
    weights = np.sum(~held) / (len(sizes) * sizes[np.ravel(of)])
    # A combination that hardly occurs may be a few images that a judge sees wrongly.
    weights = np.minimum(weights, MOST_WEIGHT)
    planes = []
    for values, name in zip(judged.T, names, strict=True):
        rarer = min(int(values[~held].sum()), int((~values[~held]).sum()))
        if rarer < FEWEST:
            raise InputError(f"{rarer} of {int((~held).sum())} images are of the rarer value",
                             GIVEN.format(name), f"At least {FEWEST} are needed to find its "
                             "direction: raise --fit (latent.fit), or leave it out")  # fmt: skip
        fitted = LogisticRegression(C=0.1, max_iter=2000)
        fitted.fit((w[~held] - mean) / deviation, values[~held], weights)
        normal = fitted.coef_[0] / deviation
        size = float(np.linalg.norm(normal))
        offset = float(np.ravel(fitted.intercept_)[0] - normal @ mean) / size
        normal = normal / size
        right = (w[held] @ normal + offset > 0) == values[held]
        planes.append(Plane(normal, offset, wilson(f"plane_accuracy/{name}", right)))
    return planes


def check_judges(saved: Trained, judges: Sequence[SavedJudge]) -> None:
    """Raises InputError on a judge of more than two classes, or of images of another size."""
    for judge in judges:
        if len(judge.classes) != 2:
            raise InputError(f"{len(judge.classes)} classes", GIVEN.format(judge.label),
                             "Give judges of two classes")  # fmt: skip
        if (judge.resolution, judge.channels) != (saved.net.resolution, saved.net.image_channels):
            raise InputError(f"it sees {judge.resolution} pixels and {judge.channels} channels",
                             GIVEN.format(judge.label),
                             "Take the judges of the generator's run")  # fmt: skip


class Editor:
    """Finds the directions of attributes, and edits images along them.

    Image i depends on (seed, i) alone, and its edited form has the same noise. In Z only the
    direction of a latent counts, as the mapping network divides by its length: the edited ones need
    not be brought back to the sphere.

    Args:
      judges: of two classes; the first `flips` of them see what is flipped, the others what stays.
      fit: number of images, 0 to fit - 1, from which the directions are learnt.
      space: "w" or "z".
      margin: where the score of what is flipped shall be, in standard deviations of the scores, on
        the other side of what the judge sees; 0 = at the negated score, as in the paper.

    Raises:
      InputError: see `check_judges` and `fit_planes`; or two attributes have one direction.
    """

    def __init__(
        self, saved: Trained, judges: Sequence[SavedJudge], fit: int, flips: int = 1,
        space: str = "w", margin: float = 0.0, seed: int = 0, batch: int = 32,
    ):  # fmt: skip
        check_judges(saved, judges)
        self._judges, self._flips, self._margin, self._batch = judges, flips, margin, batch
        self._draw = Drawing(saved, seed, batch, space)
        latents, judged = [], []
        for images, part in self._draw.parts(range(fit)):
            latents.append(part)
            judged.append(_scores(judges, images) > THRESHOLD)
        known = np.concatenate(latents)
        planes = fit_planes(known, np.concatenate(judged), [judge.label for judge in judges])
        for (one, first), (other, second) in combinations(zip(judges, planes, strict=True), 2):
            if abs(first.normal @ second.normal) > SAME:
                raise InputError(f"the images show one direction for {one.label} and {other.label}",
                                 GIVEN.format(other.label), "Leave one of them out, or raise "
                                 "--fit (latent.fit)")  # fmt: skip
        spread = np.array([np.std(known @ plane.normal) for plane in planes])
        found = Directions(planes, known.mean(0), known.std(0) + 1e-8, 1.0, spread)
        self.found = found._replace(edge=float(np.quantile(found.away(known), 0.99)))

    def edited(self, start: int, n: int) -> Iterator[Pairs]:
        """Pairs of the images start to start + n - 1, batch by batch: what is flipped gets another
        score, what stays keeps its own."""
        normals = np.stack([plane.normal for plane in self.found.planes])
        offsets = np.array([plane.offset for plane in self.found.planes])
        for first in range(start, start + n, self._batch):
            latent = np.arange(first, min(first + self._batch, start + n))
            ((images, at),) = self._draw.parts(latent)
            scores, before = at @ normals.T + offsets, _scores(self._judges, images)
            other = -np.sign(before - THRESHOLD) * self._margin * self.found.spread
            asked = other if self._margin else -scores
            scores[:, : self._flips] = asked[:, : self._flips]
            moved = solve(at, normals, offsets, scores)
            edited = self._draw.images(latent, moved)
            after = _scores(self._judges, edited)
            changed = (before > THRESHOLD) != (after > THRESHOLD)
            kept = changed[:, : self._flips].all(1) & ~changed[:, self._flips :].any(1)
            yield Pairs(latent, images, edited, before, after, kept, self.found.away(moved))


def make_pairs(
    saved: Trained, judges: Sequence[SavedJudge], n: int, fit: int, seed: int = 0, batch: int = 32,
    *, flips: int = 1, space: str = "w", margin: float = 0.0,
) -> tuple[Pairs, list[Plane]]:  # fmt: skip
    """Draws `fit` images to find the planes and n others to edit; see `Editor`."""
    editor = Editor(saved, judges, fit, flips, space, margin, seed, batch)
    return joined(editor.edited(fit, n)), editor.found.planes


def joined(parts: Iterator[Pairs]) -> Pairs:
    """The same pairs in one piece."""
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def figures_of(
    pairs: Pairs, planes: Sequence[Plane], names: Sequence[str], flips: int = 1
) -> list[Figure]:
    """`plane_accuracy`, `cosine` of each two planes, `flip_rate`, `keep_rate`, `pair_rate` and
    `outside_rate`; the first `flips` names are what was flipped."""
    before, after = pairs.values()
    changed = before != after
    figures = [plane.accuracy for plane in planes]
    for i in range(len(names)):
        for j in range(i):
            cosine = float(planes[j].normal @ planes[i].normal)
            angle = f"{math.degrees(math.acos(max(-1.0, min(1.0, cosine)))):.0f} degrees"
            figures.append(Figure(f"cosine/{names[j]}/{names[i]}", cosine, np.nan, np.nan, 0,
                                  angle))  # fmt: skip
    figures += [wilson(f"{'flip' if i < flips else 'keep'}_rate/{name}",
                       changed[:, i] == (i < flips)) for i, name in enumerate(names)]  # fmt: skip
    figures.append(wilson("pair_rate", pairs.kept))
    return [*figures, wilson("outside_rate", pairs.away > 1)._replace(
        note="edited latents farther from the mean than 99 % of all")]  # fmt: skip


def line(figure: Figure) -> str:
    """A figure as the commands print it."""
    interval = f" [{figure.low:.3f}, {figure.high:.3f}]" if np.isfinite(figure.low) else ""
    note = f" ({figure.note})" if figure.note else ""
    return f"{figure.name} = {figure.value:.3f}{interval}{note}"


def write_images(out: Path, judges: Sequence[SavedJudge], pairs: Pairs) -> None:
    """Writes the images of the pairs that are handed on, and labels.csv with the judges' words."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "labels.csv").open("w", newline="") as labels:
        table = csv.writer(labels)
        table.writerow(["file", *(judge.label for judge in judges)])
        both = pairs.images, pairs.edited
        for i in np.flatnonzero(pairs.kept):
            for edited, (images, values) in enumerate(zip(both, pairs.values(), strict=True)):
                name = f"{pairs.latent[i]:06d}{'_flipped' if edited else ''}.png"
                Image.fromarray(images[i].squeeze()).save(out / name)
                table.writerow([name, *_words(judges, values[i])])


def write_record(
    out: Path, saved: Trained, judges: Sequence[SavedJudge], pairs: Pairs, planes: Sequence[Plane],
    about: dict[str, Any], flips: int = 1,
) -> list[Figure]:  # fmt: skip
    """Writes pairs.csv (all pairs by latent, and which are handed on), pairs.json and an overview.

    Args:
      about: further entries of pairs.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = [judge.label for judge in judges]
    with (out / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        titles = [f"{name}_{when}" for name in names for when in ("before", "after")]
        table.writerow(["latent", "handed_on", "away", *titles])
        before, after = pairs.values()
        for i, latent in enumerate(pairs.latent):
            words = zip(_words(judges, before[i]), _words(judges, after[i]), strict=True)
            table.writerow([latent, int(pairs.kept[i]), f"{pairs.away[i]:.3f}",
                            *(word for both in words for word in both)])  # fmt: skip
    figures = figures_of(pairs, planes, names, flips)
    more = {"flip": names[:flips], "keep": names[flips:], "fingerprint": fingerprint(saved)}
    write_figures(out / "pairs.json", figures, more | about)
    shown = np.flatnonzero(pairs.kept)[:8]
    if len(shown):
        from fairjax.train.gan import grid

        both = np.concatenate([pairs.images[shown], pairs.edited[shown]])
        Image.fromarray(grid(both, len(shown)).squeeze()).save(out / "grid.png")
    return figures


def _words(judges: Sequence[SavedJudge], values: np.ndarray) -> list[str]:
    return [judge.classes[int(value)] for judge, value in zip(judges, values, strict=True)]


def _scores(judges: Sequence[SavedJudge], images: np.ndarray) -> np.ndarray:
    """float [n, k]: each judge's probability of its class 1."""
    return np.stack([judge.score(images)[:, 1] for judge in judges], 1)
