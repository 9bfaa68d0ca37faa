import os
import signal

import pytest

from fairjax.train import stopping


@pytest.fixture(autouse=True)
def handlers():
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    stopping.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_of_a_loop_a_signal_stops_at_once(number):
    with pytest.raises(stopping.Interrupted, match=signal.Signals(number).name) as stop:
        send(number)
    assert stop.value.signum == number


def loop(*what):
    """Stands for a training loop that a signal reaches; `what` happens after it, in order."""
    with stopping.deferred():
        assert stopping.requested() is None  # a signal of an earlier loop is forgotten
        send()
        for act in what:
            act()


def look():
    number = stopping.requested()
    assert number == signal.SIGTERM
    raise stopping.Interrupted(number)  # as the loop does, after saving


def fail():
    raise KeyError("the real reason")


def test_inside_a_loop_the_first_signal_waits():
    for _ in range(2):
        with pytest.raises(stopping.Interrupted):
            loop(look)


def test_a_signal_after_the_last_look_is_not_lost():
    seen = []
    with pytest.raises(stopping.Interrupted):
        loop(lambda: seen.append("the end of the body"))
    assert seen


def test_an_error_is_not_hidden_by_a_signal():
    with pytest.raises(KeyError):
        loop(fail)


def test_a_second_signal_does_not_wait():
    seen = []
    with pytest.raises(stopping.Interrupted, match="SIGINT"):
        loop(lambda: send(signal.SIGINT), lambda: seen.append("never"))
    assert not seen
