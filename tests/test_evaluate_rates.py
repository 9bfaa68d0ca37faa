"""Rates and gaps of classifiers: equal to the peers' on 100 random tables; intervals that cover."""

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from fairjax.evaluate.groups import label_shares
from fairjax.evaluate.paired import paired_figures
from fairjax.evaluate.rates import (
    Groups,
    Rate,
    amplification_figure,
    confusion,
    difference,
    gap_figures,
    privileged_figures,
    rate,
    rate_figures,
    ratio,
    train_weighted_figure,
)
from fairjax.evaluate.scores import (
    class_calibration,
    reliability,
    score_distance_figures,
    score_figures,
)

logging.disable(logging.WARNING)  # what AIF360 says of optional parts while it is imported
import fairlearn.metrics as fairlearn  # noqa: E402
from aequitas.group import Group  # noqa: E402
from aif360.datasets import BinaryLabelDataset  # noqa: E402
from aif360.metrics import ClassificationMetric  # noqa: E402

logging.disable(logging.NOTSET)


def random_table(number):
    """Labels, scores and groups; each group has positives and negatives, decided either way."""
    rng = np.random.default_rng(number)
    k = int(rng.integers(2, 5))
    of = np.concatenate(
        [np.repeat(np.arange(k), 8), rng.integers(0, k, int(rng.integers(60, 200)))]
    )
    truth = rng.random(len(of)) < rng.uniform(0.2, 0.8, k)[of]
    truth[: 8 * k] = np.tile((True, True, True, True, False, False, False, False), k)
    scores = np.round(np.clip(rng.normal(0.3 + 0.4 * truth, 0.25), 0, 1), 2)  # with ties
    decided = scores >= 0.5
    decided[: 8 * k] = np.tile((True, False), 4 * k)
    scores[: 8 * k] = np.where(decided[: 8 * k], 0.9, 0.1)
    return truth, decided, scores, Groups("a", tuple(f"g{i}" for i in range(k)), of)


def ours(truth, decided, scores, groups):
    counts = confusion(truth, decided, groups.of, len(groups.names))
    figures = [*rate_figures(counts, groups), *gap_figures(counts, groups),
               *privileged_figures(counts, groups, 0), amplification_figure(counts, groups, 10),
               *score_figures(truth, scores, groups, draws=2)]  # fmt: skip
    return {figure.name: figure.value for figure in figures}


