"""What an audit measures, and the files that it leaves for the page."""

import csv
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fairjax.data import labels
from fairjax.data.cache import write_json
from fairjax.data.proportions import class_names, classes
from fairjax.errors import InputError
from fairjax.evaluate.fairness import (
    KINDS,
    JudgeErrors,
    disagreement_figure,
    discrepancy,
    fairness_figures,
    proportions,
)
from fairjax.evaluate.features import UNTRAINED, Network
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.measured import Measured, measured_once
from fairjax.evaluate.quality import by_class, overall, within
from fairjax.experiments.audit_images import ImageSet
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.train.progress import Meter

log = logging.getLogger("fairjax")

Rows = list[dict[str, Any] | None]  # what a table says of each image


class Judged(NamedTuple):
    """One attribute set: who the samples and the reference images are.

    Attributes:
      label: attributes joined by "+". classes: k names.
      samples: float [n, k] probabilities; of rows of a table, one-hot, NaN where it says nothing.
      reference: the same of the reference images [m, k].
      truth: int [m], the reference images' classes, -1 unknown; None where no table has them.
      errors: those of the judge; None of a table.
      votes: what several networks of the judge say of the samples [n, members, k]; None without.
      disagreement: of these on real images.
    """

    label: str
    classes: tuple[str, ...]
    samples: np.ndarray
    reference: np.ndarray
    truth: np.ndarray | None
    errors: JudgeErrors | None
    votes: np.ndarray | None = None
    disagreement: float = math.nan

    @classmethod
    def by_judge(cls, judge: SavedJudge, reference: ImageSet) -> "Judged":
        """What a judge says of the reference images, whose own labels are used where a table has
        them; of the samples nothing yet.

        Raises InputError where the table has other classes than the judge.
        """
        truth = None
        if any(reference.rows):
            truth = classes_by_name(judge.label, judge.classes, reference.rows,
                                    "--reference_labels")  # fmt: skip
        none = np.zeros((0, len(judge.classes)))
        return cls(judge.label, judge.classes, none, judge.score(reference.pixels), truth,
                   judge.errors, disagreement=judge.disagreement)  # fmt: skip

    @classmethod
    def by_labels(
        cls, samples: Rows, reference: Rows, wanted: Sequence[str] | None
    ) -> list["Judged"]:
        """What the tables say; [] where there are none.

        Raises InputError where one of the sets has no labels, lacks a wanted attribute, or has its
        values in other words than the other set.
        """
        if not any(samples) and not any(reference):
            if wanted:
                raise InputError("no labels", f"--attributes={','.join(wanted)}", "Give --labels")
            return []
        for rows, flag in ((samples, "labels"), (reference, "reference_labels")):
            if not any(rows):
                raise InputError("not given, while the other set has labels", f"--{flag}",
                                 "Give a table for both sets, or --judge")  # fmt: skip
        # Both at once, so that a value has the same code in both sets.
        rows = [*samples, *reference]
        for label in wanted or ():
            _all_there(rows, label, f"--attributes={label}", "The tables have {}")
        codes, values = labels.encode(_only(rows, wanted), where="--labels")
        for name in values:
            if "+" in name:
                raise InputError(f"a column named {name!r}", "--labels", "Rename it, as a+b stands "
                                 "for all combinations of a and b")  # fmt: skip
            _check_words(name, samples, reference)
        n, found = len(samples), []
        for label in wanted or list(values):
            names = label.split("+")
            columns = [list(values).index(name) for name in names]
            sizes = [len(values[name]) for name in names]
            of = classes(codes[:, columns], sizes)
            titles = class_names([values[name] for name in names])
            one_hot = np.where(of[:, None] < 0, np.nan, np.eye(len(titles))[np.maximum(of, 0)])
            if len(titles) < 2 or (of[:n] < 0).all() or (of[n:] < 0).all():
                raise InputError(f"{label} has {len(titles)} value(s), known of "
                                 f"{(of[:n] >= 0).sum()} samples and {(of[n:] >= 0).sum()} "
                                 "reference images", "--labels", "Name other --attributes, or "
                                 "label images of both sets")  # fmt: skip
            found.append(cls(label, titles, one_hot[:n], one_hot[n:], of[n:], None))
        return found


