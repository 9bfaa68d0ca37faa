"""A table of somebody's predictions: labels, scores or decisions, and attributes of each row."""

import logging
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.data.labels import UNKNOWN, read_lines
from fairjax.errors import InputError

log = logging.getLogger("fairjax")

MOST_GROUPS = 50
WHERE = "--predictions"
KEYS = ("file", "id")  # columns that may name a row


class Predictions(NamedTuple):
    """n rows with a known label.

    Attributes:
      truth: bool [n], whether the label is the positive one.
      decided: bool [n].
      scores: float [n] in [0, 1] of the positive class; None where the table has none.
      members: float [m, n], every column of scores that was asked for; `scores` is the first.
      columns: every column of the table, its values as str ("" = unknown), [n] each; those that
        have no part in the above are arrays of objects, as one long remark would else make all
        cells of its column as wide.
      lines: int [n], where in the table each row is; its heads are line 1.
      positive: the label's value that counts as positive. dropped: rows without a label.
    """

    truth: np.ndarray
    decided: np.ndarray
    scores: np.ndarray | None
    members: np.ndarray
    columns: dict[str, np.ndarray]
    lines: np.ndarray
    positive: str
    dropped: int


def read(
    path: Path, label: str, score: Sequence[str], decision: str | None, positive: str | None,
    threshold: float, flag: str = WHERE, words: Mapping[str, Mapping[str, str]] | None = None,
) -> Predictions:  # fmt: skip
    """Reads a CSV or Parquet table.

    Args:
      label: column of the true class. score: columns of probabilities of the positive class.
      decision: of the class that was decided for; without it, a (first) score of at least
        `threshold` decides for the positive one.
      positive: the positive class; None where the labels are 0 and 1, or only two and one of them
        is a usual word for "yes".
      flag: that which named the table, for the error message.
      words: column -> {what is written there: what it means}.

    Raises:
      InputError: a column that is not there, a score outside [0, 1], a label of one class only.
    """
    where = f"{flag}={path}"
    named = [("--label", label), *(("--score", name) for name in score), ("--decision", decision)]
    head, table = _columns(path, where, words or {}, [name for _, name in named if name])
    for of, name in named:
        if name:
            _need(name, head, f"{where}, {of}={name}")
    if not score and not decision:
        raise InputError("neither scores nor decisions", where, "Give --score or --decision")
    known = table[label] != ""
    lines = np.flatnonzero(known) + 2
    table = {name: values[known] for name, values in table.items()}
    labels = table[label]
    positive = _positive(np.unique(labels), positive, label, where)
    truth = labels == positive
    if truth.all() or not truth.any():
        raise InputError(f"every label is {'' if truth.all() else 'other than '}{positive!r}",
                         f"{where}, --label={label}", "Give a table with both classes")  # fmt: skip
    members = np.array([_scores(table[name], lines, f"{where}, --score={name}")
                        for name in score])  # fmt: skip
    if decision:
        decided = table[decision] == positive
        unknown = np.flatnonzero(table[decision] == "")
        if len(unknown):
            raise InputError(f"row {lines[unknown[0]]} has no decision",
                             f"{where}, --decision={decision}",
                             "Fill it in or remove the row")  # fmt: skip
        words_of = {*labels.tolist(), negative(positive)}
        other = next((v for v in table[decision].tolist() if v not in words_of), None)
        if other is not None:
            raise InputError(f"a decision {other!r}, which no label is",
                             f"{where}, --decision={decision}",
                             "Write labels and decisions in the same words")  # fmt: skip
    else:
        decided = members[0] >= threshold
    scores = members[0] if score else None
    dropped = _dropped(known, where)
    return Predictions(truth, decided, scores, members, table, lines, positive, dropped)


def counted(
    path: Path, table: Predictions, label: str, attributes: Sequence[str], flag: str
) -> Predictions:
    """Label and attributes of other rows, such as those of the training; nothing is decided there.

    Args:
      table: what is audited: its positive class counts.
      attributes: columns that must be there.

    Raises:
      InputError: a column that is not there, or no row of the positive class.
    """
    where = f"{flag}={path}"
    head, columns = _columns(path, where, {}, [label])
    for name in (label, *attributes):
        _need(name, head, where)
    return of_columns(columns, table, label, where)


def of_columns(
    columns: dict[str, np.ndarray], table: Predictions, label: str, where: str
) -> Predictions:
    """The same of columns [n] of str; "" = unknown. Raises InputError as `counted` does."""
    known = columns[label] != ""
    truth = columns[label][known] == table.positive
    if not truth.any():
        raise InputError(f"no label is {table.positive!r}", where, "Write labels in the same words")
    kept = {name: values[known] for name, values in columns.items()}
    return Predictions(truth, truth, None, np.zeros((0, len(truth))), kept,
                       np.flatnonzero(known) + 2, table.positive, _dropped(known, where)
                       )  # fmt: skip


def features(path: Path, table: Predictions, flag: str) -> np.ndarray:
    """float64 [n, d]: the features of the table's rows.

    Args:
      path: NPZ with `features` [rows, d] in the order of the whole table, and, if it likes, `id`
        [rows], which must be those of the table then.

    Raises:
      InputError: the file cannot be read, or is of other rows.
    """
    where = f"{flag}={path}"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = np.asarray(arrays["features"], np.float64)
            ids = arrays["id"] if "id" in arrays else None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"no array `features` can be read ({error})", where,
                         "Give an .npz file with features [rows, d]") from error  # fmt: skip
    rows = len(table.truth) + table.dropped
    if found.ndim != 2 or len(found) != rows or not np.isfinite(found).all():
        raise InputError(f"features of the shape {found.shape}, or not all finite", where,
                         f"Give a row for each of the {rows} rows of the table")  # fmt: skip
    kept = table.lines - 2
    key = key_of(table)
    if ids is not None and key:
        differ = np.flatnonzero(table.columns[key] != [_word(value) for value in ids[kept]])
        if len(differ):
            raise InputError(f"row {table.lines[differ[0]]} is of another {key}", where,
                             "Give the features of these rows, in their order")  # fmt: skip
    return found[kept]


