"""The report's tables as plain data; the template only lays them out."""

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fairjax.data.proportions import class_names
from fairjax.evaluate.association import association
from fairjax.report import words
from fairjax.report.workdir import Judge, Run, flat

ROLES = {
    "train_biased": "trained on: the large, biased set",
    "train_reference": "trained on: the small reference set",
    "ratio_test": "tests the density ratio",
    "judge_fit": "fits the judge",
    "judge_test": "measures the judge's errors",
    "metric_reference": "what samples are compared with; never trained on",
}


class Cell(NamedTuple):
    """One table cell: its text, a hover note, whether it is greyed, and where on the page a click
    on it leads (the `id` of a row)."""

    text: str
    note: str = ""
    faint: bool = False
    leads: str = ""


class Table(NamedTuple):
    """Column heads and rows of cells; the first column is text, the others are numbers. `ids` are
    those of the rows, where cells elsewhere lead to them."""

    heads: list[str]
    rows: list[list[Cell]]
    ids: list[str] = []


def text_table(heads: list[str], lines: Iterable[Sequence[str]]) -> Table:
    """A table of texts; those that say that there is nothing are greyed."""
    nothing = ("-", "not run", "insufficient evidence")
    return Table(heads, [[Cell(text, faint=text in nothing) for text in line] for line in lines])


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
    """For each attribute set that was counted (or "" without labels): images per role and class,
    and how strongly the first attribute goes together with the others."""
    found = run.manifest.get("roles") or {}
    sets = list(dict.fromkeys(name for role in found.values() for name in role.get("groups") or {}))
    tables = []
    for name in sets or ([""] if found else []):
        per_role = {key: (role.get("groups") or {}).get(name) or {} for key, role in found.items()}
        classes = list(dict.fromkeys(label for counts in per_role.values() for label in counts))
        values = run.manifest.get("attribute_values") or {}  # an audit has none
        rows, pairs = [], "+" in name and values.keys() >= {*name.split("+")}
        for key, role in found.items():
            total = sum(per_role[key].values())
            cells = [Cell(key, ROLES.get(key, "")), Cell(f"{int(role.get('count') or 0):,}")]
            for label in classes:
                count = per_role[key].get(label, 0)
                share = f" ({100 * count / total:.0f} %)" if total else ""
                cells.append(Cell(f"{count:,}{share}" if total else "–", faint=not count))
            cells += _associated(run, name, per_role[key]) if pairs else []
            cells.append(Cell(ROLES.get(key, ""), faint=True))
            rows.append(cells)
        measures = ["Cramér's V", "without its bias"] if pairs else []
        tables.append((name, Table(["role", "images", *classes, *measures, "use"], rows)))
    return tables


def _associated(run: Run, name: str, counts: Mapping[str, int]) -> list[Cell]:
    """How strongly the first attribute of a set goes together with the others, in one role."""
    first, *others = name.split("+")
    values = [run.manifest["attribute_values"][attribute] for attribute in (first, *others)]
    table = np.array([counts.get(label, 0) for label in class_names(values)])
    found = association(table.reshape(len(values[0]), -1))
    if found is None:
        return [Cell("–", faint=True)] * 2
    phi = "" if math.isnan(found.phi) else f"; phi {found.phi:+.3f}"
    note = f"of {first} and {', '.join(others)}: 0 = independent, 1 = one follows from the other"
    return [Cell(f"{found.cramers_v:.3f}", note + phi),
            Cell(f"{found.corrected:.3f}", "Bergsma, 2013")]  # fmt: skip


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
    """Rows of true classes: decisions in % with counts, how many test images there are, and how
    well the class's probability is calibrated, where that was measured."""
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
    heads = ["true class", *(f"judged {name}" for name in judge.classes), "images"]
    if judge.calibration:
        heads.append("calibration error")
        rows = [[*row, Cell(f"{error:.3f}")]
                for row, error in zip(rows, judge.calibration, strict=True)]  # fmt: skip
    return Table(heads, rows)


def row_id(name: str) -> str:
    """The id of a figure's row among all figures."""
    return f"figure:{name.replace(' ', '_')}"


def cost(run: Run) -> Table | None:
    """What each stage took, and the training's rate over all of it, evaluations included."""
    kinds = sorted({kind for counted in run.joules.values() for kind in counted})
    rows = []
    for name, seconds in run.seconds.items():
        kimg = next((max((line.get("kimg", 0.0) for line in arm.stream), default=0.0)
                     for arm in run.arms if name == f"arms/{arm.name}/gan"), 0.0)  # fmt: skip
        rate = f"{1000 * kimg / seconds:.0f}" if kimg and seconds else "–"
        rows.append([Cell(name), Cell(_clock(seconds)), Cell(rate, faint=rate == "–"),
                     *(_energy(run, kind, [name]) for kind in kinds)])  # fmt: skip
    if not rows:
        return None
    total = sum(run.seconds.values())
    rows.append([Cell("all"), Cell(_clock(total)), Cell(""),
                 *(_energy(run, kind, list(run.seconds)) for kind in kinds)])  # fmt: skip
    return Table(["stage", "time", "images/s", *(f"energy, {kind}" for kind in kinds)], rows)


def _energy(run: Run, kind: str, stages: list[str]) -> Cell:
    """What the chips of a kind took in these stages; a stage where nobody counted is no 0."""
    counted = [run.joules[name][kind] for name in stages if kind in run.joules.get(name, {})]
    if len(counted) < len(stages):
        return Cell("not counted", faint=True)
    return Cell(f"{sum(counted) / 3600:.3g} Wh")


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
