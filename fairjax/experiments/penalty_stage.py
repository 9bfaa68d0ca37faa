"""Stages `penalty_judge`: the judge that a penalty of the GAN trains on, which never audits.

It is another network than the judge of the same attributes: another seed, and with it another part
of judge_fit for choosing the parameters. A generator that games it is judged by the ordinary one.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.config import with_arm
from fairjax.data.prepare import Dataset
from fairjax.experiments import judge_stage
from fairjax.train.classifier import probabilities
from fairjax.train.penalty import FrozenJudge, frozen_judge

log = logging.getLogger("fairjax")

ROLE = "penalty_judge"
CHUNK = 4096  # reference images in memory at a time


def attributes(config: ConfigDict) -> tuple[str, ...]:
    """The attribute set of the penalty of an arm (already applied); () without a penalty."""
    if config.gan.penalty == "none":
        return ()
    return tuple(config.gan.penalty_attributes) or tuple(config.judge.attribute_sets[0])


def sets(base: ConfigDict) -> list[tuple[str, ...]]:
    """The attribute sets of all arms' penalties, each once."""
    found = [attributes(with_arm(base, arm)) for arm in base.arms]
    return list(dict.fromkeys(names for names in found if names))


def stage_name(names: tuple[str, ...]) -> str:
    """Name of the stage that trains the judge of an attribute set for penalties."""
    return f"{ROLE}/{'+'.join(names)}"


def load(workdir: Path, config: ConfigDict, dataset: Dataset) -> FrozenJudge | None:
    """The judge and the target of an arm's penalty; None without one.

    The target "reference" is the mean of the judge's probabilities over the reference images that
    are trained on, as the fakes are judged (Choi et al., 2020, eq. 2): no label of them is read.
    """
    names = attributes(config)
    if not names:
        return None
    network = judge_stage.network(config, dataset, names)
    (variables,) = judge_stage.load_members(workdir / stage_name(names) / "network.safetensors")
    classes = dataset.class_names(names)
    target = np.full(len(classes), 1 / len(classes))
    if config.gan.penalty_target == "reference":
        positions = dataset.roles["train_reference"]
        parts = np.array_split(positions, -(-len(positions) // CHUNK))
        judged = [probabilities(network.predict(variables, dataset.images[p])) for p in parts]
        target = np.concatenate(judged).mean(0)
    shares = ", ".join(f"{name}: {x:.3f}" for name, x in zip(classes, target, strict=True))
    log.info("penalty %s on %s, target %s (%s)", config.gan.penalty, "+".join(names),
             config.gan.penalty_target, shares)  # fmt: skip
    return frozen_judge(network.model, variables, target)


def record(config: ConfigDict, judge: FrozenJudge | None) -> dict[str, Any]:
    """What the stage `gan` says of the penalty in its DONE; nothing without one."""
    if judge is None:
        return {}
    said = {"judge": stage_name(attributes(config)), "target": np.asarray(judge.target).tolist()}
    return {"penalty": said}
