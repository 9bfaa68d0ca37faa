"""Rows of many runs -> tables and the answer: methods beside a baseline.

A cell's name has parts joined by "+"; cells that differ only in their part "perc.." are one group,
over which reductions are pooled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairjax.evaluate.comparison import (
    Interval,
    mean_over_seeds,
    paired_p,
    pareto,
    ratio_of_means,
    reduction,
    slope_per_doubling,
)
from fairjax.report.answer import Answer
from fairjax.report.rows import KIDS
from fairjax.report.tables import Table, text_table

Rows = Sequence[Mapping[str, Any]]
CHAIN = ("biased set alone", "union of both sets, unweighted",
         "union of both sets, weighted, by its true labels")  # fmt: skip


def group_of(cell: str) -> str:
    """The cell's name without the size of its reference set."""
    return "+".join(part for part in cell.split("+") if not part.startswith("perc"))


def in_one_kid(rows: Rows) -> list[dict[str, Any]]:
    """The rows without the final KIDs that others of their group of cells lack: those in features
    of different networks must not be compared."""
    shared: dict[str, set[str]] = {}
    for row in rows:
        if names := {*KIDS} & {*row.get("figures", {})}:
            group = group_of(row["cell"])
            shared[group] = shared.get(group, names) & names
    out = []
    for row in rows:
        dropped = {*KIDS} - shared.get(group_of(row["cell"]), set())
        figures = {key: value for key, value in row.get("figures", {}).items()
                   if "/".join(key.split("/")[:2]) not in dropped}  # fmt: skip
        out.append({**row, "figures": figures})
    return out


def kid(row: Mapping[str, Any]) -> float:
    """The final KID of a row in the best features that it has; NaN without one."""
    for name in KIDS:
        if row.get("figures", {}).get(name):
            return float(row["figures"][name][0])
    return float("nan")


def kids_within(row: Mapping[str, Any]) -> dict[str, float]:
    """The final KID within each class of the attribute that has one."""
    for name in KIDS:
        within = f"{name}/{row['attribute']}/"
        found = {key: float(value[0]) for key, value in row.get("figures", {}).items()
                 if key.startswith(within)}  # fmt: skip
        if found:
            return found
    return {}


def kid_during(rows: Rows) -> tuple[str, Rows]:
    """The best KID that rows have over their training, and the rows that have it there."""
    of = [(row.get("curve_kid", KIDS[-1]), row) for row in rows if row.get("curve")]
    best = min((name for name, _ in of), key=KIDS.index, default=KIDS[-1])
    return best, [row for name, row in of if name == best]


class _Pairs:
    """The runs of a method and of the baseline with the same cell and seed, both measured."""

    def __init__(self, rows: Rows, method: str, baseline: str, cells: Iterable[str]):
        wanted = {*cells}
        of = {(row["cell"], row["seed"], row["method"]): row for row in rows
              if row["discrepancy"] is not None and row["cell"] in wanted}  # fmt: skip
        keys = [(cell, seed) for cell, seed, name in of if name == method]
        keys = sorted(key for key in keys if (*key, baseline) in of)
        self.cells = [cell for cell, _ in keys]
        self._both = [(of[(*key, method)], of[(*key, baseline)]) for key in keys]

    def reduction(self) -> Interval:
        return reduction(*self.discrepancies(), self.cells)

    def kid_ratio(self) -> Interval:
        return self._ratio([(kid(mine), kid(theirs)) for mine, theirs in self._both])

    def kid_ratio_within(self) -> Interval:
        """Of the means over the classes that both runs of a pair have: images of a rare class may
        be too few for one of them."""
        pairs = []
        for mine, theirs in ((kids_within(m), kids_within(t)) for m, t in self._both):
            shared = sorted(mine.keys() & theirs.keys())
            pairs.append(tuple(float(np.mean([side[key] for key in shared] or [np.nan]))
                               for side in (mine, theirs)))  # fmt: skip
        return self._ratio(pairs)

    def _ratio(self, pairs: Sequence[tuple[float, ...]]) -> Interval:
        """None where a KID is missing, or 0 or less: then images are as near as can be told."""
        if not all(value > 0 for pair in pairs for value in pair):
            return Interval(np.nan, np.nan, np.nan)
        mine, theirs = zip(*pairs, strict=True)
        return ratio_of_means(mine, theirs, self.cells)

    def less(self) -> Interval:
        """By how much the discrepancies lie below the baseline's, with the interval of the paired
        t test."""
        mine, theirs = self.discrepancies()
        return mean_over_seeds([b - a for a, b in zip(mine, theirs, strict=True)])

    def discrepancies(self) -> tuple[list[float], list[float]]:
        mine, theirs = ([float(pair[i]["discrepancy"]) for pair in self._both] for i in (0, 1))
        return mine, theirs


class Section(NamedTuple):
    """One part of a comparison: its title, a table, and sentences below it."""

    title: str
    table: Table
    said: list[str]


