"""What an audit of predictions looks at: the table, its groups, and what is known beside it."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from fairjax.data import predictions
from fairjax.data.labels import check_names
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.rates import Groups, confusion, train_weighted_figure
from fairjax.evaluate.scores import surest_errors
from fairjax.experiments import error_images
from fairjax.experiments.audited_arm import AuditedArm

log = logging.getLogger("fairjax")

ERRORS = 20  # rows of each group in errors.csv


class Audited(NamedTuple):
    """What is audited.

    Attributes:
      path: the table. table: its rows. sets: the groups by which it is.
      arm: the trained classifier that it is of; None of a table.
      trained: label and attributes of the training rows; None where these are not known.
    """

    path: Path
    table: Predictions
    sets: list[Groups]
    arm: AuditedArm | None
    trained: Predictions | None

    @classmethod
    def read(cls, values: flags.FlagValues) -> "Audited":
        """Of the flags, which it fills in where an arm knows better."""
        path, arm = Path(values.predictions).expanduser(), None
        if path.is_dir():
            arm = AuditedArm(path)
            arm.fill(values)
            path = arm.table
        elif not values.attributes:
            raise InputError("not given", "--attributes", "Name columns to group by")
        table = predictions.read(path, values.label, values.score, values.decision,
                                 values.positive, values.threshold,
                                 words=arm.words if arm else None)  # fmt: skip
        check_once(values.attributes, "--attributes")
        sets = [_groups(table, name) for name in values.attributes]
        trained = None
        if values.train:
            names = list(dict.fromkeys(n for g in sets for n in g.label.split("+")))
            trained = predictions.counted(Path(values.train).expanduser(), table, values.label,
                                          names, "--train")  # fmt: skip
        elif arm:
            trained = predictions.of_columns(arm.training(), table, values.label, str(arm.folder))
        return cls(path, table, sets, arm, trained)

    def errors(self) -> dict[str, list[tuple[str, int, float]]]:
        """Attributes -> (group, row, loss) of the surest wrong decisions."""
        t = self.table
        return {groups.label: list(surest_errors(t.truth, t.decided, t.scores, groups, ERRORS))
                for groups in self.sets}  # fmt: skip

    def images(self, given: str | None, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """Row -> its image, uint8 [h, w, c], of the rows that are asked for; {} if not known."""
        if given:
            return error_images.of_folder(given, self.table, rows)
        return self.arm.shown(rows) if self.arm else {}

    def train_weighted(self) -> Iterator[Figure]:
        """The average accuracy, weighted as in training, by each of `sets`; it cannot be told where
        a group of the training is not in the table. Nothing where the training is not known."""
        if self.trained is None:
            return
        t, trained = self.table, self.trained
        for groups in self.sets:
            names, of = predictions.groups(trained, groups.label.split("+"), "--train")
            sizes = confusion(trained.truth, trained.truth, of, len(names))[:, [0, 3]]
            tested = confusion(t.truth, t.decided, groups.of, len(groups.names))
            place = {name: k for k, name in enumerate(groups.names)}
            counts = [tested[place[n]] if n in place else np.zeros(4, int) for n in names]
            yield train_weighted_figure(np.reshape(counts, (-1, 4)), sizes, groups)


def check_once(names: Sequence[str], flag: str) -> None:
    """Raises InputError where one of the names, or a part of one such as a of a+b, comes twice."""
    for parts in (names, *(name.split("+") for name in names)):
        twice = [part for part in parts if parts.count(part) > 1]
        if twice:
            raise InputError(f"{twice[0]!r} twice", f"{flag}={','.join(names)}", "Name it once")


def _groups(table: Predictions, name: str) -> Groups:
    check_names(name.split("+"), f"--attributes={name}")
    names, of = predictions.groups(table, name.split("+"), f"--attributes={name}")
    if len(names) < 2:
        raise InputError(f"one group: {', '.join(names)}", f"--attributes={name}",
                         "Give a column with two values or more")  # fmt: skip
    if (of < 0).any():
        log.info("%s: %d rows have no value and are in no group", name, (of < 0).sum())
    return Groups(name, names, of)
