"""Precision, recall, density and coverage against the package of the authors of the last two."""

import math

import numpy as np
import pytest
from prdc import compute_prdc
from scipy.stats import norm

from fairjax.evaluate import manifold
from fairjax.evaluate.manifold import manifold_figures, radii, wilson


def sets(n=300, m=200, d=8, shift=0.4):
    rng = np.random.default_rng(n + m)
    return rng.normal(shift, 0.8, size=(n, d)), rng.normal(size=(m, d))


def values(x, y, u=None, v=None):
    return {f.name.split("/")[0]: f for f in manifold_figures("f", x, y, u, v)}


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_equal_to_the_package(far):
    """Also where the features' mean is far from 0, as in float32 products it would not be."""
    x, y = sets()
    for k, names in ((3, ("precision", "recall")), (5, ("density", "coverage"))):
        expected = compute_prdc(y, x, nearest_k=k)
        found = values(x + far, y + far)
        for name in names:
            assert found[name].value == pytest.approx(expected[name], abs=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch):
    x, y = sets()
    whole = values(x, y)
    monkeypatch.setattr(manifold, "_ROWS", 37)
    assert values(x, y) == whole
    np.testing.assert_allclose(radii(y, 4), np.sort(((y[:, None] - y) ** 2).sum(-1))[:, 4])


def test_known_sets():
    x, y = sets(shift=0.0)
    near, away = values(y, y), values(x + 100, y)
    assert (near["precision"].value, near["recall"].value, near["coverage"].value) == (1, 1, 1)
    assert [away[name].value for name in ("precision", "recall", "density", "coverage")] == [0] * 4
    assert away["precision"].high > 0  # none of 300 is not proof of none
    # One image again and again is precise and covers nothing.
    one = values(np.repeat(y[:1], 300, axis=0), y)
    assert one["precision"].value == 1
    assert one["recall"].value <= 1 / 200 + 1e-9
    assert one["coverage"].value < 0.1
    with pytest.raises(ValueError, match="6 images"):
        list(manifold_figures("f", x[:5], y))


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20), (480, 500)])
def test_wilson_is_where_the_score_test_turns(hits, n):
    figure = wilson("share", np.arange(n) < hits, np.ones(n))
    for end in (figure.low, figure.high):
        if 0 < end < 1 and end != figure.value:
            score = (figure.value - end) / math.sqrt(end * (1 - end) / n)
            assert abs(score) == pytest.approx(norm.ppf(0.975), abs=1e-3)
    assert figure.low <= figure.value <= figure.high


def test_weights_are_repeated_rows_where_these_make_no_other_balls():
    x, y = sets(60, 50)
    rng = np.random.default_rng(7)
    u, v = rng.integers(0, 4, 60), rng.integers(0, 4, 50)
    found = values(x[u > 0], y[v > 0], u[u > 0], v[v > 0])
    assert found == values(x, y, u, v)  # rows without weight are not in the set
    same = values(10 * x, 10 * y, u / 7, v / 3)
    for name, figure in found.items():
        assert figure[1:4] == pytest.approx(same[name][1:4], rel=1e-9)
    some = values(np.repeat(x, u, axis=0), y[v > 0])
    assert found["precision"].value == pytest.approx(some["precision"].value)
    own = radii(x[u > 0], 3)
    again = np.repeat(y, v, axis=0)
    inside = ((again[:, None] - x[u > 0]) ** 2).sum(-1) <= own
    assert found["recall"].value == pytest.approx(inside.any(1).mean())
    balls = radii(y[v > 0], 5)
    inside = ((x[u > 0][:, None] - y[v > 0]) ** 2).sum(-1) <= balls
    count = np.repeat(inside, u[u > 0], axis=0) @ v[v > 0] * (v > 0).sum() / v.sum()
    assert found["density"].value == pytest.approx(count.mean() / 5)
    assert found["coverage"].value == pytest.approx(np.repeat(inside.any(0), v[v > 0]).mean())
    # Few heavy images are worth less than their number.
    heavy = values(x, y, np.where(np.arange(60) < 6, 50.0, 0.1))["precision"]
    assert heavy.high - heavy.low > 2 * (
        values(x, y)["precision"].high - values(x, y)["precision"].low
    )


def test_intervals_hold_the_mean_over_draws_of_samples():
    _, y = sets()
    rng = np.random.default_rng(5)
    drawn = [values(rng.normal(0.4, 0.8, size=(200, 8)), y) for _ in range(60)]
    for name in ("precision", "density"):
        mean = np.mean([found[name].value for found in drawn])
        held = np.mean([found[name].low <= mean <= found[name].high for found in drawn])
        assert held >= 0.85
