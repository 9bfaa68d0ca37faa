"""Choosing parameters on the validation images: the figures that `fit.select` can name."""

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax
from sklearn import metrics

LOWER_IS_BETTER = ("loss", "worst_group_loss", "class_difference")
FIGURES = ("average", "worst_group", "worst_class", "group_mean", "class_mean", "precision", "f1",
           "auroc", *LOWER_IS_BETTER)  # fmt: skip


class Held(NamedTuple):
    """Validation images for choosing the parameters."""

    images: np.ndarray  # uint8 [n, H, W, C]
    target: np.ndarray  # int [m]
    group: np.ndarray  # int [m]
    positions: np.ndarray | None = None  # int [m], which of `images`; None = all, and n = m


def validation_figures(logits: np.ndarray, held: Held) -> dict[str, float]:
    """Figures of the logits [m, c] of the validation images, `<name>/validation` of FIGURES.

    Accuracies: average over the images, over the groups, over the classes, and of the worst of
    each; `class_difference` is that of the best class minus that of the worst. Precision and F1 are
    means over the classes that occur or are decided for, a class without decisions has precision 0.
    AUROC is the mean over the classes of one against the rest; it is left out where there is one
    class only, and NaN where a logit is not finite. `loss` is the mean cross-entropy in nats,
    `worst_group_loss` that of a group.
    """
    target = held.target
    log_p = log_softmax(logits.astype(np.float64), 1)
    each = -log_p[np.arange(len(target)), target]
    decided = logits.argmax(1)
    right = decided == target
    within = lambda values, of: [float(values[of == g].mean()) for g in np.unique(of)]
    groups, classes = within(right, held.group), within(right, target)
    macro = {"average": "macro", "zero_division": 0}
    found = {
        "average": float(right.mean()),
        "worst_group": min(groups),
        "worst_class": min(classes),
        "group_mean": float(np.mean(groups)),
        "class_mean": float(np.mean(classes)),
        "precision": float(metrics.precision_score(target, decided, **macro)),
        "f1": float(metrics.f1_score(target, decided, **macro)),
        "loss": float(each.mean()),
        "worst_group_loss": max(within(each, held.group)),
        "class_difference": max(classes) - min(classes),
    }
    if len(classes) > 1:
        scores = np.exp(log_p)
        found["auroc"] = float(
            np.mean([metrics.roc_auc_score(target == k, scores[:, k]) for k in np.unique(target)])
            if np.isfinite(scores).all()
            else np.nan
        )
    return {f"{name}/validation": value for name, value in found.items()}


def merit(select: str, figures: dict[str, float]) -> float:
    """What is largest for the parameters that are kept; 0 with select=last."""
    if select == "last":
        return 0.0
    value = figures[f"{select}/validation"]
    return -value if select in LOWER_IS_BETTER else value
