"""The command line of `launch/audit.py --predictions=FILE`: where is a classifier unfair?

A table of labels, scores or decisions and attributes flows in, of any classifier; out come rates by
group, gaps between groups with intervals, their verdicts, tables and a page. Other decisions on the
same rows, such as repaired ones, are measured beside them.
"""

import csv
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from fairjax.data import predictions
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate import stress
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.paired import paired_figures
from fairjax.evaluate.rates import (
    Groups,
    amplification_figure,
    confusion,
    gap_figures,
    privileged_figures,
    rate_figures,
)
from fairjax.evaluate.scores import score_distance_figure, score_figures, surest_errors
from fairjax.evaluate.stress import Point
from fairjax.experiments import other_decisions, ruling
from fairjax.experiments.command import new_folder, read_flags, run_program
from fairjax.experiments.other_decisions import ENSEMBLES, REPAIRS

log = logging.getLogger("fairjax")

ERRORS = 20  # rows of each group in errors.csv
ALL = "all"  # the one group of everybody


def audit_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("predictions", None, "Table (.csv, .parquet), one row an example.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("label", "label", "Column of the true class.", flag_values=values)
    flags.DEFINE_list("score", [], "Column of the probability of the positive class; several for "
                      "--ensemble.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("decision", None, "Column of the class decided for; default: positive from "
                        "--threshold on.", flag_values=values)  # fmt: skip
    flags.DEFINE_float("threshold", 0.5, "Of the scores.", 0.0, 1.0, flag_values=values)
    flags.DEFINE_string("positive", None, "The positive class; default: 1 or yes. All other labels "
                        "count as negative.", flag_values=values)  # fmt: skip
    flags.DEFINE_list("attributes", None, "Columns by which rows are grouped; a+b for every "
                      "combination of two.", flag_values=values)  # fmt: skip
    flags.DEFINE_multi_string("privileged", [], "ATTRIBUTES=GROUP, the group beside which the "
                              "others stand in signed differences and in disparate impact; one "
                              "flag for each of --attributes.", flag_values=values)  # fmt: skip
    flags.DEFINE_enum("ensemble", None, ENSEMBLES, "Measures beside the first --score what all of "
                      "them decide together: by their mean, or more than half of them.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_enum("repair", None, REPAIRS, "Measures beside the decisions repaired ones: by "
                      "thresholds of each group for equal selection rates, true positive rates, or "
                      "true and false positive rates; or by scores calibrated in each group.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_string("fit", None, "Table like --predictions, other rows: what --repair learns "
                        "from.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("repair_by", None, "The one of --attributes whose groups --repair looks "
                        "at; default: the first.", flag_values=values)  # fmt: skip
    flags.DEFINE_float("tolerance", 0.05, "Largest difference of rates on --fit for --repair=odds.",
                       0.0, 1.0, flag_values=values)  # fmt: skip
    flags.DEFINE_string("against", None, "Table of another classifier on the same rows (matched by "
                        "a column file or id, else by order): what changes with it?",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_list("stress", [], "How do gaps move if a part of one group's labels are wrong "
                      "(flips), or if its scores are noisy (noise)?",
                      flag_values=values)  # fmt: skip
    ruling.define(values)
    flags.DEFINE_string("out", None, "New or empty folder.", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; its exit codes are in `--help`, 2 where the input cannot be used."""
    run_program(
        argv,
        lambda argv: sys.exit(_run(argv)),
        audit_flags,
        about=": measures by group what a classifier decides. Without --predictions: samples of a "
        "generator.",
        example="python launch/audit.py --predictions=test.csv --label=y --score=p "
        "--attributes=sex,sex+age --out=audit",
    )


def _run(argv: list[str]) -> int:
    values = audit_flags()
    read_flags(values, argv, needed=("predictions", "attributes", "out"))
    out = new_folder(values.out)
    from fairjax.experiments import workdir
    from fairjax.report import audited_predictions

    rules = ruling.Rules.read(values)
    workdir.log_to(None)
    path = Path(values.predictions).expanduser()
    table = predictions.read(path, values.label, values.score, values.decision, values.positive,
                             values.threshold)  # fmt: skip
    if table.dropped:
        log.info("%s: %d rows without a label are left out", path, table.dropped)
    sets = [_groups(table, name) for name in values.attributes]
    privileged = _privileged(values.privileged, sets)
    other = other_decisions.asked_for(values, table, sets)
    stressed = list(_stressed(values, table, sets))
    figures = list(_figures(table, sets, privileged))
    if other:
        figures += [figure._replace(name=f"{other.word}/{figure.name}")
                    for figure in _figures(other.table, sets, privileged)]  # fmt: skip
        for groups in (_everybody(table), *sets):
            figures += paired_figures(table.truth, table.decided, other.table.decided, groups)
    named = {figure.name: figure for figure in figures}
    rules.check_names(named)
    found = rules.ruling(named)
    out.mkdir(parents=True, exist_ok=True)
    title = f"audit of {path.name}"
    workdir.describe(out, ConfigDict({"name": title}), ["python", *argv])
    checks = found.checks()
    more = {other.word: other.said} if other else {}
    write_figures(out / "metrics.json", figures, {**checks, **more})
    _write_table(out / "figures.csv", figures)
    _write_errors(out / "errors.csv", table, sets)
    if other and other.word == other_decisions.REPAIRED:
        other_decisions.write_table(out / "repaired.csv", other.table, values.label)
    if stressed:
        _write_table(out / "stress.csv", stressed)
    page = audited_predictions.build(out, title, table, sets, named, checks, more, stressed)
    found.log()
    log.info("figures: %s, open %s", out / "metrics.json", page)
    return found.exit_code()


def _groups(table: Predictions, name: str) -> Groups:
    names, of = predictions.groups(table, name.split("+"), f"--attributes={name}")
    if len(names) < 2:
        raise InputError(f"one group: {', '.join(names)}", f"--attributes={name}",
                         "Give a column with two values or more")  # fmt: skip
    return Groups(name, names, of)


def _privileged(given: Sequence[str], sets: Sequence[Groups]) -> dict[str, int]:
    """Attributes -> number of the privileged group."""
    found = {}
    for text in given:
        label, _, value = text.partition("=")
        groups = next((g for g in sets if g.label == label), None)
        if groups is None or value not in groups.names:
            known = [f"{g.label}={name}" for g in sets for name in g.names]
            raise InputError("no such group", f"--privileged={text}",
                             f"Groups: {', '.join(known[:10])}")  # fmt: skip
        found[label] = groups.names.index(value)
    return found


def _stressed(
    values: flags.FlagValues, table: Predictions, sets: Sequence[Groups]
) -> Iterator[Point]:
    where = f"--stress={','.join(values.stress)}"
    for kind in dict.fromkeys(values.stress):
        if kind not in ("flips", "noise"):
            raise InputError(f"{kind!r}", where, "Give flips, noise, or both")
        if kind == "noise" and (values.decision or table.scores is None):
            raise InputError("decisions that do not follow from scores", where,
                             "Give --score without --decision, or --stress=flips")  # fmt: skip
        for groups in sets:
            members = [groups.of == k for k in range(len(groups.names))]
            if kind == "flips":
                damages = [stress.flips(table.truth[m], table.decided[m]) for m in members]
            else:
                assert table.scores is not None
                damages = [stress.noise(table.truth[m], table.scores[m], values.threshold)
                           for m in members]  # fmt: skip
            counts = confusion(table.truth, table.decided, groups.of, len(groups.names))
            yield from stress.curves(kind, counts, damages, groups)


def _everybody(table: Predictions) -> Groups:
    return Groups(ALL, (ALL,), np.zeros(len(table.truth), int))


def _figures(
    table: Predictions, sets: Sequence[Groups], privileged: dict[str, int]
) -> Iterator[Figure]:
    everybody = _everybody(table)
    for groups in (everybody, *sets):
        counts = confusion(table.truth, table.decided, groups.of, len(groups.names))
        yield from rate_figures(counts, groups)
        if table.scores is not None:
            yield from score_figures(table.truth, table.scores, groups)
        if groups is everybody:
            continue
        yield from gap_figures(counts, groups)
        yield amplification_figure(counts, groups)
        if table.scores is not None and len(groups.names) == 2:
            yield score_distance_figure(table.truth, table.scores, groups)
        if groups.label in privileged:
            yield from privileged_figures(counts, groups, privileged[groups.label])


def _write_table(path: Path, rows: Sequence[Figure] | Sequence[Point]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file)
        writer.writerow(rows[0]._fields)
        writer.writerows(
            ["" if isinstance(v, float) and not np.isfinite(v) else v for v in row] for row in rows
        )


def _write_errors(path: Path, table: Predictions, sets: Sequence[Groups]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file)
        writer.writerow(["attributes", "group", "row", "loss", *table.columns])
        for groups in sets:
            for group, row, loss in surest_errors(table.truth, table.decided, table.scores, groups,
                                                  ERRORS):  # fmt: skip
                cells = [values[row] for values in table.columns.values()]
                loss_of = f"{loss:.4g}" if np.isfinite(loss) else ""
                writer.writerow([groups.label, group, table.lines[row], loss_of, *cells])
