"""What stands beside the decisions of an audited table: repaired ones, those of an ensemble, or of
another classifier."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from fairjax.data import predictions
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate import repair
from fairjax.evaluate.rates import Groups, confusion
from fairjax.experiments.audited_arm import AuditedArm

if TYPE_CHECKING:
    from fairjax.evaluate.randomised import Drawn

REPAIRED, OTHER = "repaired", "other"
ENSEMBLES = ("mean", "majority")
REPAIRS = (*repair.THRESHOLDS, "calibration")
# How thresholds are repaired -> what the figures begin with.
MEANS = {"thresholds": REPAIRED, "randomised": "randomised", "reductions": "reductions"}


class Other(NamedTuple):
    """Other decisions on the same rows.

    Attributes:
      word: what their figures begin with; `before`: what stands before `change/..`.
      table: the rows with these decisions; its scores are None where they are no new ones.
      said: how they came about, for metrics.json.
    """

    word: str
    table: Predictions
    said: dict[str, Any]

    @property
    def before(self) -> str:
        return "" if self.word in (REPAIRED, OTHER) else f"{self.word}/"


def asked_for(
    values: flags.FlagValues, table: Predictions, sets: Sequence[Groups],
    words: Mapping[str, Mapping[str, str]],
) -> list[Other]:  # fmt: skip
    """The decisions that the flags of an audit want beside those of the table.

    Args:
      words: of the columns, see `predictions.read`.

    Raises:
      InputError: flags that do not fit each other, or a second table that cannot be used.
    """
    if values.ensemble and len(values.score) < 2:
        raise InputError("fewer than two columns of scores", f"--ensemble={values.ensemble}",
                         "Give --score=a,b")  # fmt: skip
    if len(values.score) > 1 and not values.ensemble:
        raise InputError("several columns", f"--score={','.join(values.score)}",
                         "Give one, or --ensemble=mean or majority")  # fmt: skip
    for flag in ("fit", "repair_by", "fit_features"):
        if values[flag].value and not values.repair:
            raise InputError("nothing is repaired", f"--{flag}={values[flag].value}",
                             f"Give --repair={'|'.join(REPAIRS)} as well")  # fmt: skip
    if values.against:
        return [_against(values, table, words)]
    if not (values.ensemble or values.repair):
        return []
    said: dict[str, Any] = {}
    if values.ensemble:
        said = {"ensemble": values.ensemble, "scores": values.score}
        table = _ensemble(table, values.ensemble, values.threshold)
    if not values.repair:
        return [Other(REPAIRED, table, said)]
    return _repaired(values, table, sets, said, words)


def write_table(path: Path, others: Sequence[Other], label: str) -> None:
    """Writes the rows with `<word>_decision`, in the label's words, and new scores if any. Where
    several labels are negative, a decision against the positive one is none of them."""
    table = others[0].table
    negatives = np.unique(table.columns[label][~table.truth]).tolist()
    no = negatives[0] if len(negatives) == 1 else predictions.negative(table.positive)
    words = (no, table.positive)
    columns = dict(table.columns)
    for other in others:
        if other.table.scores is not None:
            columns[f"{other.word}_score"] = other.table.scores
        columns[f"{other.word}_decision"] = np.array(words)[other.table.decided.astype(int)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))


def _against(
    values: flags.FlagValues, table: Predictions, words: Mapping[str, Mapping[str, str]]
) -> Other:
    where = f"--against={values.against}"
    if values.ensemble or values.repair:
        raise InputError("two things to compare with", where,
                         "Leave out --ensemble and --repair, or audit the repaired.csv that they "
                         "write")  # fmt: skip
    path = Path(values.against).expanduser()
    if path.is_dir():
        arm = AuditedArm(path, "--against")
        path, words = arm.table, arm.words
    other = predictions.read(path, values.label, values.score, values.decision, table.positive,
                             values.threshold, "--against", words)  # fmt: skip
    return Other(OTHER, predictions.matched(table, other, where), {"file": str(path)})


def _ensemble(table: Predictions, kind: str, threshold: float) -> Predictions:
    """The table with the mean of its scores, or with the decision of most of them and no score."""
    if kind == "majority":
        return table._replace(decided=repair.majority(table.members, threshold), scores=None)
    scores = table.members.mean(0)
    return table._replace(decided=scores >= threshold, scores=scores)


def _repaired(
    values: flags.FlagValues, table: Predictions, sets: Sequence[Groups], said: dict[str, Any],
    words: Mapping[str, Mapping[str, str]],
) -> list[Other]:  # fmt: skip
    """The table with repaired decisions, one for each of --repair_with, and what was fitted."""
    where = f"--repair={values.repair}"
    if not values.fit:
        raise InputError("nothing to learn it from", where, "Give --fit=FILE, of other rows")
    given = table.scores
    if given is None:
        raise InputError("no scores to repair", where,
                         "Give --score (and not --ensemble=majority)")  # fmt: skip
    _check_means(values)
    by = values.repair_by or sets[0].label
    groups = next((g for g in sets if g.label == by), None)
    if groups is None:
        raise InputError("not among --attributes", f"--repair_by={by}",
                         f"Those are {', '.join(values.attributes)}")  # fmt: skip
    path = Path(values.fit).expanduser()
    fit = predictions.read(path, values.label, values.score, None, table.positive, values.threshold,
                           "--fit", words)  # fmt: skip
    _check_other_rows(table, fit, f"--fit={path}")
    if values.ensemble:
        fit = _ensemble(fit, values.ensemble, values.threshold)
    assert fit.scores is not None
    by_lot = "randomised" in values.repair_with
    k, of = len(groups.names), _groups_of(fit, groups, values.repair, by_lot, f"--fit={path}")
    said |= {"repair": values.repair, "by": by}
    if values.repair == "calibration":
        lines = repair.platt(fit.truth, fit.scores, of, k)
        scores = repair.calibrated(given, groups.of, lines)
        decided = np.where(groups.of >= 0, scores >= values.threshold, table.decided)
        found = [{"slope": slope, "intercept": intercept} for slope, intercept in lines.tolist()]
        said |= {"groups": dict(zip(groups.names, found, strict=True))}
        return [Other(REPAIRED, table._replace(decided=decided, scores=scores), said)]
    others = []
    for means in dict.fromkeys(values.repair_with):
        if means == "thresholds":
            cuts = repair.thresholds(fit.truth, fit.scores, of, k, values.repair, values.tolerance)
            decided = repair.decided_by(given, groups.of, cuts, table.decided)
            found = [{"threshold": cut} for cut in cuts.tolist()]
            more: dict[str, Any] = {"groups": dict(zip(groups.names, found, strict=True))}
        else:
            drawn = _drawn(values, means, (fit, of), (table, groups.of))
            decided = drawn.decided
            more = {"seed": values.seed, "otherwise_with_the_next_seed": drawn.otherwise}
        new = table._replace(decided=decided, scores=None)
        others.append(Other(MEANS[means], new, said | {"with": means} | more))
    return others


def _check_other_rows(table: Predictions, fit: Predictions, where: str) -> None:
    """Raises InputError where rows of the table are in `fit`. They have the same `file` or `id`,
    and (as numbers may start anew in each table) most of those agree in all columns; without such a
    column only a whole copy is told."""
    which, key = "", predictions.key_of(table, fit)
    if key:
        common = [name for name in table.columns if name in fit.columns]
        ours, theirs = (
            {row[common.index(key)]: row
             for row in zip(*(one.columns[name].tolist() for name in common), strict=True)}
            for one in (table, fit)
        )  # fmt: skip
        shared = ours.keys() & theirs.keys() - {""}
        same = [name for name in shared if ours[name] == theirs[name]]
        if len(same) > len(shared) / 2:
            which = f" ({len(same)} of {len(theirs)}, such as {key} {min(same)})"
    if which or (
        table.columns.keys() == fit.columns.keys()
        and all(np.array_equal(values, fit.columns[name]) for name, values in table.columns.items())
    ):
        raise InputError(f"the rows that are audited{which}", where, "Give others: on its own rows "
                         "a repair looks better than it is")  # fmt: skip


def _check_means(values: flags.FlagValues) -> None:
    """Raises InputError unless --repair_with can be done."""
    where = f"--repair_with={','.join(values.repair_with)}"
    unknown = [means for means in values.repair_with if means not in MEANS]
    if unknown or not values.repair_with:
        raise InputError(f"{unknown[0]!r}" if unknown else "nothing", where,
                         f"Give some of {', '.join(MEANS)}")  # fmt: skip
    if values.repair_with == ["thresholds"]:
        return
    if values.repair == "calibration":
        raise InputError("of scores that are calibrated", where,
                         f"Give --repair={'|'.join(repair.THRESHOLDS)}")  # fmt: skip
    if "reductions" in values.repair_with:
        for flag in ("features", "fit_features"):
            if not values[flag].value:
                raise InputError("without features", where, f"Give --{flag}=FILE.npz")
    from fairjax.evaluate import randomised

    randomised.check()


def _drawn(
    values: flags.FlagValues, means: str, fit: tuple[Predictions, np.ndarray],
    asked: tuple[Predictions, np.ndarray],
) -> "Drawn":  # fmt: skip
    """What fairlearn decides. fit, asked: the rows that are learnt from and those that are decided
    on, each with the group of every row."""
    from fairjax.evaluate import randomised

    (known, of), (table, new_of) = fit, asked
    if means == "randomised":
        assert known.scores is not None
        assert table.scores is not None
        return randomised.optimal_thresholds(known.truth, known.scores, of, values.repair,
                                             table.scores, new_of, table.decided,
                                             values.seed)  # fmt: skip
    features = predictions.features(Path(values.fit_features), known, "--fit_features")
    new = predictions.features(Path(values.features), table, "--features")
    if features.shape[1] != new.shape[1]:
        found = f"{new.shape[1]} features instead of {features.shape[1]}"
        raise InputError(found, f"--features={values.features}", "Give those of the same network")
    return randomised.reduced(known.truth, features, of, values.repair, values.tolerance, new,
                              values.seed)  # fmt: skip


def _groups_of(
    fit: Predictions, groups: Groups, kind: str, randomised: bool, where: str
) -> np.ndarray:
    """int [n]: the group of each row of `fit`, numbered as in the table; -1 = none of these.

    Raises:
      InputError: a group of the table has no rows there, or one class where `kind`, or a
        randomised repair, needs both.
    """
    names, of = predictions.groups(fit, groups.label.split("+"), where)
    place = [groups.names.index(name) if name in groups.names else -1 for name in names]
    of = np.array([*place, -1])[of]
    counts = confusion(fit.truth, fit.decided, of, len(groups.names))
    needed = {"rows": counts.sum(1)} if kind == "parity" and not randomised else {
        "positives": counts[:, [0, 2]].sum(1), "negatives": counts[:, [1, 3]].sum(1)}  # fmt: skip
    for word, count in needed.items():
        if not count.all():
            raise InputError(f"no {word} of the group {groups.names[int(count.argmin())]!r}", where,
                             "Give rows of every group, or repair by another column")  # fmt: skip
    return of
