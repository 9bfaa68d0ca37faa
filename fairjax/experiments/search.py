"""A search over config keys: its trials are runs of `launch/train.py`, to be looked at one by one.

A trial leaves one line in the sweep's file, also one that was pruned or failed; the line is written
before the study learns of its end, so that a kill in between neither loses nor repeats it.
"""

import contextlib
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fairjax.classifier_config import TREES
from fairjax.errors import InputError
from fairjax.experiments import runs
from fairjax.experiments.search_space import LOGGED, Search, problem_of, with_values
from fairjax.report.formula import evaluate
from fairjax.report.rows import QUARTER, append_rows, rows_of, rows_so_far
from fairjax.train.progress import clock
from fairjax.train.streams import read

log = logging.getLogger("fairjax")


def run(
    search: Search, config: ConfigDict, root: Path, out: Path, limit: int, dry_run: bool
) -> int:
    """Runs the trials of a search that are left.

    Args:
      search, config: of `search_space.load`.
      root: the folder above that of the sweep's runs. out: file of the rows.
      limit: end after this many trials; 0 = all.
      dry_run: print what is to do and its cost; run nothing.

    Returns:
      0, or the exit code of a run that was told to stop, or of the first one, which cannot use its
      input.

    Raises:
      InputError: Optuna is not installed, the study or the rows are of another search, or an
        objective names a figure that the runs do not have.
    """
    from fairjax.experiments import study as studies  # it needs an extra

    folder = root / search.file.stem / search.name
    rows = _rows(search, out)
    if dry_run and not (folder / "study.log").exists():
        _show(search, config, 0, rows)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with studies.locked(folder):
        study = studies.opened(search, config, folder)
        trials = study.get_trials(deepcopy=False)
        known = [studies.values_of(search, t) for t in trials]
        _refuse_other_rows(search, known, rows, out)
    _show(search, config, sum(trial.state.is_finished() for trial in trials), rows)
    ran = 0
    while not dry_run and (not limit or ran < limit):
        with studies.next_trial(search, study, folder) as trial:
            if trial is None:
                break
            values = studies.values_of(search, trial)
            code, end = _run_trial(
                search, config, trial, values, studies.workdir_of(folder, trial.number)
            )
            # Before any trial came to its end it is hardly the values that the run cannot use.
            if code == runs.UNUSABLE and not any(
                t.state.name == "COMPLETE" for t in study.get_trials(deepcopy=False)
            ):
                log.error("search: trial %d cannot use its input, see above; mend that, and the "
                          "same command goes on", trial.number)  # fmt: skip
                return code
            if end is None:
                log.info("search: stopped; the same command goes on")
                return code if code > 0 else 128 - code
            between = study.get_trials(deepcopy=False)[trial.number].intermediate_values
            _append(search, config, trial.number, values, end, between, out)
            study.tell(trial.number, end.results, state=studies.STATES[end.state])
        ran += 1
    if not dry_run:
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
        log.info("search: %d trials made here; of all, %s; rows in %s", ran, ", ".join(
            f"{states.count(s)} {s.lower()}" for s in dict.fromkeys(states)), out)  # fmt: skip
        for best in study.best_trials if "COMPLETE" in states else ():
            log.info("search: %s trial %d (%s): %s",
                     "best" if len(search.objectives) == 1 else "on the front:", best.number,
                     ", ".join(map(_short, best.values)),
                     " ".join(f"--config.{n}={v}"
                              for n, v in studies.values_of(search, best).items()))  # fmt: skip
    return 0


class _End(NamedTuple):
    """How a trial ended."""

    state: str  # complete | pruned | failed
    reason: str = ""  # of a failure
    results: list[float] | None = None  # of the objectives
    row: dict[str, Any] = {}  # that of its run
    validation: dict[str, float | None] = {}  # figures by which it may be chosen


def _run_trial(
    search: Search, config: ConfigDict, trial: Any, values: dict[str, Any], workdir: Path
) -> tuple[int, _End | None]:
    """(exit code of the run, how the trial ended; None where the run was told to stop)."""
    if not values:
        return 0, _End("failed", "its process died before it had values")
    said = ", ".join(f"{name} = {_short(value)}" for name, value in values.items())
    log.info("search: trial %d (of %d): %s", trial.number, search.trials, said)
    if problem := problem_of(search, config, values):
        return 0, _End("failed", problem)
    changed = with_values(config, values)
    runs.take_over(changed, workdir, workdir.parent.glob("trial_*"))
    watch = _Watch(search, config, trial, _stream(search, config, workdir))
    cell = f":{search.cell}" if search.cell else ""
    code = runs.to_its_end(
        [sys.executable, str(runs.TRAIN), f"--config={search.file}{cell}",
         *(f"--config.{name}={value}" for name, value in values.items()),
         f"--workdir={workdir}"],
        watch.hopeless,
    )  # fmt: skip
    if code in runs.STOPPED:
        return code, _End("pruned") if watch.pruned else None
    if code:
        return code, _End("failed", f"its run ended with exit code {code}")
    watch.hopeless()  # what was logged last
    (row,) = [r for r in rows_of(workdir, search.name) if r["method"] == search.arm]
    found = _validation(search, config, workdir, row)
    try:
        results = [evaluate(formula, found) for _, formula in search.objectives]
    except ArithmeticError as error:
        return 0, _End("failed", str(error), None, row, found)
    return 0, _End("complete", "", results, row, found)


