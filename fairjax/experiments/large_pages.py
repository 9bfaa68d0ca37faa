"""Large memory pages for training on Linux CPUs.

XLA on CPU takes the memory of every step from the operating system and gives it back; in pages of 4
KiB that costs 40,000 page faults a step, a tenth of its time. glibc (2.35 or newer) asks for large
pages (2 MiB) only if a variable says so when the process begins, so the process begins again.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb=1"


def begin_again() -> None:
    """Replaces this process by itself with large pages; does nothing where `VARIABLE` is set.

    Call it before anything is imported that takes time. The process keeps its number, arguments,
    streams and environment. Without glibc, or where the system has no large pages, the variable
    changes nothing.
    """
    if VARIABLE in os.environ or not sys.platform.startswith("linux"):
        return
    os.environ[VARIABLE] = SETTING
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
