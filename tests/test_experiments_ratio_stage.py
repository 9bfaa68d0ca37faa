"""Cross-fitting, calibration and the true ratio, on data with a known answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from fairjax.config import defaults
from fairjax.experiments import ratio_stage


def dataset(n_biased=90, n_reference=30):
    domain = np.concatenate([np.zeros(n_biased, int), np.ones(n_reference, int)])
    return SimpleNamespace(
        training=np.arange(len(domain)),
        domain=domain,
        manifest={"true_ratio": {"attributes": ["hair"], "ratio": [5 / 9, 5.0]}},
        classes=lambda names, positions: np.asarray(positions) % 2,
    )


def test_folds_are_even_in_both_sets_and_do_not_depend_on_order_of_calls():
    config = defaults()
    config.ratio.folds = 3
    data = dataset()
    fold = ratio_stage.folds(data, config)
    for side, size in ((0, 30), (1, 10)):
        assert np.bincount(fold[data.domain == side]).tolist() == [size] * 3
    assert np.array_equal(fold, ratio_stage.folds(data, config))
    config.seed = 1
    assert not np.array_equal(fold, ratio_stage.folds(data, config))


@pytest.mark.parametrize("kind", ["platt", "temperature"])
def test_calibration_undoes_a_planted_distortion(kind):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, 60_000)
    reference = rng.random(60_000) < 1 / (1 + np.exp(-true))
    offset = 0.7 if kind == "platt" else 0.0
    slope, shift = ratio_stage.calibration(2.5 * true + offset, reference, kind)
    # Both sets have equal mass in the fit, and nearly so in this sample.
    assert slope == pytest.approx(1 / 2.5, rel=0.03)
    assert shift == pytest.approx(-offset / 2.5, abs=0.03)


def test_no_calibration_is_the_identity():
    assert ratio_stage.calibration(np.zeros(4), np.array([True, False] * 2), "none") == (1.0, 0.0)


def test_the_true_ratio_by_group():
    logits = ratio_stage.true_logits(dataset())
    np.testing.assert_allclose(np.exp(logits[:4]), [5 / 9, 5.0, 5 / 9, 5.0])