def _check_words(name: str, samples: Rows, reference: Rows) -> None:
    """Raises InputError where the two sets seem to say the same in other words, such as 0 and 1
    beside -1 and 1."""
    said = [{labels.plain(row.get(name)) for row in rows if row} - {None}
            for rows in (samples, reference)]  # fmt: skip
    signed = [words == {"-1", "1"} for words in said]
    mixed = any(signed) and not all(words <= {"-1", "1"} for words in said)
    if all(said) and (mixed or not said[0] & said[1]):
        ours, theirs = (", ".join(sorted(map(str, words))[:5]) for words in said)
        raise InputError(f"{name!r} has the values {ours} in samples and {theirs} in the reference",
                         "--labels and --reference_labels",
                         "Write the same words in both tables")  # fmt: skip


def own_labels(samples: Rows, reference: Rows, judges: Sequence[str]) -> tuple[Rows, Rows]:
    """What is used of the labels inside zips (`dataset.json`), where no table was given: those of
    both sets, or with judges the reference set's if it has all their attributes."""
    used = any(samples) and any(reference)
    if judges:
        columns = {name for row in reference if row for name in row}
        used = columns >= {name for label in judges for name in label.split("+")}
    return (samples, reference) if used else ([None] * len(samples), [None] * len(reference))


def _only(rows: Rows, labels_: Sequence[str] | None) -> Rows:
    """The columns of these attribute sets; all where none is named."""
    if not labels_:
        return rows
    names = {name for label in labels_ for name in label.split("+")}
    return [row and {k: v for k, v in row.items() if k in names} for row in rows]


def _all_there(rows: Rows, label: str, where: str, mend: str) -> None:
    columns = list(dict.fromkeys(name for row in rows if row for name in row))
    for name in label.split("+"):
        if name not in columns:
            raise InputError(f"no column {name!r}", where, mend.format(columns))


def classes_by_name(
    label: str, wanted: Sequence[str], rows: list[dict[str, Any] | None], where: str
) -> np.ndarray:
    """int [m]: the class of each row among the wanted names, -1 unknown.

    Raises InputError where the table lacks an attribute of the label or its values, or has other
    classes.
    """
    names = label.split("+")
    _all_there(rows, label, where, f"The judge of {label} needs it; the table has {{}}")
    codes, values = labels.encode(_only(rows, [label]), where=where)
    empty = [name for name in names if not values[name]]
    if empty:
        raise InputError(f"no image has a value of {empty[0]!r}", where, "Fill in the column")
    titles = class_names([values[name] for name in names])
    unknown = [title for title in titles if title not in wanted]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no class of the judge", where,
                         f"Its classes are {list(wanted)}")  # fmt: skip
    columns = [list(values).index(name) for name in names]
    of = classes(codes[:, columns], [len(values[name]) for name in names])
    place = np.array([list(wanted).index(title) for title in titles])
    return np.where(of < 0, -1, place[np.maximum(of, 0)])


def names_of(judged: Sequence[Judged], networks: Sequence[str], several: bool) -> list[str]:
    """The names of all figures that an audit can have; some classes may prove too small."""
    names: list[str] = []
    classes_of = [f"{one.label}/{k}" for one in judged for k in range(len(one.classes))]
    for network in networks:
        whole = ("frechet", "inception_score") if network != UNTRAINED else ()
        names += [f"{figure}/{network}" for figure in whole]
        quality = ("precision", "recall", "density", "coverage") if _full(network, networks) else ()
        for of in ("", *(f"/{name}" for name in classes_of)):
            names += [f"{figure}/{network}{of}" for figure in ("kid", *quality)]
    for one in judged:
        kinds = KINDS if one.errors is not None else ("hard",)
        some = np.eye(len(one.classes))
        names += [f.name for f in fairness_figures(some, one.errors, some, None, one.label,
                                                   draws=2, kinds=kinds)]  # fmt: skip
        if several:
            names += [f"mean_discrepancy/{one.label}/hard/raw/{against}"
                      for against in ("uniform", "reference")]  # fmt: skip
    return names


def _full(network: str, networks: Sequence[str]) -> bool:
    """Whether fidelity and variety are measured in its features: not if there are better ones."""
    return network != UNTRAINED or len(networks) == 1


