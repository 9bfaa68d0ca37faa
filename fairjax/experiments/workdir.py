"""The folder of one run: which one it is, what is written at its start, and who may use it."""

import datetime
import fcntl
import importlib.metadata
import json
import logging
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import IO

import jax
from ml_collections import ConfigDict

import fairjax
from fairjax.config import digest
from fairjax.errors import InputError
from fairjax.experiments.stages import write_json

log = logging.getLogger("fairjax")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "clu", "grain",
            "tensorflow-datasets", "ml_collections", "pillow")  # fmt: skip


def choose(config: ConfigDict, workdir: str, root: Path = Path("runs")) -> Path:
    """The folder given, or the unfinished run with the same config, or a new one under `root`.

    A new folder is named after the config and the date; a finished run is never reused.
    """
    if workdir:
        return Path(workdir)
    wanted = digest(config)
    for path in sorted(root.glob("*/config.json"), reverse=True):
        try:
            same = digest(json.loads(path.read_text())) == wanted
        except ValueError:
            continue  # a foreign or damaged file is not this run
        if same and not (path.parent / "report" / "DONE").exists():
            return path.parent
    stem = root / f"{config.name}-{datetime.date.today():%Y%m%d}"
    fresh, n = stem, 2
    while fresh.exists():
        fresh, n = Path(f"{stem}-{n}"), n + 1
    return fresh


def lock(workdir: Path) -> IO[str]:
    """Holds the workdir until the process ends; raises InputError where another run holds it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / "lock").open("w")
    except OSError as error:
        raise InputError(
            f"the folder cannot be written ({error.strerror})",
            f"--workdir={workdir}",
            "Choose a folder with write permission and free space",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise InputError(
            "another run is using this folder",
            f"--workdir={workdir}",
            "Wait for its end, or choose another folder",
        ) from error
    return handle


def describe(workdir: Path, config: ConfigDict, command: list[str]) -> None:
    """Writes config.json, command.txt and versions.json; log.txt is opened for appending."""
    write_json(workdir / "config.json", config.to_dict())
    (workdir / "command.txt").write_text(shlex.join(command) + "\n")
    device = jax.devices()[0]
    versions = {
        "fairjax": fairjax.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{jax.device_count()} x {device.device_kind}",
        "processes": jax.process_count(),
        "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
    } | {name: importlib.metadata.version(name) for name in PACKAGES}
    write_json(workdir / "versions.json", versions)


def log_to(workdir: Path | None) -> None:
    """Sends the program's log to stderr and, with a workdir, to log.txt as well."""
    root = logging.getLogger("fairjax")
    root.setLevel(logging.INFO)
    root.propagate = False
    kinds: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if workdir is not None:
        kinds.append(logging.FileHandler(workdir / "log.txt"))
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in kinds:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        root.addHandler(handler)


def _git() -> str:
    """Commit of the source tree, or "" where this is no checkout."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
