"""Fills an image array on all cores, with a progress bar, in the same way for any core count."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np

CHUNK = 64
FEW = 400  # below this, starting processes takes longer than the work
LOG_SECONDS = 10.0

# A picklable top-level function: (context, items) -> (uint8 [m, H, W, C], {offset: what is wrong}).
Render = Callable[[Any, Sequence[Any]], tuple[np.ndarray, dict[int, str]]]


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fill(
    images: np.ndarray,
    positions: Sequence[int],
    items: Sequence[Any],
    render: Render,
    context: Any,
    log: Callable[[str], None],
    what: str,
    workers: int | None = None,
) -> dict[int, str]:
    """Writes the picture of `items[i]` to `images[positions[i]]`.

    Args:
      images: uint8 `[n, H, W, C]`, written in place.
      positions: one position in `images` per item.
      items: picklable descriptions.
      render: a top-level function; the processes import it by name.
      context: picklable, the same for every item.
      log: gets a line now and then where there is no terminal.
      what: a word for the progress line, for example "drawing".
      workers: number of processes; default: one per core, none for a few items.

    Returns:
      {index of the item: what is wrong with it}; its picture is left as it was.
    """
    starts = range(0, len(items), CHUNK)
    errors: dict[int, str] = {}
    count = workers if workers is not None else (cores() if len(items) >= FEW else 1)
    with _progress(len(items), what, log) as advance:
        for start, (made, wrong) in _results(starts, items, render, context, count):
            for offset in range(len(made)):
                if offset not in wrong:
                    images[positions[start + offset]] = made[offset]
            errors.update({start + offset: text for offset, text in wrong.items()})
            advance(len(made))
    return errors


def _results(
    starts: Sequence[int], items: Sequence[Any], render: Render, context: Any, count: int
) -> Iterator[tuple[int, tuple[np.ndarray, dict[int, str]]]]:
    if count <= 1:
        for start in starts:
            yield start, render(context, items[start : start + CHUNK])
        return
    # spawn: JAX may be running threads in this process, which a fork would break.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=spawn, initializer=_start_worker)
    try:
        todo, pending = iter(starts), {}  # type: ignore[var-annotated]
        while True:
            for start in todo:
                future: Future = pool.submit(render, context, items[start : start + CHUNK])
                pending[future] = start
                if len(pending) >= 3 * count:  # bounds the memory of finished chunks
                    break
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it, even when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _progress(total: int, what: str, log: Callable[[str], None]) -> Iterator[Callable[[int], None]]:
    """Shows a bar with rate and time left on a terminal, else a log line every ten seconds."""
    if sys.stderr.isatty() and total >= FEW:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(),
        )
        begin = time.monotonic()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(n: int) -> None:
                done = bar.tasks[0].completed + n
                rate = done / max(time.monotonic() - begin, 1e-6)
                bar.update(task, advance=n, rate=f"{rate:.0f} images/s")

            yield advance
        return

    begin = last = time.monotonic()
    done = 0

    def advance_log(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= LOG_SECONDS and done < total:
            last = now
            rate = done / (now - begin)
            left = (total - done) / rate
            log(f"data: {what} {done}/{total}, {rate:.0f} images/s, {left:.0f} s left")

    yield advance_log
