"""Stage `ratio`: who looks like the reference set?

Networks tell reference from biased images (`ratio.networks`): a ResNet-18 trained from scratch, and
linear heads on the features of frozen networks, which need far fewer images. There is one of each
per fold, and each training image is rated by those that did not see it (cross-fitting). What their
logits amount to together is decided by the stage `weights`.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate import features
from fairjax.experiments import keys
from fairjax.experiments.stages import read_arrays
from fairjax.models import random_features
from fairjax.objectives import draw
from fairjax.train import linear_head, loop
from fairjax.train.classifier import Classifier
from fairjax.train.clusters import clusters
from fairjax.train.devices import is_lead
from fairjax.train.linear_head import Heads
from fairjax.train.progress import Meter
from fairjax.train.weight_files import load_tree, save_tree

log = logging.getLogger("fairjax")

IMAGENET = "efficientnet_lite0"
FROZEN = (IMAGENET, "random_conv")  # networks that are not trained here, only their heads


def stage_names(config: ConfigDict) -> list[str]:
    """The stages that rate images, in their order; none where the true ratio is taken."""
    if config.weights.true_ratio:
        return []
    names = []
    if "resnet" in config.ratio.networks:
        names += [f"ratio/fold_{k}" for k in range(config.ratio.folds)]
    return names + [f"ratio/{name}" for name in FROZEN if name in config.ratio.networks]


def plan(config: ConfigDict) -> dict[str, Any]:
    """The stages that rate images, and `weights`: name -> the part of the config that it reads."""
    tree = config.ratio.to_dict()
    stacked = {key: tree.pop(key) for key in ("networks", "calibration")}
    imagenet = {key: tree.pop(key) for key in ("feature_resolution", "clusters")}
    shared = {"folds": config.ratio.folds}
    reads = {
        IMAGENET: imagenet | shared | {"of": "levels"},  # once: of the last layer
        "random_conv": shared,
    }
    stages: dict[str, Any] = {
        name: {"seed": config.seed, "ratio": reads.get(name.partition("/")[2], tree)}
        for name in stage_names(config)
    }
    return stages | {"weights": {"weights": config.weights.to_dict(), "ratio": stacked}}


def rate(
    name: str,
    config: ConfigDict,
    dataset: Dataset,
    programs: Callable[[], tuple[Classifier, int]],
    folder: Path,
) -> None:
    """The body of one stage that rates images; `programs` are those of `classifier`, made once."""
    network = name.partition("/")[2]
    if network in FROZEN:
        fit_heads(config, dataset, network, folder)
    else:
        train_fold(config, dataset, programs(), int(name.rpartition("_")[2]), folder)


def folds(dataset: Dataset, config: ConfigDict) -> np.ndarray:
    """int32 [n]: the fold of every training image, even within each of the two sets.

    Raises InputError where a set has one image only: there would be none to learn from beside it;
    or where a fold stays empty.
    """
    reference = dataset.domain[dataset.training] == 1
    fold = np.zeros(len(reference), np.int32)
    rng = np.random.default_rng(keys.number(config.seed, "folds"))
    for side in (False, True):
        members = np.flatnonzero(reference == side)
        if len(members) < 2:
            name = "reference" if side else "biased"
            raise InputError(
                f"{len(members)} training image of the {name} set",
                f"data ({name})",
                "Give at least two, better some hundreds",
            )
        fold[rng.permutation(members)] = np.arange(len(members)) % config.ratio.folds
    if fold.max() + 1 < config.ratio.folds:
        raise InputError(
            f"{len(reference)} training images are too few for {config.ratio.folds} folds",
            "ratio.folds", f"Take {fold.max() + 1}, or give more images",
        )  # fmt: skip
    return fold


def classifier(config: ConfigDict, dataset: Dataset) -> tuple[Classifier, int]:
    """The compiled programs that all folds share, and the steps of one fold."""
    sizes = [len(dataset.roles[r]) for r in ("train_biased", "train_reference")]
    seen = max(sizes) * (1 - 1 / config.ratio.folds) * (1 - config.ratio.validation_share)
    steps = max(1, int(config.ratio.epochs * seen / (config.ratio.batch / 2)))
    shape = {"resolution": config.data.resolution, "channels": config.data.channels}
    return Classifier(config.ratio, classes=2, steps=steps, **shape), steps


def train_fold(
    config: ConfigDict,
    dataset: Dataset,
    programs: tuple[Classifier, int],
    k: int,
    folder: Path,
) -> None:
    """Trains the network of fold k and writes its logits for the images it did not see."""
    network, steps = programs
    fold = folds(dataset, config)
    labels = (dataset.domain[dataset.training] == 1).astype(np.int32)
    rng = np.random.default_rng(keys.number(config.seed, "validation", k))
    train, held = [], []
    for side in (0, 1):
        members = rng.permutation(np.flatnonzero((fold != k) & (labels == side)))
        n_held = max(1, round(len(members) * config.ratio.validation_share))
        held.append(np.sort(members[:n_held]))
        train.append(np.sort(members[n_held:]))
    for name, images_of in zip(("biased", "reference"), train, strict=True):
        if not len(images_of):
            raise InputError(
                f"no image of the {name} set is left to train fold {k} of {config.ratio.folds} on",
                f"data ({name})",
                "Give more images of this set",
            )
    table = draw.balanced(train, config.ratio.batch)
    held_all = np.concatenate(held)
    mass = np.concatenate([np.full(len(h), 0.5 / len(h)) for h in held])
    images = dataset.images[dataset.training[held_all]]
    task = network.task(f"ratio fold {k}", labels, lambda: (images, labels[held_all], mass))
    seed = keys.number(config.seed, "ratio", k)
    every = max(1, steps // config.ratio.evaluations)
    state = loop.run(
        task,
        loop.drawn(dataset.images, dataset.training, table, seed=seed, batch=config.ratio.batch),
        keys.root(config.seed, "ratio", k),
        loop.Rhythm(steps, config.ratio.batch, log=min(50, every), save=every, evaluate=every),
        folder,
        config.bad_numbers,
    )  # fmt: skip
    best: Any = state.best
    unseen = np.flatnonzero(fold == k)
    out = {"index": unseen}
    for name, positions in (
        ("logits", dataset.training[unseen]),
        ("test_logits", dataset.roles["ratio_test"]),
    ):
        two = network.predict(best, dataset.images[positions])
        out[name] = two[:, 1] - two[:, 0]
    if is_lead():
        np.savez(folder / "logits.npz", allow_pickle=False, **out)
        save_tree(folder / "network.safetensors", best)


def _network(name: str, config: ConfigDict) -> features.Network:
    """A frozen network of `FROZEN`."""
    if name == IMAGENET:
        return features.efficientnet_levels(config.ratio.feature_resolution)
    return features.random_conv(random_features.WIDE)


def fit_heads(config: ConfigDict, dataset: Dataset, network: str, folder: Path) -> None:
    """Fits the linear heads of all folds on a network of `FROZEN`; writes what `train_fold` writes,
    and for `IMAGENET` the cluster of every training image in its features."""
    positions = np.concatenate([dataset.training, dataset.roles["ratio_test"]])
    n = len(dataset.training)
    with Meter(f"ratio features, {network}", len(positions)) as meter:
        found = features.extract(_network(network, config), dataset.images, positions, meter.update)
    reference = dataset.domain[dataset.training] == 1
    heads, logits = linear_head.fit(found[:n], reference, folds(dataset, config))
    log.info("ratio: heads on features of %s, penalty 1 / %g", network, heads.strength)
    out = {"logits": logits, "test_logits": heads(found[n:])}
    if network == IMAGENET:
        out["cluster"] = clusters(heads.standardised(found[:n]), min(config.ratio.clusters, n),
                                  keys.number(config.seed, "clusters"))  # fmt: skip
    if is_lead():
        np.savez(folder / "logits.npz", allow_pickle=False, **out)
        save_tree(folder / "heads.safetensors", heads._asdict())


def load_clusters(workdir: Path) -> np.ndarray:
    """int32 [n]: what `fit_heads` found, by training index."""
    return read_arrays(workdir / f"ratio/{IMAGENET}/logits.npz", "cluster")["cluster"]


def pooled_logits(workdir: Path, config: ConfigDict, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(out-of-fold logits of the training list [networks, n], of ratio_test [networks, folds, m]).

    The networks are in the order of `ratio.networks`.
    """
    pairs = [_logits_of(network, workdir, config, n) for network in config.ratio.networks]
    return np.stack([logits for logits, _ in pairs]), np.stack([tests for _, tests in pairs])


