"""THE loop: every network of fairjax is trained by `run`.

A step is a function of (state, batch, key): batch and key are functions of (seed, step), so a run
that is killed at any moment and started again ends with the same bits (on one kind of device), and
its metrics read as if nothing had happened. A signal saves at once, which also ends the interval
over which metrics are averaged: the record then has one more line.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from PIL import Image

from fairjax.data.feed import batches
from fairjax.models.initialize import FAST_COMPILE
from fairjax.objectives import draw
from fairjax.train import stopping
from fairjax.train.bad_numbers import (
    MOST_ROLLBACKS,
    MOST_SKIPPED,
    SKIPPED,
    Rollbacks,
    diverged,
    finite,
    not_finite,
    skipping,
)
from fairjax.train.checkpoints import Checkpoints
from fairjax.train.devices import (
    all_preempted,
    is_alone,
    is_lead,
    local_slice,
    put_batch,
    replicated,
)
from fairjax.train.progress import Meter, Waits
from fairjax.train.streams import Streams, cut_back

log = logging.getLogger("fairjax")

Metrics = dict[str, Any]
Interval = tuple[int, list[Metrics], dict[str, float]]  # last step, metrics of its steps, speed
Batches = Callable[[int, int], Iterator[dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Task:
    """What is trained: pure functions of a state that holds arrays only and a field `step`.

    `step(state, batch, key, i)` may choose its compiled program by the host integer i, the number
    of steps before; it returns metrics on the device: a number, or a pair (sum, count) where a step
    may have nothing to report. `evaluate(state, i)`, after i steps, may return a changed state (the
    best parameters so far). `sample(state)` returns an image grid uint8 [H, W, C].
    `parameters(state)` is what a new run lists in the log. `start(state)`, in a new run only, puts
    arrays of a file into what `init` made. `finished(state)` is asked after an evaluation: whether
    training ends before its last step.
    """

    name: str
    init: Callable[[jax.Array], Any]
    step: Callable[[Any, dict[str, jax.Array], jax.Array, int], tuple[Any, Metrics]]
    evaluate: Callable[[Any, int], tuple[Any, dict[str, float]]] | None = None
    sample: Callable[[Any], np.ndarray] | None = None
    parameters: Callable[[Any], Any] | None = None
    start: Callable[[Any], Any] | None = None
    finished: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Rhythm:
    """When things happen, all in steps; the last step logs, evaluates, samples and saves too."""

    total: int
    images_per_step: int
    log: int
    save: int
    evaluate: int
    sample: int = 0

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens each `every` steps (0 = never) happens after `step`.

        The last time is after the last step; one that would fall shortly before it is left out.
        """
        if not every or step == self.total:
            return bool(every)
        return step % every == 0 and 2 * (self.total - step) >= every


