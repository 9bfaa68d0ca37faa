"""Pictures of an audit of predictions: rates, reliability, stress, and what was decided wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure
from fairjax.evaluate.rates import Groups
from fairjax.evaluate.scores import Bin
from fairjax.evaluate.stress import Point
from fairjax.report import drawing, sheets

DRAWN = {"selection_rate": "Share decided positive",
         "true_positive_rate": "Of the positives, share found",
         "false_positive_rate": "Of the negatives, share taken for positive"}  # fmt: skip
ACROSS = {"flips": "share of the group's labels that are wrong",
          "noise": "noise on the group's logits (standard deviation)",
          "fgsm": "one-step attack (FGSM): largest change of a pixel, of 255",
          "pgd": "ten-step attack (PGD): largest change of a pixel, of 255",
          "pixels": "noise on the pixels (standard deviation, of 255)"}  # fmt: skip
ENOUGH = 20  # rows of a bin that is drawn
MOST_SHEETS = 12  # groups whose wrong decisions are shown

Errors = Mapping[str, Sequence[tuple[str, int, float]]]  # attributes -> (group, row, loss)


class Wrong(NamedTuple):
    """The n surest wrong decisions of a group, as a sheet of images."""

    group: str
    n: int
    sheet: sheets.Sheet


def rates(groups: Groups, named: Mapping[str, Figure]) -> list[drawing.Picture]:
    """One chart for each rate that the gaps are made of: a dot and an interval for each group."""
    charts = []
    for rate, title in DRAWN.items():
        rows = []
        for k, name in enumerate(groups.names):
            figure = named[f"{rate}/{groups.label}/{name}"]
            if math.isfinite(figure.value):
                rows.append((f"{name} ({figure.n})", figure.value, figure.low, figure.high,
                             _colour(k)))  # fmt: skip
        overall = named[f"{rate}/all/all"].value
        if rows:
            charts.append(drawing.shares(rows, overall, title, "dashed: all"))
    return charts


def reliable(label: str, bins: Sequence[Bin]) -> drawing.Picture | None:
    """Share of positives over the mean score of each bin with enough rows, a curve for each group;
    None where no bin has."""
    found: dict[str, list[Bin]] = {}
    for one in bins:
        if one.attributes == label and one.n >= ENOUGH:
            found.setdefault(one.group, []).append(one)
    if not found:
        return None
    largest = sorted(found.items(), key=lambda item: -sum(b.n for b in item[1]))
    lines = [drawing.Line("calibrated", (0, 1), (0, 1), drawing.COLOURS[0])]
    lines += [drawing.Line(group, [b.score for b in of], [b.positives for b in of], _colour(k))
              for k, (group, of) in enumerate(largest[: len(drawing.COLOURS) - 1])]  # fmt: skip
    alt = "; ".join(f"{line.label} " + ", ".join(f"{x:.2f}: {y:.2f}" for x, y in
                    zip(line.x, line.y, strict=True)) for line in lines[1:])  # fmt: skip
    title = f"Are scores right? By {label}"
    return drawing.curves(lines, title, f"{title}: share of positives over mean score: {alt}",
                          top=1.0, across=f"mean score of a bin; up: share of positives ({ENOUGH} "
                          "rows and more)")  # fmt: skip


def stress_gap(kind: str, label: str, points: Sequence[Point]) -> drawing.Picture | None:
    """The gap in true and false positive rates over the damage, a curve for each damaged group;
    None where there is no evidence for it."""
    title = f"Equalised odds difference by {label}, one group damaged"
    return _over(kind, label, points, f"equalized_odds_difference/{label}", title, math.nan)


def stress_accuracy(kind: str, label: str, points: Sequence[Point]) -> drawing.Picture | None:
    """The accuracy of each group over the damage of its images; None of labels and scores."""
    title = f"Accuracy of each group of {label}"
    return _over(kind, label, points, f"accuracy/{label}/", title, 1.0)


def _over(
    kind: str, label: str, points: Sequence[Point], figure: str, title: str, top: float
) -> drawing.Picture | None:
    found: dict[str, list[Point]] = {}
    for point in points:
        own = point.kind == kind and point.attributes == label and math.isfinite(point.value)
        if own and point.figure in (figure, figure + point.group):
            found.setdefault(point.group, []).append(point)
    if not found:
        return None
    # Of many groups those that move farthest.
    farthest = sorted(found.items(), key=lambda item: -abs(item[1][-1].value - item[1][0].value))
    place = {name: k for k, name in enumerate(found)}  # a group has one colour in all charts
    lines = [
        drawing.Line(name, [p.level for p in of], [p.value for p in of], _colour(place[name]))
        for name, of in farthest[: len(drawing.COLOURS)]
    ]
    words_of = "; ".join(f"{line.label} {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    alt = f"{title} over {ACROSS[kind]}: {words_of}"
    return drawing.curves(lines, title, alt, top=top, across=ACROSS[kind])


def wrong(label: str, errors: Errors, images: Mapping[int, np.ndarray]) -> list[Wrong]:
    """A row of images for each group, the surest wrong decision first; [] where none are known."""
    of: dict[str, list[int]] = {}
    for group, row, _ in errors[label]:
        if row in images:
            of.setdefault(group, []).append(row)
    found = []
    for group, rows in list(of.items())[:MOST_SHEETS]:
        first = images[rows[0]]
        kept = rows[: sheets.columns(first.shape[1])]
        sheet = sheets.grid(np.stack([images[row] for row in kept]),
                            f"{len(kept)} images of {group} that were decided wrong")  # fmt: skip
        if sheet:
            found.append(Wrong(group, len(kept), sheet))
    return found


def _colour(k: int) -> str:
    return drawing.COLOURS[(k + 1) % len(drawing.COLOURS)]
