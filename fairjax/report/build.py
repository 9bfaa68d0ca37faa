"""Turns the files of a workdir into `report/index.html`, `metrics.json` and `model_card.md`."""

from pathlib import Path
from typing import Any

import numpy as np

from fairjax.data.cache import write_json
from fairjax.evaluate.figures import as_entries, without_nan
from fairjax.report import card, figure_tables, pictures, sheets, tables, words
from fairjax.report.answer import answer, question
from fairjax.report.pages import write_pages
from fairjax.report.workdir import Arm, Run, insufficient, read

_MANIFEST: dict[str, Any] = {  # what the templates name, for runs that have not come that far
    "source": "",
    "resolution": 0,
    "hash": "",
    "roles": {},
    "licences": [],
    "bad_files": [],
    "in_both": [],
    "duplicates_dropped": 0,
}


def build(workdir: Path) -> Path:
    """Writes the report of a run, finished or not; a part whose files are missing says "not run".

    Args:
      workdir: the run's folder. Only read, apart from its `report/` folder.

    Returns:
      path of `report/index.html`, one file that needs no other file and no network.

    Raises:
      InputError: a file in the workdir is there but cannot be read.
    """
    workdir = Path(workdir)
    run = read(workdir)
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", without_nan(metrics(run)))
    templates = {"model_card.md.j2": "model_card.md", "data_sheet.md.j2": "data_sheet.md",
                 "page.html.j2": "index.html"}  # fmt: skip
    write_pages(folder, _context(run), templates)
    return folder / "index.html"


def metrics(run: Run) -> dict[str, Any]:
    """`report/metrics.json`: every figure of the run in one place."""
    said = answer(run).plain()
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
                "last_four": as_entries(figure_tables.last_four(arm).values()),
            }
            for arm in run.arms
        },
    }


def _context(run: Run) -> dict[str, Any]:
    """Everything that the templates name."""
    return {
        "run": run,
        "manifest": _MANIFEST | run.manifest,
        "question": question(run),
        "answer": answer(run),
        "rows": {name for arm in run.arms for name in arm.figures},
        "headline": pictures.headline(run),
        "facts": tables.facts(run),
        "arms": tables.arms(run),
        "config": tables.config(run),
        "roles": tables.roles(run),
        "examples": _examples(run),
        "weights": tables.weights(run),
        "histogram": pictures.weight_histogram(run),
        "calibration": pictures.calibration(run),
        "judges": [(judge, tables.confusion(judge)) for judge in run.judges.values()],
        "chain": pictures.chain(run),
        "curves": pictures.curves(run),
        "truncation": pictures.truncation(run),
        "cost": tables.cost(run),
        "last_four": figure_tables.last_four_table(run),
        "dro": pictures.dro(run),
        "samples": [_samples(run, arm) for arm in run.arms],
        "main_figures": figure_tables.main_figures(run),
        "within_groups": figure_tables.within_groups(run),
        "all_figures": figure_tables.all_figures(run),
        "limits": figure_tables.limits(run),
        "moved": figure_tables.moved(run),
        "notes": [
            n for arm in run.arms for n in figure_tables.remarks(arm.checks, arm.figures, run)
        ],
        "threats": card.threats(run),
        "limits_of_use": card.limits_of_use(run),
        "unmeasured": card.unmeasured(run),
        "uses": tables.ROLES,
        "trained_with_labels": card.trained_with_labels(run),
        "true_ratio": run.config.get("weights", {}).get("true_ratio", False),
        "trained": "gan" in run.config or not run.config,  # else an audit of foreign samples
        "neighbours": [_neighbours(run, arm) for arm in run.arms],
    }


def _examples(run: Run) -> list[tuple[str, sheets.Sheet | None]]:
    """Two rows of images of each training set."""
    out = []
    for name in ("biased", "reference"):
        images = run.examples.get(name)
        if images is not None and len(images):
            shown = images[: 2 * sheets.columns(images.shape[2])]
            out.append((name, sheets.grid(shown, f"images of the {name} set")))
    return out


def _samples(run: Run, arm: Arm) -> dict[str, Any]:
    """One arm's samples, sorted where there is a judge, and how its training went on."""
    judge = run.judges.get(run.main_set)
    probabilities = arm.judged.get(run.main_set)
    sections: list[sheets.Section] = []
    unsorted = None
    if arm.samples is not None and len(arm.samples):
        if judge is not None and probabilities is not None:
            title = f"samples of {arm.name}"
            sections = sheets.sorted_by_judge(arm.samples, probabilities, judge.classes, title)
        else:
            shown = arm.samples[: 6 * sheets.columns(arm.samples.shape[2])]
            unsorted = sheets.grid(shown, f"samples of {arm.name}")
    count = len(arm.grids)
    chosen = sorted({round(i * (count - 1) / 2) for i in range(3)}) if count else []
    return {
        "arm": arm,
        "kind": words.kind_of_arm(arm),
        "sections": sections,
        "unsorted": unsorted,
        "progress": [sheets.file(arm.grids[i]) for i in chosen],
    }


def _neighbours(run: Run, arm: Arm) -> dict[str, Any]:
    parts = arm.neighbours or {}
    sheet = None
    if all(key in parts for key in ("samples", "neighbours", "distance")) and len(
        parts["distance"]
    ):
        sheet = sheets.pairs(parts["samples"], parts["neighbours"], parts["distance"])
    measured = [
        (words.pretty(name, run), words.percent(figure), figure.note)
        for name, figure in arm.figures.items()
        if name.startswith("memorisation/")
    ]
    distances = np.sort(np.asarray(parts.get("distance", ())))[:1]
    closest = words.plain(float(distances[0])) if len(distances) else ""
    return {"arm": arm, "sheet": sheet, "figures": measured, "closest": closest}
