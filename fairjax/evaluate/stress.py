"""How gaps move where the data of one group are worse than those of the others: stress curves."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure, score_interval
from fairjax.evaluate.paired import values
from fairjax.evaluate.rates import SPREADS, UNDEFINED, Groups, Z, confusion, rate
from fairjax.evaluate.repair import logit

LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
STEADY = ("stability", "score_change")  # figures of what a harmless change of the images does
# Of images, in steps of the 255 of a pixel: largest change of an attack, deviation of the noise.
IMAGE_LEVELS = {"fgsm": (0, 1, 2, 4, 8, 16), "pgd": (0, 1, 2, 4, 8, 16),
                "pixels": (0, 4, 8, 16, 32, 64)}  # fmt: skip
DRAWS = 100
# What the rows of one group come to, at a level: counts int [DRAWS, 4].
Damage = Callable[[np.random.Generator, float], np.ndarray]


class Point(NamedTuple):
    """A point of a stress curve.

    Attributes:
      kind: "flips", "noise", or one of `IMAGE_LEVELS`. attributes: of the groups. group: the one
        whose rows are damaged.
      level: how much. figure: a gap, or a rate of the damaged group.
      value: mean over draws of the damage. low, high: what 95 % of the draws lie between; the
        drawing of the rows is not in it. Images are damaged once: an accuracy has its Wilson
        interval, a gap none (NaN).
    """

    kind: str
    attributes: str
    group: str
    level: float
    figure: str
    value: float
    low: float
    high: float


def flips(truth: np.ndarray, decided: np.ndarray) -> Damage:
    """Each label [n] of a group is wrong with the probability `level`."""
    counts = confusion(truth, decided, np.zeros(len(truth), int), 1)[0]
    # With its label a row goes from tp to fp, fp to tp, fn to tn, tn to fn.
    partner = [1, 0, 3, 2]

    def damage(rng: np.random.Generator, level: float) -> np.ndarray:
        gone = rng.binomial(counts, level, (DRAWS, 4))
        return counts - gone + gone[:, partner]

    return damage


def noise(truth: np.ndarray, scores: np.ndarray, threshold: float) -> Damage:
    """Normal noise with the standard deviation `level` on the logit of each score [n] of a group,
    which is then decided on again."""
    logits, at = logit(scores), logit(np.asarray(threshold))

    def damage(rng: np.random.Generator, level: float) -> np.ndarray:
        drawn = (logits + rng.normal(0, level, len(logits)) >= at for _ in range(DRAWS))
        everybody = np.zeros(len(truth), int)
        return np.stack([confusion(truth, decided, everybody, 1)[0] for decided in drawn])

    return damage


def curves(
    kind: str, counts: np.ndarray, damages: list[Damage], groups: Groups, seed: int = 0
) -> Iterator[Point]:
    """Points of every group's curves; at level 0 the figures as they are.

    Args:
      kind: for the points. counts: int [k, 4], undamaged. damages: k, one for each group.
    """
    label = groups.label
    for k, (group, damage) in enumerate(zip(groups.names, damages, strict=True)):
        rng = np.random.default_rng((seed, k))
        own = [f"{name}/{label}/{group}" for name in ("true_positive_rate", "false_positive_rate")]
        for level in LEVELS:
            drawn = np.repeat(counts[None], DRAWS, 0)
            if level:
                drawn[:, k] = damage(rng, level)
            found = values(drawn, groups)
            for name in (*_gaps(label), *own):
                # A draw in which a rate cannot be counted makes the point one that cannot.
                low, high = np.quantile(found[name], (0.025, 0.975))
                yield Point(kind, label, group, level, name, float(found[name].mean()), float(low),
                            float(high))  # fmt: skip


def image_curves(
    kind: str, truth: np.ndarray, decided: Mapping[float, np.ndarray], groups: Groups
) -> Iterator[Point]:
    """Points of every group's curves where only this group's images are damaged.

    Args:
      kind: for the points. truth: bool [n].
      decided: level -> bool [n], decisions on images that are all damaged that much; 0 = as given.
    """
    label, names = groups.label, groups.names
    for k, group in enumerate(names):
        for level, damaged in decided.items():
            mixed = np.where(groups.of == k, damaged, decided[0])
            counts = confusion(truth, mixed, groups.of, len(names))
            name = f"accuracy/{label}/{group}"
            yield Point(kind, label, group, level, name, *rate(counts[k], "accuracy")[:3])
            found = values(counts, groups)
            for name in _gaps(label):
                yield Point(kind, label, group, level, name, float(found[name]), np.nan, np.nan)


def stability_figures(
    transform: str, before: np.ndarray, after: np.ndarray, kept: np.ndarray, groups: Groups
) -> Iterator[Figure]:
    """What a harmless change of the images does: `stability/<transform>/<attributes>/<group>`, the
    share of decisions that stay, and `score_change/...`, how far scores move in the mean.

    Args:
      before, after: float [n], scores of the images as they are and changed.
      kept: bool [n], whether the decision stays.
    """
    for k, group in enumerate(groups.names):
        of = f"{transform}/{groups.label}/{group}"
        members = groups.of == k
        n = int(members.sum())
        if not n:
            nothing = (np.nan, np.nan, np.nan, 0, UNDEFINED)
            yield from (Figure(f"{name}/{of}", *nothing) for name in STEADY)
            continue
        share = float(kept[members].mean())
        yield Figure(f"{STEADY[0]}/{of}", share, *score_interval(share, n, Z), n)
        moved = np.abs(after - before)[members]
        half = Z * float(moved.std()) / np.sqrt(n)
        yield Figure(f"{STEADY[1]}/{of}", float(moved.mean()), max(0.0, moved.mean() - half),
                     float(moved.mean() + half), n)  # fmt: skip


def _gaps(label: str) -> list[str]:
    gaps = [f"{gap}_difference/{label}" for gap in (*SPREADS, "equalized_odds")]
    return [*gaps, f"worst_group_accuracy/{label}"]
