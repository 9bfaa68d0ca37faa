"""The study of a search: Optuna suggests values and prunes; any number of processes share it.

It is a journal in the search's folder, one JSON object a line. Under the lock of the folder a
process takes a trial that no living process has, or asks for a new one, so that every trial is run
by one process and goes on after any kill.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fairjax.errors import InputError
from fairjax.experiments import runs
from fairjax.experiments.search_space import Key, Search
from fairjax.report.rows import settings_of
from fairjax.report.workdir import flat

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:  # it is an extra
    raise InputError(
        f"Optuna cannot be imported ({error})", "a search", 'Run pip install -e ".[tools]"'
    ) from error

optuna.logging.set_verbosity(optuna.logging.WARNING)

# The median prunes nothing before this many trials, and before this many evaluations of a trial.
STARTED, WARM_UP = 5, 3
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def opened(search: Search, config: ConfigDict, folder: Path) -> optuna.Study:
    """The study in a folder, new or begun.

    Raises:
      InputError: it was begun with other keys, objectives or another config.
    """
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.log")))
    known: dict[str, Any] = {
        "objectives": [list(pair) for pair in search.objectives],
        "keys": {key.label: repr(key) for key in search.keys},
        "config": settings_of(config, search.arm) | {"seed": config.seed},
    }
    known = json.loads(json.dumps(known, default=list))
    there = optuna.get_all_study_summaries(storage)
    attributes = next((s.user_attrs for s in there if s.study_name == search.name), {})
    before = attributes.get("search", {})
    was, now = flat(before), flat(known)
    changed = [k for k in was.keys() | now.keys() if was.get(k) != now.get(k)] if before else []
    if changed:
        raise InputError(
            f"the search was begun with other {', '.join(sorted(changed))}",
            str(folder),
            f"Give another --root and --out, or remove this folder and the rows of {search.name}",
        )
    maximised = [direction == "maximise" for direction, _ in search.objectives]
    study = optuna.create_study(
        study_name=search.name,
        storage=storage,
        directions=["maximize" if up else "minimize" for up in maximised],
        load_if_exists=True,
        pruner={
            "none": optuna.pruners.NopPruner(),
            "median": optuna.pruners.MedianPruner(STARTED, WARM_UP),
            "halving": optuna.pruners.SuccessiveHalvingPruner(),
        }[search.pruner],
    )
    if not before:
        study.set_user_attr("search", known)
    return study


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process takes a trial; the system frees what a dead one held."""
    with (folder / "study.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def workdir_of(folder: Path, number: int) -> Path:
    """Where a trial's run lies."""
    return folder / f"trial_{number:04d}"


@contextlib.contextmanager
def next_trial(search: Search, study: optuna.Study, folder: Path) -> Iterator[Trial | None]:
    """A trial for this process alone: one that was begun and that nobody has, else a new one; None
    where all are taken."""
    with contextlib.ExitStack() as claim:

        def mine(number: int) -> bool:
            return claim.enter_context(runs.claimed(workdir_of(folder, number)))

        def goes_on(number: int) -> bool:  # its process may have ended it since the list was read
            return bool(study.get_trials(deepcopy=False)[number].state == TrialState.RUNNING)

        with locked(folder):
            trials = study.get_trials(deepcopy=False)
            begun = (t for t in trials if t.state == TrialState.RUNNING and mine(t.number)
                     and goes_on(t.number))  # fmt: skip
            left = next(begun, None)
            trial = None
            if left is not None:
                trial = Trial(study, left._trial_id)
            elif len(trials) < search.trials:
                study.sampler = _sampler(search, len(trials))
                trial = study.ask({key.label: _distribution(key) for key in search.keys})
                mine(trial.number)
        yield trial


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """A suggestion is a function of the search's seed, the trial's number and the trials before."""
    seed = (search.seed * 1_000_003 + number) % 2**32
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    return kinds[search.sampler](seed=seed)


def _distribution(key: Key) -> optuna.distributions.BaseDistribution:
    if key.kind == "choice":
        return optuna.distributions.CategoricalDistribution([repr(c) for c in key.choices])
    if key.whole:
        low, high = int(key.low), int(key.high)
        return optuna.distributions.IntDistribution(low, high, log=key.kind == "log")
    return optuna.distributions.FloatDistribution(key.low, key.high, log=key.kind == "log")


def values_of(search: Search, trial: Trial | FrozenTrial) -> dict[str, Any]:
    """The config keys of a trial with their values; {} where a process died while it asked for
    them."""
    if trial.params.keys() != {key.label for key in search.keys}:
        return {}
    values: dict[str, Any] = {}
    for key in search.keys:
        found = trial.params[key.label]
        chosen = {repr(c): c for c in key.choices}[found] if key.kind == "choice" else (found,)
        values |= zip(key.names, chosen, strict=True)
    return values
