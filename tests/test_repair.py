"""Repairs of a classifier: beside fairlearn's randomised ones, brute force, and known answers."""

import itertools
import warnings

import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin

from fairjax.evaluate import repair, stress
from fairjax.evaluate.paired import paired_figures, values
from fairjax.evaluate.rates import Groups, confusion, gap_figures, rate_figures

AB = ("a", "b")


def rows(seed, n, shift=1.0, k=2, digits=None):
    """(truth, scores, group): the logits of the last group are too low by `shift`."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, k, n)
    truth = rng.random(n) < 0.4
    logits = 2 * truth - 1 - shift * (of == k - 1) + rng.normal(0, 1, n)
    scores = 1 / (1 + np.exp(-logits))
    return truth, scores if digits is None else scores.round(digits), of


def spread(truth, decided, of, kind, k=2):
    name = {"parity": "demographic_parity", "opportunity": "equal_opportunity",
            "odds": "equalized_odds"}[kind]  # fmt: skip
    found = values(confusion(truth, decided, of, k), Groups("g", tuple("abcd"[:k]), of))
    return float(found[f"{name}_difference/g"])


class Scores(ClassifierMixin, BaseEstimator):
    """A column of scores as a fitted classifier."""

    classes_, fitted_ = np.array([0, 1]), True

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.c_[1 - x[:, 0], x[:, 0]]


@pytest.mark.parametrize(
    ("kind", "constraint"),
    [("parity", "demographic_parity"), ("opportunity", "true_positive_rate_parity"),
     ("odds", "equalized_odds")],
)  # fmt: skip
def test_thresholds_reach_what_fairlearn_reaches_by_chance(kind, constraint):
    truth, scores, of = rows(0, 3000)
    found = repair.thresholds(truth, scores, of, 2, kind, 0.02)
    decided = repair.decided_by(scores, of, found, scores >= 0.5)
    peer = ThresholdOptimizer(estimator=Scores(), constraints=constraint, prefit=True,
                              predict_method="predict_proba")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(scores[:, None], truth, sensitive_features=of)
        theirs = peer.predict(scores[:, None], sensitive_features=of, random_state=0) == 1
    assert spread(truth, scores >= 0.5, of, kind) > 0.15
    smallest = min((truth & (of == g)).sum() for g in (0, 1))
    allowed = 0.02 if kind == "odds" else 1 / smallest
    assert spread(truth, decided, of, kind) <= max(allowed, spread(truth, theirs, of, kind))
    assert spread(truth, decided, of, kind) <= allowed + 1e-9
    assert (decided == truth).mean() > (theirs == truth).mean() - 0.005


def test_odds_are_the_best_of_all_pairs_of_thresholds():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth, of = np.tile(np.repeat([True, False], 10), 2), np.repeat([0, 1], 20)
        scores = np.clip(0.5 + 0.25 * (2 * truth - 1) - 0.2 * of + rng.normal(0, 0.2, 40), 0, 1)
        best = 0
        for pair in itertools.product(*([*scores[of == g], 2.0] for g in (0, 1))):
            decided = scores >= np.array(pair)[of]
            if spread(truth, decided, of, "odds") <= 0.1 + 1e-9:
                best = max(best, (decided == truth).sum())
        found = repair.thresholds(truth, scores, of, 2, "odds", 0.1)
        decided = repair.decided_by(scores, of, found, truth)
        assert spread(truth, decided, of, "odds") <= 0.1 + 1e-9
        assert (decided == truth).sum() == best


def test_repairs_hold_on_rows_that_they_have_not_seen():
    fit, held = rows(1, 4000, k=3, digits=2), rows(2, 20000, k=3, digits=2)
    for kind in repair.THRESHOLDS:
        found = repair.thresholds(*fit, 3, kind, 0.02)
        truth, scores, of = held
        given = scores >= 0.5
        decided = repair.decided_by(scores, of, found, given)
        assert spread(truth, given, of, kind, 3) > 0.2
        assert spread(truth, decided, of, kind, 3) < 0.06
    lines = repair.platt(*rows(1, 20000, shift=0.0), 2)
    # Positives' and negatives' logits are N(1, 1) and N(-1, 1): the true one is 2 x + log(.4 / .6).
    np.testing.assert_allclose(lines, [[2, np.log(2 / 3)]] * 2, atol=0.12)
    unknown = np.array([0, 1, -1])
    at = np.array([0.3, 0.3, 0.3])
    new = repair.calibrated(at, unknown, np.array([[1.0, 0.0], [2.0, 1.0]]))
    odds = 0.3 / 0.7
    assert new == pytest.approx([0.3, 1 / (1 + 1 / (np.e * odds**2)), 0.3])
    kept = repair.decided_by(at, unknown, np.array([0.2, 0.4]), np.array([False, True, True]))
    assert kept.tolist() == [True, False, True]


def test_a_majority_is_more_than_half():
    scores = np.array([[0.9, 0.9, 0.1, 0.5], [0.1, 0.8, 0.2, 0.4], [0.1, 0.1, 0.3, 0.5]])
    assert repair.majority(scores, 0.5).tolist() == [False, True, False, True]
    assert repair.majority(scores[:2], 0.5).tolist() == [False, True, False, False]


def test_changes_are_differences_of_figures_and_their_intervals_cover():
    truth, scores, of = rows(3, 500, k=3)
    groups = Groups("g", tuple("abc"), of)
    sides = []
    for decided in (scores >= 0.5, scores >= 0.3):
        counts = confusion(truth, decided, of, 3)
        sides.append(
            {f.name: f for f in (*rate_figures(counts, groups), *gap_figures(counts, groups))}
        )
    changes = {f.name: f for f in paired_figures(truth, scores >= 0.5, scores >= 0.3, groups)}
    assert changes.keys() == {f"change/{name}" for name in sides[0]}
    for name, old in sides[0].items():
        assert changes[f"change/{name}"].value == pytest.approx(sides[1][name].value - old.value)
    same = list(paired_figures(truth, scores >= 0.5, scores >= 0.5, groups))
    assert all(f.low == f.value == f.high == 0 for f in same)
    # Of the accuracy the variance is known: only rows that one of the two gets right count.
    old, new = (truth == (scores >= at) for at in (0.5, 0.3))
    won, lost = (new & ~old).mean(), (old & ~new).mean()
    whole = Groups("all", ("all",), np.zeros(len(of), int))
    found = next(f for f in paired_figures(truth, scores >= 0.5, scores >= 0.3, whole)
                 if f.name == "change/accuracy/all/all")  # fmt: skip
    assert found.value == pytest.approx(won - lost)
    width = 2 * 1.96 * np.sqrt((won + lost - (won - lost) ** 2) / len(of))
    assert found.high - found.low == pytest.approx(width, rel=0.1)
    # The truth from many rows; how often do the intervals of few rows hold it?
    names = ("change/accuracy/g/a", "change/equal_opportunity_difference/g",
             "change/true_positive_rate/g/b")  # fmt: skip
    groups = lambda of: Groups("g", AB, of)
    truth, scores, of = rows(4, 1_000_000)
    counts = [confusion(truth, d, of, 2) for d in (scores >= 0.5, scores >= 0.4)]
    old, new = (values(c, groups(of)) for c in counts)
    held = dict.fromkeys(names, 0)
    for seed in range(300):
        truth, scores, of = rows(1000 + seed, 400)
        found = {f.name: f for f in paired_figures(truth, scores >= 0.5, scores >= 0.4, groups(of),
                                                   draws=400)}  # fmt: skip
        for name in names:
            true = new[name.removeprefix("change/")] - old[name.removeprefix("change/")]
            held[name] += found[name].low <= true <= found[name].high
    assert all(270 <= count <= 297 for count in held.values()), held


def test_stress_curves_follow_their_closed_forms():
    truth, scores, of = rows(5, 40000)
    decided = scores >= 0.6
    counts, groups = confusion(truth, decided, of, 2), Groups("g", AB, of)
    gaps = {figure.name: figure.value for figure in gap_figures(counts, groups)}
    members = [of == k for k in (0, 1)]
    damages = [stress.flips(truth[m], decided[m]) for m in members]
    by = lambda points: {(p.group, p.level, p.figure): p for p in points}
    flips = by(stress.curves("flips", counts, damages, groups))
    tp, fp, fn, tn = counts.T.astype(float)
    for k, group in enumerate(AB):
        for x in stress.LEVELS:
            rates = np.array([tp / (tp + fn), fp / (fp + tn)])
            found, missed = tp[k] * (1 - x) + fp[k] * x, fn[k] * (1 - x) + tn[k] * x
            alarms, right = fp[k] * (1 - x) + tp[k] * x, tn[k] * (1 - x) + fn[k] * x
            rates[:, k] = found / (found + missed), alarms / (alarms + right)
            odds = np.abs(rates[:, 0] - rates[:, 1])
            for figure, wanted in (
                (f"true_positive_rate/g/{group}", rates[0, k]),
                (f"false_positive_rate/g/{group}", rates[1, k]),
                ("equal_opportunity_difference/g", odds[0]),
                ("equalized_odds_difference/g", odds.max()),
                ("demographic_parity_difference/g", gaps["demographic_parity_difference/g"]),
            ):  # a label says nothing of who was selected
                point = flips[group, x, figure]
                assert point.value == pytest.approx(wanted, abs=0.002)
                assert point.low - 1e-12 <= point.value <= point.high + 1e-12
    damages = [stress.noise(truth[m], scores[m], 0.6) for m in members]
    noise = by(stress.curves("noise", counts, damages, groups))
    logits = np.log(scores / (1 - scores)) - np.log(0.6 / 0.4)
    for x in stress.LEVELS[1:]:
        share = norm.cdf(logits[members[1]] / x)  # that a row is decided positive
        wanted = share[truth[members[1]]].mean()
        assert noise["b", x, "true_positive_rate/g/b"].value == pytest.approx(wanted, abs=0.002)
    assert noise["a", 0.0, "equalized_odds_difference/g"].value == pytest.approx(
        gaps["equalized_odds_difference/g"])  # fmt: skip
