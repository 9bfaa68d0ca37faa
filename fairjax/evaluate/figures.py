"""What an evaluation hands out: named numbers with an interval, and their JSON file."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fairjax.data.cache import write_json
from fairjax.errors import InputError


class Figure(NamedTuple):
    """One measured number.

    Attributes:
      name: `<figure>/<attribute>/<soft|hard>/<raw|corrected>/<reference|uniform>`, as far as these
        apply, e.g. `kid/efficientnet_lite0`.
      value: the number; NaN where it could not be measured (the note says why).
      low: lower end of the 95 % interval; NaN where there is none.
      high: upper end of the 95 % interval; NaN where there is none.
      n: number of samples behind the number.
      note: one short remark for the reader of the page, or "".
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    note: str = ""


def main_figure(attribute_set: str) -> str:
    """The name of the figure by which a generator is judged: the distance of the shares of all
    classes, told by hard decisions and corrected for the judge's errors, to those of the reference.
    """
    return f"fairness_discrepancy/{attribute_set}/hard/corrected/reference"


def is_main_figure(name: str) -> bool:
    """Whether it is the main figure of some set of attributes."""
    return name == main_figure(name.partition("/")[2].partition("/")[0])


def score_interval(share: float, n: float, z: float) -> tuple[float, float]:
    """Ends of the score interval of a proportion of n rows (Wilson 1927), z standard errors wide to
    each side."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = max(0.0, share * (1 - share)) / n + z * z / (4 * n * n)
    half = z * math.sqrt(spread) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def with_width(value: float, low: float, high: float, n: float) -> tuple[float, float]:
    """Ends of the 95 % interval of a share of n rows, around the value: where all rows are alike,
    which is no certainty, those of its score interval."""
    if low == high:
        low, high = score_interval(value, n, 1.96)
    return min(low, value), max(high, value)


def without_nan(value: Any) -> Any:
    """The same JSON value with every NaN or infinity, which JSON cannot hold, as None."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
        return without_nan(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_entries(figures: Iterable[Figure]) -> dict[str, dict[str, Any]]:
    """`{name: {"value", "low", "high", "n", "note"}}`, in the order in which figures come.

    Raises:
      ValueError: two figures have the same name.
    """
    entries: dict[str, dict[str, Any]] = {}
    for figure in figures:
        if figure.name in entries:
            raise ValueError(f"two figures are named {figure.name!r}")
        fields = figure._asdict()
        name = fields.pop("name")
        entries[name] = without_nan(fields)
    return entries


def from_entries(entries: dict[str, Any]) -> dict[str, Figure]:
    """The reverse of `as_entries`; null becomes NaN, a bare number a figure without interval."""
    figures = {}
    for name, entry in entries.items():
        fields = entry if isinstance(entry, dict) else {"value": entry}
        value, low, high = (
            float("nan") if fields.get(key) is None else float(fields[key])
            for key in ("value", "low", "high")
        )
        figures[name] = Figure(
            name, value, low, high, int(fields.get("n") or 0), str(fields.get("note") or "")
        )
    return figures


def write_figures(
    path: str | os.PathLike, figures: Iterable[Figure], extra: dict[str, Any] | None = None
) -> None:
    """Writes `{"figures": {name: {"value", "low", "high", "n", "note"}}, **extra}`.

    Args:
      path: the JSON file; its folder is made where it is missing.
      figures: the figures; NaN becomes null.
      extra: further top-level entries, JSON values or arrays.

    Raises:
      ValueError: two figures share a name, or extra has a key "figures".
    """
    if extra and "figures" in extra:
        raise ValueError('extra must not have a key "figures"')
    write_json(path, {"figures": as_entries(figures), **without_nan(extra or {})})


def read_figures(path: str | os.PathLike) -> dict[str, Figure]:
    """Reads what `write_figures` wrote: name -> Figure, null as NaN.

    Raises:
      InputError: the file is not JSON with an entry "figures" that holds numbers.
      FileNotFoundError: there is no such file.
    """
    try:
        return from_entries(json.loads(Path(path).read_text("utf-8"))["figures"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        mend = "Give a metrics.json; one that is damaged is written anew by what wrote it"
        raise InputError("not a file of figures", str(path), mend) from error
