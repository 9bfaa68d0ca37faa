"""The page of an audit of predictions: the answer, rates of every group, gaps, verdicts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.data.predictions import Predictions
from fairjax.evaluate.figures import Figure, without_nan
from fairjax.evaluate.rates import RATES, SPREADS, Groups
from fairjax.evaluate.stress import Point
from fairjax.report import drawing, words
from fairjax.report.answer import Answer
from fairjax.report.figure_tables import LIMITS, limit_rows
from fairjax.report.pages import write_pages
from fairjax.report.tables import Cell, Table

SCORES = ("average_precision", "roc_auc", "calibration_error")
DRAWN = {"selection_rate": "Share decided positive",
         "true_positive_rate": "Of the positives, share found",
         "false_positive_rate": "Of the negatives, share taken for positive"}  # fmt: skip
# Shares among the gaps; the others are numbers.
SHARES = ("_difference", "worst_group_accuracy")

Named = Mapping[str, Figure]


def build(
    folder: Path, title: str, table: Predictions, sets: Sequence[Groups], named: Named,
    checks: dict[str, Any], other: Mapping[str, Mapping[str, Any]], stressed: Sequence[Point],
) -> Path:  # fmt: skip
    """Writes index.html, one file that needs no other file and no network.

    Args:
      named: all figures. checks: what verdicts were found, see `verdicts.as_json`.
      other: what the figures of other decisions on the same rows begin with -> how these came
        about; empty where there are none. stressed: the points of all stress curves.
    """
    context = {
        "answer": answer(table, sets, named),
        "title": title,
        "command": (folder / "command.txt").read_text("utf-8").strip(),
        "rows": len(table.truth),
        "positive": table.positive,
        "dropped": table.dropped,
        "parts": [(g.label, _charts(g, named), _rates(g, named), _gaps(g, named)) for g in sets],
        "overall": _overall(named),
        "stressed": [
            chart
            for groups in sets
            for kind in dict.fromkeys(p.kind for p in stressed)
            if (chart := _stressed(kind, groups.label, stressed))
        ],
        "others": [
            (word, _said(word, said, named), _compared(word, sets, named))
            for word, said in other.items()
        ],
        "limits": _limits(checks, named),
        "moved": checks.get("moved", []),
        "compared": checks.get("compared", 0),
    }
    write_pages(folder, context, {"audited_predictions.html.j2": "index.html"})
    return folder / "index.html"


def answer(table: Predictions, sets: Sequence[Groups], named: Named) -> Answer:
    """Who comes off worst, and by how much more than chance."""
    if np.unique(table.decided).size == 1:
        said = table.positive if table.decided[0] else f"not {table.positive}"
        return Answer(f"The classifier is constant: it decides “{said}” for everybody", "bad",
                      ["It knows nothing of the examples: no gap between groups means anything "
                       "here; an accuracy is only the share of one class."], [], [])  # fmt: skip
    sentences, proven = [], []
    for groups in sets:
        odds = named[f"equalized_odds_difference/{groups.label}"]
        worst = named[f"worst_group_accuracy/{groups.label}"]
        if not math.isfinite(odds.value):
            sentences.append(f"By {groups.label}: insufficient evidence, a group without positives "
                             "or negatives.")  # fmt: skip
            continue
        sentences.append(f"By {groups.label}: the largest difference in true or false positive "
                         f"rates is {words.percent(odds)} ({odds.note}); worst accuracy "
                         f"{words.percent(worst)} ({worst.note}).")  # fmt: skip
        if odds.low > 0:
            proven.append(groups.label)
    accuracy = named["accuracy/all/all"]
    headline = f"Errors differ between the groups of {' and '.join(proven)}" if proven else (
        "No difference between groups is proven")  # fmt: skip
    sentences.insert(0, f"Over all rows the accuracy is {words.percent(accuracy)}.")
    caveats = [
        "Intervals are 95 % and cover the drawing of the rows, not the training of the classifier, "
        "nor that the groups at the ends were picked after looking: the gap of many groups is "
        "above 0 by chance alone."
    ]
    return Answer(headline, "bad" if proven else "open", sentences, [], caveats)


def _charts(groups: Groups, named: Named) -> list[drawing.Picture]:
    """One chart for each rate that the gaps are made of: a dot and an interval for each group."""
    charts = []
    for rate, title in DRAWN.items():
        rows = []
        for k, name in enumerate(groups.names):
            figure = named[f"{rate}/{groups.label}/{name}"]
            if math.isfinite(figure.value):
                colour = drawing.COLOURS[(k + 1) % len(drawing.COLOURS)]
                rows.append((f"{name} ({figure.n})", figure.value, figure.low, figure.high, colour))
        overall = named[f"{rate}/all/all"].value
        if rows:
            charts.append(drawing.shares(rows, overall, title, "dashed: all"))
    return charts


def _rates(groups: Groups, named: Named) -> Table:
    kinds = _kinds(f"{groups.label}/{groups.names[0]}", named)
    rows = [[Cell(kind.replace("_", " "), kind),
             *(_cell(named[f"{kind}/{groups.label}/{name}"], kind in RATES)
               for name in groups.names)] for kind in kinds]  # fmt: skip
    return Table(["rate", *groups.names], rows)


def _kinds(of: str, named: Named) -> list[str]:
    return [kind for kind in (*RATES, *SCORES) if f"{kind}/{of}" in named]


def _overall(named: Named) -> Table:
    kinds = _kinds("all/all", named)
    rows = [[Cell(kind.replace("_", " "), kind), _cell(named[f"{kind}/all/all"], kind in RATES)]
            for kind in kinds]  # fmt: skip
    return Table(["rate", "all"], rows)


def _gaps(groups: Groups, named: Named) -> Table:
    rows = []
    for name, figure in named.items():
        kind, *rest = name.split("/")
        own = rest[:1] == [groups.label] or rest == [f"label+{groups.label}"]
        if own and kind not in (*RATES, *SCORES):
            words_of = kind.replace("_", " ") + (" by label and group" if "label+" in name else "")
            words_of += f": {rest[1]}" if len(rest) > 1 else ""
            rows.append([Cell(words_of, name), _cell(figure, kind.endswith(SHARES)),
                         Cell(figure.note, faint=True)])  # fmt: skip
    return Table(["gap", "value", "between"], rows)


def _said(word: str, said: Mapping[str, Any], named: Named) -> list[str]:
    """How other decisions came about, and what they cost."""
    change = named["change/accuracy/all/all"]
    sure = "" if change.low > 0 or change.high < 0 else ", which may be chance"
    sentences = []
    if said.get("file"):
        sentences.append(f"Other: the decisions on the same rows in {said['file']}.")
    if said.get("ensemble"):
        how = "mean of the scores" if said["ensemble"] == "mean" else "majority of the decisions by"
        sentences.append(f"As given: by {said['scores'][0]}. Together: the {how} "
                         f"{', '.join(said['scores'])}.")  # fmt: skip
    if said.get("repair"):
        fitted = "; ".join(f"{group}: " + ", ".join(f"{key} {value:.3g}" for key, value in
                           of.items()) for group, of in said["groups"].items())  # fmt: skip
        sentences.append(f"Repair: {said['repair']} by {said['by']}, fitted on other rows "
                         f"({fitted}).")  # fmt: skip
    if named[f"{word}/selection_rate/all/all"].value in (0, 1):
        sentences.append("These decisions are the same for everybody: no gap means anything here.")
    return [*sentences, f"The accuracy changes by {words.percent(change)} of the rows{sure}."]


def _compared(word: str, sets: Sequence[Groups], named: Named) -> Table:
    """Accuracy and gaps of the decisions as given, of the other ones, and how they change."""
    kinds = [f"{kind}_difference" for kind in (*SPREADS, "equalized_odds")]
    names = ["accuracy/all/all"]
    for groups in sets:
        names += [f"{kind}/{groups.label}" for kind in (*kinds, "worst_group_accuracy")]
        names += [f"calibration_error/{groups.label}/{group}" for group in groups.names]
    rows = []
    for name in names:
        if f"{word}/{name}" not in named:
            continue  # there are no other scores
        share = not name.startswith("calibration_error")
        change = named.get(f"change/{name}")
        kind, *rest = name.removesuffix("/all/all").split("/")
        words_of = kind.replace("_", " ") + (f": {', '.join(rest)}" if rest else "")
        rows.append([Cell(words_of, name), _cell(named[name], share),
                     _cell(named[f"{word}/{name}"], share),
                     _cell(change, share) if change else Cell("–", faint=True)])  # fmt: skip
    return Table(["figure", "as given", word, "change"], rows)


def _stressed(kind: str, label: str, stressed: Sequence[Point]) -> drawing.Picture | None:
    """The gap in true and false positive rates over the damage, a curve for each damaged group;
    None where there is no evidence for it."""
    found: dict[str, list[Point]] = {}
    for point in stressed:
        of = point.kind, point.figure
        if of == (kind, f"equalized_odds_difference/{label}") and math.isfinite(point.value):
            found.setdefault(point.group, []).append(point)
    if not found:
        return None
    # Of many groups those whose damage moves the gap farthest.
    farthest = sorted(found.items(), key=lambda item: -abs(item[1][-1].value - item[1][0].value))
    lines = [
        drawing.Line(name, [p.level for p in points], [p.value for p in points],
                     drawing.COLOURS[(i + 1) % len(drawing.COLOURS)])
        for i, (name, points) in enumerate(farthest[: len(drawing.COLOURS)])
    ]  # fmt: skip
    across = {"flips": "share of the group's labels that are wrong",
              "noise": "noise on the group's logits (standard deviation)"}[kind]  # fmt: skip
    words_of = "; ".join(f"{line.label} {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    title = f"Equalised odds difference by {label}"
    alt = f"{title} over {across}: {words_of}"
    return drawing.curves(lines, title, alt, top=math.nan, across=across)


def _limits(checks: dict[str, Any], named: Named) -> Table | None:
    rows = list(limit_rows(without_nan(checks), named))
    return Table(LIMITS, rows) if rows else None


def _cell(figure: Figure, share: bool) -> Cell:
    text = words.percent(figure) if share else words.number(figure)
    note = "; ".join(
        part for part in (f"n = {figure.n:,}" if figure.n else "", figure.note) if part
    )
    return Cell(text, note, faint=not math.isfinite(figure.value))
