"""What people remark on figures: a table that an audit merges into its page."""

import datetime
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from fairjax.data.labels import read_lines
from fairjax.errors import InputError
from fairjax.evaluate.verdicts import check_names

COLUMNS = ("figure", "author", "date", "text")


class Note(NamedTuple):
    """Somebody's remark on a figure; `date` is written as 2026-11-26."""

    figure: str
    author: str
    date: str
    text: str


def read_notes(path: Path, where: str) -> list[Note]:
    """The rows of a CSV or Parquet table with the columns `COLUMNS`, the oldest first.

    Raises:
      InputError: a column is missing, a cell is empty, or a date is none.
    """
    head, body = read_lines(path, where)
    missing = [name for name in COLUMNS if name not in head]
    if missing:
        raise InputError(f"no column {missing[0]!r}", where, f"Give {', '.join(COLUMNS)}")
    found = []
    for number, line in enumerate(body, start=2):
        note = Note(*(str(line[head.index(name)] or "").strip() for name in COLUMNS))
        empty = [name for name, text in note._asdict().items() if not text]
        if empty:
            raise InputError(f"row {number} has no {empty[0]}", where, "Fill it in")
        try:
            datetime.date.fromisoformat(note.date)
        except ValueError as error:
            raise InputError(f"row {number} has the date {note.date!r}", where,
                             "Write it as 2026-11-26") from error  # fmt: skip
        found.append(note)
    return sorted(found, key=lambda note: note.date)


def check_figures(notes: Collection[Note], known: Collection[str], where: str) -> None:
    """Raises InputError where a note is on a figure that cannot come; it has the nearest names."""
    check_names([note.figure for note in notes], known, where)
