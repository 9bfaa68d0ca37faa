"""Why a run ends before its end: a signal, or numbers that are no longer finite."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; what was running has been saved where it can be."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


class Diverged(Exception):
    """A loss or a parameter is NaN or infinite; the message names step, terms and checkpoint."""


class _Flag:
    def __init__(self) -> None:
        self.signum: int | None = None  # the signal that arrived while a loop ran
        self.deferred = False  # a training loop is running and will look at the flag


_flag = _Flag()


def _handle(signum: int, frame: FrameType | None) -> None:
    # A second signal does not wait for the end of the step.
    if not _flag.deferred or _flag.signum is not None:
        raise Interrupted(signum)
    _flag.signum = signum


def install() -> None:
    """Makes SIGINT and SIGTERM stop the run in order; for the main thread of a program."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _handle)
        signal.signal(signal.SIGTERM, _handle)


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a first signal only sets the flag that `requested` reads.

    Raises:
      Interrupted: at the end, for a signal that came after the last look at `requested`.
    """
    _flag.deferred, _flag.signum = True, None
    try:
        yield
    finally:
        _flag.deferred = False
    if _flag.signum is not None:
        raise Interrupted(_flag.signum)


def requested() -> int | None:
    """The signal that arrived since `deferred` began, if any."""
    return _flag.signum
