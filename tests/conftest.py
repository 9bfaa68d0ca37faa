"""What all tests share: CPU devices and one cache of compiled programs.

The settings are environment variables, so that the programs that tests start have them too.
"""

import atexit
import logging
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "FAIRJAX_CACHE" not in os.environ:
    os.environ["FAIRJAX_CACHE"] = tempfile.mkdtemp(prefix="fairjax-tests-")
    atexit.register(shutil.rmtree, os.environ["FAIRJAX_CACHE"], ignore_errors=True)
# JAX writes to its cache without a lock, so each process of a parallel run has a cache of its own.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["FAIRJAX_CACHE"] = os.path.join(
        os.environ["FAIRJAX_CACHE"], os.environ["PYTEST_XDIST_WORKER"]
    )
# The folder that the command itself uses (experiments/command.py), so nothing is compiled twice.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["FAIRJAX_CACHE"], "xla")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_addoption(parser):
    parser.addoption("--generated", type=int, default=40, help="Malformed inputs that are tried.")


@pytest.fixture(autouse=True)
def own_log():
    """No test has the streams of another's log, nor those of a fixture that ran a command."""
    log = logging.getLogger("fairjax")

    def forget():
        for handler in list(log.handlers):
            log.removeHandler(handler)
            handler.close()
        log.propagate = True
        log.setLevel(logging.NOTSET)

    forget()
    yield
    forget()


@pytest.fixture(autouse=True)
def strict_broadcasting(request):
    """In the objectives (n,) against (n, 1) is the classic silent mistake: there it is an error."""
    import jax  # not before the variables above are set

    if request.path.name.startswith("test_objectives_"):
        with jax.numpy_rank_promotion("raise"):
            yield
    else:
        yield
