"""The folder of one run: which one it is, what is written at its start, and who may use it."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

import fairjax
from fairjax.classifier_config import TREES
from fairjax.config import digest
from fairjax.data.cache import write_json
from fairjax.errors import InputError
from fairjax.experiments.stages import differences, leaves
from fairjax.train.devices import is_lead

log = logging.getLogger("fairjax")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "clu", "grain",
            "tensorflow-datasets", "ml_collections", "pillow")  # fmt: skip


def choose(
    config: ConfigDict, workdir: str, stage: str | None = None, root: Path = Path("runs")
) -> Path:
    """The folder given, or the unfinished run with the same config, or a new one under `root`.

    Keys that a run of an older version lacks count as their defaults, as for its stages.
    A new folder is named after the config and the date. A finished run is reused only for a single
    `stage` of it. In a run of many processes the lead process chooses for all.
    """
    return Path(workdir) if workdir else _agreed(_unfinished(config, stage, root))


def _unfinished(config: ConfigDict, stage: str | None, root: Path) -> Path:
    wanted = leaves(config.to_dict())
    usual = leaves(TREES[config.experiment].defaults().to_dict())
    for path in sorted(root.glob("*/config.json"), key=_newest_last, reverse=True):
        try:
            same = not differences(leaves(json.loads(path.read_text())), wanted, usual)
        except (OSError, ValueError):
            continue  # a foreign or damaged file is not this run
        if same and (stage or not (path.parent / "report" / "DONE").exists()):
            return path.parent
    stem = root / f"{config.name}-{datetime.date.today():%Y%m%d}"
    fresh, n = stem, 2
    while fresh.exists():
        fresh, n = Path(f"{stem}-{n}"), n + 1
    return fresh


def _newest_last(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, str(path)


def _agreed(path: Path) -> Path:
    """The lead process's path, in all processes."""
    if jax.process_count() == 1:
        return path
    from jax.experimental import multihost_utils

    text = np.frombuffer(str(path).encode().ljust(4096), np.uint8)
    return Path(bytes(multihost_utils.broadcast_one_to_all(text)).decode().rstrip())


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds the workdir; raises InputError where another run holds it or it cannot be written.

    The lead process holds it for all; the system frees it when that process ends, however it ends.
    """
    if not is_lead():
        yield
        return
    where = f"--workdir={workdir}"
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context((workdir / "lock").open("a+"))
        except OSError as error:
            raise InputError(
                f"the folder cannot be written ({error.strerror})",
                where,
                "Choose a folder with write permission and free space",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise InputError(
                f"another run is using this folder (process {handle.read().strip() or '?'})",
                where,
                "Wait for its end, or choose another folder",
            ) from error
        except OSError as error:
            log.warning("%s cannot be locked (%s): start no second run on it", workdir, error)
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def described(workdir: Path, config: ConfigDict) -> bool:
    """Whether config.json is there and is that of the run."""
    try:
        return digest(json.loads((workdir / "config.json").read_text())) == digest(config)
    except (OSError, ValueError, AttributeError):
        return False


def describe(workdir: Path, config: ConfigDict, command: list[str]) -> None:
    """Writes config.json, command.txt and versions.json."""
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