def key_of(*tables: Predictions) -> str | None:
    """The column that names the rows of all these tables; None where they have none."""
    return next((name for name in KEYS if all(name in one.columns for one in tables)), None)


def matched(table: Predictions, other: Predictions, where: str) -> Predictions:
    """The table with the decisions and scores of another one on the same rows.

    Rows are matched by the column `file` or `id`, where both tables have it, else by their order.

    Args:
      where: the flag of the other table, for the error message.

    Raises:
      InputError: not the same rows, a name that occurs twice, or a row with another label.
    """
    key = key_of(table, other)
    order, names = np.arange(len(other.truth)), table.lines
    if len(other.truth) != len(names):
        raise InputError(f"{len(other.truth)} rows with a label instead of {len(names)}", where,
                         "Give the same rows")  # fmt: skip
    if key:
        names = table.columns[key]
        place = {name: i for i, name in enumerate(other.columns[key].tolist())}
        for found, flag in ((len(set(names.tolist())), WHERE), (len(place), where)):
            if found < len(names):
                raise InputError(f"two rows have the same {key!r}", flag, "Remove or rename one")
        missing = [name for name in names.tolist() if name not in place]
        if missing:
            raise InputError(f"no row of {key} {missing[0]!r}", where, "Give the same rows")
        order = np.array([place[name] for name in names.tolist()])
    differ = np.flatnonzero(other.truth[order] != table.truth)
    if len(differ):
        raise InputError(f"another label for {key or 'row'} {names[differ[0]]}", where,
                         f"Give the same rows{'' if key else ', or a column file or id in both'}"
                         )  # fmt: skip
    scores = None if other.scores is None else other.scores[order]
    return table._replace(decided=other.decided[order], scores=scores)


def groups(
    table: Predictions, attributes: Sequence[str], flag: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """(names of the groups, group of each row [n], -1 where a value is unknown).

    Args:
      attributes: columns; several make a group of every combination that occurs.

    Raises:
      InputError: no such column, or too many groups to say anything of.
    """
    for name in attributes:
        _need(name, table.columns, flag)
    rows = list(zip(*(table.columns[name] for name in attributes), strict=True))
    whole = [", ".join(values) if all(values) else "" for values in rows]
    names, of = np.unique(whole, return_inverse=True)
    kept = [name for name in names.tolist() if name]
    if len(kept) > MOST_GROUPS:
        raise InputError(f"{len(kept)} groups", flag, f"At most {MOST_GROUPS}: put values together")
    first = len(names) - len(kept)  # "" comes first
    return tuple(kept), of - first


def _need(name: str, columns: Collection[str], where: str) -> None:
    if name not in columns:
        raise InputError(f"no column {name!r}", where, f"The columns are {', '.join(columns)}")


def negative(positive: str) -> str:
    """The decision against the positive class, where no single label says it."""
    return f"not {positive}"


def _dropped(known: np.ndarray, where: str) -> int:
    dropped = int((~known).sum())
    if dropped:
        log.info("%s: %d rows without a label are left out", where, dropped)
    return dropped


def _columns(
    path: Path, where: str, words: Mapping[str, Mapping[str, str]], named: Collection[str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """(names of the columns, the columns as str [n], "" = unknown); those that are not named, nor
    name the rows, as objects."""
    head, body = read_lines(path, where)
    if not body:
        raise InputError("no rows", where, "Give a table with rows")
    meant = lambda name, text: words.get(name, {}).get(text, text)
    return head, {name: np.array([meant(name, _word(line[i])) for line in body],
                                 np.str_ if name in (*named, *KEYS) else object)
                  for i, name in enumerate(head)}  # fmt: skip


def _word(value: Any) -> str:
    """A cell as text: 1, 1.0, "1" and True are the same label; "" where it is unknown."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = str(value).strip()
    if text in UNKNOWN:
        return ""
    text = {"True": "1", "False": "0"}.get(text, text)
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def _positive(found: np.ndarray, given: str | None, label: str, where: str) -> str:
    if given is not None:
        if _word(given) not in found:
            raise InputError(f"no label is {given!r}", f"{where}, --positive={given}",
                             f"The labels are {', '.join(found[:10])}")  # fmt: skip
        return _word(given)
    usual = [value for value in found if value.lower() in ("1", "yes", "true", "positive")]
    if len(found) <= 2 and len(usual) == 1:
        return str(usual[0])
    raise InputError(f"the labels {', '.join(found[:10])}", f"{where}, --label={label}",
                     "Say which one counts as positive: --positive=VALUE")  # fmt: skip


def _scores(values: np.ndarray, line_of: np.ndarray, where: str) -> np.ndarray:
    scores = np.array([_number(value) for value in values])
    wrong = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(wrong):
        found = f"row {line_of[wrong[0]]} holds {str(values[wrong[0]])!r}"
        raise InputError(found, where, "Scores are probabilities of the positive class, 0 to 1")
    return scores


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
