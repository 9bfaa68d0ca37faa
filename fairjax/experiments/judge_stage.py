"""Stage `judge`: one classifier per attribute set, with its errors on images of its own.

A judge is several networks of different seeds, whose probabilities are averaged: networks that are
equally right on real images read the samples of a generator differently, and how often they do
tells how well these can be judged at all.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.cache import file_sha256, write_json
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.fairness import JudgeErrors, disagreement, judge_errors
from fairjax.evaluate.features import Network, judge
from fairjax.evaluate.scores import class_calibration
from fairjax.experiments import keys
from fairjax.experiments.observed import Score
from fairjax.objectives import draw
from fairjax.train import loop
from fairjax.train.classifier import Classifier, probabilities
from fairjax.train.devices import is_lead
from fairjax.train.weight_files import load_tree, save_tree

log = logging.getLogger("fairjax")


def programs(config: ConfigDict, classes: int, steps: int = 1) -> Classifier:
    """The programs of a judge; only its training depends on the number of steps."""
    return Classifier(config.judge, resolution=config.data.resolution,
                      channels=config.data.channels, classes=classes, steps=steps)  # fmt: skip


class Labelled(NamedTuple):
    """The images that a judge is fitted on.

    Attributes:
      label: for names and seeds. classes: k names. positions: int [n]. truth: int [n] in [0, k).
    """

    label: str
    classes: tuple[str, ...]
    positions: np.ndarray
    truth: np.ndarray


def _labelled(dataset: Dataset, names: tuple[str, ...]) -> Labelled:
    """Images of judge_fit whose label is known."""
    positions = dataset.roles["judge_fit"]
    truth = dataset.classes(names, positions)
    known = truth >= 0
    return Labelled("+".join(names), dataset.class_names(names), positions[known], truth[known])


def train_judge(
    config: ConfigDict,
    dataset: Dataset,
    names: tuple[str, ...],
    folder: Path,
    role: str = "judge",
    members: int | None = None,
) -> None:
    """Trains the judge of one attribute set; writes its networks and summary.json.

    Judges of different roles, and the members of one, have different seeds in all that is drawn.

    Args:
      members: number of its networks; `judge.members` unless given.
    """
    of = _labelled(dataset, names)
    counts = np.bincount(of.truth, minlength=len(of.classes))
    if counts.min() < 2:
        raise InputError(
            f"only {counts.min()} labelled images of '{of.classes[counts.argmin()]}' to fit on",
            f"judge.attribute_sets ({of.label})",
            "Give more labelled images, or judge another attribute set",
        )
    members = config.judge.members if members is None else members
    classifier, found = fitted(config, dataset, of, folder, role, members)
    summary = _errors(_votes(classifier, found), dataset, names)
    write(folder, found, summary)
    for name, accuracy in zip(of.classes, summary["accuracy"], strict=True):
        log.info("%s %s: recall of '%s' on judge_test %.3f", role, of.label, name, accuracy)


def fitted(
    config: ConfigDict, dataset: Dataset, of: Labelled, folder: Path, role: str, members: int
) -> tuple[Classifier, list[dict]]:
    """Trains so many networks on the images; returns their programs and what they have learnt."""
    seen = len(of.positions) * (1 - config.judge.validation_share)
    steps = max(1, int(config.judge.epochs * seen / config.judge.batch))
    classifier = programs(config, len(of.classes), steps)
    every = max(1, steps // config.judge.evaluations)

    def trained(member: int) -> Any:
        own = (of.label, f"member {member}") if member else (of.label,)
        rng = np.random.default_rng(keys.number(config.seed, role, *own))
        train, held = [], []
        for index in range(len(of.classes)):
            those = rng.permutation(np.flatnonzero(of.truth == index))
            n_held = max(1, round(len(those) * config.judge.validation_share))
            held.append(those[:n_held])
            train.append(those[n_held:])
        held_all = np.concatenate(held)
        mass = np.concatenate([np.full(len(h), 1 / len(held) / len(h)) for h in held])
        table = draw.balanced(train, config.judge.batch)
        images, truth = dataset.images[of.positions[held_all]], of.truth[held_all]
        task = classifier.task(" ".join((role, *own)), of.truth, lambda: (images, truth, mass))
        seed = keys.number(config.seed, f"{role} draw", *own)
        state = loop.run(
            task,
            loop.drawn(dataset.images, of.positions, table, seed=seed, batch=config.judge.batch),
            keys.root(config.seed, role, *own),
            loop.Rhythm(steps, config.judge.batch, log=min(50, every), save=every, evaluate=every),
            folder / f"member_{member}" if member else folder,
            config.bad_numbers,
        )  # fmt: skip
        return state.best

    return classifier, [trained(member) for member in range(members)]


def write(folder: Path, members: Sequence[dict], summary: dict) -> None:
    """network.safetensors and summary.json."""
    if is_lead():
        networks = {f"member_{i}": variables for i, variables in enumerate(members)}
        save_tree(folder / "network.safetensors", networks)
        write_json(folder / "summary.json", summary)


def load_members(file: Path) -> list[dict]:
    """The networks of a judge; older runs kept one, without a name.

    Raises:
      InputError: the file is missing or damaged.
    """
    tree = load_tree(file)
    return [tree] if "params" in tree else [tree[f"member_{i}"] for i in range(len(tree))]


def _votes(classifier: Classifier, members: Sequence[dict]) -> Score:
    """Images uint8 [n, H, W, C] -> the probabilities of each member [n, members, k]."""
    return lambda images: np.stack(
        [probabilities(classifier.predict(variables, images)) for variables in members], axis=1
    )


def _errors(votes: Score, dataset: Dataset, names: tuple[str, ...]) -> dict:
    """Confusion matrix on judge_test (row = true class), mean probabilities per true class, how far
    the probabilities of each class are from its share, and how often the members differ."""
    positions = dataset.roles["judge_test"]
    truth = dataset.classes(names, positions)
    positions, truth = positions[truth >= 0], truth[truth >= 0]
    class_names = dataset.class_names(names)
    voted = votes(dataset.images[positions])
    judged = voted.mean(1).reshape(-1, len(class_names))
    several = len(voted) > 0 and voted.shape[1] > 1
    errors = judge_errors(judged, truth)
    totals = np.maximum(errors.counts.sum(1), 1)
    return {
        "attributes": list(names),
        "classes": list(class_names),
        "confusion": errors.counts.tolist(),
        "soft_confusion": errors.soft.tolist(),
        "soft_covariance": np.asarray(errors.soft_covariance).tolist(),
        "accuracy": (np.diag(errors.counts) / totals).tolist(),
        "calibration_error": class_calibration(judged, truth).tolist(),
        "disagreement": float(disagreement(voted).mean()) if several else None,
    }


def errors_of(summary: Mapping[str, Any]) -> JudgeErrors:
    """The errors that a judge's summary.json holds; older runs kept no covariance."""
    spread = summary.get("soft_covariance")
    return JudgeErrors(
        np.array(summary["confusion"]),
        np.array(summary["soft_confusion"]),
        None if spread is None else np.array(spread),
    )


