import numpy as np
import oracles
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax.objectives import ratio

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 1.5, 40)
REFERENCE = np.arange(40) % 3 == 0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [0.0, 2.0])
@pytest.mark.parametrize("normalise", [True, False])
def test_importance_weights_match_the_oracle(alpha, clip, normalise):
    found = ratio.importance_weights(LOGITS, REFERENCE, alpha=alpha, clip=clip, normalise=normalise)
    expected = oracles.importance_weights(LOGITS, REFERENCE, alpha, clip, normalise)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[REFERENCE] == 1).all()
    if normalise:
        assert found[~REFERENCE].mean() == pytest.approx(1)


def test_concordance_is_the_area_under_the_curve_and_somers_d():
    two = np.where(REFERENCE, 2.0, 0.5)
    estimates = np.round(LOGITS, 1)  # with ties
    expected = sklearn.metrics.roc_auc_score(REFERENCE, estimates)
    assert ratio.concordance(estimates, two) == pytest.approx(expected)
    four = RNG.choice([0.2, 0.9, 1.5, 4.0], 40)
    d = scipy.stats.somersd(four, estimates).statistic  # of the estimate, given the truth
    assert ratio.concordance(estimates, four) == pytest.approx((1 + d) / 2)
    assert np.isnan(ratio.concordance(estimates, np.ones(40)))


def test_extreme_logits_give_finite_weights():
    w = ratio.importance_weights(np.array([-1e4, 1e4, 0.0]), np.zeros(3, bool))
    assert np.isfinite(w).all()


def test_weights_of_damaged_logits_are_refused():
    with pytest.raises(ValueError, match="1 density-ratio logits are not finite"):
        ratio.importance_weights(np.array([0.0, np.nan]), np.zeros(2, bool))


def test_shapes_that_would_broadcast_are_refused():
    for call in (ratio.importance_weights, ratio.log_losses, ratio.reliability):
        with pytest.raises(ValueError, match=r"\(40, 1\)"):
            call(LOGITS[:, None], REFERENCE)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
def test_effective_sample_size(weights):
    found = ratio.effective_sample_size(np.array(weights))
    assert found == pytest.approx(oracles.effective_sample_size(weights))
    assert 1 - 1e-9 <= found <= len(weights) + 1e-9
    assert ratio.effective_sample_size(np.full(7, weights[0])) == pytest.approx(7)


def test_log_losses_are_the_cross_entropy():
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -np.where(REFERENCE, np.log(p), np.log(1 - p))
    np.testing.assert_allclose(ratio.log_losses(LOGITS, REFERENCE), expected, rtol=1e-10)
    assert ratio.log_losses(np.array([1e4]), np.array([False])) == 1e4


def test_balanced_log_loss_gives_both_sets_equal_mass():
    losses = ratio.log_losses(LOGITS, REFERENCE)
    value, error = ratio.balanced_log_loss(LOGITS, REFERENCE)
    assert value == pytest.approx((losses[REFERENCE].mean() + losses[~REFERENCE].mean()) / 2)
    assert ratio.balanced_log_loss(np.zeros(40), REFERENCE)[0] == pytest.approx(np.log(2))
    as_numbers = ratio.balanced_log_loss(LOGITS, REFERENCE.astype(int))
    assert as_numbers == (value, error)  # 0 and 1 are no positions


def test_standard_error_of_the_log_loss_is_the_spread_of_repetitions():
    rng = np.random.default_rng(1)
    truth = np.arange(300) % 3 == 0
    runs = [ratio.balanced_log_loss(rng.normal(0, 2, 300), truth) for _ in range(400)]
    values, errors = np.transpose(runs)
    assert np.mean(errors) == pytest.approx(values.std(), rel=0.1)


@pytest.mark.parametrize(
    ("biased", "reference"),
    [([0.9, 0.1], [0.5, 0.5]), ([1, 0], [0.5, 0.5]), ([0.4, 0.3, 0.2, 0.1], [0.25] * 4)],
)
def test_bayes_log_loss(biased, reference):
    value = ratio.bayes_log_loss(np.array(biased), np.array(reference))
    assert value == pytest.approx(oracles.bayes_log_loss(biased, reference))
    # and no classifier of the group does better: the true posterior reaches it on a large sample
    rng = np.random.default_rng(2)
    groups = [rng.choice(len(p), 40_000, p=p) for p in (biased, reference)]
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(np.divide(reference, biased)), -50, 50)
    truth = np.repeat([False, True], 40_000)
    reached, error = ratio.balanced_log_loss(logits[np.concatenate(groups)], truth)
    assert reached == pytest.approx(value, abs=5 * error)


def test_bayes_log_loss_limits():
    same = ratio.bayes_log_loss(np.array([0.3, 0.7]), np.array([0.3, 0.7]))
    assert same == pytest.approx(np.log(2))
    assert ratio.bayes_log_loss(np.array([1, 0]), np.array([0, 1])) == 0


@given(st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_calibration_error_sees_miscalibration(seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat([False, True], [6000, 2000])  # unequal sizes must not matter
    logits = np.where(truth, 1.0, -1.0) + rng.normal(0, np.sqrt(2), len(truth))  # exact log odds
    right = ratio.calibration_error(ratio.reliability(logits, truth))
    wrong = ratio.calibration_error(ratio.reliability(3 * logits, truth))
    assert right < 0.05 < wrong


def test_reliability_table():
    logits = np.log([1 / 9, 1 / 9, 1.5, 1.5, 9.0])  # p = .1 .1 .6 .6 .9
    truth = np.array([False, True, False, True, True])
    table = ratio.reliability(logits, truth, bins=4)
    np.testing.assert_allclose(table["confidence"], [0.1, 0.6, 0.9])
    np.testing.assert_allclose(table["frequency"], [0.4, 0.4, 1.0])  # masses 1/4 and 1/6
    np.testing.assert_allclose(table["mass"], [5 / 12, 5 / 12, 1 / 6])
    assert table["count"] == [2, 2, 1]
    expected = 5 / 12 * 0.3 + 5 / 12 * 0.2 + 1 / 6 * 0.1
    assert ratio.calibration_error(table) == pytest.approx(expected)


def test_reliability_bears_extreme_logits():
    table = ratio.reliability(np.array([-2000.0, 2000.0]), np.array([False, True]))
    assert ratio.calibration_error(table) == 0


def test_the_gap_to_the_truth_is_paired():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1, 4000)
    reference = rng.random(4000) < 1 / (1 + np.exp(-true))
    noisy = true + rng.normal(0, 0.5, 4000)
    gap, error = ratio.log_loss_gap(np.stack([noisy, true]), true, reference)
    apart = [ratio.balanced_log_loss(x, reference) for x in (noisy, true)]
    assert gap == pytest.approx((apart[0][0] - apart[1][0]) / 2)
    assert error < apart[0][1] / 2
    assert ratio.log_loss_gap(true, true, reference) == (0, 0)


def test_a_quantile_cuts_the_largest_weights_of_the_biased_set_only():
    logits = np.log(np.arange(1, 101.0))
    reference = np.zeros(100, bool)
    w = ratio.importance_weights(logits, reference, clip_quantile=0.9, normalise=False)
    assert w.max() == pytest.approx(90.1)  # linear between the 90th and the 91st
    np.testing.assert_allclose(w[:90], np.arange(1, 91))
    reference[99] = True
    assert ratio.importance_weights(logits, reference, clip_quantile=0.5)[99] == 1
