"""Attribute tables of the user's own images: CSV, Parquet, or a StyleGAN `dataset.json`."""

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.data.dataset import MAX_VALUES
from fairjax.errors import InputError

log = logging.getLogger("fairjax")

WHERE = "data.folder.attributes"
SHOWN = 3
# Words that stand for an empty cell, as pandas reads and writes them. "none" may be a class.
UNKNOWN = frozenset({"nan", "NaN", "NA", "N/A", "n/a", "<NA>", "None", "null", "NULL"})
Rows = dict[str, dict[str, Any]]  # file key -> {attribute: int, float, str or None}


def read_table(path: Path, where: str = WHERE) -> Rows:
    """Reads a CSV or Parquet table.

    Args:
      path: the first column, or the one named "file", holds the path of an image relative to its
        folder, or its bare name; every other column is an attribute (int, float or str; empty =
        unknown).
      where: the config key or flag, for the error message.

    Raises:
      InputError: the file is missing, unreadable, has no attribute column, or two rows for a file.
    """
    head, body = read_lines(path, where)
    if len(head) < 2:
        mend = 'Give a column "file" and at least one attribute column'
        raise InputError(f"{path} has the columns {head}", where, mend)
    key = head.index("file") if "file" in head else 0
    rows: Rows = {}
    for line in body:
        name = Path(str(line[key]).strip()).as_posix()
        row = {a: line[i] for i, a in enumerate(head) if i != key}
        if rows.setdefault(name, row) != row:
            raise InputError(f"{path} has two different rows for {name!r}", where, "Remove one")
    return rows


def read_lines(path: Path, where: str) -> tuple[list[str], list[Any]]:
    """(names of the columns, the rows) of a CSV (values are str) or Parquet table.

    Raises:
      InputError: the file is missing or unreadable, two columns have one name, or a row has more or
        fewer values than names.
    """
    if not path.is_file():
        raise InputError(f"no file {path}", where, "Give the path of a CSV or Parquet file")
    head: list[str] = []
    body: list[Any] = []
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            import pyarrow.parquet

            columns = pyarrow.parquet.read_table(path).to_pydict()
            head, body = list(columns), list(zip(*columns.values(), strict=True))
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = [line for line in csv.reader(file) if line]
            head, body = (lines[0], lines[1:]) if lines else ([], [])
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}", where, "Save it anew") from error
    name, often = Counter(head).most_common(1)[0] if head else ("", 0)
    if often > 1:
        found = f"{path} has {often} columns {name!r}"
        raise InputError(found, where, "Rename or remove all but one")
    for number, line in enumerate(body, start=2):
        if len(line) != len(head):
            found = f"row {number} of {path} has {len(line)} columns instead of {len(head)}"
            raise InputError(found, where, "Mend the row")
    return head, body


def check_names(names: Iterable[str], where: str) -> None:
    """Checks names of attributes, which become parts of the names of figures, and of folders.

    Raises:
      InputError: one is empty, "." or "..", or holds a slash or backslash.
    """
    for name in names:
        if name.strip() in ("", ".", "..") or any(c in name for c in "/\\\0"):
            found = f"a column named {name!r}"
            raise InputError(found, where, "Give it a name without / and \\; folders are named so")


def read_dataset_json(text: str | bytes, where: str) -> Rows:
    """Reads the labels of a StyleGAN dataset: an int -> "label"; 0/1 lists -> "label_0", ...

    Raises:
      InputError: not JSON, labels of another kind, or two different ones of an image.
    """
    mend = 'Expected {"labels": [["img.png", 0], ...]} or {"labels": null}'
    try:
        pairs = json.loads(text).get("labels") or []
        rows: Rows = {}
        for name, label in pairs:
            many = label if isinstance(label, list) else [label]
            if not all(isinstance(v, int) for v in many):
                raise InputError(f"the label {label!r} of {name}", where, mend)
            names = ["label"] if not isinstance(label, list) else None
            names = names or [f"label_{i}" for i in range(len(many))]
            row = dict(zip(names, many, strict=True))
            if rows.setdefault(name, row) != row:
                raise InputError(f"two different labels of {name!r}", where, "Remove one")
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read the labels: {error}", where, mend) from error
    return rows


def match(
    rows: Rows, keys: Sequence[Sequence[str]], where: str = WHERE
) -> tuple[list[dict[str, Any] | None], int]:
    """Finds the row of each image.

    Args:
      rows: the table.
      keys: for each image the names under which the table may know it, the most exact first.
      where: the config key or flag, for the error message.

    Returns:
      The row of each image or None, and the number of rows that fit no image.

    Raises:
      InputError: no row fits, or one row fits several images.
    """
    owner: dict[str, int] = {}
    out: list[dict[str, Any] | None] = []
    for i, names in enumerate(keys):
        name = next((n for n in names if n in rows), None)
        out.append(None if name is None else rows[name])
        if name is not None and owner.setdefault(name, i) != i:
            found = f"the row {name!r} fits {keys[owner[name]][0]!r} and {names[0]!r}"
            raise InputError(
                found, where, "Write the folder's name in front, as in these two names"
            )
    if not owner:
        example = f"{next(iter(rows), 'nothing')!r}, the images are like {keys[0][0]!r}"
        mend = "Write the path relative to the image folder, or the bare file name"
        raise InputError(f"no row fits an image: the rows are like {example}", where, mend)
    return out, len(rows) - len(owner)