def _logits_of(
    network: str, workdir: Path, config: ConfigDict, n: int
) -> tuple[np.ndarray, np.ndarray]:
    if network in FROZEN:
        saved = read_arrays(workdir / f"ratio/{network}/logits.npz", "logits", "test_logits")
        return saved["logits"], saved["test_logits"]
    logits, tests = np.full(n, np.nan), []
    for k in range(config.ratio.folds):
        path = workdir / f"ratio/fold_{k}/logits.npz"
        saved = read_arrays(path, "index", "logits", "test_logits")
        logits[saved["index"]] = saved["logits"]
        tests.append(saved["test_logits"])
    return logits, np.stack(tests)


class RatioScore:
    """The trained networks as a score: mean calibrated p(reference | x) over the folds.

    Args:
      slopes: factor of each network's logit. offset: added to their sum.
    """

    def __init__(self, workdir: Path, config: ConfigDict, dataset: Dataset,
                 slopes: Mapping[str, float], offset: float):  # fmt: skip
        self._config, self._slopes, self._offset = config, slopes, offset
        if "resnet" in self._slopes:
            self._network, _ = classifier(config, dataset)
            self._folds = [load_tree(workdir / f"ratio/fold_{k}/network.safetensors")
                           for k in range(config.ratio.folds)]  # fmt: skip
        self._heads = {name: Heads(**load_tree(workdir / f"ratio/{name}/heads.safetensors"))
                       for name in FROZEN if name in self._slopes}  # fmt: skip

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, C] -> p(reference | x) [n]."""
        logits = np.full((self._config.ratio.folds, len(images)), self._offset)
        for network, slope in self._slopes.items():
            if network in FROZEN:
                found = features.extract(_network(network, self._config), images)
                logits += slope * self._heads[network](found)
            else:
                two = np.stack([self._network.predict(fold, images) for fold in self._folds])
                logits += slope * (two[..., 1] - two[..., 0])
        p: np.ndarray = np.exp(-np.logaddexp(0, -logits)).mean(0)
        return p