class _Watch:
    """Hands each evaluation that a run logs to the study, and asks its pruner."""

    def __init__(self, search: Search, config: ConfigDict, trial: Any, stream: Path):
        self._search, self._trial, self._stream = search, trial, stream
        robust = config.experiment == "robust_classification"
        self._names = {n: LOGGED.get(n, n) if robust else n for n in search.figures}
        self._told = set(trial.study.trials[trial.number].intermediate_values)
        self._size = 0
        self.pruned = False

    def hopeless(self) -> bool:
        """Whether the run is to be stopped."""
        size = self._stream.stat().st_size if self._stream.exists() else 0
        if len(self._search.objectives) > 1 or size == self._size:
            return False  # Optuna prunes studies of one objective only
        self._size = size
        seen: dict[str, float | None] = {}
        evaluations = 0
        for line in read(self._stream):
            here = {name: line[key] for name, key in self._names.items() if key in line}
            seen |= here
            if here and seen.keys() == self._names.keys():
                evaluations += 1
                if evaluations not in self._told:
                    self._told.add(evaluations)
                    with contextlib.suppress(ArithmeticError):  # an empty figure tells nothing
                        value = evaluate(self._search.objectives[0][1], seen)
                        self._trial.report(value, evaluations)
        self.pruned = bool(self._told) and self._trial.should_prune()
        return self.pruned


def _stream(search: Search, config: ConfigDict, workdir: Path) -> Path:
    part = TREES[config.experiment].part  # the stage has the name of what configures it
    return workdir / f"arms/{search.arm}/{part}/metrics.jsonl"


def _validation(
    search: Search, config: ConfigDict, workdir: Path, row: Mapping[str, Any]
) -> dict[str, float | None]:
    """The figures of a finished run, whose row this is, by which it may be chosen.

    Of a classifier: those of the validation images. Of a generator: what was logged while it was
    trained, as means over the lines of the last quarter; the final figures are of other samples.
    """
    if config.experiment == "robust_classification":
        return {name: value for name, (value, _, _) in row["figures"].items()
                if "validation" in name.split("/")}  # fmt: skip
    lines = read(_stream(search, config, workdir))
    late = [line for line in lines if line["step"] > QUARTER * lines[-1]["step"]]
    means: dict[str, float | None] = {}
    for name in {name for line in late for name in line} - {"step", "kimg", "time"}:
        values = [line[name] for line in late if line.get(name) is not None]
        means[name] = math.fsum(values) / len(values) if values else None
    return means


def _append(
    search: Search,
    config: ConfigDict,
    number: int,
    values: dict[str, Any],
    end: _End,
    between: dict[int, float],
    out: Path,
) -> None:
    """Adds the line of a trial, unless a process that was killed has done so."""
    robust = config.experiment == "robust_classification"
    row = end.row or {
        "cell": search.name, "seed": config.seed, "method": search.arm,
        "attribute": config.data.group_attributes[0],
        "worst_group" if robust else "discrepancy": None,
    }  # fmt: skip
    row = row | {
        "trial": number, "state": end.state, "reason": end.reason, "searched": values,
        "objectives": [list(pair) for pair in search.objectives], "values": end.results,
        "between": sorted(between.items()), "validation": end.validation,
    }  # fmt: skip
    if all(old["trial"] != number for old in _rows(search, out)):
        append_rows(out, [row])
    shown = ", ".join(map(_short, end.results or [])) or end.reason
    log.info("search: trial %d: %s%s", number, end.state, shown and f" ({shown})")


def _rows(search: Search, out: Path) -> list[dict[str, Any]]:
    rows = rows_so_far(out)
    return [row for row in rows if row["cell"] == search.name and "trial" in row]


def _refuse_other_rows(
    search: Search, known: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], out: Path
) -> None:
    """Raises InputError where the file has rows of trials that are not those of the study."""
    known = json.loads(json.dumps(known))
    for row in rows:
        if row["trial"] >= len(known) or known[row["trial"]] != row["searched"]:
            raise InputError(
                f"its trial {row['trial']} of {search.name} is none of this study",
                str(out),
                "Give another --out, or remove the rows of this search",
            )


def _show(search: Search, config: ConfigDict, done: int, rows: Sequence[dict[str, Any]]) -> None:
    """Logs what is searched, how far it is and what the rest costs."""
    for key in search.keys:
        what = f"{key.low:g} to {key.high:g}, {key.kind}"
        if key.kind == "choice":
            what = ", ".join(_short(c[0] if len(c) == 1 else c) for c in key.choices)
        log.info("search: %s: %s", key.label, what)
    for direction, formula in search.objectives:
        log.info("search: %s %s", direction, formula)
    left = max(search.trials - done, 0)
    whole = [row for row in rows if row["state"] == "complete"]
    seconds, why = runs.cost(search.name, config, whole)
    log.info("search: %d of %d trials to do (sampler %s, pruner %s), about %s each (%s), at "
             "most %s in one process", left, search.trials, search.sampler, search.pruner,
             clock(seconds), why, clock(left * seconds))  # fmt: skip


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
