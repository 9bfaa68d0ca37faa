"""Methods beside a baseline over many runs: reductions with intervals, paired tests (NumPy).

A pair is one run of a method and the baseline's run of the same cell (bias, perc, ..) and seed.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A value with its 95 % interval; low and high are NaN where there is none."""

    value: float
    low: float
    high: float


def _drawn(cells: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """int [draws, n]: pairs drawn by cell, then within the cell, as many as there are.

    Cells are drawn again only where there are several: one cell is no sample of cells.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(cells))
    members = [np.flatnonzero([c == name for c in cells]) for name in names]
    out = []
    for _ in range(draws):
        picked = rng.integers(len(names), size=len(names)) if len(names) > 1 else [0]
        rows = np.concatenate([rng.choice(members[i], len(members[i])) for i in picked])
        out.append(np.resize(rows, len(cells)))  # cells of unequal size: about as many pairs
    return np.stack(out)


def ratio_of_means(
    method: Sequence[float],
    baseline: Sequence[float],
    cells: Sequence[str],
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """mean(method) / mean(baseline) over pairs, with a hierarchical bootstrap interval.

    Cells are drawn with replacement, then pairs within each (Davison and Hinkley 1997, section
    3.8). With fewer than two pairs in a cell there is no interval, nor where the mean of the
    baseline could be 0 or less, as that of a KID near 0.

    Args:
      method, baseline: [n], value of the same pair at the same place. cells: [n] names.
    """
    m, b = np.asarray(method, np.float64), np.asarray(baseline, np.float64)
    value = float(m.mean() / b.mean()) if b.mean() > 0 else float("nan")
    counts = [list(cells).count(name) for name in set(cells)]
    if min(counts) < 2:
        return Interval(value, float("nan"), float("nan"))
    rows = _drawn(cells, draws, seed)
    below = b[rows].mean(1)
    if not (below > 0).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(m[rows].mean(1) / below, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def reduction(
    method: Sequence[float], baseline: Sequence[float], cells: Sequence[str], draws: int = 4000
) -> Interval:
    """1 - mean(method) / mean(baseline), with the interval of `ratio_of_means`."""
    value, low, high = ratio_of_means(method, baseline, cells, draws)
    return Interval(1 - value, 1 - high, 1 - low)


def paired_p(method: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided p of a paired t-test on the differences; NaN below two pairs."""
    difference = np.subtract(method, baseline)
    if len(difference) < 2 or np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return float("nan")
    return float(stats.ttest_1samp(difference, 0).pvalue)


def mean_over_seeds(values: Sequence[float]) -> Interval:
    """Mean with the t interval over seeds; no interval for one value."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return Interval(float(x.mean()), float("nan"), float("nan"))
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half)


def slope_per_doubling(curves: Sequence[Sequence[tuple[float, float]]]) -> Interval:
    """Mean over runs of the least-squares slope of y against log2 x, with its 95 % interval.

    The interval is the t interval over the runs' slopes: a run drifts, so its evaluations say less
    than as many independent ones would. One run alone has no other interval than that of
    independent errors (Draper and Smith 1998, section 1.4), which is too narrow where it drifts.

    Args:
      curves: one of (x, y) pairs for each run, x > 0; at least two pairs with different x, or the
        run is left out.
    """
    runs = [np.asarray(curve, np.float64) for curve in curves if len({x for x, _ in curve}) > 1]
    if not runs:
        return Interval(float("nan"), float("nan"), float("nan"))
    fits = [stats.linregress(np.log2(run[:, 0]), run[:, 1]) for run in runs]
    free = len(runs[0]) - 2
    if len(runs) > 1 or free < 1:
        return mean_over_seeds([fit.slope for fit in fits])
    slope, half = float(fits[0].slope), float(stats.t.ppf(0.975, free) * fits[0].stderr)
    return Interval(slope, slope - half, slope + half)


def pareto(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether no other point is at most as large in all numbers and smaller in one."""
    return [
        not any(other != point and all(map(operator.le, other, point)) for other in points)
        for point in points
    ]
