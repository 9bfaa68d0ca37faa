"""How gaps move where the data of one group are worse than those of the others: stress curves."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.paired import values
from fairjax.evaluate.rates import SPREADS, Groups, confusion
from fairjax.evaluate.repair import logit

LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
DRAWS = 100
# What the rows of one group come to, at a level: counts int [DRAWS, 4].
Damage = Callable[[np.random.Generator, float], np.ndarray]


class Point(NamedTuple):
    """A point of a stress curve.

    Attributes:
      kind: "flips" or "noise". attributes: of the groups. group: the one whose rows are damaged.
      level: how much. figure: a gap, or the damaged group's true or false positive rate.
      value: mean over draws of the damage. low, high: what 95 % of the draws lie between; the
        drawing of the rows is not in it.
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
    gaps = [f"{gap}_difference/{label}" for gap in (*SPREADS, "equalized_odds")]
    for k, (group, damage) in enumerate(zip(groups.names, damages, strict=True)):
        rng = np.random.default_rng((seed, k))
        own = [f"{name}/{label}/{group}" for name in ("true_positive_rate", "false_positive_rate")]
        for level in LEVELS:
            drawn = np.repeat(counts[None], DRAWS, 0)
            if level:
                drawn[:, k] = damage(rng, level)
            found = values(drawn, groups)
            for name in (*gaps, f"worst_group_accuracy/{label}", *own):
                # A draw in which a rate cannot be counted makes the point one that cannot.
                low, high = np.quantile(found[name], (0.025, 0.975))
                yield Point(kind, label, group, level, name, float(found[name].mean()), float(low),
                            float(high))  # fmt: skip
