"""Predictions in the form that other fairness libraries take; `fairjax.predictions` makes one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.data import predictions
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError
from fairjax.experiments.audited_arm import AuditedArm

WHERE = "attributes"


@dataclass(frozen=True)
class Handed:
    """n rows with a known label, as plain arrays and for fairlearn, AIF360 and Aequitas.

    A method leaves out the rows of which it is asked for an attribute that is unknown.

    Attributes:
      table: the rows. features: float64 [n, d], or None.
    """

    table: Predictions
    features: np.ndarray | None

    @classmethod
    def of(
        cls, path: str | Path, label: str, score: str | None, decision: str | None,
        positive: str | None, threshold: float, features: str | Path | None,
    ) -> "Handed":  # fmt: skip
        """See `fairjax.predictions`."""
        path, words = Path(path).expanduser(), None
        if path.is_dir():
            arm = AuditedArm(path, "path")
            known = arm.columns(positive)
            path, words, positive = arm.table, arm.words, known["positive"]
            label, score = known["label"], known["score"][0]
            decision = decision or known["decision"]
            features = features or known["features"]
        table = predictions.read(path, label, [score] if score else [], decision, positive,
                                 threshold, "path", words)  # fmt: skip
        found = predictions.features(Path(features), table, "features") if features else None
        return cls(table, found)

    @property
    def truth(self) -> np.ndarray:
        """int [n]: 1 where the label is the positive one, else 0."""
        return self.table.truth.astype(int)

    @property
    def decided(self) -> np.ndarray:
        """int [n]: 1 where it was decided for the positive class, else 0."""
        return self.table.decided.astype(int)

    @property
    def scores(self) -> np.ndarray | None:
        """float [n] in [0, 1], of the positive class; None where the table has none."""
        return self.table.scores

    def groups(self, attributes: str) -> np.ndarray:
        """str [n]: the group of each row by a column, or by several as "a+b"; "" = unknown."""
        names, of = predictions.groups(self.table, attributes.split("+"), WHERE)
        return np.array([*names, ""])[of]

    def frame(self) -> Any:
        """A pandas DataFrame of every column of the table, the truth, the decision and features."""
        import pandas

        made = {"truth": self.truth, "decided": self.decided}
        found = pandas.DataFrame(self.table.columns | made)
        if self.features is None:
            return found
        names = [f"feature {i}" for i in range(self.features.shape[1])]
        return pandas.concat([found, pandas.DataFrame(self.features, columns=names)], axis=1)

    def fairlearn(self, *attributes: str, scores: bool = False) -> dict[str, Any]:
        """What `fairlearn.metrics.MetricFrame(metrics=.., **this)` takes.

        Args:
          attributes: columns, or several of one as "a+b".
          scores: y_pred holds scores instead of decisions, for metrics such as ROC AUC.
        """
        kept, columns = self._kept(attributes)
        return {"y_true": self.truth[kept], "y_pred": self._predicted(scores)[kept],
                "sensitive_features": columns}  # fmt: skip

    def aif360(self, attributes: str, privileged: str | None = None) -> dict[str, Any]:
        """What `aif360.metrics.ClassificationMetric(**this)` takes: two BinaryLabelDatasets.

        Args:
          attributes: a column, or several as "a+b": one protected attribute, of which the groups
            are numbered in the order of their names.
          privileged: the group beside which all others stand; None leaves both sides open.

        Raises:
          InputError: no such group.
        """
        from aif360.datasets import BinaryLabelDataset

        kept, columns = self._kept((attributes,))
        names = sorted(set(columns[attributes]))
        if privileged is not None and privileged not in names:
            raise InputError(f"no group {privileged!r}", "privileged", f"Groups: {names}")
        codes = {name: float(i) for i, name in enumerate(names)}
        table = columns.assign(label=self.truth[kept].astype(float))
        table[attributes] = table[attributes].map(codes)
        told = BinaryLabelDataset(df=table, label_names=["label"],
                                  protected_attribute_names=[attributes])  # fmt: skip
        decided = told.copy()
        decided.labels = self.decided[kept].astype(float)[:, None]
        if self.scores is not None:
            decided.scores = self.scores[kept][:, None]
        sides = [[{attributes: code} for name, code in codes.items() if
                  (name == privileged) == side] for side in (True, False)]  # fmt: skip
        ones, others = (None, None) if privileged is None else sides
        return {"dataset": told, "classified_dataset": decided,
                "unprivileged_groups": others, "privileged_groups": ones}  # fmt: skip

    def aequitas(self, *attributes: str, scores: bool = False) -> Any:
        """The DataFrame that `aequitas.group.Group().get_crosstabs(this)` takes: score,
        label_value, and the attributes.

        Args:
          attributes, scores: see `fairlearn`.
        """
        kept, columns = self._kept(attributes)
        columns.insert(0, "score", self._predicted(scores)[kept])
        columns.insert(1, "label_value", self.truth[kept])
        return columns.reset_index(drop=True)

    def _predicted(self, scores: bool) -> np.ndarray:
        if not scores:
            return self.decided
        if self.scores is None:
            raise InputError("a table without scores", "scores=True", "Give score=COLUMN")
        return self.scores

    def _kept(self, attributes: tuple[str, ...]) -> tuple[np.ndarray, Any]:
        """(rows whose attributes are all known, a DataFrame of these)."""
        import pandas

        if not attributes:
            raise InputError("none", WHERE, "Name columns to group by")
        columns = {name: self.groups(name) for name in attributes}
        kept = np.flatnonzero(np.all([values != "" for values in columns.values()], axis=0))
        return kept, pandas.DataFrame({name: v[kept] for name, v in columns.items()})