def sections(rows: Rows, baseline: str, planned: Mapping[str, Sequence[str]]) -> list[Section]:
    """All tables, in the order in which they are read.

    Args:
      baseline: the method that the others are compared with.
      planned: cell -> methods that should be there; what has no row says "not run".
    """
    found = [Section("Methods", fairness_table(rows, baseline, planned), [])]
    if not rows:
        return found
    return [
        *found,
        Section("Pooled over sizes of the reference set", pooled_table(rows, baseline), []),
        Section("Where fairness is lost, and the density ratio", chain_table(rows), front(rows)),
        Section("Does it last? The second half of training", lasting_table(rows), []),
    ]


def answer(rows: Rows, baseline: str) -> Answer:
    """What the runs say together; a method is called fairer only where its intervals are."""
    sentences, pooled = [], dict[str, list[Interval]]()  # of the differences
    for group, method, pairs in _pooled(rows, baseline):
        found, kids = pairs.reduction(), pairs.kid_ratio()
        pooled.setdefault(method, []).append(pairs.less())
        less = f"{_percent(Interval(abs(found.value), found.low, found.high))} less"
        if found.value < 0:
            more = Interval(-found.value, -found.high, -found.low)
            less = f"{_percent(more)} more"
        runs = len(pairs.cells)
        counted = f"{runs} pairs of runs" if runs > 1 else "one pair of runs, so no interval"
        times = f"; its KID is {_words(kids, 2)} times as large" if np.isfinite(kids.value) else ""
        sentences.append(f"{group}: {method} has {less} discrepancy than {baseline} ({counted})"
                         f"{times}.")  # fmt: skip
    if not pooled:
        return Answer(f"No method stands beside {baseline}", "open", [], [], [])
    proven = [method for method, found in pooled.items() if _less_everywhere(found)]
    if not proven:
        return Answer(f"No method is proven to repeat less of the bias than {baseline}", "open",
                      sentences, [], [])  # fmt: skip
    verb = "repeats" if len(proven) == 1 else "repeat"
    named = " and ".join(filter(None, [", ".join(proven[:-1]), proven[-1]]))
    headline = f"{named} {verb} less of the bias than {baseline}"
    return Answer(headline, "good", sentences, [], [])


def _less_everywhere(found: Sequence[Interval]) -> bool:
    """Whether the differences of all groups lie above 0 with their intervals, which are those of
    t tests: the bootstrap's are too narrow for a handful of runs.

    One pair of runs has no interval: it proves nothing, but may not point the other way.
    """
    ends = [one.low for one in found if np.isfinite(one.low)]
    return bool(ends) and min(ends) > 0 and all(one.value > 0 for one in found)


def fairness_table(rows: Rows, baseline: str, planned: Mapping[str, Sequence[str]]) -> Table:
    """Per cell and method: discrepancy, swing, reduction, KID and its ratio to the baseline's."""
    head = ["cell", "method", "seeds", "discrepancy", "swing", "reduction", "paired p", "KID",
            "KID ratio", "ratio within classes"]  # fmt: skip
    lines = []
    cells = list(dict.fromkeys([*planned, *(row["cell"] for row in rows)]))
    for cell in cells:
        here = [row for row in rows if row["cell"] == cell]
        for method in dict.fromkeys([*planned.get(cell, ()), *(row["method"] for row in here)]):
            lines.append([cell, method, *_cells_of(here, rows, cell, method, baseline)])
    return text_table(head, lines)


def _cells_of(here: Rows, rows: Rows, cell: str, method: str, baseline: str) -> list[str]:
    mine = [row for row in here if row["method"] == method]
    known = [row for row in mine if row["discrepancy"] is not None]
    if not mine:
        return ["0", *["not run"] * 7]
    if not known:
        return [str(len(mine)), *["insufficient evidence"] * 7]
    swings = [row["swing"] for row in known if row["swing"] is not None]
    mean = mean_over_seeds([row["discrepancy"] for row in known])
    mean = mean._replace(low=float(np.maximum(mean.low, 0)))  # a distance; NaN stays
    out = [str(len(known)), _words(mean), f"{np.mean(swings):.3f}" if swings else "-"]
    kids = [kid(row) for row in known]
    if method == baseline:
        return [*out, "-", "-", _words(mean_over_seeds(kids), 2), "-", "-"]
    pairs = _Pairs(rows, method, baseline, [cell])
    if not pairs.cells:
        return [*out, "no baseline", "-", _words(mean_over_seeds(kids), 2), "-", "-"]
    p = paired_p(*pairs.discrepancies())
    return [*out, _percent(pairs.reduction()), "-" if np.isnan(p) else f"{p:.2g}",
            _words(mean_over_seeds(kids), 2), _words(pairs.kid_ratio(), 2),
            _words(pairs.kid_ratio_within(), 2)]  # fmt: skip


