"""The command line of `launch/train.py`: flags in, a run or one clear line out.

Exit codes: 0 done; 1 training diverged, another process was lost, or nobody reads what is printed;
2 input that cannot be used; 130/143 stopped by SIGINT or SIGTERM (the same command resumes).
"""

import contextlib
import errno
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from fairjax import classifier_presets
from fairjax import config as configuration
from fairjax.classifier_config import TREES
from fairjax.data import cache, storage
from fairjax.errors import InputError
from fairjax.train import stopping
from fairjax.validation import cautions, validate

log = logging.getLogger("fairjax")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the process with the exit codes of the module's docstring."""
    argv = list(sys.argv if argv is None else argv)
    run_program(
        argv,
        _run,
        partial(command_flags, argv),
        about=": runs an experiment of fairjax.",
        example="python launch/train.py --config=configs/quickstart.py",
    )


def run_program(
    argv: Sequence[str] | None,
    body: Callable[[list[str]], None],
    flags_of: Callable[[], flags.FlagValues],
    *,
    about: str,
    example: str,
) -> None:
    """What every program of launch/ does: answers --help, or runs its body inside `ended`.

    Args:
      argv: the program's name and its arguments; None = those of the process.
      body: is given them.
      flags_of: the program's flags, for --help.
      about: what follows the program's name there. example: a command.
    """
    argv = list(sys.argv if argv is None else argv)
    if any(arg in ("-h", "--help", "--helpfull") for arg in argv[1:]):
        print(f"{Path(argv[0]).name}{about}")
        print(flags_of().get_help())
        print(f"Example: {example}")
        return
    with ended(shlex.join(["python", *argv])):
        body(argv)


@contextlib.contextmanager
def ended(again: str) -> Iterator[None]:
    """Ends the process with one line and an exit code where the body cannot go on.

    Args:
      again: the command that resumes an interrupted run.
    """
    try:
        yield
        sys.stdout.flush()  # else a reader that has gone shows only at the process's end
    except InputError as error:
        _end(f"error: {error}", 2)
    except BrokenPipeError:  # `| head` has seen enough
        with contextlib.suppress(OSError):  # of what stands for stdout and has no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno not in _NO_SPACE:
            raise  # not about a file or folder
        # A full disk, a missing permission, a file of the run that somebody removed.
        mend = "Check the folder and its space; a stage is repeated when its folder is deleted"
        where = error.filename or "a file of the run"  # a write that fails does not tell its name
        _end(f"error: {where}: {error.strerror or error}. {mend}", 2)
    except (stopping.Diverged, stopping.Alone) as error:
        _end(f"error: {error}", 1)
    except KeyboardInterrupt:  # in a program that has nothing to save
        _end("interrupted", 130)
    except stopping.Interrupted as stop:
        _end(f"{stop}; everything up to here is saved. Go on with: {again}", 128 + stop.signum)


def _end(message: str, code: int) -> None:
    message = re.sub(r"\s*\n\s*", " ", message)
    if log.handlers:
        log.error("%s", message)
    else:
        print(message, file=sys.stderr)
    sys.exit(code)


def _run(argv: list[str]) -> None:
    stopping.install()
    file, _, chosen = _config_file(argv).partition(":")
    if chosen == "list":
        print(classifier_presets.listing(parse([argv[0], f"--config={file}"]).config.data.source))
        return
    values = parse(argv)
    config = values.config
    validate(config)
    # Imported here, so that --help and a wrong config do not wait for the libraries.
    import jax

    from fairjax.experiments import fair_generation, robust_classification, workdir
    from fairjax.experiments.compiled_plan import compiled_facts, topology
    from fairjax.experiments.dry_run import report_plan
    from fairjax.experiments.stages import Stages
    from fairjax.train import devices

    devices.initialise(values.distributed, values.coordinator, values.processes, values.process)
    # Compiling takes longer than a short run; the user's own cache is private, as it must be.
    jax.config.update("jax_compilation_cache_dir", str(cache.root() / "xla"))
    try:
        there = topology(values.topology)
        count = len(there) or jax.device_count()
    except RuntimeError as error:
        raise InputError(
            f"JAX finds no device it can use ({error})",
            "JAX_PLATFORMS",
            "Set it to cpu, or install JAX for your device",
        ) from error
    devices.refuse_copies(values.distributed, values.processes)
    validate(config, count)
    robust = config.experiment == "robust_classification"
    experiment = robust_classification if robust else fair_generation
    if values.dry_run:
        facts = partial(compiled_facts, there) if values.compile else None
        print(robust_classification.describe(config) if robust
              else report_plan(config, there or jax.devices(), facts))  # fmt: skip
        return
    workdir.log_to(None)
    with storage.workdir(values.workdir, jax.process_index()) as given:
        folder = workdir.choose(config, given, values.stage)
        # Refuses what was changed.
        stages = Stages(folder, experiment.plan(config), values.stage,
                        experiment.defaults().to_dict())  # fmt: skip
        pending = stages.pending()
        with workdir.lock(folder):
            if devices.is_lead():
                # A run that has nothing to do leaves the record as it is.
                if pending or not workdir.described(folder, config):
                    workdir.describe(folder, config, ["python", *argv])
                workdir.log_to(folder)
            log.info("process %d/%d, %d local and %d global devices (%s)", jax.process_index(),
                     jax.process_count(), jax.local_device_count(), count,
                     jax.devices()[0].device_kind)  # fmt: skip
            log.info("run %s; interrupt at any time, resume with: %s", storage.original(folder),
                     shlex.join(["python", *argv]))  # fmt: skip
            for sentence in cautions(config):
                log.warning("%s", sentence)
            with devices.together():
                page = experiment.run(config, folder, values.stage)
            if page.exists():
                log.info("open %s", storage.original(page))


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
    _check_form(config)
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


def new_folder(given: str) -> Path:
    """The folder that a program will fill; raises InputError where something is in it."""
    folder = storage.local(given, given)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("it exists and is not an empty folder", str(folder), "Give a new folder")
    return folder


def read_flags(
    values: flags.FlagValues,
    argv: list[str],
    needed: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> None:
    """Reads the command line of a program that is no run of a config into its flags.

    Args:
      values: the program's flags.
      argv: the program's name and its arguments.
      needed: flags that must be given.
      elsewhere: flags that are read before; only to name the nearest to a mistyped one.

    Raises:
      InputError: an unknown flag, a wrong value, an argument that is no flag, a flag not given.
    """
    see = f"See python launch/{Path(argv[0]).name} --help"
    names = [*values, *elsewhere]
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        raise unknown_flag(error.flagname, names) from error
    except flags.Error as error:
        raise InputError(str(error), "command line", see) from error
    if len(rest) > 1:
        raise InputError(
            f"unexpected argument {rest[1]!r}", "command line", "Flags are written --name=value"
        )
    for name in needed:
        if not values[name].value:
            raise InputError("not given", f"--{name}", see)


def unknown_flag(name: str, names: list[str]) -> InputError:
    """The error for a mistyped flag; it names the nearest of the real ones."""
    near = configuration.nearest(name, names)
    return InputError(f"unknown flag --{name}", "command line", near)


def _config_file(argv: list[str]) -> str:
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
    given = _config_file(argv)
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
}


def _check_form(config: Any) -> None:
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
