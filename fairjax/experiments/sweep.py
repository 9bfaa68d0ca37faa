"""The command line of `launch/sweep.py`: many runs of a grid, by any number of processes.

A sweep file is a config file with two more names: SWEEPS, a dict from a sweep's name to its cells
(each a variant of the file), and SEEDS. A run is a cell with a seed; `launch/train.py` does it, so
that it can be repeated, resumed and looked at by itself.
"""

import fcntl
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from fairjax.classifier_config import with_arm as classifier_arm
from fairjax.config import nearest, with_arm
from fairjax.errors import InputError
from fairjax.experiments.bench_work import phase_flop
from fairjax.experiments.command import read_flags, run_program
from fairjax.report.rows import append_rows, read_rows, rows_of, settings_of
from fairjax.train.progress import clock
from fairjax.validation import validate

log = logging.getLogger("fairjax")

TRAIN = Path(__file__).resolve().parents[2] / "launch/train.py"
ASSUMED_RATE = 40e9  # FLOP/s, for the cost of a cell that was never run
ASSUMED_STEP = 0.01  # seconds, of a classifier
# Exit codes of a run that was told to stop, also before it could save.
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


class Job(NamedTuple):
    """One run: a cell with a seed."""

    cell: str
    seed: int
    methods: tuple[str, ...]
    workdir: Path


def sweep_flags() -> flags.FlagValues:
    """The flags of the program."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "Sweep file, e.g. configs/sweeps/paper_grid.py, or "
                        "FILE:NAME for another of its sweeps than the first.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_list("cells", None, "Only these cells.", flag_values=values)
    flags.DEFINE_list("seeds", None, "Only these seeds; default: SEEDS of the file.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_string("root", "runs/sweeps", "Where the runs' folders are.", flag_values=values)
    flags.DEFINE_string("out", None, "File of the rows; default: the sweep file with the ending "
                        ".jsonl.", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("limit", 0, "End after this many runs; 0 = all.", 0, flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print the runs, their state and cost; run nothing.",
                      flag_values=values)  # fmt: skip
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used, 1 where a run failed."""
    run_program(
        argv,
        lambda argv: sys.exit(_run(argv)),
        sweep_flags,
        about=": runs a grid of configs and seeds; resumes by rerunning.",
        example="python launch/sweep.py --config=configs/sweeps/paper_grid.py",
    )


def load(given: str) -> tuple[Path, ModuleType, tuple[str, ...]]:
    """(file, its module, cells) of FILE or FILE:NAME; raises InputError where it is no sweep."""
    name, _, which = given.partition(":")
    path = Path(name)
    mend = "Give a Python file such as configs/sweeps/paper_grid.py"
    if not path.is_file():
        raise InputError("no such file", f"--config={given}", mend)
    spec = importlib.util.spec_from_file_location("sweep", path)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", f"--config={given}", mend)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        sweeps, seeds = dict(module.SWEEPS), tuple(module.SEEDS)
    except Exception as error:  # a sweep file is a program: it can fail in any way
        found = f"{type(error).__name__}: {error}"
        raise InputError(found, f"--config={given}", "Give it SWEEPS and SEEDS") from error
    which = which or next(iter(sweeps), "")
    if which not in sweeps:
        raise InputError(f"no sweep is named '{which}'", f"--config={given}",
                         nearest(which, list(sweeps)))  # fmt: skip
    if not seeds or not sweeps[which]:
        raise InputError("no cells or no seeds", f"--config={given}", "Give at least one of each")
    return path, module, tuple(sweeps[which])


def jobs(
    path: Path, module: ModuleType, cells: Sequence[str], seeds: Sequence[int], root: Path
) -> list[tuple[Job, ConfigDict]]:
    """The runs, seed by seed, with their configs; every config is checked first."""
    planned = []
    for seed in seeds:
        for cell in cells:
            config = module.get_config(cell)
            config.seed = seed
            validate(config)
            workdir = root / path.stem / cell / str(seed)
            planned.append((Job(cell, seed, tuple(config.arms), workdir), config))
    return planned


