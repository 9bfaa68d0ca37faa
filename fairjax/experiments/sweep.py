"""The command line of `launch/sweep.py`: many runs of a grid, by any number of processes.

A sweep file is a config file with two more names: SWEEPS, a dict from a sweep's name to its cells
(each a variant of the file), and SEEDS. SEEDS_OF may give some sweeps seeds of their own. A run is
a cell with a seed; `launch/train.py` does it, so that it can be repeated, resumed and looked at by
itself. It may also have SEARCHES, a dict from a search's name to what is searched; see
`fairjax.experiments.search_space`.
"""

import contextlib
import importlib.util
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from fairjax.config import nearest
from fairjax.data.storage import local
from fairjax.errors import InputError
from fairjax.experiments import runs, search_space
from fairjax.experiments.config_line import parse, split_config
from fairjax.experiments.program import read_flags, run_program
from fairjax.report.rows import append_rows, rows_of, rows_so_far, settings_of
from fairjax.train.progress import clock
from fairjax.validation import validate

log = logging.getLogger("fairjax")

FORMAT = "%(asctime)s %(message)s"


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
    flags.DEFINE_list("seeds", None, "Only these seeds; default: SEEDS_OF, SEEDS of the file.",
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
        about=": runs a grid of configs and seeds, or a search; resumes by rerunning.\n\n"
        "  --config.<key>=<value>: for every run of a grid, as in launch/train.py",
        example="python launch/sweep.py --config=configs/sweeps/paper_grid.py",
    )


class Opened(NamedTuple):
    """A sweep or a search of a file; a search has no cells (None) and no seeds."""

    path: Path
    module: ModuleType
    name: str
    cells: tuple[str, ...] | None
    seeds: tuple[int, ...]


def opened(given: str) -> Opened:
    """What FILE or FILE:NAME names; without a name the file's first.

    Raises:
      InputError: it is no file with sweeps or searches, none has this name, or two share one.
    """
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
        searches = dict(getattr(module, "SEARCHES", {}))
        sweeps = {} if searches and not hasattr(module, "SWEEPS") else dict(module.SWEEPS)
        seeds = dict.fromkeys(sweeps, tuple(module.SEEDS)) if sweeps else {}
        own = {name: tuple(of) for name, of in getattr(module, "SEEDS_OF", {}).items()}
        for seed in (s for of in (seeds | own).values() for s in of):
            if type(seed) is not int:
                raise TypeError(f"the seed {seed!r} is no whole number")
    except Exception as error:  # a sweep file is a program: it can fail in any way
        found = f"{type(error).__name__}: {error}"
        mend = "Give it SWEEPS and SEEDS, or SEARCHES"
        raise InputError(found, f"--config={given}", mend) from error
    cells = {name for sweep in sweeps.values() for name in sweep}
    if shared := sorted(searches.keys() & (sweeps.keys() | cells)):
        raise InputError(f"'{shared[0]}' names a search and a sweep or a cell", f"--config={given}",
                         "Rename one: they share a file of rows and folders")  # fmt: skip
    if unknown := sorted(own.keys() - sweeps.keys()):
        raise InputError(f"SEEDS_OF has '{unknown[0]}', which is no sweep", f"--config={given}",
                         nearest(unknown[0], list(sweeps)))  # fmt: skip
    seeds |= own
    names = [*sweeps, *searches]
    which = which or next(iter(names), "")
    if which not in names:
        raise InputError(f"no sweep is named '{which}'", f"--config={given}", nearest(which, names))
    if which in searches:
        return Opened(path, module, which, None, ())
    if not seeds[which] or not sweeps[which]:
        raise InputError("no cells or no seeds", f"--config={given}",
                         "Give at least one of each in SWEEPS, SEEDS and SEEDS_OF")  # fmt: skip
    return Opened(path, module, which, tuple(sweeps[which]), seeds[which])


def jobs(
    path: Path, cells: Sequence[str], seeds: Sequence[int], root: Path, changes: Sequence[str] = ()
) -> list[tuple[Job, ConfigDict]]:
    """The runs, seed by seed, with their configs; every config is checked first.

    Args:
      changes: `--config.<key>=<value>`, for all of them.
    """
    planned = []
    for seed in seeds:
        for cell in cells:
            config = parse(["sweep.py", f"--config={path}:{cell}", *changes]).config
            config.seed = seed
            validate(config)
            if runs.unjudged(config):
                raise InputError("no attribute is judged, and a row is of one",
                                 f"--config={path}:{cell}", "Give judge.attribute_sets and labels"
                                 )  # fmt: skip
            workdir = root / path.stem / cell / str(seed)
            planned.append((Job(cell, seed, tuple(config.arms), workdir), config))
    return planned


