"""Rows of many runs -> charts: over training, over the size of the reference set, and Pareto."""

from collections.abc import Iterable

import numpy as np

from fairjax.report.comparison import Rows, group_of, kid, kid_during
from fairjax.report.drawing import COLOURS, Line, Picture, curves, scatter


def pictures(rows: Rows) -> dict[str, Picture]:
    """Charts by file name: over kimg for each cell, over perc for each group, and Pareto."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    colour = {m: COLOURS[i % len(COLOURS)] for i, m in enumerate(methods)}
    out: dict[str, Picture] = {}
    for cell in dict.fromkeys(row["cell"] for row in rows):
        here = [row for row in rows if row["cell"] == cell]
        name, rated = kid_during(here)
        for which, index, title, rows_of in (
            ("discrepancy", 1, "Fairness discrepancy", here),
            ("kid", 2, f"KID in {name.split('/')[1]} features", rated),
        ):
            shown = [line for m in methods if (line := _curve(rows_of, m, index, colour[m])).x]
            alt = f"{title} of {', '.join(methods)} over training in {cell}, mean over seeds"
            if shown:
                out[f"{which}_kimg_{cell}"] = curves(shown, f"{title}: {cell}", alt, top=np.nan)
    for group in dict.fromkeys(group_of(row["cell"]) for row in rows):
        here = [row for row in rows if group_of(row["cell"]) == group]
        if len({row["perc"] for row in here}) > 1:
            for which in ("discrepancy", "kid"):
                lines = [_over_perc(here, m, which, colour[m]) for m in methods]
                alt = f"{which} of {', '.join(methods)} over the size of the reference set, {group}"
                out[f"{which}_perc_{group}"] = curves(
                    [line for line in lines if line.x], f"{which}: {group}", alt, top=np.nan,
                    across="reference set / biased set (perc)",
                )  # fmt: skip
        points = []
        for m in methods:
            mine = [r for r in here if r["method"] == m and r["discrepancy"] is not None]
            if mine:
                found = [r["discrepancy"] for r in mine]
                points.append(Line(m, [kid(r) for r in mine], found, colour[m]))
        alt = f"KID and fairness discrepancy of every run in {group}"
        out[f"pareto_{group}"] = scatter(points, f"Fairness discrepancy: {group}", "KID", alt)
    return out


def _curve(rows: Rows, method: str, index: int, colour: str) -> Line:
    points = [point for row in rows if row["method"] == method for point in row.get("curve", ())]
    return _mean_line(method, ((point[0], point[index]) for point in points), colour)


def _over_perc(rows: Rows, method: str, which: str, colour: str) -> Line:
    mine = [row for row in rows if row["method"] == method and row["discrepancy"] is not None]
    of = kid if which == "kid" else lambda row: row["discrepancy"]
    return _mean_line(method, ((row["perc"], of(row)) for row in mine), colour)


def _mean_line(label: str, points: Iterable[tuple[float, float | None]], colour: str) -> Line:
    """The mean of y at each x; points without y are left out."""
    found: dict[float, list[float]] = {}
    for x, y in points:
        if y is not None:
            found.setdefault(x, []).append(y)
    xs = sorted(found)
    return Line(label, xs, [float(np.mean(found[x])) for x in xs], colour)
