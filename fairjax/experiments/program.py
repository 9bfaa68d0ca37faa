"""What every program of launch/ does: --help, flags in, one clear line and an exit code out."""

import contextlib
import errno
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags

from fairjax import config as configuration
from fairjax.data import storage
from fairjax.errors import InputError
from fairjax.train import stopping

log = logging.getLogger("fairjax")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
