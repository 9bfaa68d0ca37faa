import logging

import pytest

from fairjax.train import progress
from fairjax.train.progress import Meter, Waits, clock


@pytest.fixture
def lines():
    """The messages of the log, whether or not somebody has detached it from the root."""
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    progress.log.addHandler(handler)
    level = progress.log.level
    progress.log.setLevel(logging.INFO)
    yield seen
    progress.log.removeHandler(handler)
    progress.log.setLevel(level)


@pytest.fixture
def now(monkeypatch):
    time = [100.0]
    monkeypatch.setattr("fairjax.train.progress.time.monotonic", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3725, "1:02:05")]
)
def test_clock(seconds, words):
    assert clock(seconds) == words


def test_without_a_terminal_a_line_is_logged(lines, now):
    with Meter("gan equi", 1000, start=200) as meter:
        now[0] += 10
        meter.update(300, "loss/g 0.5")  # 100 images in 10 s, 700 to go
    assert lines == ["gan equi:  30 %, 10 images/s loss/g 0.5, 1:10 left"]


def test_the_rate_forgets_the_slow_start(now):
    meter = Meter("gan", 1e6)
    now[0] += 600  # compiling
    meter.rate(10)
    for step in range(2, 40):
        now[0] += 1
        rate = meter.rate(10 * step)
    assert rate == pytest.approx(10)


def test_in_a_terminal_a_bar_is_drawn(monkeypatch, capsys, lines):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with Meter("judge", 10, start=2) as meter:
        meter.update(5, "loss 0.1")
    shown = capsys.readouterr().err
    assert "judge" in shown
    assert "50 %" in shown
    assert lines == []


def test_share_of_the_time_that_is_spent_waiting(now):
    def slow():
        try:
            while True:
                now[0] += 3.0
                yield {}
        finally:
            closed.append(True)

    closed = []
    waits = Waits(slow())
    for _ in range(2):
        next(waits)
        now[0] += 1.0  # the step
    assert waits.share() == pytest.approx(0.75)
    now[0] += 2.0
    assert waits.share() == 0
    waits.close()
    assert closed
    with pytest.raises(StopIteration):
        next(Waits(iter([])))
