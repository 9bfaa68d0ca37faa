import math

import numpy as np
import oracles_evaluate as oracle
import pytest

from fairjax.evaluate.distances import (
    frechet,
    frechet_figure,
    frechet_of_moments,
    kid,
    kid_figure,
)


def test_kid_and_its_error_agree_with_loops_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(0.3, 1.2, size=(9, 5))
    value, error = kid(x, y)
    assert value == pytest.approx(oracle.kid(x, y), rel=1e-10)
    assert error == pytest.approx(oracle.kid_jackknife_error(x, y), rel=1e-10)


def test_kid_does_not_depend_on_the_block_size():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1100, 4)), rng.normal(size=(1030, 4))
    value, error = kid(x, y)
    swapped, swapped_error = kid(y, x[::-1])
    assert (value, error) == pytest.approx((swapped, swapped_error), rel=1e-9)


def test_kid_is_unbiased_and_its_error_is_honest():
    rng = np.random.default_rng(2)
    for shift in (0.0, 0.5):
        pairs = [kid(rng.normal(size=(60, 8)), rng.normal(shift, 1, (80, 8))) for _ in range(400)]
        values, errors = np.transpose(pairs)
        true_error = values.std(ddof=1)
        # closed form of the mean: 0 for equal distributions, else from a large sample
        large = kid(rng.normal(size=(3000, 8)), rng.normal(shift, 1, (3000, 8)))[0]
        expected = 0.0 if shift == 0 else large
        assert (
            abs(values.mean() - expected)
            < 4 * true_error / math.sqrt(len(values)) + 0.02 * expected
        )
        assert 0.9 < math.sqrt(np.mean(errors**2)) / true_error < 1.6


def test_kid_figure_and_refusals():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 3)), rng.normal(2, 1, size=(40, 3))
    figure = kid_figure("kid/random_conv", x, y)
    assert figure.n == 30
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * kid(x, y)[1])
    with pytest.raises(ValueError, match="at least 3"):
        kid(x[:2], y)
    with pytest.raises(ValueError, match="do not fit"):
        kid(x, y[:, :2])


def test_frechet_of_diagonal_gaussians():
    mean, spread = np.array([1.0, -2.0, 0.5]), np.array([4.0, 1.0, 0.25])
    other_mean, other = np.array([0.0, 1.0, 0.5]), np.array([1.0, 9.0, 0.25])
    expected = np.sum((mean - other_mean) ** 2) + np.sum((np.sqrt(spread) - np.sqrt(other)) ** 2)
    found = frechet_of_moments(mean, np.diag(spread), other_mean, np.diag(other))
    assert found == pytest.approx(expected, rel=1e-12)


def test_frechet_of_two_by_two_covariances():
    # tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) for M 2 x 2 with eigenvalues >= 0
    a, b = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert frechet_of_moments(np.zeros(2), a, np.zeros(2), b) == pytest.approx(expected, rel=1e-10)


def test_frechet_of_samples():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20_000, 3))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + [1.0, 0, 2.0]) == pytest.approx(5, rel=1e-9)
    assert frechet(x, 2 * rng.normal(size=(20_000, 3))) == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="2 images"):
        frechet(x[:1], x)


def test_frechet_figure_says_when_it_is_biased_and_its_interval_is_honest():
    rng = np.random.default_rng(5)
    assert "biased" in frechet_figure("frechet/a", rng.normal(size=(8, 9)), np.eye(9)).note
    assert math.isnan(frechet_figure("frechet/a", rng.normal(size=(8, 2)), np.eye(9)[:, :2]).low)
    found = [
        frechet_figure(
            "frechet/a", rng.normal(size=(300, 2)), rng.normal(1, 1, (300, 2)), blocks=10
        )
        for _ in range(60)
    ]
    spread = np.std([figure.value for figure in found], ddof=1)
    widths = [(figure.high - figure.low) / 2 / 1.96 for figure in found]
    assert 0.6 < np.mean(widths) / spread < 1.6
