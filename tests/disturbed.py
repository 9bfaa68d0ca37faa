"""A wall clock that jumps and a slow disk, for every process that begins from here: disturbed.c."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def begin_again(folder: Path) -> None:
    """Starts this program once more with the library preloaded; compiles it into `folder`."""
    if "FAULTS_STATE" in os.environ:
        return
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        sys.exit("--jumps and --slow need Linux and a C compiler (cc)")
    library, state = folder / "disturbed.so", folder / "state"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    os.environ |= {"LD_PRELOAD": str(library), "FAULTS_STATE": str(state)}
    set_state()
    os.execv(sys.executable, [sys.executable, *sys.argv])


def set_state(jumped: float = 0.0, wait: int = 0) -> None:
    """The wall clock is off by `jumped` seconds; a write waits `wait` microseconds."""
    with open(os.environ["FAULTS_STATE"], "r+b" if Path(os.environ["FAULTS_STATE"]).exists()
              else "wb") as file:  # fmt: skip
        file.write(struct.pack("=qq", int(jumped * 1e9), wait))
