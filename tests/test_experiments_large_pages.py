"""The program begins again with large pages, once, and keeps what it was given."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, sys
from fairjax.experiments.large_pages import begin_again
begin_again()
print(json.dumps([os.getpid(), sys.argv, sys.flags.utf8_mode, os.environ["GLIBC_TUNABLES"]]))
"""

# Touches 256 MiB as XLA does, and counts the page faults that this took.
FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
ctypes.memset(libc.malloc(ctypes.c_size_t(1 << 28)), 1, 1 << 28)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _started(tmp_path, environment):
    script = tmp_path / "a script.py"
    script.write_text(PROGRAM)
    clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8", str(script), "--config=a b", "", "*"],
        env=clean | environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return process.pid, [str(script), "--config=a b", "", "*"], json.loads(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of Linux")
def test_the_process_begins_again_and_is_the_same(tmp_path):
    pid, argv, found = _started(tmp_path, {})
    assert found == [pid, argv, 1, "glibc.malloc.hugetlb=1"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of Linux")
def test_a_setting_of_the_user_stays(tmp_path):
    own = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}
    pid, argv, found = _started(tmp_path, own)
    assert found == [pid, argv, 1, "glibc.malloc.check=0"]


def _kernel_has_large_pages():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            return "[madvise]" in file.read()  # with [always] both counts are small
    except OSError:
        return False


@pytest.mark.skipif(not _kernel_has_large_pages(), reason="no large pages on request here")
def test_the_setting_does_what_it_is_for():
    def faults(environment):
        clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        done = subprocess.run([sys.executable, "-c", FAULTS], env=clean | environment, check=True,
                              capture_output=True, text=True)  # fmt: skip
        return int(done.stdout)

    assert faults({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}) < faults({}) / 10