def _run(argv: list[str]) -> int:
    (_, *changes), others = split_config(argv, file=False)
    values = sweep_flags()
    read_flags(values, others, needed=("config",))
    path, module, which, cells, seeds = opened(values.config)
    out = local(values.out, "--out") if values.out else path.with_suffix(".jsonl")
    if cells is None:
        for flag in ("cells", "seeds"):
            if values[flag].value:
                raise InputError("a search has none", f"--{flag}", "Leave it out")
        if changes:
            raise InputError("a search takes no other values", changes[0], "Write it in the file")
        wanted, config = search_space.load(path, module, which)
        logging.basicConfig(format=FORMAT, datefmt="%H:%M:%S", level=logging.INFO)
        from fairjax.experiments import search  # its libraries take the log where nobody has it yet

        return search.run(
            wanted, config, local(values.root, "--root"), out, values.limit, values.dry_run
        )
    cells = _chosen(values.cells, cells, "--cells")
    seeds = tuple(int(s) for s in _numbers(values.seeds)) if values.seeds else seeds
    if of_seed := [arg for arg in changes if re.match(r"--?config\.seed\b", arg)]:
        raise InputError("the seeds are those of the sweep", of_seed[0], "Use --seeds=0,1")
    rows = rows_so_far(out)
    planned = jobs(path, cells, seeds, local(values.root, "--root"), changes)
    _refuse_others(planned, rows, out)
    logging.basicConfig(format=FORMAT, datefmt="%H:%M:%S", level=logging.INFO)
    pending = _show(planned, rows)
    if values.dry_run:
        return 0
    failed, ran = [], 0
    for job, config in pending:
        if values.limit and ran >= values.limit:
            break
        with runs.claimed(job.workdir) as mine:
            if not mine or _recorded(job, rows_so_far(out)):
                continue  # another process has it, or has had it
            seconds, why = runs.cost(job.cell, config, rows)
            log.info("sweep: %s, seed %d: about %s (%s)", job.cell, job.seed, clock(seconds), why)
            with contextlib.suppress(InputError):  # the run itself says it
                seeds_runs = job.workdir.parents[1].glob(f"*/{job.seed}")
                runs.take_over(config, job.workdir, seeds_runs)
            code = runs.to_its_end(
                [sys.executable, str(runs.TRAIN), f"--config={path}:{job.cell}", *changes,
                 f"--config.seed={job.seed}", f"--workdir={job.workdir}"]
            )  # fmt: skip
            if code in runs.STOPPED:
                log.info("sweep: stopped; the same command goes on")
                return code if code > 0 else 128 - code
            if code:
                log.error("sweep: %s, seed %d ended with exit code %d", job.cell, job.seed, code)
                failed.append(job)
                continue
            known = _methods(job, rows_so_far(out))  # of a cell with new arms
            fresh = [r for r in rows_of(job.workdir, job.cell) if r["method"] not in known]
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


def _methods(job: Job, rows: list[dict[str, Any]]) -> set[str]:
    """Those of a run that have rows."""
    return {row["method"] for row in rows if (row["cell"], row["seed"]) == (job.cell, job.seed)}


def _recorded(job: Job, rows: list[dict[str, Any]]) -> bool:
    return _methods(job, rows) >= {*job.methods}


def _show(
    planned: list[tuple[Job, ConfigDict]], rows: list[dict[str, Any]]
) -> list[tuple[Job, ConfigDict]]:
    """Logs every run with its state and cost; returns those that have no rows yet."""
    pending, total = [], 0.0
    for job, config in planned:
        if _recorded(job, rows):
            log.info("sweep: %-28s seed %d  done", job.cell, job.seed)
            continue
        seconds, why = runs.cost(job.cell, config, rows)
        log.info("sweep: %-28s seed %d  %s, about %s (%s)", job.cell, job.seed,
                 "begun" if job.workdir.exists() else "to do", clock(seconds), why)  # fmt: skip
        pending.append((job, config))
        total += seconds
    log.info("sweep: %d of %d runs to do, about %s", len(pending), len(planned), clock(total))
    return pending
