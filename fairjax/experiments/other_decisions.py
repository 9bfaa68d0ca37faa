"""What stands beside the decisions of an audited table: repaired ones, those of an ensemble, or of
another classifier."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from fairjax.data import predictions
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate import repair
from fairjax.evaluate.rates import Groups, confusion

REPAIRED = "repaired"
ENSEMBLES = ("mean", "majority")
REPAIRS = (*repair.THRESHOLDS, "calibration")


class Other(NamedTuple):
    """Other decisions on the same rows.

    Attributes:
      word: what their figures begin with.
      table: the rows with these decisions; its scores are None where they are no new ones.
      said: how they came about, for metrics.json.
    """

    word: str
    table: Predictions
    said: dict[str, Any]


def asked_for(values: flags.FlagValues, table: Predictions, sets: Sequence[Groups]) -> Other | None:
    """The decisions that the flags of an audit want beside those of the table; None for none.

    Raises:
      InputError: flags that do not fit each other, or a second table that cannot be used.
    """
    if values.ensemble and len(values.score) < 2:
        raise InputError("fewer than two columns of scores", f"--ensemble={values.ensemble}",
                         "Give --score=a,b")  # fmt: skip
    if len(values.score) > 1 and not values.ensemble:
        raise InputError("several columns", f"--score={','.join(values.score)}",
                         "Give one, or --ensemble=mean or majority")  # fmt: skip
    for flag in ("fit", "repair_by"):
        if values[flag].value and not values.repair:
            raise InputError("nothing is repaired", f"--{flag}={values[flag].value}",
                             f"Give --repair={'|'.join(REPAIRS)} as well")  # fmt: skip
    if values.against:
        return _against(values, table)
    if not (values.ensemble or values.repair):
        return None
    said: dict[str, Any] = {}
    if values.ensemble:
        said = {"ensemble": values.ensemble, "scores": values.score}
        table = _ensemble(table, values.ensemble, values.threshold)
    if values.repair:
        table, fitted = _repaired(values, table, sets)
        said |= fitted
    return Other(REPAIRED, table, said)


def write_table(path: Path, table: Predictions, label: str) -> None:
    """Writes the rows with `repaired_decision`, in the label's words, and new scores if any."""
    others = Counter(table.columns[label][~table.truth].tolist())
    words = (others.most_common(1)[0][0], table.positive)
    columns = dict(table.columns)
    if table.scores is not None:
        columns["repaired_score"] = table.scores
    columns["repaired_decision"] = np.array(words)[table.decided.astype(int)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))


def _against(values: flags.FlagValues, table: Predictions) -> Other:
    where = f"--against={values.against}"
    if values.ensemble or values.repair:
        raise InputError("two things to compare with", where,
                         "Leave out --ensemble and --repair, or audit the repaired.csv that they "
                         "write")  # fmt: skip
    path = Path(values.against).expanduser()
    other = predictions.read(path, values.label, values.score, values.decision, table.positive,
                             values.threshold, "--against")  # fmt: skip
    return Other("other", predictions.matched(table, other, where), {"file": str(path)})


def _ensemble(table: Predictions, kind: str, threshold: float) -> Predictions:
    """The table with the mean of its scores, or with the decision of most of them and no score."""
    if kind == "majority":
        return table._replace(decided=repair.majority(table.members, threshold), scores=None)
    scores = table.members.mean(0)
    return table._replace(decided=scores >= threshold, scores=scores)


def _repaired(
    values: flags.FlagValues, table: Predictions, sets: Sequence[Groups]
) -> tuple[Predictions, dict[str, Any]]:
    """(the table with repaired decisions, what was fitted for each group)."""
    where = f"--repair={values.repair}"
    if not values.fit:
        raise InputError("nothing to learn it from", where, "Give --fit=FILE, of other rows")
    given = table.scores
    if given is None:
        raise InputError("no scores to repair", where,
                         "Give --score (and not --ensemble=majority)")  # fmt: skip
    by = values.repair_by or sets[0].label
    groups = next((g for g in sets if g.label == by), None)
    if groups is None:
        raise InputError("not among --attributes", f"--repair_by={by}",
                         f"Those are {', '.join(values.attributes)}")  # fmt: skip
    path = Path(values.fit).expanduser()
    if path.resolve() == Path(values.predictions).expanduser().resolve():
        raise InputError("the rows that are audited", f"--fit={path}",
                         "Give others: on its own rows a repair looks better than it "
                         "is")  # fmt: skip
    fit = predictions.read(path, values.label, values.score, None, table.positive, values.threshold,
                           "--fit")  # fmt: skip
    if values.ensemble:
        fit = _ensemble(fit, values.ensemble, values.threshold)
    assert fit.scores is not None
    k, of = len(groups.names), _groups_of(fit, groups, values.repair, f"--fit={path}")
    if values.repair == "calibration":
        lines = repair.platt(fit.truth, fit.scores, of, k)
        scores = repair.calibrated(given, groups.of, lines)
        decided = np.where(groups.of >= 0, scores >= values.threshold, table.decided)
        table = table._replace(decided=decided, scores=scores)
        found = [{"slope": slope, "intercept": intercept} for slope, intercept in lines.tolist()]
    else:
        cuts = repair.thresholds(fit.truth, fit.scores, of, k, values.repair, values.tolerance)
        decided = repair.decided_by(given, groups.of, cuts, table.decided)
        table = table._replace(decided=decided, scores=None)
        found = [{"threshold": cut} for cut in cuts.tolist()]
    fitted = dict(zip(groups.names, found, strict=True))
    return table, {"repair": values.repair, "by": by, "groups": fitted}


def _groups_of(fit: Predictions, groups: Groups, kind: str, where: str) -> np.ndarray:
    """int [n]: the group of each row of `fit`, numbered as in the table; -1 = none of these.

    Raises:
      InputError: a group of the table has no rows there, or one class where `kind` needs both.
    """
    names, of = predictions.groups(fit, groups.label.split("+"), where)
    place = [groups.names.index(name) if name in groups.names else -1 for name in names]
    of = np.array([*place, -1])[of]
    counts = confusion(fit.truth, fit.decided, of, len(groups.names))
    needed = {"rows": counts.sum(1)} if kind == "parity" else {
        "positives": counts[:, [0, 2]].sum(1), "negatives": counts[:, [1, 3]].sum(1)}  # fmt: skip
    for word, count in needed.items():
        if not count.all():
            raise InputError(f"no {word} of the group {groups.names[int(count.argmin())]!r}", where,
                             "Give rows of every group, or repair by another column")  # fmt: skip
    return of
