"""How far a long piece of work is: a bar in a terminal, log lines elsewhere."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("fairjax")

QUIET = 5.0  # seconds between lines that say nothing but how far the work is


def clock(seconds: float) -> str:
    """Seconds -> "1:02:03" or "2:03"."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Meter:
    """Shows done/total with rate and time left; a context manager.

    Args:
      title: what is being done, e.g. "gan equi".
      total: number of units at the end.
      start: units that were done before (a resumed run); they do not count for the rates.
      unit: name of a unit in plural, e.g. "images".
    """

    def __init__(self, title: str, total: float, *, start: float = 0, unit: str = "images"):
        self._title, self._total, self._unit = title, total, unit
        self._recent = deque([(time.monotonic(), start)], maxlen=20)
        console = Console(stderr=True)
        self._bar: Progress | None = None
        self._said = -QUIET  # when the last line was written
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} % {task.fields[text]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(title, total=total, text="")
            self._bar.update(self._task, completed=start)

    def __enter__(self) -> "Meter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar:
            self._bar.stop()

    def rate(self, done: float) -> float:
        """Units per second over the last calls, so that compiling does not count for ever."""
        then, before = self._recent[0]
        now = time.monotonic()
        self._recent.append((now, done))
        return (done - before) / max(now - then, 1e-9)

    def update(self, done: float, text: str = "") -> None:
        """Moves the bar; without a terminal writes a log line, one without text now and then."""
        rate = self.rate(done)
        left = clock((self._total - done) / rate) if rate > 0 else "?"
        words = f"{rate:.4g} {self._unit}/s {text}".strip()
        if self._bar:
            self._bar.update(self._task, completed=done, text=words)
        else:
            now = time.monotonic()
            if not text and done < self._total and now - self._said < QUIET:
                return
            self._said = now
            share = 100 * done / max(self._total, 1e-9)
            log.info("%s: %3.0f %%, %s, %s left", self._title, share, words, left)


class Waits:
    """Hands on batches and notes how long the training waits for them.

    Args:
      examples: the batches of a feed.
    """

    def __init__(self, examples: Iterator[Any]):
        self._examples, self._waited, self._since = examples, 0.0, time.monotonic()

    def __iter__(self) -> "Waits":
        return self

    def __next__(self) -> Any:
        begun = time.monotonic()
        try:
            return next(self._examples)
        finally:
            self._waited += time.monotonic() - begun

    def share(self) -> float:
        """Of the time since the last call, that in which the host waited for a batch (0 to 1).

        A device that has steps queued works on meanwhile: it waits no longer than that.
        """
        now = time.monotonic()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share

    def close(self) -> None:
        """Ends the fetching."""
        close = getattr(self._examples, "close", None)
        if close is not None:
            close()
