"""`--limits`, `--baseline` and `--notes` of an audit: the flags, and what they say of its
figures."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from fairjax.evaluate import verdicts
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.notes import Note, check_figures, read_notes
from fairjax.evaluate.verdicts import Moved, Verdict

log = logging.getLogger("fairjax")


def define(values: flags.FlagValues) -> None:
    """Adds the flags to those of a program."""
    flags.DEFINE_string("limits", None, 'JSON file of limits: {"<figure>": {"min": x, "max": y}}. '
                        "Exit code 1 if a figure breaks one, 3 if evidence is insufficient.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("baseline", None, "metrics.json of an earlier audit or evaluation: which "
                        "figures moved since? Exit code 4 if any did (and no limit says 1 or 3).",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("notes", None, "Table (.csv, .parquet) of what people remark on figures, "
                        "with the columns figure, author, date, text; the page shows them.",
                        flag_values=values)  # fmt: skip


class Rules(NamedTuple):
    """What the figures are held against; see `verdicts.read_limits` and `read_baseline`; and
    people's notes."""

    limits: dict[str, tuple[float, float]]
    before: dict[str, Figure]
    notes: list[Note]
    where: str
    where_notes: str

    @classmethod
    def read(cls, values: flags.FlagValues) -> "Rules":
        """Of the flags; raises InputError where a file cannot be used."""
        limits = verdicts.read_limits(Path(values.limits)) if values.limits else {}
        before = verdicts.read_baseline(Path(values.baseline)) if values.baseline else {}
        where = f"--notes={values.notes}"
        notes = read_notes(Path(values.notes).expanduser(), where) if values.notes else []
        return cls(limits, before, notes, f"--limits={values.limits}", where)

    def check_names(self, known: Collection[str]) -> None:
        """Raises InputError where a limit or a note names a figure that cannot come."""
        verdicts.check_names(self.limits, known, self.where)
        check_figures(self.notes, known, self.where_notes)

    def ruling(self, figures: Mapping[str, Figure]) -> "Ruling":
        """Holds the figures, by name, against them."""
        return Ruling(verdicts.judged(figures, self.limits),
                      *verdicts.moved(self.before, figures), bool(self.before),
                      self.notes)  # fmt: skip


class Ruling(NamedTuple):
    """The verdicts, the figures that moved, how many were compared, whether any was asked, and
    people's notes."""

    verdicts: list[Verdict]
    moved: list[Moved]
    compared: int
    asked: bool
    notes: list[Note]

    def checks(self) -> dict[str, Any]:
        """What metrics.json keeps of it; {} where nothing was asked."""
        said = {"notes": [note._asdict() for note in self.notes]} if self.notes else {}
        if not (self.verdicts or self.asked):
            return said
        return verdicts.as_json(self.verdicts, self.moved, self.compared) | said

    def log(self) -> None:
        """One line for each limit and each figure that moved."""
        for v in self.verdicts:
            log.info("limit: %s: %s = %.4g [%.4g, %.4g], limits %g and %g", v.verdict,
                     *v.figure[:4], v.minimum, v.maximum)  # fmt: skip
        for m in self.moved:
            log.info("moved: %s from %.4g to %.4g, %.1f standard errors", m.name, m.before.value,
                     m.now.value, m.errors)  # fmt: skip
        if self.asked:
            log.info("baseline: %d of %d figures moved", len(self.moved), self.compared)

    def exit_code(self) -> int:
        """Of the program; see `verdicts.exit_code`."""
        return verdicts.exit_code({v.verdict for v in self.verdicts}, bool(self.moved))
