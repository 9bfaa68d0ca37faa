"""Turns the files of a workdir into `report/index.html`, `metrics.json` and `model_card.md`."""

import os
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fairjax import __version__
from fairjax.data.cache import write_json
from fairjax.evaluate.figures import without_nan
from fairjax.report import pictures, sheets, tables, words
from fairjax.report.workdir import Arm, Run, read

_MANIFEST: dict[str, Any] = {  # what the templates name, for runs that have not come that far
    "source": "",
    "resolution": 0,
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
    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    room.filters["markdown"] = _markdown
    room.filters["whole"] = _whole
    context = _context(run)
    folder = workdir / "report"
    page = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", without_nan(tables.metrics(run)))
    _write(folder / "model_card.md", room.get_template("model_card.md.j2").render(context))
    _write(page, room.get_template("page.html.j2").render(context))
    return page


def _context(run: Run) -> dict[str, Any]:
    """Everything that the templates name."""
    return {
        "run": run,
        "manifest": _MANIFEST | run.manifest,
        "version": __version__,
        "css": Path(__file__).with_name("page.css").read_text("utf-8"),
        "answer": words.answer(run),
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
        "last_four": tables.last_four_table(run),
        "dro": pictures.dro(run),
        "samples": [_samples(run, arm) for arm in run.arms],
        "main_figures": tables.main_figures(run),
        "all_figures": tables.all_figures(run),
        "limits": tables.limits(run),
        "moved": tables.moved(run),
        "trained": "gan" in run.config or not run.config,  # else an audit of foreign samples
        "label_free": _label_free(run),
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


def _label_free(run: Run) -> tables.Table | None:
    """The figures that need no label, for runs without a judge."""
    table = tables.all_figures(run)
    if run.judges or table is None:
        return None
    heads = ("kid/", "ratio_score/", "frechet/", "inception_score/", "memorisation/")
    return tables.Table(table.heads, [row for row in table.rows if row[0].note.startswith(heads)])


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


def _markdown(text: object) -> str:
    """Text of the user's files as one line of Markdown that holds no markup of its own."""
    line = " ".join(str(text).split())
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'")):
        line = line.replace(mark, instead)
    return line


def _whole(text: str) -> str:
    """The same text, in which no line breaks within `86 % [84, 88]`."""
    return re.sub(r" (?=[\[%])|(?<=,) (?=-?[\d.]+\])", "\u00a0", text)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text, "utf-8")
    os.replace(draft, path)
