"""`index.html` of a comparison: the answer, tables, charts, and samples of the same latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.report import comparison, sheets, words
from fairjax.report.answer import Answer
from fairjax.report.comparison import Rows, Section
from fairjax.report.drawing import Picture
from fairjax.report.pages import write_pages
from fairjax.report.tables import Cell, Table
from fairjax.report.workdir import Run


def build(
    folder: Path,
    title: str,
    answer: Answer,
    rows: Rows,
    sections: Sequence[Section],
    charts: Mapping[str, Picture],
    runs: Sequence[Run],
    notes: str,
) -> Path:
    """Writes the page, one file that needs no other file and no network.

    Args:
      rows: of runs of generators; they are listed. Those of classifiers and searches are not.
      sections: the tables. charts: by name.
      runs: those of the runs whose folders were given; their samples are shown.
      notes: how the figures are defined.

    Returns:
      its path.
    """
    context = {
        "answer": answer, "sections": sections, "charts": charts, "notes": notes,
        "title": title, "samples": [s for run in runs if (s := _samples(run))["arms"]],
        "rows": _rows_table(rows), "dates": sorted(str(row.get("date", "")) for row in rows),
    }  # fmt: skip
    write_pages(folder, context, {"comparison.html.j2": "index.html"})
    return folder / "index.html"


def _samples(run: Run) -> dict[str, Any]:
    """The first samples of each arm of a run; a column has the same latent."""
    arms = []
    for arm in run.arms:
        if arm.samples is not None:
            across = sheets.columns(arm.samples.shape[2])
            sheet = sheets.grid(arm.samples[: 2 * across], f"first samples of {arm.name}")
            arms.append((arm.name, words.kind_of_arm(arm), sheet))
    return {"title": f"{run.title}, seed {run.config.get('seed', 0)}", "arms": arms}


def _rows_table(rows: Rows) -> Table:
    """Every run of a method that the tables were made of."""
    heads = ["cell", "seed", "method", "discrepancy", "swing", "KID", "hours", "hardware", "date"]

    def text(value: Any, digits: int = 3) -> Cell:
        missing = value is None or np.isnan(value)
        return Cell("-", faint=True) if missing else Cell(f"{value:.{digits}f}")

    body = []
    for row in sorted(rows, key=lambda row: (row["cell"], row["seed"])):
        seconds = row.get("seconds", {}).get("gan")
        hours = None if seconds is None else seconds / 3600
        body.append([
            Cell(row["cell"]), Cell(str(row["seed"])), Cell(row["method"]),
            text(row["discrepancy"]), text(row.get("swing")), text(comparison.kid(row), 2),
            text(hours, 2), Cell(str(row.get("hardware", ""))), Cell(str(row.get("date", ""))),
        ])  # fmt: skip
    return Table(heads, body)
