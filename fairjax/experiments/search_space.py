"""What is searched: SEARCHES of a sweep file, and every problem of one before anything is computed.

    SEARCHES = {
        "dro": {                                        # launch/sweep.py --config=FILE:dro
            "cell": "small",                            # variant of the file; default: none
            "arm": "dro",                               # whose figures; default: the only one
            "keys": {
                "fit.weight_decay": ("log", 1e-4, 1.0),
                "fit.cvar_alpha": ("uniform", 0.05, 1.0),
                "fit.batch": ("choice", (32, 128)),
                ("fit.objective", "fit.sampler"): (     # keys that go together
                    "choice", (("mean", "epoch"), ("group_dro", "balanced"))),
            },
            "maximise": "'worst_group_accuracy/validation'",  # or several formulas; and "minimise"
            "trials": 40,
            "sampler": "tpe",                           # tpe | random
            "pruner": "median",                         # none | median | halving
            "seed": 0,                                  # of the sampler
        }
    }

A range of a key that holds a whole number gives whole numbers, its ends included.
"""

import copy
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fairjax.classifier_config import TREES
from fairjax.config import nearest, paths, value_at
from fairjax.errors import InputError
from fairjax.experiments.runs import unjudged
from fairjax.report.formula import figures_in
from fairjax.validation import validate

DEFAULTS = {"cell": "", "arm": "", "keys": {}, "maximise": (), "minimise": (), "trials": 40,
            "sampler": "tpe", "pruner": "none", "seed": 0}  # fmt: skip
SAMPLERS = ("tpe", "random")
PRUNERS = ("none", "median", "halving")
FIXED = ("experiment", "name", "seed")
# What a fit logs at each evaluation, by the name that its last network's figure has.
LOGGED = {f"{name}_accuracy/validation": f"{name}/validation"
          for name in ("average", "worst_group", "worst_class")}  # fmt: skip
MEASURED = re.compile(r"accuracy/.+/validation|average_accuracy/validation/train_weighted")
TRIES = 16  # other values beside which an end of a range must be usable at least once


class Key(NamedTuple):
    """Config keys that get a value together (mostly one), and which values these are."""

    names: tuple[str, ...]
    kind: str  # uniform | log | choice
    low: float
    high: float
    choices: tuple[Any, ...]  # each a tuple with a value for each name
    whole: bool  # whole numbers only

    @property
    def label(self) -> str:
        return ", ".join(self.names)

    def edges(self) -> list[tuple[Any, ...]]:
        """All choices, or both ends."""
        return [*self.choices] if self.kind == "choice" else [(self.low,), (self.high,)]

    def drawn(self, rng: random.Random) -> tuple[Any, ...]:
        if self.kind == "choice":
            return tuple(rng.choice(self.choices))
        if self.kind == "log":
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return (min(max(round(value) if self.whole else value, self.low), self.high),)


class Search(NamedTuple):
    """One search; `objectives` are (maximise or minimise, formula)."""

    name: str
    file: Path
    cell: str
    arm: str
    keys: tuple[Key, ...]
    objectives: tuple[tuple[str, str], ...]
    trials: int
    sampler: str
    pruner: str
    seed: int

    @property
    def figures(self) -> list[str]:
        """The figures that the objectives read."""
        return list(dict.fromkeys(n for _, text in self.objectives for n in figures_in(text)))


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with other values of dotted keys; raises TypeError or ValueError where a
    value is not of the key's type."""
    changed = ConfigDict(copy.deepcopy(config.to_dict()))
    for name, value in values.items():
        *above, last = name.split(".")
        tree = changed
        for part in above:
            tree = tree[part]
        tree[last] = value
    return changed


