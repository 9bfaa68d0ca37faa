"""An arm of `robust_classification` that is audited whole: `--predictions=RUN/arms/NAME`.

Its columns, words, features and validation rows need no flags, and as its images and its network
are known, it can be looked at and attacked.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, source_config, with_arm
from fairjax.data.prepare import Dataset
from fairjax.data.proportions import class_names
from fairjax.errors import InputError
from fairjax.evaluate import stress
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.rates import Groups
from fairjax.evaluate.stress import Point
from fairjax.experiments.prediction_files import DECISION, PARTS, TARGET, score_of

log = logging.getLogger("fairjax")

TRANSFORMS = "transforms"
STRESSES = (*stress.IMAGE_LEVELS, TRANSFORMS)


class AuditedArm:
    """A trained arm and the rows of its test images.

    Args:
      folder: RUN/arms/NAME. flag: that which named it, for error messages.

    Raises:
      InputError: it is none, or one whose `eval` stage is not done.
    """

    def __init__(self, folder: Path, flag: str = "--predictions"):
        from fairjax.experiments.stages import read_json  # with JAX, which a table can do without

        self.folder = folder
        self._where = where = f"{flag}={folder}"
        self._run = folder.resolve().parent.parent
        mend = "Give RUN/arms/NAME of a run of classifiers, or a table"
        if not (self._run / "config.json").is_file():
            raise InputError("no arm of a run", where, mend)
        saved, name = read_json(self._run / "config.json"), folder.resolve().name
        if saved.get("experiment") != "robust_classification" or name not in saved["arms"]:
            raise InputError("no arm of a run of classifiers", where, mend)
        config = defaults()  # a key that is newer than the run is at its default
        config.arms = ConfigDict(saved.pop("arms"))
        config.update(saved)
        self.config = with_arm(config, name)
        missing = [file for pair in PARTS.values() for file in pair
                   if not (folder / "eval" / file).is_file()]  # fmt: skip
        if missing:
            raise InputError(f"without eval/{missing[0]}", where,
                             f"Finish the run; of an older one, delete {folder / 'eval'} and run "
                             "the command in command.txt again")  # fmt: skip
        self.names = tuple(config.data.group_attributes)
        values = read_json(self._run / "data/manifest.json")["attribute_values"]
        self.classes = class_names([values[self.names[0]]])
        codes = {name: {str(i): word for i, word in enumerate(values[name])} | {"-1": ""}
                 for name in self.names}  # fmt: skip
        target = codes.pop(self.names[0])
        self.words: dict[str, dict[str, str]] = codes | {TARGET: target, DECISION: target}

    def columns(self, positive: str | None) -> dict[str, Any]:
        """`label`, `score`, `positive`, `decision` and `features`, as `--predictions` names them.

        Args:
          positive: the positive class; None where there are two, and the second is meant.

        Raises:
          InputError: which class is positive is not clear.
        """
        positive = positive or (self.classes[1] if len(self.classes) == 2 else None)
        if positive not in self.classes:
            raise InputError(f"the classes {', '.join(self.classes)}",
                             self._where,
                             "Say which one counts as positive: --positive=NAME")  # fmt: skip
        return {
            "label": TARGET,
            "score": [score_of(positive)],
            "positive": positive,
            # Of many classes the most probable one, whatever its probability.
            "decision": DECISION if len(self.classes) > 2 else None,
            "features": str(self.folder / "eval" / PARTS["judge_test"][1]),
        }

    def fill(self, values: flags.FlagValues) -> None:
        """Sets the flags of an audit that this arm knows, but not those that are given.

        Raises:
          InputError: which class is positive is not clear, or there is nothing to group by.
        """
        others = list(self.names[1:])
        if not others and not values.attributes:
            raise InputError("a run without a protected attribute", self._where,
                             f"Group by the label: --attributes={TARGET}")  # fmt: skip
        together = ["+".join(others)] if len(others) > 1 else []
        known = self.columns(values.positive) | {"attributes": [*others, *together]}
        if values.repair:
            table, features = PARTS["train_reference"]
            known |= {"fit": str(self.folder / "eval" / table),
                      "fit_features": str(self.folder / "eval" / features)}  # fmt: skip
        for name, value in known.items():
            if values[name].using_default_value:
                setattr(values, name, value)

    @property
    def table(self) -> Path:
        """The rows of the test images."""
        return self.folder / "eval" / PARTS["judge_test"][0]

    @cached_property
    def _dataset(self) -> Dataset:
        from fairjax.experiments import data_stage

        return data_stage.loaded(source_config(self.config), self._run / "data")

    @cached_property
    def _test(self) -> Any:
        from fairjax.experiments import fit_stage

        return fit_stage.part(self.config, self._dataset, "judge_test")

    @cached_property
    def images(self) -> np.ndarray:
        """uint8 [n, H, W, C], of the rows of the table."""
        return np.asarray(self._dataset.images[self._test.positions])

    def shown(self, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """Row of the table -> its image, uint8 [H, W, C], of some rows."""
        return {row: np.asarray(self._dataset.images[self._test.positions[row]]) for row in rows}

    def training(self) -> dict[str, np.ndarray]:
        """Label and attributes of the training images, in words, as columns of the table."""
        positions = self._dataset.roles["train_biased"]
        found = {}
        for name in self.names:
            column = TARGET if name == self.names[0] else name
            codes = self._dataset.classes((name,), positions)
            found[column] = np.array([self.words[column][str(code)] for code in codes])
        return found

    def stressed(
        self, kinds: Sequence[str], truth: np.ndarray, positive: str, threshold: float,
        sets: Sequence[Groups],
    ) -> tuple[list[Point], list[Figure]]:  # fmt: skip
        """Curves of the damaged images' groups, and what harmless changes do.

        Args:
          kinds: of `STRESSES`. truth: bool [n]. positive: the positive class.
          threshold: of its probability, where there are two classes.
        """
        from fairjax.experiments import fit_stage
        from fairjax.train import attacks
        from fairjax.train.classifier import probabilities
        from fairjax.train.weight_files import load_tree

        net = fit_stage.network(self.config, self._dataset)
        stage = "fit" if self.config.fit.head == "none" else "head"
        variables = load_tree(self.folder / stage / "network.safetensors")
        of = self.classes.index(positive)

        def judged(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores = probabilities(logits)[:, of].round(6)  # as in the table
            two = len(self.classes) == 2
            return scores, scores >= threshold if two else logits.argmax(-1) == of

        points: list[Point] = []
        figures: list[Figure] = []
        given = judged(net.predict(variables, self.images)[1])
        for kind in kinds:
            log.info("stress: %s of %d images", kind, len(self.images))
            if kind == TRANSFORMS:
                for name, change in attacks.HARMLESS.items():
                    scores, decided = judged(net.predict(variables, change(self.images))[1])
                    for groups in sets:
                        kept = decided == given[1]
                        figures += stress.stability_figures(name, given[0], scores, kept, groups)
                continue
            attack = attacks.attack_on(net, variables, kind) if kind in attacks.STEPS else None
            decisions: dict[float, np.ndarray] = {0: given[1]}
            for level in stress.IMAGE_LEVELS[kind][1:]:
                if attack is not None:
                    logits = attack(self.images, self._test.target, level)
                else:
                    logits = net.predict(variables, attacks.noisy(self.images, level, level))[1]
                decisions[level] = judged(logits)[1]
            for groups in sets:
                points += stress.image_curves(kind, truth, decisions, groups)
        return points, figures
