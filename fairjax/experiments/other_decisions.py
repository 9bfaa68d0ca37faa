"""What stands beside the decisions of an audited table: repaired ones, or those of an ensemble."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.data import predictions
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate import repair
from fairjax.evaluate.rates import Groups, confusion

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


def ensemble(table: Predictions, kind: str, threshold: float) -> Predictions:
    """The table with the mean of its scores, or with the decision of most of them and no score."""
    if kind == "majority":
        return table._replace(decided=repair.majority(table.members, threshold), scores=None)
    scores = table.members.mean(0)
    return table._replace(decided=scores >= threshold, scores=scores)


def repaired(
    table: Predictions, fit: Predictions, groups: Groups, kind: str, threshold: float,
    tolerance: float, where: str,
) -> tuple[Predictions, dict[str, Any]]:  # fmt: skip
    """(the table with repaired decisions, what was fitted for each group).

    Args:
      table, fit: with scores; what is found on `fit` is applied to `table`. Rows in no group keep
        score and decision.
      kind: of `REPAIRS`. tolerance: of "odds".
      where: the flag of `fit`, for error messages.

    Raises:
      InputError: a group of the table has no rows in `fit`, or only one class where both are
        needed.
    """
    assert table.scores is not None
    assert fit.scores is not None
    k = len(groups.names)
    names, of = predictions.groups(fit, groups.label.split("+"), where)
    place = [groups.names.index(name) if name in groups.names else -1 for name in names]
    of = np.array([*place, -1])[of]  # the number that the group has in the table
    counts = confusion(fit.truth, fit.decided, of, k)
    classes = {"rows": counts.sum(1)} if kind == "parity" else {
        "positives": counts[:, [0, 2]].sum(1), "negatives": counts[:, [1, 3]].sum(1)}  # fmt: skip
    for word, count in classes.items():
        if not count.all():
            raise InputError(f"no {word} of the group {groups.names[int(count.argmin())]!r}", where,
                             "Give rows of every group, or repair by another column")  # fmt: skip
    if kind == "calibration":
        lines = repair.platt(fit.truth, fit.scores, of, k)
        scores = repair.calibrated(table.scores, groups.of, lines)
        said = {name: {"slope": a, "intercept": b}
                for name, (a, b) in zip(groups.names, lines.tolist(), strict=True)}  # fmt: skip
        return table._replace(decided=scores >= threshold, scores=scores), said
    found = repair.thresholds(fit.truth, fit.scores, of, k, kind, tolerance)
    decided = repair.decided_by(table.scores, groups.of, found, table.decided)
    said = {name: {"threshold": t} for name, t in zip(groups.names, found.tolist(), strict=True)}
    return table._replace(decided=decided, scores=None), said


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
