"""Rates of binary decisions by group and the gaps between groups, each with an interval.

Definitions are those of fairlearn, AIF360 and Aequitas where these agree. A rate whose condition no
row meets (the true positive rate of a group without positives) is "insufficient evidence", never 0,
and so is every gap that needs it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure, score_interval

Z = 1.959964  # 95 %
UNDEFINED = "insufficient evidence: no row that it could be counted on"
# Rate -> (hits, all that count) as sums of true positives, false positives, false and true
# negatives.
RATES: dict[str, tuple[str, str]] = {
    "selection_rate": ("tp fp", "tp fp fn tn"),
    "true_positive_rate": ("tp", "tp fn"),
    "false_positive_rate": ("fp", "fp tn"),
    "false_negative_rate": ("fn", "tp fn"),
    "true_negative_rate": ("tn", "fp tn"),
    "precision": ("tp", "tp fp"),
    "negative_predictive_value": ("tn", "tn fn"),
    "accuracy": ("tp tn", "tp fp fn tn"),
    "base_rate": ("tp fn", "tp fp fn tn"),
}
KINDS = ("tp", "fp", "fn", "tn")
# Spread of a rate over the groups, max - min: Hardt et al. 2016; fairlearn's names.
SPREADS = {
    "demographic_parity": "selection_rate",
    "equal_opportunity": "true_positive_rate",
    "predictive_equality": "false_positive_rate",
}


class Groups(NamedTuple):
    """Which group each row is in.

    Attributes:
      label: the attributes, joined by "+".
      names: of the k groups.
      of: int [n]; -1 = unknown, counted nowhere.
    """

    label: str
    names: tuple[str, ...]
    of: np.ndarray


def everybody(n: int) -> Groups:
    """All n rows as one group."""
    return Groups("all", ("all",), np.zeros(n, int))


class Rate(NamedTuple):
    """A proportion with its 95 % score interval (Wilson 1927); NaN where `n` is 0."""

    value: float
    low: float
    high: float
    n: int


def confusion(truth: np.ndarray, decided: np.ndarray, of: np.ndarray, k: int) -> np.ndarray:
    """int64 [k, 4]: true positives, false positives, false and true negatives of each group.

    Args:
      truth: bool [n]. decided: bool [n]. of: int [n], the group of each row, -1 = none.
    """
    known = of >= 0
    counts = np.bincount(of[known] * 4 + kind_of(truth, decided)[known], minlength=4 * k)
    return counts.reshape(k, 4).astype(np.int64)


def kind_of(truth: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """int [n]: which of `KINDS` each row is."""
    return np.where(truth, np.where(decided, 0, 2), np.where(decided, 1, 3))


def rate(counts: np.ndarray, name: str) -> Rate:
    """One of `RATES` of counts [4]."""
    hits, n = (sum(int(counts[KINDS.index(kind)]) for kind in part.split()) for part in RATES[name])
    if n == 0:
        return Rate(np.nan, np.nan, np.nan, 0)
    share = hits / n
    low, high = score_interval(share, n, Z)
    # At 0 and 1 the interval ends there; rounding would leave it a hair beside its value.
    return Rate(share, 0.0 if hits == 0 else low, 1.0 if hits == n else high, n)


def difference(a: Rate, b: Rate) -> tuple[float, float, float]:
    """(a - b, low, high) of independent proportions (Newcombe 1998, method 10)."""
    gap = a.value - b.value
    low = gap - np.hypot(a.value - a.low, b.high - b.value)
    high = gap + np.hypot(a.high - a.value, b.value - b.low)
    return gap, float(low), float(high)


def ratio(a: Rate, b: Rate) -> tuple[float, float, float]:
    """(a / b, low, high) of independent proportions (MOVER-R: Donner and Zou 2012, eq. 9).

    NaN where b is 0; the upper end is infinite where b may be 0, and is given as NaN.
    """
    if not (np.isfinite(a.value) and b.value > 0):
        return np.nan, np.nan, np.nan
    p, q = a.value, b.value

    def end(x: float, y: float, sign: int) -> float:
        below = y * (2 * q - y)
        root = (p * q) ** 2 - x * y * (2 * p - x) * (2 * q - y)
        return float((p * q + sign * np.sqrt(max(root, 0.0))) / below) if below else np.nan

    return p / q, max(0.0, end(a.low, b.high, -1)), end(a.high, b.low, 1)


def rate_figures(counts: np.ndarray, groups: Groups) -> Iterator[Figure]:
    """`<rate>/<attributes>/<group>` of confusion counts [k, 4], with the number of rows behind."""
    for name in RATES:
        for of, group in zip(counts, groups.names, strict=True):
            found = rate(of, name)
            note = "" if found.n else UNDEFINED
            yield Figure(f"{name}/{groups.label}/{group}", *found, note=note)


def gap_figures(counts: np.ndarray, groups: Groups) -> Iterator[Figure]:
    """Gaps between the groups with confusion counts [k, 4] (those with any row).

    `demographic_parity_difference` and `_ratio`, `equal_opportunity_difference`,
    `predictive_equality_difference`, `equalized_odds_difference` (the larger of the last two),
    `worst_group_accuracy/<attributes>`, and `worst_group_accuracy/label+<attributes>` over all
    pairs of a label and a group. Their intervals are those of the two (or one) groups that came out
    at the ends: they do not know that these were picked, so a gap of many groups looks surer, and
    larger, than it is.
    """
    there = [(of, name) for of, name in zip(counts, groups.names, strict=True) if of.sum()]
    spreads = {}
    for gap, name in SPREADS.items():
        figure_name = f"{gap}_difference/{groups.label}"
        rates = [(rate(of, name), group) for of, group in there]
        if len(rates) < 2 or any(r.n == 0 for r, _ in rates):
            spreads[gap] = _undefined(figure_name)
        else:
            low, high = min(rates, key=_value), max(rates, key=_value)
            value, bottom, top = difference(high[0], low[0])
            note = f"{high[1]} over {low[1]}"
            spreads[gap] = Figure(figure_name, value, max(0.0, bottom), top,
                                  high[0].n + low[0].n, note)  # fmt: skip
            if gap == "demographic_parity":
                part = ratio(low[0], high[0])
                yield Figure(f"{gap}_ratio/{groups.label}", *part, high[0].n + low[0].n,
                             f"{low[1]} over {high[1]}")  # fmt: skip
        yield spreads[gap]
    odds = [spreads["equal_opportunity"], spreads["predictive_equality"]]
    name = f"equalized_odds_difference/{groups.label}"
    if all(np.isfinite(figure.value) for figure in odds):
        yield max(odds, key=lambda figure: figure.value)._replace(name=name)
    else:
        yield _undefined(name)
    yield _worst(f"worst_group_accuracy/{groups.label}",
                 [(rate(of, "accuracy"), group) for of, group in there])  # fmt: skip
    labelled = [(rate(of, name), f"{label}, {group}") for of, group in there
                for name, label in (("true_positive_rate", "positive"),
                                    ("true_negative_rate", "negative"))]  # fmt: skip
    yield _worst(f"worst_group_accuracy/label+{groups.label}", labelled)


def privileged_figures(counts: np.ndarray, groups: Groups, privileged: int) -> Iterator[Figure]:
    """What AIF360 calls the gaps, signed: each other group beside the privileged one.

    `statistical_parity_difference`, `disparate_impact` (a ratio; the 80 % rule asks for 0.8),
    `true_positive_rate_difference`, `false_positive_rate_difference`.
    """
    for k, group in enumerate(groups.names):
        if k == privileged:
            continue
        for gap, name in (
            ("statistical_parity_difference", "selection_rate"),
            ("disparate_impact", "selection_rate"),
            ("true_positive_rate_difference", "true_positive_rate"),
            ("false_positive_rate_difference", "false_positive_rate"),
        ):
            own, other = rate(counts[k], name), rate(counts[privileged], name)
            found = ratio(own, other) if gap == "disparate_impact" else difference(own, other)
            note = f"beside {groups.names[privileged]}" if np.isfinite(found[0]) else UNDEFINED
            yield Figure(f"{gap}/{groups.label}/{group}", *found, own.n + other.n, note)


def train_weighted_figure(counts: np.ndarray, trained: np.ndarray, groups: Groups) -> Figure:
    """`average_accuracy/label+<attributes>/train_weighted`: the mean accuracy of all pairs of a
    label and a group, each with its share of the training rows (Sagawa et al. 2020, appendix C.1).

    Its interval is normal, with the variances of the pairs' rates, Jeffreys' 1/2 added to each.

    Args:
      counts: int [k, 4]. trained: int [k, 2], positives and negatives among the training rows.
    """
    name = f"average_accuracy/label+{groups.label}/train_weighted"
    n = np.stack([counts[:, [0, 2]].sum(1), counts[:, [1, 3]].sum(1)], 1)
    right = np.stack([counts[:, 0], counts[:, 3]], 1)
    there = trained > 0
    if not there.any() or (n[there] == 0).any():
        return _undefined(name)
    return train_weighted(name, trained[there], right[there], n[there])


def train_weighted(name: str, shares: np.ndarray, right: np.ndarray, n: np.ndarray) -> Figure:
    """The mean of the groups' rates `right` / n, each with its share of the training rows; see
    `train_weighted_figure` for the interval.

    Args:
      shares: [k], of any sum. right, n: int [k], above 0 the latter.
    """
    shares, p = shares / shares.sum(), (right + 0.5) / (n + 1)
    value, half = float(shares @ (right / n)), Z * float(np.sqrt(shares**2 @ (p * (1 - p) / n)))
    return Figure(name, value, max(0.0, value - half), min(1.0, value + half), int(n.sum()),
                  "groups weighted as in training")  # fmt: skip


def amplification_figure(
    counts: np.ndarray, groups: Groups, draws: int = 1000, seed: int = 0,
    shares: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """`bias_amplification/<attributes>`: directional, from the group to the decision.

    Mean over decisions t and groups a of sgn(P(t|a) - P(t)) (P(t decided|a) - P(t|a)) (Wang and
    Russakovsky 2021, eq. 1): above 0 the decisions tell groups apart more than the labels do. The
    interval is a percentile bootstrap over rows, which is one over the counts.

    Args:
      shares: [k, 2], of the positives and negatives of each group where the figure shall hold;
        default: those of the rows. Where all groups have the same share of positives nothing can be
        amplified, and the figure is 0 whatever is decided.
    """
    name, n = f"bias_amplification/{groups.label}", int(counts.sum())
    there = counts.sum(1) > 0
    kept, shares = counts[there], None if shares is None else shares[there]
    if len(kept) < 2 or not np.isfinite(amplification(kept, shares)):
        return _undefined(name)
    drawn = np.random.default_rng(seed).multinomial(n, kept.ravel() / n, draws)
    values = amplification(drawn.reshape(draws, *kept.shape), shares)
    low, high = np.nanquantile(values, (0.025, 0.975))
    note = "" if shares is None else "rows weighted to the shares of the training images"
    return Figure(name, float(amplification(kept, shares)), float(low), float(high), n, note)


def amplification(counts: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """Of counts [.., k, 4], as `amplification_figure` says; an empty group, possible in a
    bootstrap, is left out. NaN where shares are asked of a cell that has no row."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if shares is not None:
            positive, negative = (counts[..., i] + counts[..., j] for i, j in ((0, 2), (1, 3)))
            of = np.stack([positive, negative, positive, negative], -1)
            counts = counts * np.where(of > 0, shares[:, [0, 1, 0, 1]] / of, np.nan)
        size = counts.sum(-1)
        true = (counts[..., 0] + counts[..., 2]) / size  # P(t|a)
        decided = (counts[..., 0] + counts[..., 1]) / size
        total = counts.sum(-2)
        overall = (total[..., 0] + total[..., 2]) / total.sum(-1)
        # The term of the negative class is the same: both signs change.
        terms = np.sign(true - overall[..., None]) * (decided - true)
        known = np.isfinite(terms)
        mean: np.ndarray = np.where(known, terms, 0).sum(-1) / known.sum(-1)
    return mean


def _worst(name: str, rates: Sequence[tuple[Rate, str]]) -> Figure:
    if not rates or any(r.n == 0 for r, _ in rates):
        return _undefined(name)
    found, group = min(rates, key=_value)
    return Figure(name, *found, note=f"of {group}")


def _value(pair: tuple[Rate, str]) -> float:
    return pair[0].value


def _undefined(name: str) -> Figure:
    return Figure(name, np.nan, np.nan, np.nan, 0, UNDEFINED)
