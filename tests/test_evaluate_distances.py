import functools
import math

import numpy as np
import oracles_evaluate as oracle
import pytest
from scipy import stats

from fairjax.evaluate.distances import (
    frechet,
    frechet_figure,
    frechet_of_moments,
    kid,
    kid_figure,
)
from fairjax.evaluate.inception_score import ScoreSums, score_figure
from fairjax.evaluate.moments import merged, moments


def test_kid_and_its_error_agree_with_loops_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(0.3, 1.2, size=(9, 5))
    value, error = kid(x, y)
    assert value == pytest.approx(oracle.kid(x, y), rel=1e-10)
    assert error == pytest.approx(oracle.kid_jackknife_error(x, y), rel=1e-10)


def test_weights_of_kid_are_repeated_rows_whose_copies_are_no_pair():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(8, 3)), rng.normal(0.3, 1.2, size=(7, 3))
    u, v = np.array([1, 3, 0, 2, 1, 1, 2, 1]), np.array([2, 1, 1, 0, 4, 1, 1])
    of_x, of_y = np.repeat(np.arange(8), u), np.repeat(np.arange(7), v)
    value, error = kid(x, y, u / 5, v)
    assert value == pytest.approx(oracle.kid(x[of_x], y[of_y], of_x, of_y), rel=1e-10)
    left = []
    for n, of in ((8, of_x), (7, of_y)):
        keep = [np.flatnonzero(of != i) for i in range(n)]
        a, b = (of_x, of_y)
        values = [oracle.kid(x[a[k]], y[b], a[k], b) if of is of_x else
                  oracle.kid(x[a], y[b[k]], a, b[k]) for k in keep]  # fmt: skip
        left.append((n - 1) * np.var(values))
    assert error == pytest.approx(math.sqrt(sum(left)), rel=1e-10)
    with pytest.raises(ValueError, match="at least 3"):
        kid(x, y, v=np.array([1, 1, 0, 0, 0, 0, 0]))


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
    fitted = moments(x)
    assert frechet(fitted, fitted) == pytest.approx(0, abs=1e-9)
    assert frechet(fitted, moments(x + [1.0, 0, 2.0])) == pytest.approx(5, rel=1e-9)
    other = moments(2 * rng.normal(size=(20_000, 3)))
    assert frechet(fitted, other) == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="2 rows"):
        frechet(moments(x[:1]), fitted)
    with pytest.raises(ValueError, match="2 rows"):
        frechet(moments(x[:4], np.array([0, 1.0, 0, 0])), fitted)


def test_frechet_figure_says_when_it_is_biased():
    rng = np.random.default_rng(5)
    few, many = moments(rng.normal(size=(9, 9))), moments(rng.normal(size=(30, 9)))
    assert "biased" in frechet_figure("frechet/a", few, many).note
    figure = frechet_figure("frechet/a", many, many)
    assert (figure.n, figure.note) == (30, "")
    assert math.isnan(figure.low)


def test_moments_gathered_in_blocks_are_those_of_all_rows():
    """Also far from 0, where sums of squares would lose all digits; weights are repeated rows."""
    rng = np.random.default_rng(8)
    x = 1e7 + rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    weights = rng.integers(0, 4, 500)
    weights[:7] = 0  # a block of nothing
    cuts = [7, 8, 200, 201, 450]
    blocks = zip(np.split(x, cuts), np.split(weights, cuts), strict=True)
    found = functools.reduce(merged, [moments(*block) for block in blocks])
    again = np.repeat(x, weights, axis=0)
    np.testing.assert_allclose(found.mean, again.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.scatter / len(again), np.cov(again.T, bias=True), rtol=1e-6)
    assert found.n == 500
    # The covariance is unbiased for weights that are not counts: no scale of theirs changes it.
    half = moments(x, weights / 2).covariance()
    np.testing.assert_allclose(half, found.covariance(), rtol=1e-6)
    plain = functools.reduce(merged, map(moments, np.split(x, cuts)))
    np.testing.assert_allclose(plain.covariance(), np.cov(x.T), rtol=1e-6)


def test_the_inception_score_is_that_of_salimans_et_al():
    rng = np.random.default_rng(9)
    logits = 3 * rng.normal(size=(57, 5))
    sums = ScoreSums(57, 5)
    for part in np.split(logits, [3, 4, 40]):
        sums.add(part)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = []
    for i in range(10):
        own = p[i * 57 // 10 : (i + 1) * 57 // 10]
        expected.append(np.exp(np.mean([np.sum(a * np.log(a / own.mean(0))) for a in own])))
    np.testing.assert_allclose(sums.scores(), expected, rtol=1e-12)
    figure = score_figure("inception_score/inception", sums.scores(), 57)
    assert figure.value == pytest.approx(np.mean(expected))
    assert figure.high - figure.value == pytest.approx(
        stats.t.ppf(0.975, 9) * np.std(expected, ddof=1) / 10**0.5
    )
    weights = np.tile([2, 1, 0], 19)  # of one split: those of repeated rows
    once, again = ScoreSums(9 * 57, 5), ScoreSums(9 * 57, 5)
    once.add(logits[:50], weights[:50])
    again.add(np.repeat(logits[:50], weights[:50], axis=0))
    np.testing.assert_allclose(once.scores(), again.scores(), rtol=1e-12)
    # Images that are all alike have a score of 1, one of each of k classes has k.
    for rows, score in ((np.zeros((20, 4)), 1), (100 * np.eye(4)[np.tile(np.arange(4), 10)], 4)):
        sums = ScoreSums(len(rows), 4)
        sums.add(rows)
        np.testing.assert_allclose(sums.scores(), score, rtol=1e-9)
