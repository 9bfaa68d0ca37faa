"""Metric streams: one JSON object a line (the record) and TensorBoard events (a view of it)."""

import json
import logging
import math
import os
import time
from pathlib import Path

from tensorboardX import SummaryWriter

log = logging.getLogger("fairjax")


class Streams:
    """Writes scalar metrics; opened at a step, it first cuts back what lies behind that step.

    So after a restart the record reads as if the run had never been interrupted. A context manager.
    """

    def __init__(self, folder: Path, step: int, *, enabled: bool = True):
        self._file, self._events = None, None
        if not enabled:
            return
        self._file = cut_back(folder, step).open("a")
        # TensorBoard drops events behind a restart by itself, given the step to purge from.
        self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def __enter__(self) -> "Streams":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None and self._events is not None:
            self._file.close()
            self._events.close()

    def write(self, step: int, kimg: float, metrics: dict[str, float]) -> None:
        """Appends one line; a value that is not finite becomes null."""
        if self._file is None or self._events is None:
            return
        record = {"step": step, "kimg": round(kimg, 6), "time": round(time.time(), 3)}
        values = {name: float(v) for name, v in metrics.items()}
        clean = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._file.write(json.dumps(record | clean) + "\n")
        self._file.flush()
        for name, value in values.items():
            if math.isfinite(value):
                self._events.add_scalar(name, value, step)
        self._events.flush()


def cut_back(folder: Path, step: int) -> Path:
    """Removes from the record in a folder what lies behind a step, and lines that cannot be read,
    with a warning, as where lines are missing; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    lines = _lines(path)
    known = [(at, line) for line in lines if (at := _step(line)) is not None]
    kept = [(at, line) for at, line in known if at <= step]
    if len(known) < len(lines):
        lost = len(lines) - len(known)
        log.warning("%s is damaged: %d lines are lost; the training is not", path, lost)
    elif step and (not kept or kept[-1][0] != step):  # each checkpoint has a line before it
        log.warning("%s is damaged: lines before step %d are missing; the training goes on from "
                    "there", path, step)  # fmt: skip
    draft = path.with_name(path.name + ".draft")
    draft.write_text("".join(line + "\n" for _, line in kept))
    os.replace(draft, path)  # a kill in between must not cost the record
    return path


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return None


def _lines(path: Path) -> list[str]:
    """Complete lines of a file; a line cut short by a kill is dropped."""
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]


def read(path: Path) -> list[dict[str, float]]:
    """All records of a `metrics.jsonl`, oldest first."""
    return [json.loads(line) for line in _lines(path)]
