"""The command line of `launch/train.py`: flags in, a run or one clear line out.

Exit codes: 0 done; 1 training diverged; 2 input that cannot be used; 130/143 stopped by SIGINT or
SIGTERM (the same command resumes).
"""

import logging
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from fairjax import config as configuration
from fairjax.data import cache
from fairjax.errors import InputError
from fairjax.train import devices, stopping

log = logging.getLogger("fairjax")


def command_flags(argv: list[str]) -> flags.FlagValues:
    """The flags of the program; overrides of config keys are found in `argv`."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Config file, e.g. configs/quickstart.py or configs/quickstart.py:tiny; any "
        "key is changed by --config.<key>=<value>.", flag_values=values, sys_argv=argv,
    )  # fmt: skip
    flags.DEFINE_string(
        "workdir", "", "Folder of the run. Default: the unfinished run under runs/ with the same "
        "config, or a new folder there.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "stage", None, "Run only this stage (data, ratio, weights, judge, gan, eval, report, or a "
        "full name such as arms/main/gan); the stages before it must be done.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "dry_run", False, "Print the resolved config, stages, parameters, memory, steps and "
        "estimated time; compute nothing.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "distributed", "auto", ["auto", "on", "off"], "Whether to join the processes of a cluster; "
        "auto looks for Slurm, Open MPI and TPU pods.", flag_values=values,
    )  # fmt: skip
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the process with the exit codes of the module's docstring."""
    argv = list(sys.argv if argv is None else argv)
    if any(arg in ("-h", "--help", "--helpfull") for arg in argv[1:]):
        print(f"{Path(argv[0]).name}: runs an experiment of fairjax.\n{command_flags(argv).get_help()}")
        print("Example: python launch/train.py --config=configs/quickstart.py")
        return
    again = shlex.join(["python", *argv])
    try:
        _run(argv)
    except InputError as error:
        _end(f"error: {error}", 2)
    except stopping.Diverged as error:
        _end(f"error: {error}", 1)
    except stopping.Interrupted as stop:
        _end(f"{stop}; everything up to here is saved. Go on with: {again}", 128 + stop.signum)


def _end(message: str, code: int) -> None:
    if log.handlers:
        log.error("%s", message)
    else:
        print(message, file=sys.stderr)
    sys.exit(code)


def _run(argv: list[str]) -> None:
    values = parse(argv)
    config = values.config
    configuration.validate(config)
    stopping.install()
    devices.initialise(values.distributed)
    # Imported here, so that --help and a wrong config do not wait for the libraries.
    import jax

    from fairjax.experiments import fair_generation, workdir
    from fairjax.experiments.dry_run import report_plan

    # Compiling takes longer than a short run; the user's own cache is private, as it must be.
    jax.config.update("jax_compilation_cache_dir", str(cache.root() / "xla"))
    configuration.validate(config, jax.device_count())
    if values.dry_run:
        print(report_plan(config))
        return
    folder = workdir.choose(config, values.workdir)
    workdir.log_to(None)
    with workdir.lock(folder):
        fair_generation.check(config, folder, values.stage)
        if devices.is_lead():
            workdir.describe(folder, config, ["python", *argv])
            workdir.log_to(folder)
        log.info("process %d/%d, %d local and %d global devices (%s)", jax.process_index(),
                 jax.process_count(), jax.local_device_count(), jax.device_count(),
                 jax.devices()[0].device_kind)  # fmt: skip
        log.info("run %s; interrupt at any time, resume with: %s", folder,
                 shlex.join(["python", *argv]))  # fmt: skip
        page = fair_generation.run(config, folder, values.stage)
        if page.exists():
            log.info("open %s", page)


def parse(argv: list[str]) -> flags.FlagValues:
    """Command line -> flags, with the resolved config in `.config`.

    Raises:
      InputError: an unknown flag, variant or config key (with the nearest real names), a value of
        the wrong type, or a config file that cannot be read.
    """
    values = command_flags(argv)
    try:
        rest = values(argv)
    except InputError:
        raise
    except (AttributeError, KeyError) as error:
        raise _unknown_key(argv, error) from error
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        if name.startswith("config."):
            raise _unknown_key(argv, error) from error
        raise InputError(
            f"unknown flag --{name}",
            "command line",
            configuration.nearest(name, list(values)),
        ) from error
    except (flags.Error, TypeError, ValueError) as error:
        cause: BaseException | None = error
        while cause is not None:  # what a config file itself found wrong (its variant)
            if isinstance(cause, InputError):
                raise cause from error
            cause = cause.__cause__ or cause.__context__
        raise InputError(
            str(error).replace("\n", " "), "command line", "See python launch/train.py --help"
        ) from error
    except (OSError, ImportError, SyntaxError) as error:
        raise InputError(
            f"the config file cannot be read ({error})",
            "--config",
            "Give a file such as configs/quickstart.py",
        ) from error
    if len(rest) > 1:
        raise InputError(
            f"unexpected argument {rest[1]!r}", "command line", "Flags are written --name=value"
        )
    try:
        config = values.config
    except OSError as error:  # raised late by ml_collections, where the file is missing
        raise InputError(
            "the config file does not exist",
            next(a for a in argv if a.lstrip("-").startswith("config=")),
            "Give a file such as configs/quickstart.py",
        ) from error
    if config is None:
        raise InputError("no config", "--config", "Give one, e.g. --config=configs/quickstart.py")
    return values


def _unknown_key(argv: list[str], error: Exception) -> InputError:
    """Names the override that does not exist and the real keys nearest to it."""
    source = next((a.split("=", 1)[1] for a in argv if re.match(r"--?config=", a)), "")
    known = configuration.paths(configuration.defaults())
    wrong = [
        name
        for arg in argv
        if (match := re.match(r"--?(?:no)?(config\.[^=]*)", arg))
        if (name := match.group(1)) not in known and not name.startswith("config.arms.")
    ]
    if not wrong:
        return InputError(
            f"a key or file that does not exist ({error})", f"--config={source}",
            "Compare the config file with fairjax/config.py",
        )  # fmt: skip
    return InputError(
        f"unknown key {', '.join(wrong)}", "command line", configuration.nearest(wrong[0], known)
    )