def _run(argv: list[str]) -> int:
    values = sweep_flags()
    read_flags(values, argv, needed=("config",))
    path, module, cells = load(values.config)
    cells = _chosen(values.cells, cells, "--cells")
    seeds = [int(s) for s in _numbers(values.seeds)] if values.seeds else list(module.SEEDS)
    out = Path(values.out) if values.out else path.with_suffix(".jsonl")
    rows = read_rows(out) if out.exists() else []
    planned = jobs(path, module, cells, seeds, Path(values.root))
    _refuse_others(planned, rows, out)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    pending = _show(planned, rows)
    if values.dry_run:
        return 0
    failed, ran = [], 0
    for job, config in pending:
        if values.limit and ran >= values.limit:
            break
        with _claimed(job.workdir) as mine:
            if not mine or _recorded(job, read_rows(out) if out.exists() else []):
                continue  # another process has it, or has had it
            cost, why = _cost(job, config, rows)
            log.info("sweep: %s, seed %d: about %s (%s)", job.cell, job.seed, clock(cost), why)
            code = _to_its_end(
                [sys.executable, str(TRAIN), f"--config={path}:{job.cell}",
                 f"--config.seed={job.seed}", f"--workdir={job.workdir}"]
            )  # fmt: skip
            if code in STOPPED:
                log.info("sweep: stopped; the same command goes on")
                return code if code > 0 else 128 - code
            if code:
                log.error("sweep: %s, seed %d ended with exit code %d", job.cell, job.seed, code)
                failed.append(job)
                continue
            fresh = rows_of(job.workdir, job.cell)
            append_rows(out, fresh)
            rows += fresh
            ran += 1
            for row in fresh:
                log.info("sweep: %s, seed %d, %s: %s", job.cell, job.seed, row["method"],
                         f"worst group {row['worst_group']:.3f}" if "worst_group" in row else
                         f"discrepancy {row['discrepancy']} over the last "
                         f"{row['evaluations']} evaluations")  # fmt: skip
    log.info("sweep: %d runs made, %d failed; rows in %s", ran, len(failed), out)
    return 1 if failed else 0


def _to_its_end(command: list[str]) -> int:
    """Runs a command and returns its exit code; SIGINT and SIGTERM are handed on to it once, so
    that it saves before it ends. A process group of its own, as Ctrl-C would reach it twice."""
    child = subprocess.Popen(command, process_group=0)
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number))
              for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _chosen(given: list[str] | None, known: tuple[str, ...], where: str) -> tuple[str, ...]:
    for name in given or ():
        if name not in known:
            raise InputError(f"no cell is named '{name}'", where, nearest(name, list(known)))
    return tuple(given) if given else known


def _numbers(given: list[str]) -> list[str]:
    for text in given:
        if not text.isdigit():
            raise InputError(f"{text!r} is no seed", "--seeds", "Give numbers, as in --seeds=0,1")
    return given


def _refuse_others(
    planned: list[tuple[Job, ConfigDict]], rows: list[dict[str, Any]], out: Path
) -> None:
    """Raises InputError where a row of a planned run was made with another config."""
    made = {(row["cell"], row["seed"], row["method"]): row.get("settings") for row in rows}
    for job, config in planned:
        for method in job.methods:
            found = made.get((job.cell, job.seed, method))
            now = settings_of(config, method)
            if found is not None and found != now:
                keys = sorted(k for k in found.keys() | now.keys() if found.get(k) != now.get(k))
                raise InputError(
                    f"{job.cell}, seed {job.seed}, {method} was run with other values of "
                    f"{', '.join(keys)}",
                    str(out),
                    "Give another --out and --root, or remove these rows and their folders",
                )


def _recorded(job: Job, rows: list[dict[str, Any]]) -> bool:
    there = {row["method"] for row in rows if (row["cell"], row["seed"]) == (job.cell, job.seed)}
    return there >= {*job.methods}


def _show(
    planned: list[tuple[Job, ConfigDict]], rows: list[dict[str, Any]]
) -> list[tuple[Job, ConfigDict]]:
    """Logs every run with its state and cost; returns those that have no rows yet."""
    pending, total = [], 0.0
    for job, config in planned:
        if _recorded(job, rows):
            log.info("sweep: %-28s seed %d  done", job.cell, job.seed)
            continue
        cost, why = _cost(job, config, rows)
        log.info("sweep: %-28s seed %d  %s, about %s (%s)", job.cell, job.seed,
                 "begun" if job.workdir.exists() else "to do", clock(cost), why)  # fmt: skip
        pending.append((job, config))
        total += cost
    log.info("sweep: %d of %d runs to do, about %s", len(pending), len(planned), clock(total))
    return pending


def _cost(job: Job, config: ConfigDict, rows: list[dict[str, Any]]) -> tuple[float, str]:
    """(seconds of a run, where that is from)."""
    same = [row for row in rows if row["cell"] == job.cell] or [
        row for row in rows if row["cell"].split("+")[0] == job.cell.split("+")[0]
    ]
    known = [row["seconds"]["run"] for row in same if (row.get("seconds") or {}).get("run")]
    if known:
        return sum(known) / len(known), "as runs before"
    if config.experiment == "robust_classification":
        fits = [classifier_arm(config, arm).fit for arm in config.arms]
        steps = sum(fit.epochs / fit.batch for fit in fits) * config.data.n_biased
        return ASSUMED_STEP * steps, f"steps at an assumed {ASSUMED_STEP} s"
    flop = 0.0
    for arm in config.arms:
        tree = with_arm(config, arm)
        flop += phase_flop(tree)["iteration"] * 1000 * tree.gan.kimg / tree.gan.batch
    return flop / ASSUMED_RATE, f"GAN steps at an assumed {ASSUMED_RATE / 1e9:g} GFLOP/s"


@contextmanager
def _claimed(workdir: Path) -> Iterator[bool]:
    """Whether this process may do the run; the system gives the claim back when it ends."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with workdir.with_name(workdir.name + ".claim").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield True
