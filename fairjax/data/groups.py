"""Groups of labelled examples: by target, by protected attribute, or by both. NumPy only."""

from typing import NamedTuple

import numpy as np


class Grouping(NamedTuple):
    """Groups that occur among n examples, in the order of (target, attribute)."""

    of: np.ndarray  # int32 [n] in [0, k)
    names: tuple[str, ...]  # k
    sizes: np.ndarray  # int64 [k], all > 0
    target: np.ndarray  # int32 [k], the class of each group; -1 where it holds several

    def sets(self) -> list[np.ndarray]:
        """Positions of the examples of each group."""
        return [np.flatnonzero(self.of == g) for g in range(len(self.names))]


def grouped(
    target: np.ndarray,
    protected: np.ndarray,
    by: str,
    target_names: tuple[str, ...],
    protected_names: tuple[str, ...],
) -> Grouping:
    """Groups the examples.

    An unknown protected attribute (-1) is a value of its own: where nothing is known, groups by
    both are the classes. A group without an example is none.

    Args:
      target: int [n] >= 0. protected: int [n], -1 = unknown.
      by: "target", "protected" or "both".
      target_names, protected_names: of the values.
    """
    known = bool((protected >= 0).any())
    values = (*protected_names, *(["unknown"] if known else [""]))
    a = np.where(protected < 0, len(protected_names), protected)
    y = np.asarray(target)
    code = {"target": y, "protected": a, "both": y * len(values) + a}[by]
    present, of, sizes = np.unique(code, return_inverse=True, return_counts=True)

    def name(code: int) -> str:
        if by != "both":
            return (target_names if by == "target" else values)[code] or "all"
        class_name, value = target_names[code // len(values)], values[code % len(values)]
        return f"{class_name}, {value}" if value else class_name

    classes = {"target": present, "protected": np.full(len(present), -1),
               "both": present // len(values)}[by]  # fmt: skip
    names = tuple(name(int(c)) for c in present)
    return Grouping(of.astype(np.int32), names, sizes, classes.astype(np.int32))
