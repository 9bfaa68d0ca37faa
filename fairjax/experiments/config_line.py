"""The flags of a run: a config file, its variant and changed keys -> a config of the right form."""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from fairjax import config as configuration
from fairjax.classifier_config import TREES
from fairjax.errors import InputError
from fairjax.experiments.program import unknown_flag
from fairjax.train import stopping


def command_flags(argv: list[str]) -> flags.FlagValues:
    """The flags of the program; overrides of config keys are found in `argv`."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Config file, e.g. configs/quickstart.py or configs/quickstart.py:tiny; "
        "any key is changed by --config.<key>=<value>. configs/waterbirds.py:list and "
        "configs/celeba_blond.py:list print the rows of papers that are variants.",
        flag_values=values, sys_argv=argv,
    )  # fmt: skip
    flags.DEFINE_string(
        "workdir", "", "Folder of the run, also gs://BUCKET/FOLDER. Default: the unfinished run "
        "under runs/ with the same config, or a new folder there.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "stage", None, "Run only this stage (data, ratio, weights, judge, gan, eval, report; of "
        "classifiers data, first, fit, head, eval, report; or a full name such as "
        "arms/main/gan); the stages before it must be done.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "dry_run", False, "Print the resolved config, stages, parameters, memory, steps and "
        "estimated time; compute nothing.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "compile", False, "With --dry_run: compile the step programs of the GAN and print what a "
        "device holds and sends.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "topology", "", "With --dry_run --compile: compile for these devices instead of those that "
        "there are: a slice of TPUs such as v5e:16x16 (needs libtpu, no TPU), or cpu:256.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "distributed", "auto", ["auto", "on", "off"], "Whether to join the processes of a cluster; "
        "auto looks for Slurm, Open MPI and TPU pods.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "coordinator", "", "host:port of process 0, where the launcher is none of these; with the "
        "next two flags.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("processes", 0, "How many processes the run has.", flag_values=values)
    flags.DEFINE_integer("process", -1, "The number of this one, from 0.", flag_values=values)
    return values


def parse(argv: list[str]) -> flags.FlagValues:
    """Command line -> flags, with the resolved config in `.config`.

    Raises:
      InputError: an unknown flag, variant or config key (with the nearest real names), a value of
        the wrong type, or a config file that cannot be read.
    """
    values = command_flags(argv)
    try:
        rest = values(argv)
        config = values.config
        if config is not None:
            config.keys()  # ml_collections tells only now that it found no file
    except stopping.Interrupted:
        raise
    # A config file is a program: it can fail in any way, or even end the process.
    except (Exception, SystemExit) as error:
        raise _explained(argv, error) from error
    if len(rest) > 1:
        raise InputError(
            f"unexpected argument {rest[1]!r}", "command line", "Flags are written --name=value"
        )
    if config is None:
        raise InputError("no config", "--config", "Give one, e.g. --config=configs/quickstart.py")
    if values.topology and not (values.dry_run and values.compile):
        raise InputError("given without the other two", "--topology", "Add --dry_run --compile")
    check_form(config)
    return values


def split_config(argv: list[str], file: bool = True) -> tuple[list[str], list[str]]:
    """(arguments about the config, the others); each starts with the program's name.

    `file=False` leaves --config itself with the others: only what changes a key is about it.
    """
    rest = r"(?:$|[.=])" if file else r"\."
    of_config, others = argv[:1], argv[:1]
    value = False  # whether the next argument is the value of the last
    for arg in argv[1:]:
        about = re.match(r"--?(?:no)?config" + rest, arg)
        value = value and not arg.startswith("-")
        (of_config if about or value else others).append(arg)
        value = bool(about) and "=" not in arg
    return of_config, others


def config_file(argv: list[str]) -> str:
    """What was given for --config, "" where nothing was."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        if match := re.fullmatch(r"--?config(?:=(.*))?", arg):
            return following if match.group(1) is None else match.group(1)
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained(argv: list[str], error: BaseException) -> InputError:
    """What the libraries say about a command line, in one line of ours."""
    given = config_file(argv)
    file = given.split(":", 1)[0]
    for cause in _causes(error):  # what a config file itself found wrong (its variant)
        if isinstance(cause, InputError):
            return cause
    unknown = isinstance(error, AttributeError | KeyError | flags.UnrecognizedFlagError)
    if isinstance(error, flags.UnrecognizedFlagError) and not error.flagname.startswith("config."):
        return unknown_flag(error.flagname, list(command_flags(argv[:1])))
    for cause in _causes(error):
        lines = [f.lineno for f in traceback.extract_tb(cause.__traceback__) if f.filename == file]
        if lines:
            found = f"{type(cause).__name__}: {cause}"
            return InputError(found, f"{file}, line {lines[-1]}", "Mend the config file")
    if unknown and not given:
        return InputError("no config", "--config", "Give one, e.g. --config=configs/quickstart.py")
    if unknown and _overrides(argv):
        return _unknown_key(argv, given)
    if isinstance(error, flags.Error | TypeError | ValueError):
        # The last line is the reason; before it may be the traceback of a config file.
        said = str(error).strip().splitlines() or [type(error).__name__]
        words = said[-1] if "Traceback" in str(error) else " ".join(said)
        return InputError(words, "command line", "See python launch/train.py --help")
    reason = "no such file" if not Path(file).exists() else f"{type(error).__name__}: {error}"
    return InputError(
        f"the config file cannot be read ({reason})",
        f"--config={given}",
        "Give a Python file such as configs/quickstart.py",
    )


