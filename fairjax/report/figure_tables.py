"""The report's tables of figures: in front, within the classes, all, last four, and checked."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure, main_figure
from fairjax.report import words
from fairjax.report.tables import Cell, Table, row_id
from fairjax.report.workdir import Arm, Run, insufficient

# Figures that are shares of images, written in percent.
SHARES = ("precision", "recall", "coverage", "memorisation")
# Figures that stand on the page itself and not only among all.
MAIN = ("judge_disagreement", "kid", "frechet", "inception_score", *SHARES, "density",
        "ratio_score", "path_length")  # fmt: skip
LIMITS = ["figure", "verdict", "value", "wanted"]  # heads of the table of limits


def main_figures(run: Run) -> Table | None:
    """The figures that the answer rests on, one column per arm."""
    index = words.shown_class(run)
    names = []
    for name in [run.main_set, *(other for other in run.judges if other != run.main_set)]:
        if name:
            names += [
                f"fairness_discrepancy/{name}/{form}/reference"
                for form in ("hard/corrected", "soft/corrected", "hard/raw")
            ]
    if run.main_set:
        names.append(f"share/{run.main_set}/{index}/hard/corrected")
    have = [name for arm in run.arms for name in arm.figures]
    names += [name for name in dict.fromkeys(have) if name.split("/")[0] in MAIN
              and not _within(name, run)]  # fmt: skip
    found = _by_arm(run, [name for name in names if name in have])
    if found is None:
        return None
    rows = [[first, *(cell._replace(leads=row_id(first.note)) for cell in cells)]
            for first, *cells in found.rows]  # fmt: skip
    return found._replace(rows=rows)


def within_groups(run: Run) -> list[tuple[str, Table]]:
    """For each attribute set: what was measured within its classes, of each arm."""
    names = list(dict.fromkeys(name for arm in run.arms for name in arm.figures))
    tables = []
    for label, judge in run.judges.items():
        kinds = list(dict.fromkeys(name.rpartition("/")[0] for name in names
                                   if _within(name, run) == label))  # fmt: skip
        rows = [
            [Cell(words.pretty(kind.removesuffix(f"/{label}"), run)),
             *(_figure_cell(run, arm, name)._replace(leads=row_id(name))
               for arm in run.arms for k in range(len(judge.classes))
               for name in [f"{kind}/{k}"])]
            for kind in kinds
        ]  # fmt: skip
        if rows:
            heads = [f"{arm.name}: {name}" for arm in run.arms for name in judge.classes]
            tables.append((label, Table(["figure", *heads], rows)))
    return tables


def _within(name: str, run: Run) -> str:
    """The attribute set of a figure within a class, `<figure>/<features>/<set>/<class>`, or ""."""
    parts = name.split("/")
    return parts[2] if len(parts) == 4 and parts[2] in run.judges and parts[0] in MAIN else ""


def all_figures(run: Run) -> Table | None:
    """Every figure under the name that it has in metrics.json, with its number of samples."""
    names = list(dict.fromkeys(name for arm in run.arms for name in arm.figures))
    found = _by_arm(run, names)
    if found is None:
        return None
    rows = [[Cell(name, first.text), *cells]
            for name, (first, *cells) in zip(names, found.rows, strict=True)]  # fmt: skip
    counts = [Cell(" / ".join(str(arm.figures[name].n) if name in arm.figures else "–"
                              for arm in run.arms), faint=True) for name in names]  # fmt: skip
    return Table([*found.heads, "n"],
                 [[*row, n] for row, n in zip(rows, counts, strict=True)],
                 [row_id(name) for name in names])  # fmt: skip


def last_four(arm: Arm) -> dict[str, Figure]:
    """Mean of each evaluated figure over the last four evaluations during training.

    The value's low and high are NaN: four points of one run are no independent sample.
    """
    found: dict[str, list[float]] = {}
    for line in arm.stream:
        for name, value in line.items():
            if name.split("/")[0] in ("fairness_discrepancy", "share", "kid"):
                found.setdefault(name, []).append(value)
    return {
        name: Figure(name, float(np.mean(values[-4:])), np.nan, np.nan, len(values[-4:]))
        for name, values in found.items()
    }


def last_four_table(run: Run) -> Table | None:
    """Discrepancy and KID of the last four evaluations, with the ratio to the unweighted arm."""
    means = {arm.name: last_four(arm) for arm in run.arms}
    wanted = [main_figure(run.main_set)]
    wanted += [name for part in means.values() for name in part if name.startswith("kid/")]
    first = words.baseline(run)
    rows = []
    for name in dict.fromkeys(wanted):
        if not any(name in part for part in means.values()):
            continue
        cells = [Cell(words.pretty(name, run), name)]
        for arm in run.arms:
            figure = means[arm.name].get(name)
            text = "not run" if figure is None else words.plain(figure.value)
            base = means[first.name].get(name) if first is not None else None
            if figure is not None and base is not None and arm is not first and base.value > 0:
                text += f" ({figure.value / base.value:.2f} × {first.name if first else ''})"
            cells.append(Cell(text, faint=figure is None))
        rows.append(cells)
    return Table(["mean of the last four", *(arm.name for arm in run.arms)], rows) if rows else None


def limits(run: Run) -> Table | None:
    """The figures that an audit held against limits."""
    found = [row for arm in run.arms for row in limit_rows(arm.checks, arm.figures, run)]
    return Table(LIMITS, found) if found else None


def limit_rows(
    checks: Mapping[str, Any], figures: Mapping[str, Figure], run: Run | None = None
) -> Iterator[list[Cell]]:
    """A row under `LIMITS` for each limit of an audit, with pretty names where the run is known."""
    for entry in checks.get("limits", ()):
        name, low, high = str(entry["figure"]), entry["min"], entry["max"]
        wanted = f"{low} to {high}" if None not in (low, high) else (
            f"at most {high:g}" if low is None else f"at least {low:g}")  # fmt: skip
        figure = figures.get(name)
        shown = "not run" if figure is None else words.number(figure)
        yield [Cell(words.pretty(name, run) if run else name, name), Cell(str(entry["verdict"])),
               Cell(shown), Cell(wanted)]  # fmt: skip


class Remark(NamedTuple):
    """What somebody wrote on a figure: its name, its value now, by whom and when, and the text."""

    name: str
    value: str
    by: str
    text: str


def remarks(
    checks: Mapping[str, Any], figures: Mapping[str, Figure], run: Run | None = None
) -> list[Remark]:
    """The notes of an audit, with pretty names where the run is known."""
    found = []
    for note in checks.get("notes", ()):
        name = str(note["figure"])
        shown = words.number(figures[name]) if name in figures else "not run"
        found.append(Remark(words.pretty(name, run) if run else name, shown,
                            f"{note['author']}, {note['date']}", str(note["text"])))  # fmt: skip
    return found


def moved(run: Run) -> tuple[int, Table] | None:
    """(figures compared with the baseline of an audit, those that moved); None without one."""
    of = [arm for arm in run.arms if arm.checks.get("compared")]
    rows = [
        [Cell(words.pretty(str(m["figure"]), run), str(m["figure"])),
         Cell(words.plain(float(m["before"]))), Cell(words.plain(float(m["now"]))),
         Cell("–" if m["standard_errors"] is None else f"{float(m['standard_errors']):.1f}")]
        for arm in of for m in arm.checks["moved"]
    ]  # fmt: skip
    heads = ["figure", "before", "now", "standard errors"]
    return (int(of[0].checks["compared"]), Table(heads, rows)) if of else None


def _by_arm(run: Run, names: list[str]) -> Table | None:
    if not names:
        return None
    rows = []
    for name in names:
        cells = [Cell(words.pretty(name, run), name)]
        cells += [_figure_cell(run, arm, name) for arm in run.arms]
        rows.append(cells)
    return Table(["figure", *(arm.name for arm in run.arms)], rows)


def _figure_cell(run: Run, arm: Arm, name: str) -> Cell:
    figure = arm.figures.get(name)
    if figure is None:
        return Cell("not run", faint=True)
    head, *rest = words.of_psi(name)[1].split("/")
    share = head in ("share", "reference_share", "smallest_share", "judge_disagreement", *SHARES)
    text = words.percent(figure) if share else words.number(figure)
    note = "; ".join(
        part for part in (f"n = {figure.n:,}" if figure.n else "", figure.note) if part
    )
    judged = head in ("share", "fairness_discrepancy") and bool(rest)
    reason = insufficient(run, arm, rest[0]) if judged else ""
    if "insufficient evidence" in figure.note:
        reason = reason or figure.note
    if not reason:
        return Cell(text, note, faint=not np.isfinite(figure.value))
    if text == "insufficient evidence":
        return Cell(text, reason, faint=True)
    return Cell(f"insufficient evidence: {text}", reason, faint=True)
