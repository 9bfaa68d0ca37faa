"""The part of a classifier page that is about generated images: labels, pairs, what they change."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure, from_entries
from fairjax.report import sheets, words
from fairjax.report.tables import Cell, Table
from fairjax.report.workdir import Run, read_json

# Figure of the audit -> head of its column.
GAPS = {
    "equal_opportunity_difference": "equal opportunity difference (DEO)",
    "equalized_odds_difference": "equalised odds difference",
    "bias_amplification": "bias amplification, in points",
    "score_kl": "KL of the scores",
    "average_precision/all": "average precision",
}
CHANGES = {
    "worst_group_accuracy/label+": "worst group, in points",
    "accuracy/all": "average, in points",
    "equal_opportunity_difference": "DEO, in points",
    "bias_amplification": "bias amplification, in points",
}


class Latent(NamedTuple):
    """What the page shows of generated images.

    Attributes:
      said: sentences on the pairs.
      sheet: of some pairs, an image above its edited form; None where there is none.
    """

    said: list[str]
    pairs: Table
    scorers: Table
    changes: Table | None
    sheet: sheets.Sheet | None


def gaps(run: Run) -> Table | None:
    """Per arm the gaps between the protected groups on the test images."""
    found = {name: _starting(run.arms[0].figures, name) for name in GAPS} if run.arms else {}
    shown = {name: figure for name, figure in found.items() if figure}
    if not shown:
        return None
    rows = []
    for arm in run.arms:
        cells = [Cell(arm.name)]
        for name in shown:
            figure = _starting(arm.figures, name)
            cells.append(Cell("not run", faint=True) if figure is None else
                         Cell(_points(figure) if name == "bias_amplification"
                              else words.number(figure), figure.note))  # fmt: skip
        rows.append(cells)
    return Table(["arm", *(GAPS[name] for name in shown)], rows)


def read(run: Run) -> Latent | None:
    """The pairs of a run; None where it has none (yet)."""
    record = read_json(run.workdir / "pairs/pairs.json")
    if not record:
        return None
    figures = from_entries(record["figures"])
    flip, keep = (", ".join(record[key]) for key in ("flip", "keep"))
    made = figures["pair_rate"]
    on = (
        "Only these are trained on, with the labels that the classifiers see in them."
        if record["labels"] == "judged"
        else "All are trained on, with the labels that were asked for (latent.labels=assumed)."
    )
    said = [
        f"Of {made.n:,} images of the generator, edited in {record['space'].upper()} so that "
        f"{flip} changes and {keep} stays, {words.percent(made)} came out so, as the classifiers "
        f"below see it. {on}"
    ]
    rows = [[Cell(name), Cell(words.number(f) if name.startswith("cosine")
                              else words.percent(f)), Cell(f.note)]
            for name, f in figures.items()]  # fmt: skip
    return Latent(
        said,
        Table(["figure", "value", "remark"], rows),
        _scorers(run, [*record["flip"], *record["keep"]]),
        _changes(
            from_entries(read_json(run.workdir / "changes/metrics.json").get("figures") or {})
        ),
        sheets.file(grid) if (grid := run.workdir / "pairs/grid.png").exists() else None,
    )


def _scorers(run: Run, names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        summary = read_json(run.workdir / f"scorers/{name}/summary.json")
        for key, figure in from_entries(summary.get("figures") or {}).items():
            title = key.removesuffix("/validation").replace("_", " ").replace("/", ": ")
            rows.append([Cell(name), Cell(title), Cell(words.percent(figure), figure.note)])
    return Table(["attribute", "validation images", "decided rightly"], rows)


def _changes(figures: dict[str, Figure]) -> Table | None:
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for name, figure in figures.items():
        before, after, _, rest = name.split("/", 3)
        rows.setdefault((before, after), {})[rest] = figure
    lines = [
        [Cell(f"{before} → {after}"),
         *(Cell("not run", faint=True) if (f := _starting(own, name)) is None
           else Cell(_points(f, "+"), f.note) for name in CHANGES)]
        for (before, after), own in rows.items()
    ]  # fmt: skip
    return Table(["from → to", *CHANGES.values()], lines) if lines else None


def _starting(figures: dict[str, Figure], name: str) -> Figure | None:
    return next((f for key, f in figures.items() if key.startswith(name)), None)


def _points(figure: Figure, sign: str = "") -> str:
    """A share or a difference of shares in hundredths."""
    if not np.isfinite(figure.value):
        return "insufficient evidence"
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} [{low}, {high}]"
