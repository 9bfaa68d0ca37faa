"""Stages `penalty_judge`: the judge that a penalty of the GAN trains on, which never audits.

It knows labels (of judge_fit; it has another seed than the judge of the same attributes, and so
another part of them for choosing the parameters) or, without any label, groups that are found in
the density ratios of the training images. A generator that games it is judged by the ordinary one.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fairjax.config import with_arm
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.experiments import judge_stage
from fairjax.experiments.judge_stage import Labelled
from fairjax.experiments.stages import read_json
from fairjax.experiments.weights_stage import load_weights
from fairjax.gan_validation import AIMED
from fairjax.train.classifier import probabilities
from fairjax.train.clusters import on_a_line
from fairjax.train.penalty import FrozenJudge, frozen_judge

log = logging.getLogger("fairjax")

ROLE = "penalty_judge"
FEW = 10  # images of a group of the ratios, below which no network can learn to tell it
LEAST = 0.02  # share of the reference images in a group, below which the groups part nothing
OUTER = 0.05  # of the ratios, at each end
CHUNK = 4096  # reference images in memory at a time


class Asked(NamedTuple):
    """Whom a penalty asks: a judge of the labels of `attributes` or, where these are (), one of so
    many groups of the log ratios; of so many networks."""

    attributes: tuple[str, ...]
    groups: int = 0
    members: int = 1

    @property
    def label(self) -> str:
        return "+".join(self.attributes) or f"ratio_{self.groups}"

    @property
    def stage(self) -> str:
        return f"{ROLE}/{self.label}" + (f"_x{self.members}" if self.members > 1 else "")

    @property
    def plan(self) -> dict[str, Any]:
        """What decides it, beside the config of the judge."""
        found = {} if self.attributes else {"groups": self.groups}
        found |= {"members": self.members} if self.members > 1 else {}
        return {"role": ROLE} | found  # else it would look like the judge's stage

    @property
    def inputs(self) -> list[str]:
        return ["data"] if self.attributes else ["data", "weights"]


def asked(config: ConfigDict) -> Asked | None:
    """Whom the penalty of an arm (already applied) asks; None without a penalty."""
    gan = config.gan
    if gan.penalty == "none":
        return None
    if gan.penalty_groups == "ratio":
        return Asked((), gan.penalty_count, gan.penalty_members)
    names = tuple(gan.penalty_attributes) or tuple(config.judge.attribute_sets[0])
    return Asked(names, members=gan.penalty_members)


def all_asked(base: ConfigDict) -> list[Asked]:
    """Those of all arms' penalties, each once."""
    found = [asked(with_arm(base, arm)) for arm in base.arms]
    return list(dict.fromkeys(one for one in found if one is not None))


def train(workdir: Path, config: ConfigDict, dataset: Dataset, one: Asked, folder: Path) -> None:
    """Trains the judge of a penalty; writes network.safetensors and summary.json.

    Raises:
      InputError: too few images of a class or of a group, or fewer different ratios than groups.
    """
    if one.attributes:
        judge_stage.train_judge(config, dataset, one.attributes, folder, ROLE, one.members)
        return
    log_ratio = load_weights(workdir, dataset)[1]
    groups = ratio_groups(log_ratio, one.groups, dataset.domain[dataset.training] == 1)
    means = [np.exp(log_ratio[groups == g]).mean() for g in range(one.groups)]
    names = tuple(f"ratio about {mean:.2g}" for mean in means)
    for name, size in zip(names, np.bincount(groups), strict=True):
        log.info("%s: %d training images of %s", one.label, size, name)
        if size < FEW:
            raise InputError(
                f"{size} training images of {name}, {FEW} needed", "gan.penalty_groups=ratio",
                "Train without the penalty (--config.arms.NAME.penalty=none), or with more images",
            )  # fmt: skip
    found = Labelled(one.label, names, dataset.training, groups)
    _, networks = judge_stage.fitted(config, dataset, found, folder, ROLE, one.members)
    judge_stage.write(folder, networks, {"classes": list(names)})


def ratio_groups(log_ratio: np.ndarray, count: int, reference: np.ndarray) -> np.ndarray:
    """The group of every image: log ratios [n] -> int32 [n] in [0, count), by rising ratio.

    Groups are those of k-means on the line: where a bias is one of groups, the ratio takes one
    value in each, and estimates of it lie around these. A few images that can be from one set only
    (a watermark, another camera) may lie so far out that they are a group by themselves, and the
    others are not parted. So where a group has nearly none of the `reference` images (bool [n]) or
    nearly all, ratios are cut at their outer 5 % first, if that parts them.

    Raises:
      InputError: fewer different ratios than groups.
    """
    if (different := len(np.unique(log_ratio))) < count:
        raise InputError(
            f"the training images have {different} different ratios", f"gan.penalty_count={count}",
            f"Set it to {max(different, 2)} or less, or penalty_groups=attributes",
        )  # fmt: skip
    groups = on_a_line(log_ratio, count)
    if _shares(groups, reference).min() > LEAST:
        return groups
    inner = np.clip(log_ratio, *np.quantile(log_ratio, (OUTER, 1 - OUTER)))
    if len(np.unique(inner)) >= count:
        found = on_a_line(inner, count)
        if _shares(found, reference).min() > LEAST:
            log.info("groups of the ratios: without the outer %d %%, in which few images are alone",
                     round(100 * OUTER))  # fmt: skip
            return found
    log.warning(
        "groups of the ratios: of the reference images %s %% are in each, so that a penalty on "
        "their shares says little; gan.penalty_count may part them",
        ", ".join(f"{100 * share:.1f}" for share in _shares(groups, reference)),
    )
    return groups


def _shares(groups: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of the reference images, the share that is in each group."""
    return np.bincount(groups, reference) / reference.sum()


def load(workdir: Path, config: ConfigDict, dataset: Dataset) -> FrozenJudge | None:
    """The judge and the target of an arm's penalty; None without one.

    The target "reference" is the mean of the judge's probabilities over the reference images that
    are trained on, as the fakes are judged (Choi et al., 2020, eq. 2): no label of them is read.
    """
    one = asked(config)
    if one is None:
        return None
    folder = workdir / one.stage
    members = judge_stage.load_members(folder / "network.safetensors")
    classes = read_json(folder / "summary.json")["classes"]
    network = judge_stage.programs(config, len(classes))
    target = np.full(len(classes), 1 / len(classes))
    if config.gan.penalty_target == "reference":
        positions = dataset.roles["train_reference"]
        parts = np.array_split(positions, -(-len(positions) // CHUNK))
        judged = [probabilities(network.predict(variables, dataset.images[p]))
                  for p in parts for variables in members]  # fmt: skip
        target = np.concatenate(judged).mean(0)
    shares = ", ".join(f"{name}: {x:.3f}" for name, x in zip(classes, target, strict=True))
    if config.gan.penalty in AIMED:
        log.info("penalty %s on %s, target %s (%s)", config.gan.penalty, one.label,
                 config.gan.penalty_target, shares)  # fmt: skip
    else:
        log.info("penalty %s on %s", config.gan.penalty, one.label)
    return frozen_judge(network.model, members, target)


def record(config: ConfigDict, judge: FrozenJudge | None) -> dict[str, Any]:
    """What the stage `gan` says of the penalty in its DONE; nothing without one."""
    one = asked(config)
    if judge is None or one is None:
        return {}
    aim = {"target": np.asarray(judge.target).tolist()} if config.gan.penalty in AIMED else {}
    return {"penalty": {"judge": one.stage} | aim}
