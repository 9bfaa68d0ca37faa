"""Stages `ratio` and `weights`: who looks like the reference set, and what an image then counts.

One classifier per fold tells reference from biased images; each training image gets its ratio from
the one fold that did not see it (cross-fitting), on logits calibrated over all of them.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression

from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.experiments import keys
from fairjax.experiments.stages import read_arrays
from fairjax.objectives import draw, ratio
from fairjax.report.drawing import save_png, weight_histogram
from fairjax.train import loop
from fairjax.train.classifier import Classifier, probabilities
from fairjax.train.devices import is_lead
from fairjax.train.weight_files import load_tree, save_tree

log = logging.getLogger("fairjax")


def folds(dataset: Dataset, config: ConfigDict) -> np.ndarray:
    """int32 [n]: the fold of every training image, even within each of the two sets."""
    reference = dataset.domain[dataset.training] == 1
    fold = np.zeros(len(reference), np.int32)
    rng = np.random.default_rng(keys.number(config.seed, "folds"))
    for side in (False, True):
        members = np.flatnonzero(reference == side)
        fold[rng.permutation(members)] = np.arange(len(members)) % config.ratio.folds
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


def pooled_logits(workdir: Path, config: ConfigDict, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(out-of-fold logits of the training list [n], logits of ratio_test, [folds, m])."""
    logits, tests = np.full(n, np.nan), []
    for k in range(config.ratio.folds):
        path = workdir / f"ratio/fold_{k}/logits.npz"
        saved = read_arrays(path, "index", "logits", "test_logits")
        logits[saved["index"]] = saved["logits"]
        tests.append(saved["test_logits"])
    return logits, np.stack(tests)


def calibration(logits: np.ndarray, is_reference: np.ndarray, kind: str) -> tuple[float, float]:
    """(slope, offset) of the calibrated logit, fitted with equal mass on both sets.

    "platt" fits both (Platt, 1999), "temperature" the slope only (Guo et al., 2017).
    """
    if kind == "none":
        return 1.0, 0.0
    sizes = np.where(is_reference, is_reference.sum(), (~is_reference).sum())
    fitted = LogisticRegression(C=1e6, fit_intercept=kind == "platt").fit(
        logits[:, None], is_reference, sample_weight=len(logits) / 2 / sizes
    )
    return float(fitted.coef_[0, 0]), float(np.ravel(fitted.intercept_)[0])


def true_logits(dataset: Dataset) -> np.ndarray:
    """log density ratio of each training image where the group proportions are known."""
    known = dataset.manifest["true_ratio"]
    classes = dataset.classes(tuple(known["attributes"]), dataset.training)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(np.asarray(known["ratio"], np.float64))[classes], -50, 50)


def make_weights(workdir: Path, config: ConfigDict, dataset: Dataset, folder: Path) -> None:
    """Writes weights.npz (weight, ratio and id of every training image) and summary.json."""
    reference = dataset.domain[dataset.training] == 1
    figures: list[Figure] = []
    extra: dict[str, Any] = {}
    if config.weights.true_ratio:
        logits = true_logits(dataset)
        extra["source"] = "the true ratio"
    else:
        raw, test = pooled_logits(workdir, config, len(reference))
        slope, offset = calibration(raw, reference, config.ratio.calibration)
        logits = slope * raw + offset
        extra |= {"source": "estimated", "slope": slope, "offset": offset}
        figures += _test_figures(dataset, test, slope * test + offset, extra)
    weights = ratio.importance_weights(
        logits, reference, alpha=config.weights.alpha, clip=config.weights.clip,
        normalise=config.weights.normalise,
    )  # fmt: skip
    biased = ~reference
    unscaled = ratio.importance_weights(logits, reference, normalise=False)[biased]
    spread = 1.96 * unscaled.std(ddof=1) / np.sqrt(len(unscaled))
    figures += [
        Figure("mean_ratio/biased", float(unscaled.mean()), float(unscaled.mean() - spread),
               float(unscaled.mean() + spread), int(biased.sum()), "should be 1"),
        _plain("largest_weight", weights.max(), len(weights)),
        _plain("effective_sample_size/biased", ratio.effective_sample_size(weights[biased]),
               int(biased.sum())),
        _plain("effective_sample_size/union", ratio.effective_sample_size(weights), len(weights)),
    ]  # fmt: skip
    figures += _by_group(config, dataset, weights, extra)
    if is_lead():
        np.savez(
            folder / "weights.npz",
            weight=weights,
            log_ratio=logits,
            is_reference=reference,
            id=np.array([dataset.ids[i] for i in dataset.training]),
            manifest=np.array(dataset.manifest["hash"]),
        )
        write_figures(folder / "summary.json", figures, extra)
        save_png(weight_histogram(**extra["histogram"]), folder / "histogram.png")
    for figure in figures:
        log.info("weights: %s = %.4g", figure.name, figure.value)
    for link in extra["chain"]:
        log.info("weights: chain, %s: %s = %.3f", link["attribute"], link["name"], link["value"])


