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

from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.paired import paired_figures
from fairjax.evaluate.rates import (
    Groups,
    amplification_figure,
    confusion,
    everybody,
    gap_figures,
    privileged_figures,
    rate_figures,
)
from fairjax.evaluate.scores import Bin, reliability, score_distance_figures, score_figures
from fairjax.evaluate.stress import Point
from fairjax.experiments import audit_stress, other_decisions, ruling
from fairjax.experiments.audited import Audited
from fairjax.experiments.other_decisions import ENSEMBLES, MEANS, REPAIRS
from fairjax.experiments.program import new_folder, read_flags, run_program

log = logging.getLogger("fairjax")


def audit_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("predictions", None, "Table (.csv, .parquet), one row an example; or "
                        "RUN/arms/NAME, a trained classifier of ours, of which label, score, "
                        "attributes, features and --fit are known.",
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
    flags.DEFINE_list("repair_with", ["thresholds"], f"Some of {', '.join(MEANS)}: our thresholds, "
                      "one a group; fairlearn's, which draw lots between two a group; fairlearn's "
                      "exponentiated gradient on --features.", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("seed", 0, "Of what fairlearn draws.", 0, flag_values=values)
    flags.DEFINE_string("features", None, "NPZ with features [rows, d] of --predictions, for "
                        "--repair_with=reductions.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("fit_features", None, "The same of --fit.", flag_values=values)
    flags.DEFINE_string("fit", None, "Table like --predictions, other rows: what --repair learns "
                        "from.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("repair_by", None, "The one of --attributes whose groups --repair looks "
                        "at; default: the first.", flag_values=values)  # fmt: skip
    flags.DEFINE_float("tolerance", 0.05, "Largest difference of rates on --fit for --repair=odds "
                       "and for reductions.", 0.0, 1.0, flag_values=values)  # fmt: skip
    flags.DEFINE_string("against", None, "Table of another classifier on the same rows (matched by "
                        "a column file or id, else by order), or another arm: what changes with "
                        "it?", flag_values=values)  # fmt: skip
    flags.DEFINE_list("stress", [], "How do gaps move if a part of one group's labels are wrong "
                      "(flips), or if its scores are noisy (noise)? Of a trained arm also: "
                      "accuracy under attacks of its images (fgsm, pgd) and noise on their pixels "
                      "(pixels), and whether decisions stay if images are shifted, mirrored, "
                      "brighter or darker (transforms).", flag_values=values)  # fmt: skip
    flags.DEFINE_string("train", None, "Table of the training rows, with label and attributes: "
                        "adds the average that weights groups as in training. An arm knows them.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("images", None, "Folder of the images that a column `file` names: the page "
                        "shows the surest wrong decisions. An arm knows them.",
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
    read_flags(values, argv, needed=("predictions", "out"))
    out = new_folder(values.out)
    from fairjax.experiments import workdir
    from fairjax.report import audited_card, audited_predictions

    rules = ruling.Rules.read(values)
    workdir.log_to(None)
    audited = Audited.read(values)
    path, table, sets = audited[:3]
    privileged = _privileged(values.privileged, sets)
    audit_stress.check(values, table, audited.arm)
    words = audited.arm.words if audited.arm else {}
    others = other_decisions.asked_for(values, table, sets, words)
    errors = audited.errors()
    shown = [row for rows in errors.values() for _, row, _ in rows]
    images = audited.images(values.images, shown)
    figures = [*_figures(table, sets, privileged), *audited.train_weighted()]
    for other in others:
        figures += [figure._replace(name=f"{other.word}/{figure.name}")
                    for figure in _figures(other.table, sets, privileged)]  # fmt: skip
        for groups in (everybody(len(table.truth)), *sets):
            figures += [figure._replace(name=f"{other.before}{figure.name}") for figure in
                        paired_figures(table.truth, table.decided, other.table.decided,
                                       groups)]  # fmt: skip
    rules.check_names([*(f.name for f in figures), *audit_stress.names(values, sets)])
    stressed, steady = audit_stress.stressed(values, table, sets, audited.arm)  # takes longest
    named = {figure.name: figure for figure in (*figures, *steady)}
    found = rules.ruling(named)
    out.mkdir(parents=True, exist_ok=True)
    above = path.resolve().parents
    of = f"{above[3].name}, {above[1].name}" if audited.arm else path.name
    title = f"audit of {of}"
    workdir.describe(out, ConfigDict({"name": title}), ["python", *argv])
    checks = found.checks()
    more = {other.word: other.said for other in others}
    write_figures(out / "metrics.json", named.values(), {**checks, **more})
    _write_table(out / "figures.csv", list(named.values()))
    _write_errors(out / "errors.csv", table, errors)
    if others and others[0].word != other_decisions.OTHER:
        other_decisions.write_table(out / "repaired.csv", others, values.label)
    bins = list(_bins(table, sets))
    if bins:
        _write_table(out / "reliability.csv", bins)
    if stressed:
        _write_table(out / "stress.csv", stressed)
    seen = audited_predictions.Seen(table, sets, named, checks,
                                    {other.word: (other.before, other.said) for other in others},
                                    stressed, bins, errors, images)  # fmt: skip
    page = audited_predictions.build(out, title, seen)
    audited_card.build(out, title, seen)
    found.log()
    log.info("figures: %s, open %s", out / "metrics.json", page)
    return found.exit_code()


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


def _figures(
    table: Predictions, sets: Sequence[Groups], privileged: dict[str, int]
) -> Iterator[Figure]:
    all_rows = everybody(len(table.truth))
    for groups in (all_rows, *sets):
        counts = confusion(table.truth, table.decided, groups.of, len(groups.names))
        yield from rate_figures(counts, groups)
        if table.scores is not None:
            yield from score_figures(table.truth, table.scores, groups)
        if groups is all_rows:
            continue
        yield from gap_figures(counts, groups)
        yield amplification_figure(counts, groups)
        if table.scores is not None:
            yield from score_distance_figures(table.truth, table.scores, groups)
        if groups.label in privileged:
            yield from privileged_figures(counts, groups, privileged[groups.label])


def _bins(table: Predictions, sets: Sequence[Groups]) -> Iterator[Bin]:
    if table.scores is not None:
        for groups in (everybody(len(table.truth)), *sets):
            yield from reliability(table.truth, table.scores, groups)


def _write_table(path: Path, rows: Sequence[Figure] | Sequence[Point] | Sequence[Bin]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file)
        writer.writerow(rows[0]._fields)
        writer.writerows(
            ["" if isinstance(v, float) and not np.isfinite(v) else v for v in row] for row in rows
        )


def _write_errors(
    path: Path, table: Predictions, errors: dict[str, list[tuple[str, int, float]]]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file)
        writer.writerow(["attributes", "group", "row", "loss", *table.columns])
        for label, rows in errors.items():
            for group, row, loss in rows:
                cells = [values[row] for values in table.columns.values()]
                loss_of = f"{loss:.4g}" if np.isfinite(loss) else ""
                writer.writerow([label, group, table.lines[row], loss_of, *cells])
