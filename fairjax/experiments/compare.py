"""The command line of `launch/compare.py`: tables and charts of many runs."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from fairjax.errors import InputError
from fairjax.experiments import sweep
from fairjax.experiments.command import read_flags, run_program
from fairjax.report import comparison
from fairjax.report.classifier_comparison import NOTES, accuracy_table, fronts
from fairjax.report.drawing import save_png
from fairjax.report.rows import read_rows


def compare_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("baseline", None, "Method that the others are compared with; default: "
                        "equi, or erm (classifiers).", flag_values=values)  # fmt: skip
    flags.DEFINE_string("config", None, "Sweep file (or FILE:NAME): its cells that have no row "
                        "are listed as not run.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("out", None, "Folder for tables.md and the charts as PNG; default: tables "
                        "on the screen only.", flag_values=values)  # fmt: skip
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
        shown = [accuracy_table(rows, baseline, planned), *fronts(rows), NOTES]
        text = "\n\n".join(shown) + "\n"
        print(text)
        if values.out:
            Path(values.out).mkdir(parents=True, exist_ok=True)
            (Path(values.out) / "tables.md").write_text(text)
        return
    parts = ["## Methods", comparison.fairness_table(rows, baseline, planned)]
    if rows:
        parts += ["## Pooled over sizes of the reference set",
                  comparison.pooled_table(rows, baseline),
                  "## Where fairness is lost, and the density ratio",
                  comparison.chain_table(rows), *comparison.front(rows),
                  "## Does it last? The second half of training",
                  comparison.lasting_table(rows)]  # fmt: skip
    parts.append(_notes(baseline))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if values.out:
        folder = Path(values.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.md").write_text(text)
        for name, picture in comparison.pictures(rows).items():
            save_png(picture, folder / f"{name}.png")


def _notes(baseline: str) -> str:
    return (
        "Discrepancy: hard, corrected for the judge, against the reference; of a run the mean over "
        "the evaluations of its last quarter, swing their standard deviation. Intervals of means: "
        f"t, over seeds. Reduction: 1 - mean / mean of {baseline} over pairs of equal seed, with a "
        "bootstrap over cells and pairs. With few seeds these intervals are too narrow. Slope: "
        "least squares against log2 of kimg with a level for each run; its t interval takes the "
        "evaluations as independent."
    )