def load(path: Path, module: ModuleType, which: str) -> tuple[Search, ConfigDict]:
    """A search of a sweep file, and the config that its trials change.

    Raises:
      InputError: all problems of it at once.
    """
    where = f"{path}, SEARCHES[{which!r}]"
    given = module.SEARCHES[which]
    if not isinstance(given, Mapping):
        raise InputError(f"it is a {type(given).__name__}", where, "Write a dict")
    problems = [f"unknown key {name!r}. {nearest(str(name), list(DEFAULTS))}"
                for name in given if name not in DEFAULTS]  # fmt: skip
    tree = DEFAULTS | dict(given)
    try:
        config = module.get_config(tree["cell"] or None)
    except InputError:
        raise
    except Exception as error:  # a sweep file is a program: it can fail in any way
        found = f"get_config({tree['cell']!r}): {type(error).__name__}: {error}"
        raise InputError(found, where, "Mend the file") from error
    validate(config)
    arms = list(config.arms)
    arm = tree["arm"] or arms[0]
    if arm not in arms or (not tree["arm"] and len(arms) > 1):
        problems.append(f"arm (={tree['arm']!r}) must be one of {', '.join(arms)}")
        arm = arms[0]
    for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if tree[name] not in known:
            problems.append(f"{name} (={tree[name]!r}) must be one of {', '.join(known)}")
    if unjudged(config):
        problems.append("judge.attribute_sets (=()) must name what is judged: a row is of it")
    for name, least in (("trials", 1), ("seed", 0)):
        if type(tree[name]) is not int or tree[name] < least:
            problems.append(f"{name} (={tree[name]!r}) must be a whole number from {least}")
    keys = _keys(tree["keys"], config, arm, problems)
    objectives = _objectives(tree, problems)
    search = Search(which, path, tree["cell"], arm, keys, objectives, tree["trials"],
                    tree["sampler"], tree["pruner"], tree["seed"])  # fmt: skip
    if not problems:
        problems += [*_of_figures(search, config), *_of_values(search, config)]
    if problems:
        raise InputError(f"{len(problems)} problem(s): " + "; ".join(problems), where,
                         "See the head of fairjax/experiments/search_space.py")  # fmt: skip
    return search, config


def _keys(given: Any, config: ConfigDict, arm: str, problems: list[str]) -> tuple[Key, ...]:
    if not isinstance(given, Mapping) or not given:
        problems.append("keys must be a dict from a config key to its range, with at least one")
        return ()
    known = [name.removeprefix("config.") for name in paths(config)]
    part, found, seen = TREES[config.experiment].part, [], list[str]()
    for name, spec in given.items():
        names = (name,) if isinstance(name, str) else name
        if not isinstance(names, tuple) or not all(isinstance(n, str) for n in names):
            problems.append(f"keys: {name!r} must be the name of a key, or a tuple of names")
            continue
        before = len(problems)
        for n in names:
            if n not in known or n in FIXED or isinstance(value_at(config, n), ConfigDict):
                why = "no key that can be searched" if n in known else "no key of the config"
                near = "" if n in known else f". {nearest(n, known)}"
                problems.append(f"keys: {n} is {why}{near}")
            elif n in seen:
                problems.append(f"keys: {n} is there twice")
            elif n.startswith(f"{part}.") and n.removeprefix(f"{part}.") in config.arms[arm]:
                problems.append(f"keys: the arm sets {n} itself; search "
                                f"{n.replace(part, f'arms.{arm}', 1)}")  # fmt: skip
            seen.append(n)
        if len(problems) == before:
            try:
                found.append(_key(names, spec, config))
            except ValueError as error:
                problems.append(f"keys: {', '.join(names)} (={spec!r}) {error}")
    return tuple(found)


def _key(names: tuple[str, ...], spec: Any, config: ConfigDict) -> Key:
    """Raises ValueError with the rule that a range breaks."""
    match spec:
        case ("choice", [_, *_] as values):
            each = [_tuples(value) for value in values]
            several = len(names) > 1
            if several and not all(isinstance(v, tuple) and len(v) == len(names) for v in each):
                raise ValueError(f"must have choices of {len(names)} values each")
            choices = tuple(v if several else (v,) for v in each)
            if len({repr(c) for c in choices}) < len(choices):
                raise ValueError("names a choice twice")
            return Key(names, "choice", 0.0, 0.0, choices, False)
        case ("uniform" | "log" as kind, low, high) if len(names) == 1:
            value = value_at(config, names[0])
            if type(value) not in (int, float):
                raise ValueError(f"is a range, and the key holds {value!r}; give a choice")
            whole = isinstance(value, int)
            if any(type(x) not in ((int,) if whole else (int, float)) for x in (low, high)):
                raise ValueError(f"must have two {'whole ' if whole else ''}numbers")
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError("is empty: the first end must be below the second, both finite")
            if kind == "log" and low <= 0:
                raise ValueError("must begin above 0, as it is logarithmic")
            return Key(names, kind, low, high, (), whole)
    rule = "must be ('uniform', low, high), ('log', low, high) or ('choice', (a, b, ..))"
    raise ValueError(rule)


