"""Why a run ends before its end: a signal, or numbers that are no longer finite.

In a run of many processes JAX listens to SIGTERM, from the moment at which they join, and lets all
know; they stop at the same step of a training loop. What is no training is not waited for.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; what was running has been saved where it can be."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


class Diverged(Exception):
    """A loss or a parameter is NaN or infinite; the message names step, terms and checkpoint.

    Args:
      message: what is printed. checkpoint: step of the newest good one, if any.
    """

    def __init__(self, message: str, checkpoint: int | None = None):
        self.checkpoint = checkpoint
        super().__init__(message)


class Alone(Exception):
    """Another process of the run is gone, so that this one cannot go on."""


class _Flag:
    def __init__(self) -> None:
        self.signum: int | None = None  # the signal that arrived while a loop ran
        self.deferred = False  # a training loop is running and will look at the flag
        self.agree: Callable[[int], bool] | None = None  # in a run of many processes
        self.looks = 0  # how often they were asked, in all loops


_flag = _Flag()


def _handle(signum: int, frame: FrameType | None) -> None:
    # A second signal does not wait for the end of the step.
    if not _flag.deferred or _flag.signum is not None:
        raise Interrupted(signum)
    _flag.signum = signum
    if _flag.agree is not None:
        os.kill(os.getpid(), signal.SIGTERM)  # so that JAX tells the others


def install() -> None:
    """Makes SIGINT and SIGTERM stop the run in order; for the main thread of a program."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _handle)
        signal.signal(signal.SIGTERM, _handle)


@contextmanager
def deferred(agree: Callable[[int], bool] | None = None) -> Iterator[None]:
    """Inside, a first signal only sets the flag that `requested` reads.

    Args:
      agree: in a run of many processes, whether one of them was told to end, the same in all for
        the same look; see `fairjax.train.devices.all_preempted`.

    Raises:
      Interrupted: at the end, for a signal that came after the last look at `requested`.
    """
    _flag.deferred, _flag.signum, _flag.agree = True, None, agree
    try:
        yield
    finally:
        _flag.deferred = False
    if _flag.signum is not None and agree is None:
        raise Interrupted(_flag.signum)


def requested() -> int | None:
    """The signal that arrived since `deferred` began, if any; to be called once in every step.

    In a run of many processes: SIGTERM where one of them got it, in all at the same step.
    """
    if _flag.agree is None:
        return _flag.signum
    _flag.looks += 1
    return signal.SIGTERM if _flag.agree(_flag.looks) else None
