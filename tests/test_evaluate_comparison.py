"""Statistics of many runs, where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from fairjax.evaluate import comparison


def test_a_planted_reduction_is_found_and_its_interval_covers_it():
    """100 imaginary sweeps of 4 cells with 6 seeds; the true reduction is 60 %."""
    inside = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        cells = np.repeat(["a", "b", "c", "d"], 6)
        base = rng.gamma(25, 0.4 / 25, 24)
        method = 0.4 * 0.4 * rng.gamma(25, 1 / 25, 24)
        found = comparison.reduction(method, base, list(cells), draws=300)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(1 - method.mean() / base.mean())
        inside += found.low <= 0.6 <= found.high
    assert inside >= 85


def test_a_ratio_to_what_may_be_0_has_no_interval():
    kids = comparison.ratio_of_means([0.03, 0.02, 0.01], [0.012, -0.004, 0.004], ["a"] * 3)
    assert kids.value == pytest.approx(5)
    assert np.isnan([kids.low, kids.high]).all()


def test_cells_that_differ_make_the_interval_wider_than_seeds_alone():
    rng = np.random.default_rng(0)
    cells = np.repeat(["a", "b", "c", "d"], 5)
    base = np.full(20, 0.4)
    method = np.repeat([0.05, 0.1, 0.2, 0.35], 5) + rng.normal(0, 0.005, 20)
    by_cell = comparison.ratio_of_means(method, base, list(cells))
    as_one = comparison.ratio_of_means(rng.permutation(method)[:20], base, ["one"] * 20)
    assert by_cell.value == pytest.approx(as_one.value)
    assert by_cell.high - by_cell.low > 1.5 * (as_one.high - as_one.low)


def test_a_planted_slope_is_found_and_its_interval_covers_it_though_runs_drift():
    """200 imaginary sweeps of three runs that differ in level, rise by 0.03 per doubling and drift
    like a random walk: the interval over runs covers it, that of one run's evaluations does not."""
    kimg, inside, inside_alone = np.arange(208, 401, 16.0), 0, 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        curves = [list(zip(kimg, level + 0.03 * np.log2(kimg)
                           + rng.normal(0, 0.02, len(kimg)).cumsum(), strict=True))
                  for level in (0.0, 0.2, 0.4)]  # fmt: skip
        found = comparison.slope_per_doubling(curves)
        slopes = [np.polyfit(np.log2(kimg), [y for _, y in curve], 1)[0] for curve in curves]
        assert found.value == pytest.approx(np.mean(slopes))
        inside += found.low <= 0.03 <= found.high
        alone = comparison.slope_per_doubling(curves[:1])
        inside_alone += alone.low <= 0.03 <= alone.high
    assert 180 <= inside <= 198
    assert inside_alone < 130


def test_one_run_has_the_interval_of_independent_evaluations():
    """Against the textbook's formula, and 100 runs whose evaluations are independent."""
    kimg, inside = np.arange(208, 401, 16.0), 0
    x = np.log2(kimg) - np.log2(kimg).mean()
    for trial in range(100):
        y = 0.1 + 0.03 * np.log2(kimg)
        y = y + np.random.default_rng(trial).normal(0, 0.02, len(y))
        alone = comparison.slope_per_doubling([list(zip(kimg, y, strict=True))])
        inside += alone.low <= 0.03 <= alone.high
    assert 88 <= inside <= 100
    error = np.sqrt(((y - y.mean() - alone.value * x) ** 2).sum() / (len(y) - 2) / (x @ x))
    assert alone.value == pytest.approx(x @ y / (x @ x))
    assert alone.high - alone.value == pytest.approx(stats.t.ppf(0.975, len(y) - 2) * error)
    assert np.isnan(comparison.slope_per_doubling([[(1.0, 2.0)]]).value)
    assert np.isnan(comparison.slope_per_doubling([[(1.0, 2.0), (2.0, 3.0)]]).low)


def test_one_cell_is_no_sample_of_cells():
    """With one cell the bootstrap is that over seeds: its width is that of the mean's error."""
    rng = np.random.default_rng(1)
    method = rng.normal(0.2, 0.02, 400)
    found = comparison.ratio_of_means(method, np.ones(400), ["c"] * 400)
    error = method.std(ddof=1) / 20
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.parametrize("cells", [["a"], ["a", "b"]])
def test_one_seed_has_no_interval(cells):
    found = comparison.reduction([0.1] * len(cells), [0.4] * len(cells), cells)
    assert found.value == pytest.approx(0.75)
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_nothing_is_divided_by_zero():
    assert np.isnan(comparison.reduction([0.1], [0.0], ["a"]).value)


def test_the_paired_test_is_that_of_scipy_and_needs_two_pairs():
    a, b = [0.1, 0.2, 0.15, 0.3], [0.3, 0.35, 0.33, 0.41]
    assert comparison.paired_p(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert np.isnan(comparison.paired_p([0.1], [0.2]))
    assert np.isnan(comparison.paired_p([0.1, 0.2], [0.2, 0.3]))  # no spread, no test


def test_mean_over_seeds_has_a_t_interval():
    found = comparison.mean_over_seeds([1.0, 2.0, 3.0])
    half = stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert found == pytest.approx((2, 2 - half, 2 + half))
    assert np.isnan(comparison.mean_over_seeds([1.0]).low)


def test_the_front():
    points = [(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)]
    assert comparison.pareto(points) == [True, True, False, True, True]
