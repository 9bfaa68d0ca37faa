"""Which labelled images play which role. Pure functions of label arrays; no image is touched.

`paper`: the cut of Choi et al. 2020 ("Fair Generative Modeling via Weak Supervision"), in the order
of the file. `proportions`: any attributes, shares and sizes, drawn by seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fairjax.data.proportions import even_counts, exact_counts
from fairjax.errors import InputError

TRAIN, VALIDATION, TEST = 0, 1, 2
PART_NAMES = ("train", "validation", "test")


class Cut(NamedTuple):
    """Per class: images of the reference set at perc 1, then the biased images that follow."""

    reference: tuple[int, ...]
    biased: tuple[int, ...]


# The published counts; classes in mixed-radix order of PAPER_ATTRIBUTES.
PAPER: dict[tuple[str, int], Cut] = {
    ("90_10", TRAIN): Cut((33_753, 33_753), (60_756, 6_751)),
    ("90_10", VALIDATION): Cut((4_074, 4_074), (7_335, 815)),
    ("80_20", TRAIN): Cut((33_753, 33_753), (54_006, 13_501)),
    ("80_20", VALIDATION): Cut((4_074, 4_074), (6_520, 1_630)),
    ("multi", TRAIN): Cut((15_000,) * 4, (26_216, 24_878, 3_784, 5_122)),
    ("multi", VALIDATION): Cut((1_315,) * 4, (2_298, 2_181, 331, 449)),
}
PAPER_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "90_10": ("Male",),
    "80_20": ("Male",),
    "multi": ("Black_Hair", "Male"),
}


def paper_split(
    classes: np.ndarray, setting: str, perc: float, part: int = TRAIN
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts one official part of CelebA as the paper does, in file order.

    The first images of each class are the reference set, of which perc keeps the first ones; the
    biased set starts after the full reference set, so it does not depend on perc.

    Args:
      classes: int `[n]`, the class over PAPER_ATTRIBUTES[setting] of the images of this part.
      setting: "90_10", "80_20" or "multi".
      perc: |reference| / |biased|, in (0, 1].
      part: TRAIN or VALIDATION.

    Returns:
      Ascending indices into `classes`: (biased, reference).

    Raises:
      InputError: a class has fewer images than the published cut needs.
    """
    if setting not in PAPER_ATTRIBUTES:
        mend = f"Take one of {list(PAPER_ATTRIBUTES)}"
        raise InputError(f"unknown setting {setting!r}", "data.paper_setting", mend)
    if not 0 < perc <= 1:
        raise InputError(f"{perc} is not in (0, 1]", "data.perc", "The paper has .1, .25, .5, 1")
    cut = PAPER[setting, part]
    members = [np.flatnonzero(classes == c) for c in range(len(cut.biased))]
    needed = [r + b for r, b in zip(cut.reference, cut.biased, strict=True)]
    available = [len(m) for m in members]
    if any(a < n for a, n in zip(available, needed, strict=True)):
        found = (
            f"the {setting} split needs {needed} images per class of "
            f"{'+'.join(PAPER_ATTRIBUTES[setting])} in the {PART_NAMES[part]} part, "
            f"which has {available}"
        )
        mend = 'Use the whole official CelebA, or data.split="proportions"'
        raise InputError(found, "data.paper_setting", mend)
    biased = [m[r : r + b] for m, r, b in zip(members, cut.reference, cut.biased, strict=True)]
    reference = [m[: int(r * perc)] for m, r in zip(members, cut.reference, strict=True)]
    return np.sort(np.concatenate(biased)), np.sort(np.concatenate(reference))


@dataclass
class Stock:
    """The images that have no role yet.

    Attributes:
      part: int `[n]`: TRAIN, VALIDATION or TEST.
      order: permutation of the n images, in which they are taken.
      free: bool `[n]`.
    """

    part: np.ndarray
    order: np.ndarray
    free: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.free = np.ones(len(self.part), bool)

    def available(self, classes: np.ndarray, k: int, parts: Sequence[int]) -> list[int]:
        """Returns the number of free images of each of the k classes in these parts."""
        here = self.free & np.isin(self.part, parts)
        return [int((here & (classes == c)).sum()) for c in range(k)]

    def take(self, classes: np.ndarray, counts: Sequence[int], parts: Sequence[int]) -> np.ndarray:
        """Takes counts[c] images of each class c, from the first part that has some, and so on.

        Returns:
          Ascending indices, int `[sum(counts)]`. The caller made sure that there are enough.
        """
        taken = []
        for c, count in enumerate(counts):
            left = count
            for part in parts:
                here = self.free & (self.part == part) & (classes == c)
                some = self.order[here[self.order]][:left]
                self.free[some] = False
                taken.append(some)
                left -= len(some)
        return np.sort(np.concatenate(taken)) if taken else np.zeros(0, int)

    def claim(self, indices: np.ndarray) -> None:
        """Marks images as used."""
        self.free[indices] = False


