"""Calibration, stacking and the true ratio, on data with a known answer."""

import json

import data_config
import numpy as np
import pytest
from test_experiments_ratio_stage import dataset

from fairjax.config import defaults
from fairjax.data.prepare import prepare
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


@pytest.mark.parametrize("known", [True, False])
def test_a_group_that_the_biased_set_lacks(known, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))
    shares = {"biased_proportions": (1.0, 0.0)}
    data = prepare(data_config.config(**shares), tmp_path / "data", lambda line: None)
    config = defaults()
    config.weights.true_ratio = known
    reference = data.domain[data.training] == 1
    logits = weights_stage.true_logits(data, data.training)
    of = data.classes(("long_hair",), data.training)
    np.testing.assert_array_equal(logits, np.where(of == 0, np.log(0.5), 50))
    networks = len(config.ratio.networks)
    rng = np.random.default_rng(0)
    test = rng.normal(0, 1, (networks, config.ratio.folds, len(data.roles["ratio_test"])))
    raw = rng.normal(0, 1, (networks, len(reference)))
    monkeypatch.setattr(weights_stage, "pooled_logits", lambda *a: (raw, test))
    weights_stage.make_weights(tmp_path, config, data, tmp_path)
    figures = json.loads((tmp_path / "summary.json").read_text())["figures"]
    if known:
        assert figures["mean_ratio/biased"]["value"] == pytest.approx(0.5)
    else:
        assert np.isfinite(figures["bayes_gap/ratio_test"]["value"])


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
