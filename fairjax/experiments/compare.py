"""The command line of `launch/compare.py`: tables and charts of many runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from fairjax.data.storage import local
from fairjax.errors import InputError
from fairjax.experiments import sweep
from fairjax.experiments.program import read_flags, run_program
from fairjax.report import comparison, comparison_charts, comparison_page, search_trials
from fairjax.report.answer import Answer
from fairjax.report.classifier_comparison import NOTES, accuracy_table, fronts
from fairjax.report.drawing import Picture, save_png
from fairjax.report.pages import markdown
from fairjax.report.rows import read_rows
from fairjax.report.tables import Table
from fairjax.report.workdir import read


def compare_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("baseline", None, "Method that the others are compared with; default: "
                        "equi, or erm (classifiers).", flag_values=values)  # fmt: skip
    flags.DEFINE_string("config", None, "Sweep file (or FILE:NAME): its cells that have no row "
                        "are listed as not run.", flag_values=values)  # fmt: skip
    flags.DEFINE_multi_string(
        "front", [], "An objective of the front of a search, \"maximise FORMULA\" or \"minimise "
        "FORMULA\"; give it once for each. Default: those of the search, or where it had one only, "
        "worst group and average (classifiers) or discrepancy and KID.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("out", None, "Folder for index.html, tables.md and the charts as PNG; "
                        "default: tables on the screen only.", flag_values=values)  # fmt: skip
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used."""
    run_program(
        argv,
        _run,
        compare_flags,
        about=" RUNS...: compares methods over the rows of sweeps (.jsonl files) and the folders "
        "of finished runs; trials of searches with their front.",
        example="python launch/compare.py configs/sweeps/paper_grid.jsonl --out=comparison",
    )


def _run(argv: list[str]) -> None:
    given = [arg for arg in argv[1:] if not arg.startswith("-")]
    values = compare_flags()
    read_flags(values, [arg for arg in argv if arg not in given])
    if not given:
        raise InputError("nothing to compare", "command line",
                         "Give .jsonl files of launch/sweep.py or folders of runs")  # fmt: skip
    rows = _rows(given)
    planned = {}
    if values.config:
        file = sweep.opened(values.config)
        planned = {cell: list(file.module.get_config(cell).arms) for cell in file.cells or ()}
        rows = [row for row in rows if row["cell"] in planned or row["cell"] == file.name]
    kinds = {"worst_group" in row for row in rows}
    if len(kinds) > 1:
        raise InputError("rows of generators and of classifiers", "command line",
                         "Compare them apart")  # fmt: skip
    trials = [row for row in rows if "trial" in row]
    rows = [row for row in rows if "trial" not in row]
    of_classifiers = kinds == {True}
    baseline = values.baseline or ("erm" if of_classifiers else "equi")
    methods = {row["method"] for row in rows}
    if rows and baseline not in methods:
        raise InputError(f"no run of '{baseline}'", "--baseline",
                         f"Choose one of {', '.join(sorted(methods))}")  # fmt: skip
    sections, notes = list[comparison.Section](), list[str]()
    charts: dict[str, Picture] = {}
    said = Answer("Nothing to compare", "open", [], [], [])
    if (rows or planned) and of_classifiers:
        table = accuracy_table(rows, baseline, planned)
        sections.append(comparison.Section("Methods", table, fronts(rows)))
        said = Answer("Accuracies of the methods", "open", fronts(rows), [], [])
        notes.append(NOTES)
    elif rows or planned:
        rows = comparison.in_one_kid(rows)
        sections += comparison.sections(rows, baseline, planned)
        charts |= comparison_charts.pictures(rows)
        said = comparison.answer(rows, baseline)
        notes.append(_notes(baseline))
    front = [search_trials.objective(text) for text in values.front]
    for cell in dict.fromkeys(row["cell"] for row in trials):
        mine = [row for row in trials if row["cell"] == cell]
        sections.append(search_trials.section(cell, mine, front))
        if picture := search_trials.chart(cell, mine, front):
            charts[f"front_{cell}"] = picture
    if trials:
        notes.append(search_trials.NOTE)
        if not rows:
            said = Answer("Trials of a search", "open", sections[-1].said[:1], [], [])
    parts = [[f"## {part.title}", _in_markdown(part.table), *part.said] for part in sections]
    text = "\n\n".join([*sum(parts, []), *notes]) + "\n"
    print(text)
    if values.out:
        folder = local(values.out, "--out")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.md").write_text(text)
        for name, picture in charts.items():
            save_png(picture, folder / f"{name}.png")
        runs = [read(Path(name)) for name in given if Path(name).is_dir()]
        title = f"Methods beside {baseline}" if rows else "Trials"
        listed = [] if of_classifiers else rows
        page = comparison_page.build(folder, title, said, listed, sections, charts, runs,
                                     " ".join(notes))  # fmt: skip
        print(f"page: {page}")


def _rows(given: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the files, of which the last of a run holds, and of the folders that no file has.

    A folder's cell has the name of its config, or in a sweep's folder, ROOT/CONFIG/CELL/SEED, that
    of the cell. Folders that share a cell, a seed and a method are cells of their own names.
    """
    folders = {name: read_rows(Path(name)) for name in dict.fromkeys(given) if Path(name).is_dir()}
    rows = [row for name in given if name not in folders for row in read_rows(Path(name))]
    rows = list({(r["cell"], r["seed"], r["method"], r.get("trial")): r for r in rows}.values())
    known = {_identity(row) for row in rows}
    fresh = {name: [row for row in own if _identity(row) not in known]
             for name, own in folders.items()}  # fmt: skip
    for name, own in fresh.items():
        path = Path(name).resolve()
        for row in own:
            if (path.parent.parent.name, path.name) == (row["cell"], str(row["seed"])):
                row["cell"] = path.parent.name
    held = Counter((r["cell"], r["seed"], r["method"]) for own in fresh.values() for r in own)
    shared = {(cell, seed) for (cell, seed, _), count in held.items() if count > 1}
    for name, own in fresh.items():
        rows += [row | {"cell": name} if (row["cell"], row["seed"]) in shared else row
                 for row in own]  # fmt: skip
    return rows


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same for the rows of one run, whatever its cell is called."""
    keys = ("seed", "method", "perc", "date", "discrepancy", "swing", "worst_group", "average")
    return tuple(row.get(key) for key in (("cell", "trial") if "trial" in row else keys))


def _in_markdown(table: Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads),
             *([markdown(cell.text) for cell in row] for row in table.rows)]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _notes(baseline: str) -> str:
    return (
        "Discrepancy: hard, corrected for the judge, against the reference; of a run the mean over "
        "the evaluations of its last quarter, swing their standard deviation. Intervals of means: "
        f"t, over seeds. Reduction: 1 - mean / mean of {baseline} over pairs of equal seed, with a "
        "bootstrap over cells and pairs. With few seeds these intervals are too narrow. Slope: "
        "least squares against log2 of kimg in each run, their mean with a t interval over runs; "
        "that of one run takes its evaluations as independent, so it is too narrow."
    )