def pooled_table(rows: Rows, baseline: str) -> Table:
    """Reduction and KID ratio of each method, pooled over the pairs of a group of cells."""
    lines = [
        [group, method, str(len({*pairs.cells})), str(len(pairs.cells)),
         _percent(pairs.reduction()), _words(pairs.kid_ratio(), 2),
         _words(pairs.kid_ratio_within(), 2)]
        for group, method, pairs in _pooled(rows, baseline)
    ]  # fmt: skip
    head = ["group", "method", "cells", "pairs", "reduction", "KID ratio", "ratio within classes"]
    return text_table(head, lines)


def _pooled(rows: Rows, baseline: str) -> Iterator[tuple[str, str, _Pairs]]:
    """(group of cells, method, its pairs with the baseline), where there are any."""
    for group in dict.fromkeys(group_of(row["cell"]) for row in rows):
        cells = {row["cell"] for row in rows if group_of(row["cell"]) == group}
        for method in dict.fromkeys(row["method"] for row in rows if row["cell"] in cells):
            pairs = _Pairs(rows, method, baseline, cells)
            if method != baseline and pairs.cells:
                yield group, method, pairs


def chain_table(rows: Rows) -> Table:
    """Per cell, mean over seeds: discrepancy of the data and of the generators, ratio figures."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    head = ["cell", "biased set", "union", "weighted union", *methods, "log-loss", "Bayes gap",
            "log-ratio error", "rank correlation", "right order"]  # fmt: skip
    ratios = ("log_loss/ratio_test", "bayes_gap/ratio_test", "log_ratio_error/biased",
              "log_ratio_rank_correlation/biased", "log_ratio_concordance/biased")  # fmt: skip
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        here = [row for row in rows if row["cell"] == cell]
        seeds = {row["seed"]: row for row in here}.values()
        line = [cell, *(_mean(row.get("chain", {}).get(name) for row in seeds) for name in CHAIN)]
        line += [_mean(row["discrepancy"] for row in here if row["method"] == m) for m in methods]
        line += [_mean((row.get("ratio", {}).get(name) or [None])[0] for row in seeds)
                 for name in ratios]  # fmt: skip
        lines.append(line)
    return text_table(head, lines)


def lasting_table(rows: Rows) -> Table:
    """Per cell and method, over the second half of training: does the discrepancy rise again?

    The mean of the runs' slopes per doubling of kimg, and the KID of the last quarter over that of
    the third: near 1 the images no longer get better. Random features cannot tell: late in the
    training KID in them is near 0 (`eval.features_during` logs a better one).
    """
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        here = [row for row in rows if row["cell"] == cell]
        for method in dict.fromkeys(row["method"] for row in here):
            mine = [row for row in here if row["method"] == method and row.get("curve")]
            late = [[(k, d) for k, d, _ in row["curve"] if k > row["kimg"] / 2 and d is not None]
                    for row in mine]  # fmt: skip
            name, rated = kid_during(mine)
            kids = [[v for row in rated for k, _, v in row["curve"]
                     if low < k / row["kimg"] <= high and v is not None]
                    for low, high in ((0.5, 0.75), (0.75, 1.0))]  # fmt: skip
            third, last = (float(np.mean(v)) if v else np.nan for v in kids)
            slope = _words(slope_per_doubling(late)) + (" (one run)" if len(mine) == 1 else "")
            change = f"{last / third:.2f} ({name.split('/')[1]})" if min(third, last) > 0 else "-"
            lines.append([cell, method, str(len(mine)), str(sum(map(len, late))), slope, change])
    head = ["cell", "method", "seeds", "evaluations", "slope per doubling of kimg",
            "KID, last / third quarter"]  # fmt: skip
    return text_table(head, lines)


def front(rows: Rows) -> list[str]:
    """Sentences: the methods of each cell that no other beats in both discrepancy and KID."""
    said = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        here = [r for r in rows if r["cell"] == cell and r["discrepancy"] is not None]
        here = [r for r in here if np.isfinite(kid(r))]
        methods = list(dict.fromkeys(r["method"] for r in here))
        means = [
            (float(np.mean([r["discrepancy"] for r in here if r["method"] == m])),
             float(np.mean([kid(r) for r in here if r["method"] == m])))
            for m in methods
        ]  # fmt: skip
        best = [m for m, on in zip(methods, pareto(means), strict=True) if on]
        if best:
            said.append(f"{cell}: on the front of discrepancy and KID: {', '.join(best)}")
    return said


def _mean(values: Iterable[Any]) -> str:
    known = [float(v) for v in values if v is not None]
    return f"{np.mean(known):.3f}" if known else "-"


def _words(value: Interval, digits: int = 3) -> str:
    if np.isnan(value.value):
        return "-"
    text = f"{value.value:.{digits}f}"
    if np.isnan(value.low):
        return text
    return f"{text} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _percent(value: Interval) -> str:
    return _words(Interval(*(100 * x for x in value)), 0) + " %"
