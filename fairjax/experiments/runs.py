"""One run of many: `launch/train.py` as a process of its own, who does it, and what it costs."""

import fcntl
import logging
import os
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fairjax.classifier_config import fit_steps
from fairjax.config import with_arm
from fairjax.experiments.bench_work import phase_flop
from fairjax.report.rows import config_of

log = logging.getLogger("fairjax")

TRAIN = Path(__file__).resolve().parents[2] / "launch/train.py"
ASSUMED_RATE = 40e9  # FLOP/s, for the cost of a cell that was never run
ASSUMED_STEP = 0.01  # seconds, of a classifier
POLL = 1.0  # seconds between looks at a run that may be stopped
# Exit codes of a run that was told to stop, also before it could save.
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
UNUSABLE = 2  # exit code of a run whose input cannot be used


def unjudged(config: ConfigDict) -> bool:
    """Whether the runs of a config have no rows: a generator's row is of what is judged."""
    return config.experiment == "fair_generation" and not config.judge.attribute_sets


def to_its_end(command: list[str], hopeless: Callable[[], bool] | None = None) -> int:
    """Runs a command and returns its exit code.

    SIGINT and SIGTERM are handed on to it once, so that it saves before it ends. A process group of
    its own, as Ctrl-C would reach it twice.

    Args:
      command: program and arguments.
      hopeless: asked every second while it runs; where it says yes the command is stopped.
    """
    child = subprocess.Popen(command, process_group=0, close_fds=False)  # it keeps the claim
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number))
              for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    try:
        while hopeless is not None:
            try:
                child.wait(POLL)
                break
            except subprocess.TimeoutExpired:
                if hopeless():
                    child.terminate()
                    break
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cost(cell: str, config: ConfigDict, rows: Iterable[Mapping[str, Any]]) -> tuple[float, str]:
    """(seconds of a run of a cell, where that is from).

    Args:
      rows: of runs before. Those of the cell count, or else of cells that begin like it; for
        generators their GAN stages in proportion to the arithmetic, other stages as they were.
    """
    timed = [row for row in rows if (row.get("seconds") or {}).get("run")]
    near = [row for row in timed if row["cell"].split("+")[0] == cell.split("+")[0]]
    classifier = config.experiment == "robust_classification"
    same = [row for row in near if row["cell"] == cell] or (near if classifier else [])
    if same:
        return statistics.median(row["seconds"]["run"] for row in same), "as runs before"
    if classifier:
        steps = [fit_steps(config, arm) for arm in config.arms]
        known = sum(n for n in steps if n is not None)
        why = f"steps at an assumed {ASSUMED_STEP} s"
        if None in steps:
            why += ", without those on folders, whose images are not counted yet"
        return ASSUMED_STEP * known, why
    flop = sum(_gan_flop(with_arm(config, arm)) for arm in config.arms)
    if not near:
        return flop / ASSUMED_RATE, f"GAN steps at an assumed {ASSUMED_RATE / 1e9:g} GFLOP/s"
    pace = statistics.median(row["seconds"]["gan"] / _gan_flop(config_of(row)) for row in near)
    others = dict[tuple[str, int], float]()  # of each run: its rows share the seconds of the run
    for row in near:
        run = row["cell"], row["seed"]
        others[run] = others.get(run, row["seconds"]["run"]) - row["seconds"]["gan"]
    return flop * pace + statistics.median(others.values()), "from runs of other cells before"


def _gan_flop(tree: ConfigDict) -> float:
    """The arithmetic of an arm's GAN steps."""
    return phase_flop(tree)["iteration"] * 1000 * tree.gan.kimg / tree.gan.batch


def take_over(config: ConfigDict, workdir: Path, others: Iterable[Path]) -> None:
    """Copies into a run what others have finished that it would make from the same, and says so.

    Raises:
      InputError: `workdir` was begun under another config.
    """
    # They need seconds to import, and most calls of these programs start no run.
    from fairjax.experiments import fair_generation, robust_classification

    robust = config.experiment == "robust_classification"
    stages = (robust_classification if robust else fair_generation).stages_of(config, workdir)
    if taken := stages.take_over([p for p in sorted(others) if p.is_dir() and p != workdir]):
        log.info("taken over from other runs: %s", ", ".join(taken))


@contextmanager
def claimed(workdir: Path) -> Iterator[bool]:
    """Whether this process may do the run; the system gives the claim back when this process and
    the run that it started have ended, as a run outlives a sweep that is killed."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with workdir.with_name(workdir.name + ".claim").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.set_inheritable(handle.fileno(), True)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield True
