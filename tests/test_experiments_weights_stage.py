"""Calibration, stacking and the true ratio, on data with a known answer."""

import numpy as np
import pytest
from test_experiments_ratio_stage import dataset

from fairjax.experiments import weights_stage


def evidence(n=60_000):
    """Two independent true log ratios [2, n] and labels drawn by their sum."""
    rng = np.random.default_rng(0)
    parts = rng.normal(0, [[1.2], [0.8]], (2, n))
    return parts, rng.random(n) < 1 / (1 + np.exp(-parts.sum(0)))


@pytest.mark.parametrize("kind", ["platt", "temperature"])
def test_calibration_undoes_a_planted_distortion(kind):
    parts, reference = evidence()
    true = parts.sum(0)
    offset = 0.7 if kind == "platt" else 0.0
    slopes, shift = weights_stage.calibration((2.5 * true + offset)[None], reference, kind)
    # Both sets have equal mass in the fit, and nearly so in this sample.
    assert slopes == pytest.approx([1 / 2.5], rel=0.03)
    assert shift == pytest.approx(-offset / 2.5, abs=0.03)


def test_stacking_adds_what_two_networks_know():
    parts, reference = evidence()
    slopes, shift = weights_stage.calibration(parts * [[0.5], [2.0]], reference, "platt")
    assert slopes == pytest.approx([2, 0.5], rel=0.05)
    assert shift == pytest.approx(0, abs=0.03)


def test_no_calibration_is_the_mean_of_the_networks():
    slopes, shift = weights_stage.calibration(np.zeros((2, 4)), np.array([True, False] * 2), "none")
    assert slopes.tolist() == [0.5, 0.5]
    assert shift == 0.0


def test_the_true_ratio_by_group():
    logits = weights_stage.true_logits(dataset(), np.arange(4))
    np.testing.assert_allclose(np.exp(logits), [5 / 9, 5.0, 5 / 9, 5.0])


def test_figures_against_the_truth_are_right_for_a_planted_error():
    data = dataset()
    true = weights_stage.true_logits(data, data.training)
    error = np.where(np.arange(len(true)) % 2, 0.3, -0.1)
    named = {f.name: f.value for f in weights_stage._truth_figures(data, true + error)}
    assert named["log_ratio_error/biased"] == pytest.approx(np.sqrt((0.09 + 0.01) / 2))
    assert named["log_ratio_rank_correlation/biased"] == pytest.approx(1)
    assert named["log_ratio_concordance/biased"] == 1
    named = {f.name: f.value for f in weights_stage._truth_figures(data, -true)}
    assert named["log_ratio_rank_correlation/biased"] == pytest.approx(-1)
    assert named["log_ratio_concordance/biased"] == 0
    # An estimate without ties, in the right order of both values: the most that is possible.
    untied = true + np.linspace(0, 1e-3, len(true))
    _, rank, order = weights_stage._truth_figures(data, untied)
    assert rank.note.endswith(f"allow {rank.value:.3f} at most")
    assert rank.value < 1 == order.value
