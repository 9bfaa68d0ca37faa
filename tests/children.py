"""Runs of the command in forks of one process that has imported everything; see faults.py."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pipeline


def command(workdir: Path, config: str, *args: str) -> list[str]:
    """What the child is given."""
    return ["launch/train.py", config, f"--workdir={workdir}", *args]


@contextlib.contextmanager
def child(argv: list[str], cache: Path, said: Path) -> Iterator[int]:
    """Runs the command in a fork of this process, in a process group of its own; yields its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            os.chdir(pipeline.ROOT)
            with said.open("w") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
            os.environ.update(pipeline.environment(cache))
            from fairjax.experiments.command import main

            main(argv)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    try:
        yield pid
    finally:
        end(pid)


def end(pid: int) -> None:
    """Kills a child and what it started; its group is there only a moment after it began."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def ended(pid: int) -> int | None:
    """The exit code of a child, negative where a signal ended it; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def whole(
    argv: list[str],
    cache: Path,
    said: Path,
    limit: float = 1800.0,
    meanwhile: Callable[[], object] = bool,
) -> int:
    """Runs the command to its end; returns its exit code. `meanwhile` is called again and again."""
    with child(argv, cache, said) as pid:
        begun = time.monotonic()
        while (code := ended(pid)) is None:
            assert time.monotonic() - begun < limit, said.read_text()[-2000:]
            meanwhile()
            time.sleep(0.02)
        return code