def numbers(
    rows: Sequence[dict[str, Any] | None], ids: Sequence[str], columns: Sequence[str], table: str
) -> np.ndarray:
    """The columns that hold numbers; float64 `[n, c]`, NaN where a cell is empty or missing.

    Args:
      rows: the row of each image, or None.
      ids: names of the images, and `table`, that of the table, for the error message.
      columns: names of the c columns.

    Raises:
      InputError: there is no such column, or a cell holds anything but a finite number.
    """
    known = list(dict.fromkeys(a for row in rows if row for a in row))
    for name in columns:
        if name not in known:
            mend = f"Its columns are {known}"
            raise InputError(f"{table} has no column {name!r}", "gan.condition", mend)
    out = np.full((len(rows), len(columns)), np.nan)
    wrong = []
    for i, row in enumerate(rows):
        for j, name in enumerate(columns):
            text = _text(row.get(name)) if row else None
            if text is not None:
                try:
                    out[i, j] = float(text)
                except ValueError:
                    out[i, j] = np.nan
                if not np.isfinite(out[i, j]):
                    wrong.append(f"{text!r} in column {name!r} of the row of {ids[i]}")
    if wrong:
        shown = "; ".join(wrong[:SHOWN]) + ("; .." if len(wrong) > SHOWN else "")
        found = f"{len(wrong)} cells of {table} are no finite numbers: {shown}"
        mend = "Write numbers such as 34.5, or use gan.condition_form=classes for words"
        raise InputError(found, "gan.condition_form=numbers", mend)
    return out


def encode(
    rows: Sequence[dict[str, Any] | None], measured: Sequence[str] = (), where: str = WHERE
) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    """Turns rows into codes.

    Args:
      rows: the row of each image, or None.
      measured: columns of numbers, which are left out where they have too many values for codes.
      where: the config key or flag, for the error message.

    Returns:
      int8 `[n, A]` (-1 = unknown) and {attribute: names of its values}.

    Raises:
      InputError: a column has more than 127 different values, or a name that `check_names` refuses.
    """
    names = list(dict.fromkeys(a for row in rows if row for a in row))
    few = lambda name: len({plain(row.get(name)) for row in rows if row}) <= MAX_VALUES
    names = [name for name in names if name not in measured or few(name)]
    check_names(names, where)
    out = np.full((len(rows), len(names)), -1, np.int8)
    values: dict[str, tuple[str, ...]] = {}
    for column, name in enumerate(names):
        texts = [_text(row.get(name)) if row else None for row in rows]
        cells = [None if text in UNKNOWN else text for text in texts]
        codes, values[name] = _codes(name, cells, where)
        out[:, column] = [codes[c] for c in cells]
        _tell_unknown(name, texts, codes)
    return out, values


def plain(cell: Any) -> str | None:
    """Returns the cell as text, None where it is empty or one of `UNKNOWN`; "1.0" (a table
    program's integer) becomes "1"."""
    text = _text(cell)
    return None if text in UNKNOWN else text


def _text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    text = str(int(cell) if isinstance(cell, bool) else cell).strip()
    head, dot, tail = text.partition(".")
    if dot and _is_int(head) and set(tail) <= {"0"}:
        text = head
    return text or None


def _tell_unknown(name: str, texts: Sequence[str | None], codes: dict[str | None, int]) -> None:
    """Logs what is no empty cell and yet counts as unknown."""
    found = Counter(texts)
    words = {word: n for word, n in found.items() if word in UNKNOWN}
    if codes["-1"] < 0 and found["-1"]:
        words["-1"] = found["-1"]
    for word, n in words.items():
        log.info("%s: %s taken as unknown: %d rows", name, word, n)


def _is_int(text: str) -> bool:
    return re.fullmatch("-?[0-9]+", text) is not None


def _codes(
    name: str, cells: Iterable[str | None], where: str
) -> tuple[dict[str | None, int], tuple[str, ...]]:
    found = {c for c in cells if c is not None}
    titles: list[str]
    if found and all(_is_int(c) for c in found):
        order = sorted(found, key=int)
        if order != ["-1", "1"]:  # -1/1 is CelebA's no/yes; otherwise -1 means unknown
            order = [c for c in order if c != "-1"]
        binary = order in (["0", "1"], ["-1", "1"])
        titles = [f"not {name}", name] if binary else [f"{name} {c}" for c in order]
    else:
        order = titles = sorted(found)
    if len(order) > MAX_VALUES:
        mend = "Give a column of groups, not of numbers or names; at most 127 values"
        raise InputError(f"column {name!r} has {len(order)} different values", where, mend)
    codes: dict[str | None, int] = {c: i for i, c in enumerate(order)}
    codes[None] = -1
    codes.setdefault("-1", -1)
    return codes, tuple(titles)
