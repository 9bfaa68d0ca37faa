"""The command line of `launch/compare.py`: tables and charts of many runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from fairjax.errors import InputError
from fairjax.experiments import sweep
from fairjax.experiments.command import read_flags, run_program
from fairjax.report import comparison, comparison_charts, comparison_page
from fairjax.report.classifier_comparison import NOTES, accuracy_table, fronts
from fairjax.report.drawing import save_png
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
        "of finished runs.",
        example="python launch/compare.py configs/sweeps/paper_grid.jsonl --out=comparison",
    )


def _run(argv: list[str]) -> None:
    given = [arg for arg in argv[1:] if not arg.startswith("-")]
    values = compare_flags()
    read_flags(values, [arg for arg in argv if arg not in given])
    if not given:
        raise InputError("nothing to compare", "command line",
                         "Give .jsonl files of launch/sweep.py or folders of runs")  # fmt: skip
    rows = [row for name in given for row in read_rows(Path(name))]
    rows = list({(r["cell"], r["seed"], r["method"]): r for r in rows}.values())  # the last holds
    # A run of a sweep that is given as a folder too goes by the name of its cell.
    rows = list({_identity(row): row for row in reversed(rows)}.values())[::-1]
    planned = {}
    if values.config:
        _, module, cells = sweep.load(values.config)
        planned = {cell: list(module.get_config(cell).arms) for cell in cells}
        rows = [row for row in rows if row["cell"] in planned]
    kinds = {"worst_group" in row for row in rows}
    if len(kinds) > 1:
        raise InputError("rows of generators and of classifiers", "command line",
                         "Compare them apart")  # fmt: skip
    of_classifiers = kinds == {True}
    baseline = values.baseline or ("erm" if of_classifiers else "equi")
    methods = {row["method"] for row in rows}
    if rows and baseline not in methods:
        raise InputError(f"no run of '{baseline}'", "--baseline",
                         f"Choose one of {', '.join(sorted(methods))}")  # fmt: skip
    if of_classifiers:
        table = accuracy_table(rows, baseline, planned)
        text = "\n\n".join([_in_markdown(table), *fronts(rows), NOTES]) + "\n"
        print(text)
        if values.out:
            Path(values.out).mkdir(parents=True, exist_ok=True)
            (Path(values.out) / "tables.md").write_text(text)
        return
    sections = comparison.sections(rows, baseline, planned)
    notes = _notes(baseline)
    parts = [[f"## {part.title}", _in_markdown(part.table), *part.said] for part in sections]
    text = "\n\n".join([*sum(parts, []), notes]) + "\n"
    print(text)
    if values.out:
        folder = Path(values.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.md").write_text(text)
        charts = comparison_charts.pictures(rows)
        for name, picture in charts.items():
            save_png(picture, folder / f"{name}.png")
        runs = [read(Path(name)) for name in given if Path(name).is_dir()]
        page = comparison_page.build(folder, rows, sections, charts, runs, baseline, notes)
        print(f"page: {page}")


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same for the rows of one run, whatever its cell is called."""
    return tuple(row.get(key) for key in ("seed", "method", "perc", "date", "discrepancy", "swing"))


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
        "least squares against log2 of kimg with a level for each run; its t interval takes the "
        "evaluations as independent."
    )