def _objectives(tree: Mapping[str, Any], problems: list[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for direction in ("maximise", "minimise"):
        given = tree[direction]
        if not isinstance(given, str | list | tuple):
            problems.append(f"{direction} (={given!r}) must be a formula, or a list of them")
            continue
        for text in (given,) if isinstance(given, str) else tuple(given):
            try:
                figures_in(str(text))
                found.append((direction, str(text)))
            except InputError as error:
                problems.append(f"{direction}: {error}")
    if not any(tree[direction] for direction in ("maximise", "minimise")):
        problems.append("maximise or minimise must be a formula over figures")
    if len(found) > 1 and tree["pruner"] != "none":
        problems.append(f"pruner (={tree['pruner']!r}) must be none with several objectives")
    return tuple(found)


def _of_figures(search: Search, config: ConfigDict) -> list[str]:
    """Figures by which nothing may be chosen, or that a run will not have."""
    problems = []
    for name in search.figures:
        end = name.rpartition("/")[2]
        if config.experiment == "robust_classification":
            if "test" in name.split("/"):
                problems.append(f"'{name}' is of the test images, and a choice by them is no test; "
                                f"take '{name.replace('/test', '/validation')}'")  # fmt: skip
            elif name not in LOGGED and (search.pruner != "none" or not MEASURED.fullmatch(name)):
                why = (
                    "is not measured while a fit runs, as the pruner needs"
                    if MEASURED.fullmatch(name)
                    else "is no figure of the validation images"
                )
                problems.append(f"'{name}' {why}. {nearest(name, list(LOGGED))}")
        elif name.startswith("kid/") and end != "random_conv" and not config.eval.features_during:
            problems.append(f"'{name}' is measured after the training only; a search looks at what "
                            f"is logged while it runs: 'kid/random_conv', with "
                            "eval.features_during=True those in other features too")  # fmt: skip
        elif name == "kid/inception" and not config.eval.inception:
            problems.append(f"'{name}' needs the file of the network, eval.inception")
        elif name.startswith(("fairness_discrepancy/", "share/")):
            sets = ["+".join(names) for names in config.judge.attribute_sets]
            head, of, *_ = name.split("/")
            classes = ("/0", "/1") if head == "share" else ("",)
            ends = ("/reference", "/uniform") if head != "share" else ("",)
            known = [
                f"{head}/{of}{k}/{kind}/{form}{end}"
                for k in classes
                for kind in ("hard", "soft")
                for form in ("raw", "corrected")
                for end in ends
            ]
            if of not in sets:
                problems.append(f"'{name}' is of no judge; judged are {', '.join(sets)}")
            elif re.sub(r"/\d+/", "/0/", name, count=1) not in known:
                problems.append(f"'{name}' is no figure of samples. {nearest(name, known)}")
    return problems


def _of_values(search: Search, config: ConfigDict) -> list[str]:
    """Ends and choices that no config of the search can have."""
    rng = random.Random(0)
    problems = []
    for key in search.keys:
        for edge in key.edges():
            own = dict(zip(key.names, edge, strict=True))
            first = problem_of(search, config, own)
            for _ in range(TRIES if first else 0):
                others = {n: v for k in search.keys if k is not key
                          for n, v in zip(k.names, k.drawn(rng), strict=True)}  # fmt: skip
                if not problem_of(search, config, others | own):
                    break
            else:
                if first:
                    problems.append(f"keys: {key.label} = {', '.join(map(repr, edge))}: {first}")
    return problems


def problem_of(search: Search, config: ConfigDict, values: Mapping[str, Any]) -> str:
    """Why a trial cannot have these values; "" where it can."""
    try:
        changed = with_values(config, values)
        validate(changed)
    except (InputError, TypeError, ValueError) as error:
        return str(error)
    tree = TREES[changed.experiment]
    if tree.part == "fit" and tree.with_arm(changed, search.arm).fit.head == "dfr":
        return "fit.head=dfr is fitted on the validation images, which then cannot choose"
    return ""


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
