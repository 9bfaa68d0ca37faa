"""The figures that choose parameters, against literal counts and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from fairjax.train.selection import FIGURES, LOWER_IS_BETTER, Held, merit, validation_figures


def test_figures_of_the_validation_images():
    rng = np.random.default_rng(0)
    target, logits = rng.integers(0, 3, 60), rng.normal(size=(60, 3))
    group = 2 * target + rng.integers(0, 2, 60)
    found = validation_figures(logits, Held(np.zeros(0), target, group))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = p.argmax(1) == target
    of = lambda values, by: [values[by == g].mean() for g in sorted({*by})]
    loss = -np.log(p[np.arange(60), target])
    precision, recall = [], []
    for k in range(3):
        hits = ((p.argmax(1) == k) & (target == k)).sum()
        precision.append(hits / (p.argmax(1) == k).sum())
        recall.append(hits / (target == k).sum())
    pairs = [(p[i, k] > p[j, k]) for k in range(3) for i in range(60) for j in range(60)
             if target[i] == k != target[j]]  # fmt: skip
    sizes = [(target == k).sum() * (target != k).sum() for k in range(3)]
    auroc = np.mean([part.mean() for part in np.split(np.array(pairs), np.cumsum(sizes)[:-1])])
    expected = {
        "average": right.mean(), "worst_group": min(of(right, group)), "loss": loss.mean(),
        "worst_class": min(of(right, target)), "group_mean": np.mean(of(right, group)),
        "class_mean": metrics.balanced_accuracy_score(target, p.argmax(1)), "auroc": auroc,
        "precision": np.mean(precision), "worst_group_loss": max(of(loss, group)),
        "f1": np.mean([2 * a * b / (a + b) for a, b in zip(precision, recall, strict=True)]),
        "class_difference": max(of(right, target)) - min(of(right, target)),
    }  # fmt: skip
    assert {*expected} == {*FIGURES}
    assert found == {f"{k}/validation": pytest.approx(v, abs=1e-9) for k, v in expected.items()}
    for name in FIGURES:
        sign = -1 if name in LOWER_IS_BETTER else 1
        assert merit(name, found) == sign * found[f"{name}/validation"]
    assert merit("last", found) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_logit_that_is_not_finite_is_no_traceback(bad):
    held = Held(np.zeros(0), np.array([0, 1, 1]), np.array([0, 1, 1]))
    found = validation_figures(np.array([[1, 0], [bad, 0], [0, 1]], np.float32), held)
    assert np.isnan(found["auroc/validation"])
    assert not np.isfinite(found["loss/validation"])
    assert found["average/validation"] == pytest.approx(2 / 3)


def test_a_single_class_has_no_roc_curve_and_a_class_nobody_decides_for_no_precision():
    held = Held(np.zeros(0), np.array([1, 1, 1]), np.array([0, 0, 2]))
    found = validation_figures(np.array([[0, 1.0], [2, 1], [2, 1]]), held)
    assert "auroc/validation" not in found
    assert found["worst_group/validation"] == 0
    assert found["precision/validation"] == pytest.approx(0.5)
