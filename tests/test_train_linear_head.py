"""The linear head against a density ratio that is known in closed form."""

import numpy as np
import pytest

from fairjax.objectives.ratio import balanced_log_loss
from fairjax.train import linear_head

MEAN = np.linspace(-1, 1, 20)  # half the distance between the sets: log ratio = 2 MEAN @ x


def rows(n_biased, n_reference, seed=0, scale=1.0):
    """Unit normal features around -MEAN (biased) and MEAN (reference), and folds of a third."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_biased + n_reference) >= n_biased
    x = rng.normal(size=(len(labels), len(MEAN))) + np.where(labels, 1, -1)[:, None] * MEAN * 0.3
    return (x * scale + 5).astype(np.float32), labels, rng.permutation(len(labels)) % 3


def true_logits(x, scale=1.0):
    return 0.6 * ((x - 5) / scale) @ MEAN


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_the_logit_is_the_log_density_ratio_whatever_the_sizes_and_the_scale(scale):
    x, labels, fold = rows(8000, 800, scale=scale)
    heads, logits = linear_head.fit(x, labels, fold)
    true = true_logits(x, scale)
    # Log odds instead of log ratios would be off by ln 10 = 2.3 everywhere.
    assert abs(np.mean(logits - true)) < 0.1
    assert np.polyfit(true, logits, 1)[0] == pytest.approx(1, abs=0.12)
    assert np.corrcoef(true, logits)[0, 1] > 0.97
    np.testing.assert_allclose(heads(x)[fold, np.arange(len(x))], logits, rtol=1e-5, atol=1e-5)


def test_a_row_has_no_part_in_the_head_that_rates_it():
    x, labels, fold = rows(300, 200)
    first = linear_head.fit(x, labels, fold)[0]
    other = labels ^ ((fold == 0) & (np.arange(len(labels)) % 2 == 0))  # half of fold 0 is wrong
    second = linear_head.fit(x, other, fold)[0]
    at = linear_head.STRENGTHS.index(float(first.strength))
    path = list(linear_head._path(((x - first.mean) / first.scale).astype(np.float32), other, fold))
    np.testing.assert_allclose(path[at][0][0], first.weight[0], rtol=1e-3, atol=1e-3)
    assert not np.allclose(path[at][0][1], first.weight[1], rtol=0.05)
    assert second.weight.shape == (3, len(MEAN))


def test_the_penalty_is_chosen_so_that_few_images_do_not_overfit():
    def wide(n, seed):  # 300 features that say nothing beside the 20 that do
        x, labels, fold = rows(n, n, seed)
        noise = np.random.default_rng(seed).normal(size=(2 * n, 300))
        return np.hstack([x, noise]).astype(np.float32), labels, fold

    few = linear_head.fit(*wide(150, 0))[0]
    x, labels, _ = wide(1000, 2)
    loss = balanced_log_loss(few(x), labels)[0]
    seen, truth, fold = wide(150, 0)
    standardised = ((seen - few.mean) / few.scale).astype(np.float32)
    *_, (weight, bias, _) = linear_head._path(standardised, truth, fold)
    weak = balanced_log_loss(few._replace(weight=weight, bias=bias)(x), labels)[0]
    assert loss < np.log(2) - 0.02
    assert loss < weak - 0.02
