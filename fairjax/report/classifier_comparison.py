"""Rows of many runs of classifiers -> a table: accuracies beside a baseline's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairjax.evaluate.comparison import Interval, mean_over_seeds, paired_p, pareto
from fairjax.report.tables import Table, text_table

Row = Mapping[str, Any]
TRAIN = "worst_group_accuracy/train"
NOTES = (
    "Accuracies in %, means over seeds. Intervals of means: t, over seeds, which each draw other "
    "images, colours and initial weights; of a single seed: Wilson's over its test images. Gain: "
    "mean difference of the worst-group accuracies of equal seeds, in points, with its t interval "
    "and the p of a paired t-test. With few seeds they are wide."
)


def accuracy_table(
    rows: Sequence[Row], baseline: str, planned: Mapping[str, Sequence[str]]
) -> Table:
    """Per cell and method: worst-group and average accuracy, worst group in training, gain.

    Args:
      rows: of `rows_of`, of classifiers.
      baseline: the method that the gain is over.
      planned: cell -> methods that should be there; what has no row says "not run".
    """
    head = ["cell", "method", "seeds", "worst group", "average", "worst group in training",
            f"gain over {baseline}", "paired p"]  # fmt: skip
    lines = []
    for cell in dict.fromkeys([*planned, *(row["cell"] for row in rows)]):
        here = [row for row in rows if row["cell"] == cell]
        base = {row["seed"]: row["worst_group"] for row in here if row["method"] == baseline}
        for method in dict.fromkeys([*planned.get(cell, ()), *(row["method"] for row in here)]):
            mine = sorted((r for r in here if r["method"] == method), key=lambda r: r["seed"])
            lines.append([cell, method, *_cells(mine, base, method == baseline)])
    return text_table(head, lines)


def fronts(rows: Sequence[Row]) -> list[str]:
    """Per cell the methods of which no other has both a better worst group and a better average,
    as means over seeds."""
    out = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        here = [row for row in rows if row["cell"] == cell]
        names = list(dict.fromkeys(row["method"] for row in here))
        mean = lambda name, key, of=here: np.mean([r[key] for r in of if r["method"] == name])
        points = [(-mean(n, "worst_group"), -mean(n, "average")) for n in names]
        best = [name for name, on in zip(names, pareto(points), strict=True) if on]
        out.append(f"{cell}: on the front of worst group and average: {', '.join(best)}")
    return out


def _cells(mine: Sequence[Row], base: Mapping[int, float], is_baseline: bool) -> list[str]:
    if not mine:
        return ["0", *["not run"] * 5]
    out = [str(len(mine))]
    for name in ("worst_group_accuracy/test", "average_accuracy/test"):
        out.append(_words(_over_seeds([row["figures"][name] for row in mine])))
    out.append(f"{100 * np.mean([row['figures'][TRAIN][0] for row in mine]):.1f}")
    pairs = [(row["worst_group"], base[row["seed"]]) for row in mine if row["seed"] in base]
    if is_baseline or not pairs:
        return [*out, "-", "-"]
    own, other = zip(*pairs, strict=True)
    p = paired_p(own, other)
    gain = mean_over_seeds([a - b for a, b in pairs])
    return [*out, _words(gain, sign="+"), "-" if np.isnan(p) else f"{p:.2g}"]


def _over_seeds(figures: Sequence[Sequence[float]]) -> Interval:
    """Mean and interval of figures [value, low, high]; that of the figure where it is alone."""
    if len(figures) == 1:
        return Interval(*figures[0])
    return mean_over_seeds([value for value, _, _ in figures])


def _words(found: Interval, sign: str = "") -> str:
    text = f"{100 * found.value:{sign}.1f}"
    if np.isfinite(found.low):
        text += f" [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]"
    return text
