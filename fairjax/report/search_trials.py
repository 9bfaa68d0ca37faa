"""Rows of a search's trials -> a table with the searched values, the front, and its chart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairjax.errors import InputError
from fairjax.evaluate.comparison import pareto
from fairjax.evaluate.figures import main_figure
from fairjax.report.comparison import Section, kid
from fairjax.report.drawing import COLOURS, Line, Picture, scatter
from fairjax.report.formula import evaluate, figures_in
from fairjax.report.tables import text_table

Row = Mapping[str, Any]
Objective = tuple[str, str]  # maximise or minimise, formula
NOTE = (
    "Searches: objectives and front are of the figures by which a choice may be made (those of the "
    "validation images, or what was logged while a generator was trained). The best of many trials "
    "looks better there than it is; what it is worth stands under test (final, of a generator)."
)


def objective(text: str) -> Objective:
    """Reads "maximise FORMULA" or "minimise FORMULA"; raises InputError where it is neither."""
    direction, _, formula = text.strip().partition(" ")
    if direction not in ("maximise", "minimise"):
        raise InputError(f"{text!r} is no objective", "--front",
                         "Write \"maximise FORMULA\" or \"minimise FORMULA\"")  # fmt: skip
    figures_in(formula)
    return direction, formula


def section(cell: str, rows: Sequence[Row], front: Sequence[Objective]) -> Section:
    """The trials of one search: those on the front first, then the others as they ran.

    Args:
      rows: of the search. front: its objectives; () takes those of the search, or where that had
        one only, the usual pair of the experiment.

    Raises:
      InputError: an objective names a figure that no trial has.
    """
    front = front or objectives(rows)
    states = [row["state"] for row in rows]
    points = _points(rows, front)
    on = _on_front(points, front)
    keys = list(dict.fromkeys(key for row in rows for key in row["searched"]))
    heads = ["trial", "on the front", *(f"{way} {formula}" for way, formula in front),
             *_tested(rows[0]), *keys]  # fmt: skip
    lines = [
        [str(number), "yes" if number in on else "-", *(f"{x:.4g}" for x in points[number]),
         *map(_number, _tested(row).values()),
         *(_number(row["searched"].get(key)) for key in keys)]
        for number, row in sorted(_by_number(rows).items(), key=lambda x: (x[0] not in on, x[0]))
        if number in points
    ]  # fmt: skip
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    said = [f"{cell}: {len(rows)} trials, {counts}. On the front: "
            f"{', '.join(map(str, sorted(on))) or 'none'}."]  # fmt: skip
    for row in rows:
        if row["state"] == "failed":
            said.append(f"Trial {row['trial']} failed: {row['reason']}")
    return Section(f"Search {cell}", text_table(heads, lines), said)


def chart(cell: str, rows: Sequence[Row], front: Sequence[Objective]) -> Picture | None:
    """The trials over the first two objectives; None where there is one only, or no trial."""
    front = front or objectives(rows)
    points = _points(rows, front)
    if len(front) < 2 or not points:
        return None
    on = _on_front(points, front)
    kinds = [
        Line(label, [points[n][0] for n in which], [points[n][1] for n in which], colour)
        for label, which, colour in (
            ("other trials", [n for n in points if n not in on], COLOURS[1]),
            ("on the front", sorted(on), COLOURS[0]),
        )
    ]
    across, up = (f"{way} {formula}" for way, formula in front[:2])
    return scatter(kinds, up, across, f"{up} over {across} of the trials of {cell}")


def objectives(rows: Sequence[Row]) -> list[Objective]:
    """Those of the search, or where that had one only, the usual pair of the experiment."""
    own = [(way, formula) for way, formula in rows[0]["objectives"]]
    if len(own) > 1:
        return own
    if "worst_group" in rows[0]:
        return [
            ("maximise", f"'{name}_accuracy/validation'") for name in ("worst_group", "average")
        ]
    attribute = next((row["attribute"] for row in rows if row["state"] == "complete"), "")
    name = main_figure(attribute)
    return [("minimise", f"'{name}'"), ("minimise", "'kid/random_conv'")]


def _tested(row: Row) -> dict[str, float | None]:
    """What a trial is worth: by images, or samples, that chose nothing."""
    if "worst_group" in row:
        return {"worst group, test": row["worst_group"], "average, test": row.get("average")}
    name = main_figure(row["attribute"])
    found = row.get("figures", {}).get(name, [None])[0]
    return {"discrepancy, final": found, "KID, final": kid(row)}


def _by_number(rows: Sequence[Row]) -> dict[int, Row]:
    return {row["trial"]: row for row in rows}


def _points(rows: Sequence[Row], front: Sequence[Objective]) -> dict[int, list[float]]:
    """Trial -> its objectives; trials without a figure are left out."""
    points = {}
    for number, row in _by_number(rows).items():
        if row["validation"]:
            try:
                points[number] = [evaluate(text, row["validation"]) for _, text in front]
            except ArithmeticError:
                continue
    return points


def _on_front(points: Mapping[int, Sequence[float]], front: Sequence[Objective]) -> set[int]:
    signs = [-1 if way == "maximise" else 1 for way, _ in front]
    costs = [tuple(s * x for s, x in zip(signs, point, strict=True)) for point in points.values()]
    return {n for n, on in zip(points, pareto(costs), strict=True) if on}


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
