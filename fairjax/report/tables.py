"""The report's tables as plain data; the template only lays them out."""

import json
from typing import Any, NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure, as_entries
from fairjax.report import words
from fairjax.report.workdir import Arm, Judge, Run, flat, insufficient

_ROLES = {
    "train_biased": "trained on: the large, biased set",
    "train_reference": "trained on: the small reference set",
    "ratio_test": "tests the density ratio",
    "judge_fit": "fits the judge",
    "judge_test": "measures the judge's errors",
    "metric_reference": "what samples are compared with; never trained on",
}
# Figures that are shares of images, written in percent.
SHARES = ("precision", "recall", "coverage", "memorisation")


class Cell(NamedTuple):
    """One table cell: its text, a hover note, and whether it is greyed."""

    text: str
    note: str = ""
    faint: bool = False


class Table(NamedTuple):
    """Column heads and rows of cells; the first column is text, the others are numbers."""

    heads: list[str]
    rows: list[list[Cell]]


def facts(run: Run) -> list[tuple[str, str]]:
    """What was run, as name and value."""
    versions = {key: str(value) for key, value in flat(run.versions).items() if key != "date"}
    rows = [("Date", run.date), ("Arms", ", ".join(arm.name for arm in run.arms))]
    rows += [(key.replace("_", " "), value) for key, value in versions.items()]
    return [(name, value) for name, value in rows if value]


def arms(run: Run) -> Table | None:
    """What each arm does and how its settings differ from the run's."""
    if not run.arms:
        return None
    overrides = run.config.get("arms") or {}
    rows = []
    for arm in run.arms:
        own = flat(overrides.get(arm.name) or {})
        changed = ", ".join(f"gan.{k.removeprefix('gan.')} = {v}" for k, v in own.items())
        seen = max((line.get("kimg", 0.0) for line in arm.stream), default=0.0)
        length = f"{seen:.0f}" if seen else "not run"
        row = [arm.name, words.kind_of_arm(arm), changed or "as the run", length]
        rows.append([Cell(text) for text in row])
    return Table(["arm", "what it does", "own settings", "kimg trained"], rows)


def config(run: Run) -> str:
    return json.dumps(run.config, indent=2, ensure_ascii=False) if run.config else ""


def roles(run: Run) -> list[tuple[str, Table]]:
    """For each attribute set that was counted (or "" without labels): images per role and class."""
    found = run.manifest.get("roles") or {}
    sets = list(dict.fromkeys(name for role in found.values() for name in role.get("groups") or {}))
    tables = []
    for name in sets or ([""] if found else []):
        per_role = {key: (role.get("groups") or {}).get(name) or {} for key, role in found.items()}
        classes = list(dict.fromkeys(label for counts in per_role.values() for label in counts))
        rows = []
        for key, role in found.items():
            total = sum(per_role[key].values())
            cells = [Cell(key, _ROLES.get(key, "")), Cell(f"{int(role.get('count') or 0):,}")]
            for label in classes:
                count = per_role[key].get(label, 0)
                share = f" ({100 * count / total:.0f} %)" if total else ""
                cells.append(Cell(f"{count:,}{share}" if total else "–", faint=not count))
            cells.append(Cell(_ROLES.get(key, ""), faint=True))
            rows.append(cells)
        tables.append((name, Table(["role", "images", *classes, "use"], rows)))
    return tables


def weights(run: Run) -> Table | None:
    """Every figure of the weights stage."""
    if not run.weight_figures:
        return None
    rows = [
        [Cell(words.pretty(name, run), name), Cell(words.number(figure), figure.note)]
        for name, figure in run.weight_figures.items()
    ]
    return Table(["figure", "value [95 % interval]"], rows)


def confusion(judge: Judge) -> Table | None:
    """Rows of true classes: decisions in % with counts, and how many test images there are."""
    if judge.confusion is None:
        return None
    rows = []
    for name, counts in zip(judge.classes, judge.confusion, strict=True):
        total = int(counts.sum())
        cells = [Cell(name)]
        for count in counts:
            share = f"{100 * count / total:.1f} %" if total else "–"
            cells.append(Cell(share, f"{int(count)} of {total} images", faint=not count))
        rows.append([*cells, Cell(f"{total:,}")])
    return Table(["true class", *(f"judged {name}" for name in judge.classes), "images"], rows)


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
    names += [
        name
        for name in dict.fromkeys(have)
        if name.split("/")[0]
        in ("kid", "frechet", "inception_score", *SHARES, "density", "ratio_score")
    ]
    return _by_arm(run, [name for name in names if name in have])


def all_figures(run: Run) -> Table | None:
    return _by_arm(run, list(dict.fromkeys(name for arm in run.arms for name in arm.figures)))


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
    wanted = [f"fairness_discrepancy/{run.main_set}/hard/corrected/reference"]
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
    rows = []
    for arm in run.arms:
        for entry in arm.checks.get("limits", ()):
            name, low, high = str(entry["figure"]), entry["min"], entry["max"]
            wanted = f"{low} to {high}" if None not in (low, high) else (
                f"at most {high:g}" if low is None else f"at least {low:g}")  # fmt: skip
            figure = arm.figures.get(name)
            shown = "not run" if figure is None else words.number(figure)
            rows.append([Cell(words.pretty(name, run), name), Cell(str(entry["verdict"])),
                         Cell(shown), Cell(wanted)])  # fmt: skip
    return Table(["figure", "verdict", "value", "wanted"], rows) if rows else None


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
    head, *rest = name.split("/")
    share = head in ("share", "reference_share", "smallest_share", *SHARES)
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


def metrics(run: Run) -> dict[str, Any]:
    """`report/metrics.json`: every figure of the run in one place."""
    said = words.answer(run)

    return {
        "answer": {
            "headline": said.headline,
            "sentences": said.sentences,
            "evidence": said.evidence,
            "caveats": said.caveats,
        },
        "insufficient_evidence": {
            arm.name: {name: insufficient(run, arm, name) for name in run.judges}
            for arm in run.arms
        },
        "weights": {
            "figures": as_entries(run.weight_figures.values()),
            "chain": run.weights.get("chain", []),
        },
        "arms": {
            arm.name: {
                "figures": as_entries(arm.figures.values()),
                "last_four": as_entries(last_four(arm).values()),
            }
            for arm in run.arms
        },
    }
