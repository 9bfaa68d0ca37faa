"""Stage `judge`: one classifier per attribute set, with its errors on images of its own."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.cache import file_sha256, write_json
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.fairness import JudgeErrors, judge_errors
from fairjax.evaluate.features import Network, judge
from fairjax.evaluate.scores import class_calibration
from fairjax.experiments import keys
from fairjax.objectives import draw
from fairjax.train import loop
from fairjax.train.classifier import Classifier, probabilities
from fairjax.train.devices import is_lead
from fairjax.train.weight_files import load_tree, save_tree

log = logging.getLogger("fairjax")


def _classifier(config: ConfigDict, classes: int, n_fit: int) -> tuple[Classifier, int]:
    seen = n_fit * (1 - config.judge.validation_share)
    steps = max(1, int(config.judge.epochs * seen / config.judge.batch))
    shape = {"resolution": config.data.resolution, "channels": config.data.channels}
    return Classifier(config.judge, classes=classes, steps=steps, **shape), steps


def _fit_positions(dataset: Dataset, names: tuple[str, ...]) -> np.ndarray:
    """Images of judge_fit whose label is known."""
    positions = dataset.roles["judge_fit"]
    return positions[dataset.classes(names, positions) >= 0]


def network(config: ConfigDict, dataset: Dataset, names: tuple[str, ...]) -> Classifier:
    """The programs of the judge of one attribute set."""
    classes = len(dataset.class_names(names))
    return _classifier(config, classes, len(_fit_positions(dataset, names)))[0]


def train_judge(
    config: ConfigDict,
    dataset: Dataset,
    names: tuple[str, ...],
    folder: Path,
    role: str = "judge",
) -> None:
    """Trains the judge of one attribute set; writes its network and summary.json.

    Judges of different roles have different seeds, in all that is drawn.
    """
    label = "+".join(names)
    positions = _fit_positions(dataset, names)
    truth = dataset.classes(names, positions)
    class_names = dataset.class_names(names)
    counts = np.bincount(truth, minlength=len(class_names))
    if counts.min() < 2:
        raise InputError(
            f"only {counts.min()} labelled images of '{class_names[counts.argmin()]}' to fit on",
            f"judge.attribute_sets ({label})",
            "Give more labelled images, or judge another attribute set",
        )
    rng = np.random.default_rng(keys.number(config.seed, role, label))
    train, held = [], []
    for index in range(len(class_names)):
        members = rng.permutation(np.flatnonzero(truth == index))
        n_held = max(1, round(len(members) * config.judge.validation_share))
        held.append(members[:n_held])
        train.append(members[n_held:])
    held_all = np.concatenate(held)
    mass = np.concatenate([np.full(len(h), 1 / len(held) / len(h)) for h in held])
    classifier, steps = _classifier(config, len(class_names), len(positions))
    table = draw.balanced(train, config.judge.batch)
    images = dataset.images[positions[held_all]]
    task = classifier.task(f"{role} {label}", truth, lambda: (images, truth[held_all], mass))
    seed = keys.number(config.seed, f"{role} draw", label)
    every = max(1, steps // config.judge.evaluations)
    state = loop.run(
        task,
        loop.drawn(dataset.images, positions, table, seed=seed, batch=config.judge.batch),
        keys.root(config.seed, role, label),
        loop.Rhythm(steps, config.judge.batch, log=min(50, every), save=every, evaluate=every),
        folder,
        config.bad_numbers,
    )  # fmt: skip
    summary = _errors(classifier, state.best, dataset, names)
    if is_lead():
        save_tree(folder / "network.safetensors", state.best)
        write_json(folder / "summary.json", summary)
    for name, accuracy in zip(class_names, summary["accuracy"], strict=True):
        log.info("%s %s: recall of '%s' on judge_test %.3f", role, label, name, accuracy)


def _errors(
    classifier: Classifier, variables: dict, dataset: Dataset, names: tuple[str, ...]
) -> dict:
    """Confusion matrix on judge_test (row = true class), mean probabilities per true class, and how
    far the probabilities of each class are from its share."""
    positions = dataset.roles["judge_test"]
    truth = dataset.classes(names, positions)
    positions, truth = positions[truth >= 0], truth[truth >= 0]
    class_names = dataset.class_names(names)
    judged = probabilities(classifier.predict(variables, dataset.images[positions]))
    judged = judged.reshape(-1, len(class_names))
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
      features: the layer before its decision, as a network for distances; None of a foreign judge.
    """

    label: str
    classes: tuple[str, ...]
    errors: JudgeErrors
    resolution: int
    channels: int
    score: Callable[[np.ndarray], np.ndarray]  # uint8 [n, H, W, C] -> probabilities [n, k]
    features: Network | None = None


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
        network = Classifier(config.judge, classes=len(classes), steps=1, **size)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        mend = "Keep it where the run wrote it: RUN/judge/<attributes> beside RUN/config.json"
        raise InputError(f"no judge of a run ({error!r})", where, mend) from error
    file, label = folder / "network.safetensors", folder.resolve().name
    variables = load_tree(file)
    digest = file_sha256(file)
    return SavedJudge(
        label, classes, errors, **size,
        score=lambda images: probabilities(network.predict(variables, images)),
        features=judge(label, digest, network.width, variables, network.features),
    )  # fmt: skip