class Sizes(NamedTuple):
    """How many images each role wants."""

    biased: int
    reference: int
    ratio_test: int
    judge_fit: int
    judge_test: int
    metric_reference: int


def _numbers(names: Sequence[str], counts: Sequence[int]) -> str:
    return ", ".join(f"{n} {name!r}" for name, n in zip(names, counts, strict=True))


def _need(
    names: Sequence[str],
    needed: Sequence[int],
    available: Sequence[int],
    what: str,
    where: str,
    mend: str,
) -> None:
    if any(a < n for a, n in zip(available, needed, strict=True)):
        found = f"{what} needs {_numbers(names, needed)}; there are {_numbers(names, available)}"
        raise InputError(found, where, mend)


def take_training(
    stock: Stock,
    classes: np.ndarray,
    names: Sequence[str],
    shares: Sequence[Sequence[float]],
    sizes: Sequence[int],
    parts: Sequence[int],
    what: str,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Takes a biased and a reference set with the given group shares.

    Args:
      stock: what is free.
      classes: int `[n]`, the group of each image, -1 = unknown.
      names: the k groups' names.
      shares: (biased, reference), each k numbers that sum to 1.
      sizes: (biased, reference).
      parts: where to take them from.
      what: name of the pair, for the error message.
      where: config key, for the error message.

    Returns:
      (biased, reference), ascending indices.

    Raises:
      InputError: there are not enough; it names the numbers needed and available.
    """
    counts = [exact_counts(n, s) for n, s in zip(sizes, shares, strict=True)]
    available = stock.available(classes, len(names), parts)
    needed = np.sum(counts, axis=0).tolist()
    both = [np.array(s) * n for n, s in zip(sizes, shares, strict=True)]
    per_image = np.sum(both, axis=0) / max(sizes[0], 1)
    most = min((a / p for a, p in zip(available, per_image, strict=True) if p > 0), default=0)
    mend = (
        f"Lower it to at most {int(most * (1 if what == 'training' else 2))}, or change the shares"
    )
    _need(names, needed, available, what, where, mend)
    return (
        stock.take(classes, counts[0], parts),
        stock.take(classes, counts[1], parts),
    )


def take_rest(
    stock: Stock,
    groups: np.ndarray,
    reference_shares: Sequence[float],
    judged: np.ndarray,
    judged_k: int,
    sizes: Sizes,
    pools: Sequence[Sequence[int]],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Takes the judge's images, even over its classes, and the metric reference, from what is left.

    Args:
      stock: what is free.
      groups: int `[n]`, the group of each image.
      reference_shares: the group shares of `metric_reference`.
      judged: int `[n]`, the joint class over all attributes that judges use.
      judged_k: the number of these classes.
      sizes: how many images each role wants.
      pools: the parts for (judge_fit, judge_test, metric_reference).

    Returns:
      {role: ascending indices}, and a line for each role that got fewer than it wanted.
    """
    roles, notes = {}, []
    for role, n, parts in (
        ("judge_test", sizes.judge_test, pools[1]),
        ("judge_fit", sizes.judge_fit, pools[0]),
    ):
        available = stock.available(judged, judged_k, parts)
        if role == "judge_test" and pools[0] == pools[1] and sizes.judge_fit:
            # Both come out of one pool: the smaller classes are shared in proportion.
            part = sizes.judge_test / (sizes.judge_test + sizes.judge_fit)
            available = [int(a * part) for a in available]
        roles[role] = stock.take(judged, even_counts(n, available), parts)
    k = len(reference_shares)
    available = stock.available(groups, k, pools[2])
    n = sizes.metric_reference
    fits = [a / s for a, s in zip(available, reference_shares, strict=True) if s > 0]
    counts = exact_counts(min(n, int(min(fits))), reference_shares)
    counts = [min(c, a) for c, a in zip(counts, available, strict=True)]
    roles["metric_reference"] = stock.take(groups, counts, pools[2])
    for role, indices in roles.items():
        wanted = getattr(sizes, role)
        if len(indices) < wanted:
            notes.append(f"{role} has {len(indices)} images instead of {wanted}: no more are left")
    return roles, notes