def test_calibration_of_a_judge_counts_all_classes_alike():
    """By the definition, one bin after the other; and by what is drawn from known probabilities."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 500, p=(0.7, 0.2, 0.1))
    p = rng.dirichlet((1, 1, 1), 500)
    found = class_calibration(p, truth)
    for c in range(3):
        expected = 0.0
        for b in range(15):
            gap = 0.0
            for row, t in zip(p, truth, strict=True):
                if b / 15 <= row[c] < (b + 1) / 15:
                    gap += (row[c] - (t == c)) / 3 / (truth == t).sum()
            expected += abs(gap)
        assert found[c] == pytest.approx(expected, abs=1e-12)
    p = rng.dirichlet((1, 1), 40_000)
    truth = (rng.random(40_000) < p[:, 1]).astype(int)
    assert class_calibration(p, truth).max() < 0.01
    kept = (truth == 1) | (rng.random(40_000) < 0.1)  # fewer tests of one class change nothing
    assert class_calibration(p[kept], truth[kept]).max() < 0.02
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    assert class_calibration(sharp, truth).min() > 0.1


FAIRLEARN = {
    "selection_rate": fairlearn.selection_rate,
    "true_positive_rate": fairlearn.true_positive_rate,
    "false_positive_rate": fairlearn.false_positive_rate,
    "false_negative_rate": fairlearn.false_negative_rate,
    "true_negative_rate": fairlearn.true_negative_rate,
    "accuracy": sklearn_metrics.accuracy_score,
    "precision": sklearn_metrics.precision_score,
}
AEQUITAS = {
    "selection_rate": "pprev", "true_positive_rate": "tpr", "false_positive_rate": "fpr",
    "false_negative_rate": "fnr", "true_negative_rate": "tnr", "precision": "precision",
    "negative_predictive_value": "npv", "accuracy": "accuracy", "base_rate": "prev",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 50])
def test_all_shared_figures_are_those_of_the_peers(start):
    for number in range(start, start + 50):
        truth, decided, scores, groups = random_table(number)
        found = ours(truth, decided, scores, groups)
        named = np.array(groups.names)[groups.of]

        frame = fairlearn.MetricFrame(metrics=FAIRLEARN, y_true=truth, y_pred=decided,
                                      sensitive_features=named)  # fmt: skip
        same = {f"{name}/a/{g}": frame.by_group[name][g] for name in FAIRLEARN
                for g in groups.names}  # fmt: skip
        given = {"y_true": truth, "y_pred": decided, "sensitive_features": named}
        for name in ("demographic_parity_difference", "demographic_parity_ratio",
                     "equal_opportunity_difference", "equalized_odds_difference"):  # fmt: skip
            same[f"{name}/a"] = getattr(fairlearn, name)(**given)
        same["predictive_equality_difference/a"] = frame.difference()["false_positive_rate"]
        worst = frame.group_min()
        same["worst_group_accuracy/a"] = worst["accuracy"]
        same["worst_group_accuracy/label+a"] = min(worst["true_positive_rate"],
                                                   worst["true_negative_rate"])  # fmt: skip

        crossed = Group().get_crosstabs(pd.DataFrame(
            {"score": decided.astype(int), "label_value": truth.astype(int), "a": named}
        ))[0].set_index("attribute_value")  # fmt: skip
        for name, column in AEQUITAS.items():
            for g in groups.names:
                assert found[f"{name}/a/{g}"] == pytest.approx(crossed.loc[g, column], abs=1e-12)

        def dataset(labels, of=groups.of):
            table = pd.DataFrame({"y": labels.astype(float), "a": of.astype(float)})
            return BinaryLabelDataset(df=table, label_names=["y"], protected_attribute_names=["a"])

        for k, g in enumerate(groups.names[1:], start=1):
            peer = ClassificationMetric(dataset(truth), dataset(decided),
                                        unprivileged_groups=[{"a": float(k)}],
                                        privileged_groups=[{"a": 0.0}])  # fmt: skip
            same[f"statistical_parity_difference/a/{g}"] = peer.statistical_parity_difference()
            same[f"disparate_impact/a/{g}"] = peer.disparate_impact()
            same[f"true_positive_rate_difference/a/{g}"] = peer.true_positive_rate_difference()
            same[f"false_positive_rate_difference/a/{g}"] = peer.false_positive_rate_difference()

        for k, g in enumerate(groups.names):
            t, s = truth[groups.of == k], scores[groups.of == k]
            same[f"average_precision/a/{g}"] = sklearn_metrics.average_precision_score(t, s)
            same[f"roc_auc/a/{g}"] = sklearn_metrics.roc_auc_score(t, s)
        assert {name: found[name] for name in same} == pytest.approx(same, abs=1e-12)

        # Wang and Russakovsky's figure, row by row in plain Python.
        terms = []
        for t in (True, False):
            for k in range(len(groups.names)):
                members = groups.of == k
                true, all_true = np.mean(truth[members] == t), np.mean(truth == t)
                terms.append(np.sign(true - all_true) * (np.mean(decided[members] == t) - true))
        assert found["bias_amplification/a"] == pytest.approx(np.mean(terms), abs=1e-12)
        for k, g in enumerate(groups.names):
            t, s = truth[groups.of == k], scores[groups.of == k]
            inside = [np.minimum((s * 15).astype(int), 14) == b for b in range(15)]
            error = sum(m.mean() * abs(s[m].mean() - t[m].mean()) for m in inside if m.any())
            assert found[f"calibration_error/a/{g}"] == pytest.approx(error, abs=1e-12)


def test_a_rate_without_rows_is_insufficient_evidence_and_so_are_its_gaps():
    """Where fairlearn says 0: group b has no positives."""
    truth = np.array([1, 1, 0, 0, 0, 0, 0], bool)
    decided = np.array([1, 0, 1, 0, 1, 0, 0], bool)
    groups = Groups("a", ("a", "b"), np.array([0, 0, 0, 0, 1, 1, 1]))
    counts = confusion(truth, decided, groups.of, 2)
    found = {f.name: f for f in (*rate_figures(counts, groups), *gap_figures(counts, groups))}
    for name in ("true_positive_rate/a/b", "equal_opportunity_difference/a",
                 "equalized_odds_difference/a", "worst_group_accuracy/label+a"):  # fmt: skip
        assert np.isnan(found[name].value)
        assert found[name].note.startswith("insufficient evidence")
    assert found["predictive_equality_difference/a"].value == pytest.approx(0.5 - 1 / 3)
    assert found["demographic_parity_ratio/a"].value == pytest.approx(2 / 3)
    scored = {f.name: f for f in score_figures(truth, decided * 0.5, groups, draws=2)}
    assert np.isnan(scored["roc_auc/a/b"].value)
    assert scored["roc_auc/a/a"].value == pytest.approx(0.5)


@pytest.mark.parametrize("p", [(0.5, 0.3), (0.9, 0.95), (0.05, 0.1)])
def test_intervals_cover_the_true_gap(p):
    """Simulated groups of 60 and 150 rows; 95 % intervals of rate, difference and ratio."""
    rng = np.random.default_rng(0)
    inside = np.zeros(3)
    runs = 3000
    for _ in range(runs):
        rates = []
        for share, n in zip(p, (60, 150), strict=True):
            hits = rng.binomial(n, share)
            rates.append(rate(np.array([hits, 0, n - hits, 0]), "true_positive_rate"))
        inside[0] += rates[0].low <= p[0] <= rates[0].high
        _, low, high = difference(*rates)
        inside[1] += low <= p[0] - p[1] <= high
        _, low, high = ratio(*rates)
        inside[2] += np.isnan(low) or low <= p[0] / p[1] <= (np.inf if np.isnan(high) else high)
    assert np.all(inside / runs > 0.93)
    assert np.all(inside / runs < 0.985)


def test_the_ratio_has_the_published_interval():
    """Limits that solve the score difference p1 - R p2 = 0 (Newcombe's for R = 1 where equal)."""
    a, b = Rate(0.4, 0.3, 0.52, 100), Rate(0.5, 0.38, 0.6, 100)
    value, low, high = ratio(a, b)
    for r, x, y in ((low, a.low, b.high), (high, a.high, b.low)):
        assert abs(a.value - r * b.value) == pytest.approx(
            np.hypot(a.value - x, r * (b.value - y)), abs=1e-12
        )
    assert low < value < high
    assert np.isnan(ratio(a, Rate(0.0, 0.0, 0.04, 90))).all()


def test_score_distance_sees_a_change_of_scale_and_none_in_equal_groups():
    """Beta(2, 8) against half of it: above 0.4; bins of their own would say below 0.1."""
    rng = np.random.default_rng(0)
    n = 4000
    truth, of = rng.random(n) < 0.5, rng.integers(0, 2, n)
    scores = rng.beta(2, 8, n)
    groups = Groups("a", ("x", "y"), of)
    (same,) = score_distance_figures(truth, scores, groups)
    assert same.name == "score_kl/a"
    assert same.value < 0.03
    half = np.where(of, scores / 2, scores)
    (other,) = score_distance_figures(truth, half, groups)
    assert other.value > 0.4
    # Of three groups each stands beside the two others: z is one whose scores differ.
    third = np.where(of, rng.integers(1, 3, n), 0)
    halved = np.where(third == 2, scores / 2, scores)
    three = Groups("a", ("x", "y", "z"), third)
    found = {f.name: f.value for f in score_distance_figures(truth, halved, three)}
    assert list(found) == ["score_kl/a/x", "score_kl/a/y", "score_kl/a/z"]
    assert found["score_kl/a/z"] > 0.4
    empty = Groups("a", ("x", "y", "z"), of)  # nobody is z
    figures = {f.name: f.value for f in score_distance_figures(truth, half, empty)}
    assert np.isnan(figures["score_kl/a/z"])
    assert figures["score_kl/a/x"] == pytest.approx(other.value)


def test_reliability_is_that_of_scikit_learn():
    truth, _, scores, groups = random_table(3)
    scores = np.clip(scores + np.random.default_rng(0).uniform(0, 1e-6, len(scores)), 0, 1 - 1e-9)
    groups = groups._replace(of=np.where(np.arange(len(truth)) == 0, -1, groups.of))
    bins = list(reliability(truth, scores, groups))
    for k, group in enumerate(groups.names):
        members = groups.of == k
        own = [one for one in bins if one.group == group]
        assert sum(one.n for one in own) == members.sum()
        positives, mean = calibration_curve(truth[members], scores[members], n_bins=15)
        assert [one.positives for one in own] == pytest.approx(positives)
        assert [one.score for one in own] == pytest.approx(mean)
        assert all(one.start <= one.score < one.end for one in own)
        assert all(one.low <= one.positives <= one.high for one in own)
        gap = sum(one.n * abs(one.score - one.positives) for one in own) / members.sum()
        figure = next(f for f in score_figures(truth, scores, groups, draws=2)
                      if f.name == f"calibration_error/a/{group}")  # fmt: skip
        assert gap == pytest.approx(figure.value)


def test_the_interval_of_the_calibration_error_holds_its_value_and_blames_no_calibrated_scores():
    """A mean of absolute values is too large by chance; quantiles of a bootstrap double that."""
    far, low = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores = rng.beta(2, 2, 400)
        calibrated = rng.random(400) < scores
        everyone = Groups("a", ("x",), np.zeros(400, int))
        figure = next(f for f in score_figures(calibrated, scores, everyone)
                      if f.name.startswith("calibration_error"))  # fmt: skip
        assert figure.low <= figure.value <= figure.high
        low.append(figure.low)
        wrong = rng.random(400) < np.clip(scores + 0.3, 0, 1)
        far.append(next(f for f in score_figures(wrong, scores, everyone)
                        if f.name.startswith("calibration_error")))  # fmt: skip
    assert np.mean(np.array(low) > 0.04) <= 0.05  # the values are at 0.06
    true = 0.3 - np.mean(np.maximum(np.random.default_rng(99).beta(2, 2, 10**5) - 0.7, 0))
    assert np.mean([f.low <= true <= f.high for f in far]) >= 0.85


def test_the_average_is_weighted_as_in_training():
    counts = np.array([[8, 1, 2, 9], [3, 5, 7, 5]])  # tp fp fn tn: 80 %, 90 %; 30 %, 50 %
    groups = Groups("a", ("x", "y"), np.zeros(1, int))
    figure = train_weighted_figure(counts, np.array([[50, 30], [0, 20]]), groups)
    assert figure.name == "average_accuracy/label+a/train_weighted"
    assert figure.value == pytest.approx(0.5 * 0.8 + 0.3 * 0.9 + 0.2 * 0.5)
    assert figure.n == 10 + 10 + 10
    assert figure.low < figure.value < figure.high
    nobody = counts * np.array([[1], [0]])
    assert np.isnan(train_weighted_figure(nobody, np.array([[50, 30], [0, 20]]), groups).value)


def test_bias_amplification_at_other_shares_is_that_of_a_table_with_them():
    """A test set that is even over target and group, weighted to biased training images: the same
    as repeating its rows until it has their shares."""
    rng = np.random.default_rng(5)
    group, truth = np.repeat((0, 0, 1, 1), 100), np.tile(np.repeat((True, False), 100), 2)
    decided = rng.random(400) < np.choose(group * 2 + truth, (0.1, 0.6, 0.4, 0.95))
    after = rng.random(400) < np.choose(group * 2 + truth, (0.2, 0.8, 0.2, 0.8))
    groups = Groups("a", ("g0", "g1"), group)
    shares = label_shares(np.repeat((1, 0, 1, 0), (1, 9, 7, 3)), np.repeat((0, 1), (10, 10)), 2)
    np.testing.assert_allclose(shares, np.array([[1, 9], [7, 3]]) / 20)
    times = np.array([[9, 1], [3, 7]])[group, truth.astype(int)]
    many = Groups("a", groups.names, np.repeat(group, times))
    repeated = lambda d: confusion(np.repeat(truth, times), np.repeat(d, times), many.of, 2)
    plain = lambda d: amplification_figure(repeated(d), many).value
    counts = confusion(truth, decided, group, 2)
    found = amplification_figure(counts, groups, shares=shares)
    assert found.value == pytest.approx(plain(decided), abs=1e-12)
    assert found.low < found.value < found.high
    assert amplification_figure(counts, groups).value == 0  # nothing to amplify in an even table
    empty = counts * [[0, 1, 0, 1], [1, 1, 1, 1]]  # no positives of a group that had some
    assert np.isnan(amplification_figure(empty, groups, shares=shares).value)
    change = {f.name: f for f in paired_figures(truth, decided, after, groups, shares=shares)}
    change = change["change/bias_amplification/a"]
    assert change.value == pytest.approx(plain(after) - plain(decided), abs=1e-12)
    assert change.low < change.value < change.high
    assert "change/bias_amplification/a" not in {
        f.name for f in paired_figures(truth, decided, after, groups)}  # fmt: skip
