"""The page of an audit of predictions: the answer, rates of every group, gaps, verdicts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.data.predictions import Predictions
from fairjax.evaluate.figures import Figure, without_nan
from fairjax.evaluate.rates import RATES, SPREADS, Groups, everybody
from fairjax.evaluate.scores import Bin
from fairjax.evaluate.stress import STEADY, Point
from fairjax.report import audited_pictures, words
from fairjax.report.answer import Answer
from fairjax.report.figure_tables import LIMITS, limit_rows, remarks
from fairjax.report.pages import write_pages
from fairjax.report.tables import Cell, Table

SCORES = ("average_precision", "roc_auc", "calibration_error")
# Shares among the gaps; the others are numbers.
SHARES = ("_difference", "worst_group_accuracy", "average_accuracy")

Named = Mapping[str, Figure]


class Seen(NamedTuple):
    """All that an audit found.

    Attributes:
      table: the rows. sets: the groups. named: all figures.
      checks: what verdicts, movements and notes were found, see `ruling.Ruling.checks`.
      others: what the figures of other decisions on the same rows begin with -> (what stands before
        `change/..`, how these came about).
      stressed: points of all stress curves. bins: of all reliability curves.
      errors: attributes -> (group, row, loss) of the surest wrong decisions; images: some of these
        rows -> uint8 [h, w, c].
    """

    table: Predictions
    sets: Sequence[Groups]
    named: Named
    checks: Mapping[str, Any]
    others: Mapping[str, tuple[str, Mapping[str, Any]]]
    stressed: Sequence[Point]
    bins: Sequence[Bin]
    errors: audited_pictures.Errors
    images: Mapping[int, np.ndarray]


def build(folder: Path, title: str, seen: Seen) -> Path:
    """Writes index.html, one file that needs no other file and no network."""
    table, sets, named = seen.table, seen.sets, seen.named
    context = {
        "answer": answer(table, sets, named),
        "title": title,
        "command": (folder / "command.txt").read_text("utf-8").strip(),
        "rows": len(table.truth),
        "positive": table.positive,
        "dropped": table.dropped,
        "parts": [_part(groups, seen) for groups in sets],
        "overall": _rates(everybody(len(seen.table.truth)), named),
        "reliable": audited_pictures.reliable("all", seen.bins),
        "stressed": _stressed(seen),
        "steady": [(groups.label, found) for groups in sets
                   if (found := _steady(groups, named))],
        "others": list(seen.others),
        "said": [_said(word, before, said, named) for word, (before, said) in seen.others.items()],
        "compared": _compared(seen) if seen.others else None,
        "limits": _limits(seen.checks, named),
        "notes": remarks(seen.checks, named),
        "moved": seen.checks.get("moved", []),
        "held": seen.checks.get("compared", 0),
    }  # fmt: skip
    write_pages(folder, context, {"audited_predictions.html.j2": "index.html"})
    return folder / "index.html"


def _part(groups: Groups, seen: Seen) -> dict[str, Any]:
    """What the page shows of one way to group."""
    return {
        "label": groups.label,
        "charts": audited_pictures.rates(groups, seen.named),
        "reliable": audited_pictures.reliable(groups.label, seen.bins),
        "rates": _rates(groups, seen.named),
        "gaps": _gaps(groups, seen.named),
        "wrong": audited_pictures.wrong(groups.label, seen.errors, seen.images),
    }


def _stressed(seen: Seen) -> list[list[Any]]:
    """Pairs of charts, one for each kind of damage and way to group."""
    found = []
    for groups in seen.sets:
        for kind in dict.fromkeys(point.kind for point in seen.stressed):
            draw = (audited_pictures.stress_accuracy, audited_pictures.stress_gap)
            charts = [chart for of in draw if (chart := of(kind, groups.label, seen.stressed))]
            if charts:
                found.append(charts)
    return found


def _steady(groups: Groups, named: Named) -> Table | None:
    """How many decisions of each group stay under each harmless change of the images."""
    kinds = list(dict.fromkeys(name.split("/")[1] for name in named if name.startswith(STEADY[0])))
    rows = []
    for kind in kinds:
        cells = [Cell(kind, f"{STEADY[0]}/{kind}")]
        for group in groups.names:
            kept, moved = (named[f"{figure}/{kind}/{groups.label}/{group}"] for figure in STEADY)
            cells.append(Cell(words.percent(kept), f"n = {kept.n:,}; scores move by "
                              f"{words.number(moved)} in the mean"))  # fmt: skip
        rows.append(cells)
    return Table(["decisions that stay", *groups.names], rows) if rows else None


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


def _rates(groups: Groups, named: Named) -> Table:
    kinds = [kind for kind in (*RATES, *SCORES)
             if f"{kind}/{groups.label}/{groups.names[0]}" in named]  # fmt: skip
    rows = [[Cell(kind.replace("_", " "), kind),
             *(_cell(named[f"{kind}/{groups.label}/{name}"], kind in RATES)
               for name in groups.names)] for kind in kinds]  # fmt: skip
    return Table(["rate", *groups.names], rows)


def _gaps(groups: Groups, named: Named) -> Table:
    rows = []
    for name, figure in named.items():
        kind, *rest = name.split("/", 2)  # a group may be called a/b
        own = rest[:1] in ([groups.label], [f"label+{groups.label}"])
        if own and kind not in (*RATES, *SCORES, *STEADY):
            words_of = kind.replace("_", " ") + (" by label and group" if "label+" in name else "")
            words_of += f": {rest[1].replace('_', ' ')}" if len(rest) > 1 else ""
            rows.append([Cell(words_of, name), _cell(figure, kind.endswith(SHARES)),
                         Cell(figure.note, faint=True)])  # fmt: skip
    return Table(["gap", "value", "between"], rows)


def _said(word: str, before: str, said: Mapping[str, Any], named: Named) -> list[str]:
    """How other decisions came about, and what they cost."""
    change = named[f"{before}change/accuracy/all/all"]
    sure = "" if change.low > 0 or change.high < 0 else ", which may be chance"
    sentences = []
    if said.get("file"):
        sentences.append(f"Other: the decisions on the same rows in {said['file']}.")
    if said.get("ensemble"):
        how = "mean of the scores" if said["ensemble"] == "mean" else "majority of the decisions by"
        sentences.append(f"As given: by {said['scores'][0]}. Together: the {how} "
                         f"{', '.join(said['scores'])}.")  # fmt: skip
    if said.get("groups"):
        fitted = "; ".join(f"{group}: " + ", ".join(f"{key} {value:.3g}" for key, value in
                           of.items()) for group, of in said["groups"].items())  # fmt: skip
        sentences.append(f"Repair: {said['repair']} by {said['by']}, fitted on other rows "
                         f"({fitted}).")  # fmt: skip
    elif said.get("repair"):
        how = {"randomised": "the thresholds of fairlearn, which draw lots between two a group",
               "reductions": "fairlearn's mixture of linear classifiers of the features"}[
                   said["with"]]  # fmt: skip
        sentences.append(f"{word.capitalize()}: {said['repair']} by {said['by']} with {how}, "
                         f"fitted on other rows. Seed {said['seed']}; with the next one "
                         f"{100 * said['otherwise_with_the_next_seed']:.1f} % of the rows are "
                         "decided otherwise.")  # fmt: skip
    if named[f"{word}/selection_rate/all/all"].value in (0, 1):
        sentences.append("These decisions are the same for everybody: no gap means anything here.")
    return [*sentences, f"The accuracy changes by {words.percent(change)} of the rows{sure}."]


def _compared(seen: Seen) -> Table:
    """Accuracy and gaps of the decisions as given, of the other ones, and how they change."""
    kinds = [f"{kind}_difference" for kind in (*SPREADS, "equalized_odds")]
    names = ["accuracy/all/all"]
    for groups in seen.sets:
        names += [f"{kind}/{groups.label}" for kind in (*kinds, "worst_group_accuracy")]
        names += [f"calibration_error/{groups.label}/{group}" for group in groups.names]
    one = len(seen.others) == 1  # the changes of several would not fit beside each other
    rows = []
    for name in names:
        if not any(f"{word}/{name}" in seen.named for word in seen.others):
            continue  # there are no other scores
        share = not name.startswith("calibration_error")
        kind, *rest = name.removesuffix("/all/all").split("/", 2)
        words_of = kind.replace("_", " ") + (f": {', '.join(rest)}" if rest else "")
        row = [Cell(words_of, name), _cell(seen.named[name], share)]
        for word, (before, _) in seen.others.items():
            there, change = (_cell(seen.named[of], share) if of in seen.named else
                             Cell("–", faint=True) for of in
                             (f"{word}/{name}", f"{before}change/{name}"))  # fmt: skip
            more = f"changes by {change.text}" if change.text != "–" else ""
            row += [there, change] if one else [there._replace(note=more)]
        rows.append(row)
    return Table(["figure", "as given", *seen.others, *(["change"] if one else [])], rows)


def _limits(checks: Mapping[str, Any], named: Named) -> Table | None:
    rows = list(limit_rows(without_nan(dict(checks)), named))
    return Table(LIMITS, rows) if rows else None


def _cell(figure: Figure, share: bool) -> Cell:
    text = words.percent(figure) if share else words.number(figure)
    note = "; ".join(
        part for part in (f"n = {figure.n:,}" if figure.n else "", figure.note) if part
    )
    return Cell(text, note, faint=not math.isfinite(figure.value))