def drawn(
    images: np.ndarray,
    positions: np.ndarray,
    table: draw.Table,
    *,
    seed: int,
    batch: int,
    then: tuple[int, draw.Table] | None = None,
) -> Batches:
    """Batches by draws of (seed, step) from the table, whose indices count in `positions`.

    Args:
      images: uint8 [n, H, W, C].
      positions: where in `images` the training list lies.
      table: probabilities over the training list.
      seed: of the draws.
      batch: global batch; each process fetches its part only.
      then: (seed, table) of examples that follow in every batch, which counts them too.
    """
    parts = [(seed, table), *([] if then is None else [then])]

    def order(step: int) -> np.ndarray:
        return np.concatenate([draw.draw(seed, step, table) for seed, table in parts])

    def feed(start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        return batches(images, order, positions, start, stop, local=local_slice(batch))

    return feed


def abstract_state(task: Task, key: jax.Array) -> Any:
    """Shapes and dtypes of the state; computes nothing."""
    return jax.eval_shape(task.init, key)


def run(
    task: Task,
    feed: Batches,
    key: jax.Array,
    rhythm: Rhythm,
    folder: Path,
    bad_numbers: str = "stop",
) -> Any:
    """Trains from the newest checkpoint in `folder` (or from `task.init`) to the end.

    Args:
      task: what is trained.
      feed: (start, stop) -> the batches of these steps, this process's part; see `drawn`.
      key: root key of the stage; the step folds itself in.
      rhythm: when to log, save, evaluate, sample and end.
      folder: receives checkpoints/, metrics.jsonl, event files and samples/.
      bad_numbers: what follows where a metric or the state is not finite; see
        `fairjax.train.bad_numbers`.

    Returns:
      The final state; it is also the newest checkpoint.

    Raises:
      Interrupted: a signal arrived; the state was saved first.
      Diverged: a metric or the state is not finite; such a state is never saved.
    """
    if bad_numbers == "skip":
        task = replace(task, step=skipping(task.step))
    went_back = Rollbacks(folder / "rollbacks.json", is_lead())
    while True:
        try:
            moved = replace(task, step=went_back.elsewhere(task.step))
            return _run(moved, feed, key, rhythm, folder)
        except stopping.Diverged as error:
            if bad_numbers != "rollback" or went_back.used_up:
                raise
            went_back.add(error.checkpoint or 0)
            log.warning("%s. Going back there, with other random numbers from there on (%d of at "
                        "most %d times)", error, went_back.count, MOST_ROLLBACKS)  # fmt: skip


def _run(task: Task, feed: Batches, key: jax.Array, rhythm: Rhythm, folder: Path) -> Any:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        if checkpoints.latest is None:
            first = jax.jit(task.init, out_shardings=replicated(), compiler_options=FAST_COMPILE)
            state = first(key)
            state = state if task.start is None else task.start(state)
            start = 0
            if task.parameters is not None:
                table = parameter_overview.get_parameter_overview(
                    task.parameters(state), include_stats=False
                )
                log.info("%s: parameters\n%s", task.name, table)
        else:
            state = checkpoints.restore(abstract_state(task, key))
            start = int(state.step)
            log.info("%s: resumed at step %d of %d", task.name, start, rhythm.total)
            if is_lead():
                _remove_damaged(folder / "samples")
        if start >= rhythm.total or (task.finished is not None and task.finished(state)):
            if is_lead():
                cut_back(folder, start)
            return state
        images = rhythm.images_per_step
        with (
            Streams(folder, start, enabled=is_lead()) as streams,
            Meter(task.name, rhythm.total * images, start=start * images) as meter,
            stopping.deferred(None if is_alone() else all_preempted),
        ):
            return _steps(
                task, feed, key, rhythm, folder, state, start, checkpoints, streams, meter
            )


def _steps(
    task: Task,
    feed: Batches,
    key: jax.Array,
    rhythm: Rhythm,
    folder: Path,
    state: Any,
    start: int,
    checkpoints: Checkpoints,
    streams: Streams,
    meter: Meter,
) -> Any:
    images = rhythm.images_per_step
    pending: list[Metrics] = []  # of the current interval; they stay on the device
    previous: Interval | None = None  # the interval before
    last_log = time.monotonic()
    waits = Waits(feed(start, rhythm.total))
    try:
        for step, batch in zip(range(start + 1, rhythm.total + 1), waits, strict=True):
            # The order of what follows matters: whatever belongs to a step is written before the
            # state of that step is saved, so that a restart neither loses nor repeats it.
            state, metrics = task.step(state, put_batch(batch), key, step - 1)
            pending.append(metrics)
            stop = stopping.requested()
            logs = rhythm.due(rhythm.log, step)
            evaluates = rhythm.due(rhythm.evaluate, step) and task.evaluate is not None
            saves = rhythm.due(rhythm.save, step) or stop is not None
            if logs or evaluates or saves:
                # The interval before is fetched while the device still works on this one.
                if previous is not None:
                    _write(task, streams, *previous, images, checkpoints.latest)
                speed = {"images_per_second": meter.rate(step * images), "data_wait": waits.share()}
                previous = (step, pending, speed)
                pending = []
            now = time.monotonic()
            if previous is not None and logs and (now - last_log > 5 or step == rhythm.total):
                last_log = now
                meter.update(step * images, f"{step * images / 1000:.1f} kimg {_brief(previous)}")
            if evaluates or saves:
                if previous is not None:
                    _write(task, streams, *previous, images, checkpoints.latest)
                    previous = None
            if evaluates and task.evaluate is not None:
                _refuse_broken(task, step, state, checkpoints)
                state, figures = task.evaluate(state, step)
                streams.write(step, step * images / 1000, figures)
            ends = evaluates and task.finished is not None and task.finished(state)
            if rhythm.due(rhythm.sample, step) and task.sample is not None:
                picture = task.sample(state)  # in every process: it may run on all devices
                if is_lead():
                    path = folder / "samples" / f"{step * images / 1000:09.2f}kimg.png"
                    path.parent.mkdir(exist_ok=True)
                    gray = picture.shape[-1] == 1
                    Image.fromarray(picture[..., 0] if gray else picture).save(path)
            if saves or ends:
                _refuse_broken(task, step, state, checkpoints)
                checkpoints.save(step, state)
            if stop is not None:
                raise stopping.Interrupted(stop)
            if ends:
                log.info("%s: finished at step %d of %d", task.name, step, rhythm.total)
                break
    finally:
        waits.close()
    return state


def _refuse_broken(task: Task, step: int, state: Any, checkpoints: Checkpoints) -> None:
    """Raises Diverged where a state is to be measured or saved that is not finite."""
    if not bool(finite(state)):
        raise diverged(task.name, step, not_finite(state), checkpoints.latest)


def _remove_damaged(samples: Path) -> None:
    """Removes sample grids that cannot be read; what is trained does not depend on them."""
    for path in sorted(samples.glob("*.png")):
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, ValueError, SyntaxError) as error:
            log.warning("%s is damaged (%s) and is removed; it is not drawn again", path, error)
            path.unlink()


def _means(interval: list[Metrics]) -> dict[str, float]:
    """Mean of each metric, on the host, over the steps that report it (R1 only every so often)."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for metrics in interval:
        for name, value in metrics.items():
            total, count = value if isinstance(value, tuple) else (value, 1.0)
            sums[name] = sums.get(name, 0.0) + float(total)
            counts[name] = counts.get(name, 0.0) + float(count)
    return {name: total / counts[name] for name, total in sums.items() if counts[name] > 0}


def _brief(interval: Interval) -> str:
    """The losses of the newest step, for the progress line."""
    newest = _means(jax.device_get(interval[1][-1:]))
    return " ".join(f"{n} {v:.3f}" for n, v in newest.items() if n.startswith("loss"))


def _write(
    task: Task,
    streams: Streams,
    step: int,
    interval: list[Metrics],
    speed: dict[str, float],
    images: int,
    checkpoint: int | None,
) -> None:
    if not interval:
        return
    fetched = jax.device_get(interval)
    for i, metrics in enumerate(fetched):
        bad = [name for name, value in _means([metrics]).items() if not math.isfinite(value)]
        if bad:
            first = step - len(fetched) + 1 + i
            raise diverged(task.name, first, bad, checkpoint)
    means = _means(fetched)
    if skipped := means.get(SKIPPED, 0):
        words = f"the state or a metric in {skipped:.0%} of the last {len(fetched)} steps"
        if skipped > MOST_SKIPPED:
            raise diverged(task.name, step, [words], checkpoint)
        log.warning("%s: not finite up to step %d: %s, which were skipped", task.name, step, words)
    streams.write(step, step * images / 1000, means | speed)