def load_weights(workdir: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(weight [n], log ratio [n]) by training index, checked against the manifest."""
    path = workdir / "weights/weights.npz"
    saved = read_arrays(path, "manifest", "id", "weight", "log_ratio")
    same = str(saved["manifest"]) == dataset.manifest["hash"]
    same = same and [str(i) for i in saved["id"]] == [dataset.ids[i] for i in dataset.training]
    weight, log_ratio = saved["weight"], saved["log_ratio"]
    same = same and weight.shape == log_ratio.shape == saved["id"].shape
    finite = same and bool(np.isfinite(weight).all() and np.isfinite(log_ratio).all())
    if not finite or weight.min() < 0 or weight.max() == 0:
        raise InputError(
            "weights of other images, or not finite, or negative, or all zero",
            str(path),
            f"Delete the folder {path.parent} and rerun: this stage is repeated",
        )
    return weight, log_ratio


def _plain(name: str, value: float, n: int, note: str = "") -> Figure:
    return Figure(name, float(value), float("nan"), float("nan"), n, note)


def _test_figures(
    dataset: Dataset, raw: np.ndarray, calibrated: np.ndarray, extra: dict[str, Any]
) -> list[Figure]:
    """Log-loss on ratio_test beside the Bayes value, and calibration before and after.

    Logits are [folds, m]: each fold's network is judged by itself, as each makes its own weights.
    """
    truth = dataset.domain[dataset.roles["ratio_test"]] == 1
    if min(truth.sum(), (~truth).sum()) < 2:
        return []
    value, error = ratio.balanced_log_loss(calibrated, truth)
    every = np.tile(truth, len(raw))
    tables = {"before": ratio.reliability(raw.ravel(), every),
              "after": ratio.reliability(calibrated.ravel(), every)}  # fmt: skip
    extra["calibration"] = tables
    figures = [Figure("log_loss/ratio_test", value, value - 1.96 * error, value + 1.96 * error,
                      len(truth), "chance is 0.693")]  # fmt: skip
    known = dataset.manifest["true_ratio"]
    if known:
        bayes = ratio.bayes_log_loss(known["biased"], known["reference"])
        figures.append(_plain("log_loss/bayes", bayes, len(truth), "closed form, theorem 1"))
    for when, table in tables.items():
        figures.append(_plain(f"calibration_error/{when}", ratio.calibration_error(table),
                              len(truth)))  # fmt: skip
    return figures


def _by_group(
    config: ConfigDict, dataset: Dataset, weights: np.ndarray, extra: dict[str, Any]
) -> list[Figure]:
    """Mean weight per group, the weight histogram and the chain; groups only where labelled."""
    reference = dataset.domain[dataset.training] == 1
    biased = ~reference
    edges = np.linspace(0, max(float(np.quantile(weights[biased], 0.995)), 1.5), 41)

    def counts(chosen: np.ndarray) -> list[int]:
        return np.histogram(np.minimum(weights[chosen], edges[-1]), edges)[0].tolist()

    histogram = {"all": counts(biased)}
    figures, chain = [], []
    for names in attribute_sets(config, dataset):
        label = "+".join(names)
        classes = dataset.classes(names, dataset.training)
        target = reference_shares(dataset, names)
        for index, name in enumerate(dataset.class_names(names)):
            members = biased & (classes == index)
            if members.any():
                figures.append(_plain(f"mean_weight/{label}/{index}", weights[members].mean(),
                                      int(members.sum()), name))  # fmt: skip
                if names == tuple(config.data.group_attributes):
                    histogram[name] = counts(members)
        if target is None or not (classes >= 0).any():
            continue
        for words, w in (
            ("biased set alone", biased.astype(float)),
            ("union of both sets, unweighted", np.ones(len(weights))),
            ("union of both sets, weighted, by its true labels", weights),
        ):
            known = classes >= 0
            shares = np.bincount(classes[known], w[known], minlength=len(target))
            value = float(np.linalg.norm(shares / shares.sum() - target))
            chain.append({"name": words, "attribute": label, "value": value,
                          "low": None, "high": None})  # fmt: skip
    extra |= {"histogram": {"edges": edges.tolist(), "counts": histogram}, "chain": chain}
    return figures


def attribute_sets(config: ConfigDict, dataset: Dataset) -> list[tuple[str, ...]]:
    """The sets that are judged, and the one that defines the groups, as far as labels exist."""
    wanted = [tuple(s) for s in config.judge.attribute_sets]
    if tuple(config.data.group_attributes) not in wanted and config.data.group_attributes:
        wanted.insert(0, tuple(config.data.group_attributes))
    return [s for s in wanted if all(name in dataset.attribute_names for name in s)]


def reference_shares(dataset: Dataset, names: tuple[str, ...]) -> np.ndarray | None:
    """True class shares of metric_reference, or of the reference images where it is empty."""
    for role in ("metric_reference", "train_reference"):
        classes = dataset.classes(names, dataset.roles[role])
        if (classes >= 0).any():
            counts = np.bincount(classes[classes >= 0], minlength=len(dataset.class_names(names)))
            return counts / counts.sum()
    return None


class RatioScore:
    """The trained ratio networks as a score: mean calibrated p(reference | x)."""

    def __init__(self, workdir: Path, config: ConfigDict, dataset: Dataset, slope: float,
                 offset: float):  # fmt: skip
        self._network, _ = classifier(config, dataset)
        self._folds = [load_tree(workdir / f"ratio/fold_{k}/network.safetensors")
                       for k in range(config.ratio.folds)]  # fmt: skip
        self._slope, self._offset = slope, offset

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, C] -> p(reference | x) [n]."""
        scores = []
        for variables in self._folds:
            two = self._network.predict(variables, images)
            logit = self._slope * (two[:, 1] - two[:, 0]) + self._offset
            scores.append(probabilities(np.stack([np.zeros_like(logit), logit], -1))[:, 1])
        return np.mean(scores, 0)