def _overrides(argv: list[str]) -> list[str]:
    """The dotted names of the config keys that a command line sets."""
    found = (re.match(r"--?(?:no)?(config\.[^=]*)", arg) for arg in argv)
    return [match.group(1) for match in found if match]


def _unknown_key(argv: list[str], given: str) -> InputError:
    """Names the overrides that do not exist and the real keys nearest to the first one."""
    known = configuration.paths(parse([argv[0], f"--config={given}"]).config)
    wrong = [name for name in _overrides(argv) if name not in known]
    near = configuration.nearest(wrong[0], known) if wrong else "See fairjax/config.py"
    return InputError(f"unknown key {', '.join(wrong)}", "command line", near)


# What the items of a list must be; ml_collections looks only at the list itself.
_ITEMS: dict[str, tuple[Any, str]] = {
    "data.group_attributes": (str, "('a','b')"),
    "data.biased_proportions": ((int, float), "(0.9,0.1)"),
    "data.reference_proportions": ((int, float), "(0.9,0.1)"),
    "data.folder.biased": (str, "('a','b')"),
    "data.folder.reference": (str, "('a','b')"),
    "data.folder.judge": (str, "('a','b')"),
    "data.tfds.attributes": (str, "('a','b')"),
    "judge.attribute_sets": ((tuple, list), "(('a',),('b','c'))"),
    "gan.condition": (str, "('a','b')"),
    "gan.penalty_attributes": (str, "('a','b')"),
    "ratio.networks": (str, "('resnet',)"),
    "latent.flip": (str, "('a','b')"),
    "eval.psis": ((int, float), "(0.5,0.7)"),
}


def check_form(config: Any) -> None:
    """Raises InputError unless a config has exactly the keys of its experiment's `defaults()`, arms
    apart, and lists and arms hold values of the right kind."""
    where, mend = "config", "Start from fairjax.config.defaults() and change what differs"
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config returned a {type(config).__name__}", where, mend)
    tree = TREES.get(config.get("experiment"), TREES["fair_generation"])
    known, there = ([n for n in configuration.paths(one) if not n.startswith("config.arms.")]
                    for one in (tree.defaults(), config))  # fmt: skip
    problems = [f"unknown key {name}. {configuration.nearest(name, known)}"
                for name in there if name not in known]  # fmt: skip
    missing = [name for name in known if name not in there]
    if missing:
        problems.append(f"{len(missing)} keys are missing, such as {missing[0]}")
    if problems:
        raise InputError("; ".join(problems), where, mend)
    for key, (kind, example) in _ITEMS.items():
        if f"config.{key}" not in known:
            continue
        value = configuration.value_at(config, key)
        if not all(isinstance(item, kind) for item in value):
            problems.append(f"{key} (={value!r}) must be written like {example}")
        elif key == "judge.attribute_sets":
            problems += [f"{key}: {names!r} must be one or more names of attributes"
                         for names in value
                         if not (names and all(isinstance(n, str) for n in names))]  # fmt: skip
    for name, arm in config.arms.items():
        if not isinstance(arm, ConfigDict):
            problems.append(f"arms.{name} (={arm!r}) must be a dict of {tree.part} keys")
            continue
        for key, value in arm.items():
            if key in config[tree.part]:  # validate() names the nearest keys of the others
                try:
                    ConfigDict(config[tree.part])[key] = value
                except (TypeError, ValueError) as error:
                    problems.append(f"arms.{name}.{key} (={value!r}): {error}")
    if problems:
        raise InputError("; ".join(problems), where, mend)
