"""Stage `weights`: what an image counts, and what is known about that figure.

The logits of the `ratio` networks are stacked: one logistic regression on the cross-fitted logits
of all training images makes the calibrated log ratio (Wolpert 1992, "Stacked generalization"; with
one network this is Platt scaling).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.experiments.ratio_stage import pooled_logits
from fairjax.experiments.stages import read_arrays
from fairjax.objectives import ratio
from fairjax.report.drawing import save_png, weight_histogram
from fairjax.train.devices import is_lead
from fairjax.train.linear_head import equal_mass

log = logging.getLogger("fairjax")


def calibration(
    logits: np.ndarray, is_reference: np.ndarray, kind: str
) -> tuple[np.ndarray, float]:
    """(slopes [networks], offset): the calibrated logit is slopes @ logits + offset.

    Args:
      logits: cross-fitted, [networks, n]. is_reference: bool [n]; both sets get equal mass.
      kind: "platt" fits slopes and offset (Platt, 1999), "temperature" the slopes only (Guo et al.,
        2017), "none" takes the mean of the networks.
    """
    if kind == "none":
        return np.full(len(logits), 1 / len(logits)), 0.0
    from sklearn.linear_model import LogisticRegression  # a second that few commands need

    fitted = LogisticRegression(C=1e6, fit_intercept=kind == "platt").fit(
        logits.T, is_reference, sample_weight=equal_mass(is_reference)
    )
    return fitted.coef_[0], float(np.ravel(fitted.intercept_)[0])


def true_logits(dataset: Dataset, positions: np.ndarray) -> np.ndarray:
    """log density ratio of the images at `positions`, where the group proportions are known.

    -50 for a group that the reference set lacks, 50 for one that the biased set lacks.
    """
    known = dataset.manifest["true_ratio"]
    classes = dataset.classes(tuple(known["attributes"]), positions)
    ratio_of = np.array([np.inf if r is None else r for r in known["ratio"]], np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(ratio_of)[classes], -50, 50)


def make_weights(workdir: Path, config: ConfigDict, dataset: Dataset, folder: Path) -> None:
    """Writes weights.npz (weight, log ratio, set and id of every training image), summary.json."""
    reference = dataset.domain[dataset.training] == 1
    figures: list[Figure] = []
    extra: dict[str, Any] = {}
    if config.weights.true_ratio:
        logits = true_logits(dataset, dataset.training)
        extra["source"] = "the true ratio"
    else:
        raw, test = pooled_logits(workdir, config, len(reference))
        slopes, offset = calibration(raw, reference, config.ratio.calibration)
        logits = slopes @ raw + offset
        factors = dict(zip(config.ratio.networks, slopes.tolist(), strict=True))
        extra |= {"source": "estimated", "slopes": factors, "offset": offset}
        alone = {name: _calibrated(test[[i]], *calibration(raw[[i]], reference, "platt"))
                 for i, name in enumerate(config.ratio.networks)}  # fmt: skip
        figures += _test_figures(dataset, test, _calibrated(test, slopes, offset), alone, extra)
        if dataset.manifest["true_ratio"]:
            figures += _truth_figures(dataset, logits)
    weights = ratio.importance_weights(
        logits, reference, alpha=config.weights.alpha, clip=config.weights.clip,
        clip_quantile=config.weights.clip_quantile, normalise=config.weights.normalise,
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


def _calibrated(logits: np.ndarray, slopes: np.ndarray, offset: float) -> np.ndarray:
    """Logits [networks, ..] -> [..]."""
    return np.tensordot(slopes, logits, 1) + offset


def _test_figures(
    dataset: Dataset,
    raw: np.ndarray,
    calibrated: np.ndarray,
    alone: dict[str, np.ndarray],
    extra: dict[str, Any],
) -> list[Figure]:
    """Log-loss on ratio_test beside the Bayes value, and calibration before and after.

    Logits are [folds, m] (`raw` [networks, folds, m]): each fold's networks are judged by
    themselves, as each makes its own weights. `alone` has those of each network, calibrated.
    """
    test = dataset.roles["ratio_test"]
    truth = dataset.domain[test] == 1
    if min(truth.sum(), (~truth).sum()) < 2:
        return []
    value, error = ratio.balanced_log_loss(calibrated, truth)
    every = np.tile(truth, len(calibrated))
    tables = {"before": ratio.reliability(raw.mean(0).ravel(), every),
              "after": ratio.reliability(calibrated.ravel(), every)}  # fmt: skip
    extra["calibration"] = tables
    figures = [_interval("log_loss/ratio_test", value, error, len(truth), "chance is 0.693")]
    for name, logits in alone.items() if len(alone) > 1 else ():
        part, error = ratio.balanced_log_loss(logits, truth)
        figures.append(_interval(f"log_loss/ratio_test/{name}", part, error, len(truth)))
    known = dataset.manifest["true_ratio"]
    if known:
        bayes = ratio.bayes_log_loss(known["biased"], known["reference"])
        figures.append(_plain("log_loss/bayes", bayes, len(truth), "closed form, theorem 1"))
        gap, error = ratio.log_loss_gap(calibrated, true_logits(dataset, test), truth)
        note = "log-loss beyond that of the true ratio on the same images"
        figures.append(_interval("bayes_gap/ratio_test", gap, error, len(truth), note))
    for when, table in tables.items():
        figures.append(_plain(f"calibration_error/{when}", ratio.calibration_error(table),
                              len(truth)))  # fmt: skip
    return figures


def _truth_figures(dataset: Dataset, logits: np.ndarray) -> list[Figure]:
    """How far the log ratios of the biased training images are from the known ones."""
    from scipy.stats import spearmanr  # as above

    biased = dataset.domain[dataset.training] == 0
    true = true_logits(dataset, dataset.training)[biased]
    found, n = logits[biased], int(biased.sum())
    rms = float(np.sqrt(np.mean(np.square(found - true))))
    rank = best = float("nan")
    if len(np.unique(true)) > 1:
        rank = spearmanr(found, true).statistic
        best = spearmanr(np.arange(n), np.sort(true)).statistic  # the right order, without ties
    return [
        _plain("log_ratio_error/biased", rms, n, "root mean square, against the true log ratio"),
        _plain("log_ratio_rank_correlation/biased", rank, n,
               f"Spearman, against the true ratio, whose ties allow {best:.3f} at most"),
        _plain("log_ratio_concordance/biased", ratio.concordance(found, true), n,
               "pairs of different true ratios that are in the right order; 0.5 is chance"),
    ]  # fmt: skip


def _interval(name: str, value: float, error: float, n: int, note: str = "") -> Figure:
    return Figure(name, value, value - 1.96 * error, value + 1.96 * error, n, note)


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