def figures_of(
    samples: Mapping[str, Measured],
    reference: ImageSet,
    judged: Sequence[Judged],
    networks: Sequence[Network],
) -> list[Figure]:
    """Shares and discrepancies of each attribute set; distances, fidelity and variety, overall and
    within the classes. `samples` has what each network saw of them."""
    found: list[Figure] = []
    for one in judged:
        known = np.isfinite(one.samples).all(1), np.isfinite(one.reference).all(1)
        truth = None if one.truth is None else one.truth[known[1]]
        kinds = KINDS if one.errors is not None else ("hard",)
        said = one.samples[known[0]] if one.votes is None else one.votes
        found += fairness_figures(said, one.errors, one.reference[known[1]], truth, one.label,
                                  kinds=kinds)  # fmt: skip
        if one.votes is not None:
            found.append(disagreement_figure(one.votes, one.label, one.disagreement))
        if not known[0].all():
            log.info("%s: %d samples have no label", one.label, (~known[0]).sum())
        unlabelled = ~known[1] if one.truth is None else one.truth < 0
        if unlabelled.any():
            log.info("%s: %d reference images have no label", one.label, unlabelled.sum())
    for network in networks:
        ours, name = samples[network.name], network.name
        with Meter(f"reference images, {name}", len(reference.pixels)) as meter:
            theirs = measured_once(network, reference.pixels, None, reference.weights,
                                   meter.update)  # fmt: skip
        full = _full(name, [other.name for other in networks])
        found += overall(name, ours, theirs, full)
        for one in judged:
            truth = one.reference.argmax(-1) if one.truth is None else one.truth
            known = np.isfinite(one.samples).all(1)
            decided = np.where(known, one.samples.argmax(-1), -1)[: len(ours.rows.x)]
            parts = by_class(decided, truth[: len(theirs.rows.x)], one.classes)
            found += within(name, [(f"{one.label}/{k}", title, ours.rows.at(x), theirs.rows.at(y))
                                   for k, title, x, y in parts], full)  # fmt: skip
    return found


def over_sets(judged: Sequence[Judged], more: Iterable[Mapping[str, np.ndarray]]) -> list[Figure]:
    """The published figure (Choi et al. 2020, section 4.1): the discrepancy of the judge's bare
    decisions, as mean over sets of samples.

    Its 95 % interval is Student's t over the sets: it speaks of the drawing of samples only, not of
    the judge's errors. `more` has what the judges say of the sets after the first,
    {label: [n, k]}.
    """
    shares = [[proportions(one.samples, "hard")] for one in judged]
    n = len(judged[0].samples)
    for scores in more:
        for one, found in zip(judged, shares, strict=True):
            found.append(proportions(scores[one.label], "hard"))
    figures = []
    for one, found in zip(judged, shares, strict=True):
        k = len(one.classes)
        targets = {"uniform": np.full(k, 1 / k), "reference": proportions(one.reference, "hard")}
        for against, target in targets.items():
            values = [discrepancy(share, target) for share in found]
            mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)
            half = float(stats.t.ppf(0.975, len(values) - 1)) * error
            name = f"mean_discrepancy/{one.label}/hard/raw/{against}"
            figures.append(Figure(name, mean, max(0.0, mean - half), mean + half, n * len(values),
                                  f"mean over {len(values)} sets of {n}, standard error "
                                  f"{error:.4f}"))  # fmt: skip
    return figures


def saved(
    out: Path,
    arm: str,
    samples: np.ndarray,
    judged: Sequence[Judged],
    n_reference: int,
    figures: Sequence[Figure],
    checks: dict[str, Any],
) -> None:
    """Writes what the page reads, and figures.csv."""
    place = out / f"arms/{arm}/eval"
    place.mkdir(parents=True)
    write_figures(place / "metrics.json", figures, checks)
    shown = {f"judge/{one.label}": one.samples[: len(samples)] for one in judged
             if np.isfinite(one.samples[: len(samples)]).all()}  # fmt: skip
    np.savez(place / "samples.npz", allow_pickle=False, images=samples, **shown)
    groups = {}
    for one in judged:
        summary: dict[str, Any] = {"attributes": one.label.split("+"), "classes": one.classes}
        if one.errors is not None:
            summary["confusion"] = one.errors.counts.tolist()
        write_json(out / f"judge/{one.label}/summary.json", summary)
        if one.truth is not None:
            counts = np.bincount(one.truth[one.truth >= 0], minlength=len(one.classes))
            groups[one.label] = dict(zip(one.classes, counts.tolist(), strict=True))
    role = {"count": n_reference, "groups": groups}
    manifest = {"source": "folders given to the audit", "resolution": samples.shape[1],
                "roles": {"metric_reference": role}, "licences": []}  # fmt: skip
    write_json(out / "data/manifest.json", manifest)
    with (out / "figures.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(Figure._fields)
        table.writerows(figures)
