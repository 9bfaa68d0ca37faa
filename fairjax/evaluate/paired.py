"""Two classifiers on the same rows: how rates and gaps change, with intervals that know the pairs.

Rows that both decide alike say nothing of the change, so it is known far better than the difference
of two figures with intervals of their own.
"""

from collections.abc import Iterator

import numpy as np

from fairjax.evaluate.figures import Figure
from fairjax.evaluate.rates import (
    KINDS,
    RATES,
    SPREADS,
    UNDEFINED,
    Groups,
    amplification,
    confusion,
    kind_of,
)


def paired_figures(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, groups: Groups,
    draws: int = 2000, seed: int = 0, shares: np.ndarray | None = None,
) -> Iterator[Figure]:  # fmt: skip
    """`change/<figure>` of every rate and gap: that of `after` less that of `before`.

    Args:
      truth, before, after: bool [n], the label and the two decisions of each row.
      draws: of the percentile bootstrap over rows (both decisions of a row stay together), which is
        one over counts. It draws all rows at once, groups included. A gap that is near 0 on one
        side cannot be drawn below 0: its interval is then too far from 0 by about its own noise.
      shares: [k, 2], as of `rates.amplification_figure`; without them bias amplification is left
        out.
    """
    k = len(groups.names)
    # A pair of tables of counts is one table with 4 x 4 kinds, half of which cannot occur.
    one, other = (kind_of(truth, decided) for decided in (before, after))
    known = groups.of >= 0
    cells = (groups.of * 4 + one)[known] * 4 + other[known]
    joint = np.bincount(cells, minlength=16 * k)
    drawn = np.random.default_rng(seed).multinomial(len(cells), joint / max(len(cells), 1), draws)
    drawn = drawn.reshape(draws, k, 4, 4)
    old, new = (values(confusion(truth, d, groups.of, k), groups, shares)
                for d in (before, after))  # fmt: skip
    olds, news = (values(drawn.sum(axis), groups, shares) for axis in (3, 2))
    for name, value in new.items():
        change = value - old[name]
        if np.isfinite(change):
            low, high = np.nanquantile(news[name] - olds[name], (0.025, 0.975))
            yield Figure(f"change/{name}", float(change), float(low), float(high), len(cells))
        else:
            yield Figure(f"change/{name}", np.nan, np.nan, np.nan, 0, UNDEFINED)


def values(
    counts: np.ndarray, groups: Groups, shares: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Rates and (of two groups or more) gaps of many tables of counts [.., k, 4] at once.

    Names are those of `rates.rate_figures` and `rates.gap_figures`, shapes [..]; NaN where a rate
    that is needed could not be counted.
    """
    rates = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, parts in RATES.items():
            hits, n = (counts[..., [KINDS.index(kind) for kind in part.split()]].sum(-1)
                       for part in parts)  # fmt: skip
            rates[name] = hits / n
        found = {
            f"{name}/{groups.label}/{group}": rate[..., i]
            for name, rate in rates.items()
            for i, group in enumerate(groups.names)
        }
        if len(groups.names) < 2:
            return found
        share = rates["selection_rate"]
        found[f"demographic_parity_ratio/{groups.label}"] = share.min(-1) / share.max(-1)
    for gap, name in SPREADS.items():
        found[f"{gap}_difference/{groups.label}"] = np.ptp(rates[name], axis=-1)
    found[f"equalized_odds_difference/{groups.label}"] = np.maximum(
        *(found[f"{gap}_difference/{groups.label}"] for gap in list(SPREADS)[1:])
    )
    found[f"worst_group_accuracy/{groups.label}"] = rates["accuracy"].min(-1)
    found[f"worst_group_accuracy/label+{groups.label}"] = np.minimum(
        rates["true_positive_rate"], rates["true_negative_rate"]
    ).min(-1)
    if shares is not None:
        found[f"bias_amplification/{groups.label}"] = amplification(counts, shares)
    return found
