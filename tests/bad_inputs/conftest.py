"""Bad input of every kind gets one line: what was found, where, and how to mend it; exit code 2.

Each test goes through the real command. What the command did before stays as it was.
"""

import re
import signal
import sys

import jax
import pipeline
import pytest

from fairjax.experiments.command import main


def pytest_collection_modifyitems(items):
    """ml_collections loads config files in a way that Python 3.12 and later warn of."""
    for item in items:
        if "bad_inputs" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"))


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """`main` belongs to a process of its own: its handlers and settings are taken back."""
    monkeypatch.chdir(pipeline.ROOT)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    cache = jax.config.jax_compilation_cache_dir
    yield
    sys.modules.pop("config_config", None)  # ml_collections would run the next file in this module
    for number, handler in handlers.items():
        signal.signal(number, handler)
    jax.config.update("jax_compilation_cache_dir", cache)


@pytest.fixture
def refused(capsys):
    """Runs the command; checks the form of its answer; returns the one line."""

    def run(*args: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["launch/train.py", *args])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        lines = said.splitlines()
        errors = [line for line in lines if re.match(r"(\d\d:\d\d:\d\d )?error: ", line)]
        assert errors == lines[-1:], said  # one line, the last; before it only the log
        assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines[:-1]), said
        return errors[0]

    return run