class SavedJudge(NamedTuple):
    """A judge, away from the images that it was fitted on.

    Attributes:
      votes: what each of its networks says; None of a foreign judge, whose networks are unknown.
      disagreement: of these on real images (judge_test), see `disagreement`; NaN where unknown.
      features: the layer before the decision of its first network, as a network for distances; None
        of a foreign judge.
    """

    label: str
    classes: tuple[str, ...]
    errors: JudgeErrors
    resolution: int
    channels: int
    score: Score  # uint8 [n, H, W, C] -> probabilities [n, k]
    features: Network | None = None
    votes: Score | None = None  # -> [n, members, k]
    disagreement: float = math.nan

    @property
    def each(self) -> Score:
        """What its networks say one by one, where it has several; else the score."""
        return self.votes or self.score


def read_judge(folder: Path, where: str) -> SavedJudge:
    """The judge in RUN/judge/<attributes>; the run's config.json lies above it.

    Args:
      where: what the user gave, for the error message.

    Raises:
      InputError: a file is missing or damaged.
    """
    try:
        config = ConfigDict(json.loads((folder.resolve().parents[1] / "config.json").read_text()))
        summary = json.loads((folder / "summary.json").read_text())
        classes, errors = tuple(summary["classes"]), errors_of(summary)
        size = {"resolution": config.data.resolution, "channels": config.data.channels}
        network = programs(config, len(classes))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        mend = "Keep it where the run wrote it: RUN/judge/<attributes> beside RUN/config.json"
        raise InputError(f"no judge of a run ({error!r})", where, mend) from error
    file, label = folder / "network.safetensors", folder.resolve().name
    members, differ = load_members(file), summary.get("disagreement")
    digest, votes = file_sha256(file), _votes(network, members)
    return SavedJudge(
        label, classes, errors, **size,
        score=lambda images: votes(images).mean(1),
        votes=votes if len(members) > 1 else None,
        disagreement=math.nan if differ is None else differ,
        features=judge(label, digest, network.width, members[0], network.features),
    )  # fmt: skip
