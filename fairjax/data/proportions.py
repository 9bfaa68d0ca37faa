"""Group arithmetic: mixed-radix classes, proportions, and exact counts. Pure functions."""

from collections.abc import Sequence

import numpy as np

from fairjax.errors import InputError


def classes(values: np.ndarray, cardinalities: Sequence[int]) -> np.ndarray:
    """Returns the mixed-radix class of each row, the last attribute running fastest.

    Args:
      values: int `[n, A]`, -1 = unknown.
      cardinalities: number of values of each of the A attributes.

    Returns:
      int32 `[n]`, -1 where any attribute is unknown.
    """
    values = np.asarray(values)
    out = np.zeros(len(values), np.int32)
    for column, cardinality in enumerate(cardinalities):
        out = out * cardinality + values[:, column]
    return np.where((values < 0).any(axis=1), -1, out).astype(np.int32)


def rows_of_classes(k: np.ndarray, cardinalities: Sequence[int]) -> np.ndarray:
    """Inverse of `classes`: int `[n]` -> int8 `[n, A]`."""
    columns = np.unravel_index(np.asarray(k), tuple(cardinalities))
    return np.stack(columns, axis=1).astype(np.int8)


def class_names(values: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Returns the names of all classes, for example ("short hair, beard", ...)."""
    names: list[tuple[str, ...]] = [()]
    for options in values:
        names = [head + (option,) for head in names for option in options]
    return tuple(", ".join(parts) for parts in names)


def exact_counts(n: int, shares: Sequence[float]) -> list[int]:
    """Splits n into whole counts nearest to the shares (largest remainders; ties: first)."""
    exact = np.asarray(shares, np.float64) * n
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: n - counts.sum()]] += 1
    return counts.tolist()


def even_counts(n: int, available: Sequence[int]) -> list[int]:
    """Splits n as evenly as the available numbers allow (what one class lacks, others give)."""
    counts = [0] * len(available)
    left = min(n, sum(available))
    while left:
        open_classes = [c for c, a in enumerate(available) if counts[c] < a]
        step = max(left // len(open_classes), 1)
        for c in open_classes[:left]:
            add = min(step, available[c] - counts[c], left)
            counts[c] += add
            left -= add
    return counts


def group_proportions(
    k: int, bias: float, biased: Sequence[float], reference: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the group shares of the biased and of the reference set, each of length k.

    Args:
      k: number of groups.
      bias: share of group 0 in the biased set, the rest evenly; used where `biased` is empty.
      biased: shares of the biased set, or empty.
      reference: shares of the reference set, or empty for uniform.

    Raises:
      InputError: wrong length, a negative share, or a sum that is not 1.
    """
    if not 0 <= bias <= 1:
        raise InputError(f"{bias} is not a share", "data.bias", "Give a number from 0 to 1")
    first = tuple(biased) or (bias, *[(1 - bias) / (k - 1)] * (k - 1))
    second = tuple(reference) or (1 / k,) * k
    for key, shares in (("biased_proportions", first), ("reference_proportions", second)):
        where = f"data.{key}"
        if len(shares) != k:
            mend = f"data.group_attributes makes {k} groups; give {k} shares"
            raise InputError(f"{len(shares)} shares", where, mend)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
            found = f"the shares {list(shares)} sum to {sum(shares):.4g}"
            raise InputError(found, where, "Give shares >= 0 that sum to 1")
    return first, second


def true_ratio(
    attributes: Sequence[str], names: Sequence[str], biased: Sequence, reference: Sequence
) -> dict:
    """Returns the manifest's `true_ratio`: reference share / biased share for each group.

    A group that the biased set lacks has no ratio (None).
    """
    b = np.asarray(biased, np.float64) / np.sum(biased)
    r = np.asarray(reference, np.float64) / np.sum(reference)
    ratio = [float(y / x) if x > 0 else None for x, y in zip(b, r, strict=True)]
    return {
        "attributes": list(attributes),
        "class_names": list(names),
        "biased": b.tolist(),
        "reference": r.tolist(),
        "ratio": ratio,
    }
