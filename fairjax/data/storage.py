"""Object storage (`gs://bucket/folder`): data and runs that lie there are worked on as copies here.

Such storage knows no appending, no renaming and no locks; only a single object appears whole or
not at all. So everything but the checkpoints is written in a folder of this machine and copied: all
that a step wrote before the checkpoint of that step, all files of a stage before its `DONE`.
Checkpoints are written there directly, by Orbax. What a killed run did not copy is computed again.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairjax.data import cache
from fairjax.errors import InputError, first_line

log = logging.getLogger("fairjax")

SCHEME = "gs://"
DIRECT = ("checkpoints", "checkpoints_aside")  # folders that are written there directly
BEAT = 10.0  # seconds after which whoever holds a workdir shows that it is alive
SILENT = 4 * BEAT  # one that does not for so long is dead


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path lies on object storage."""
    return "://" in os.fspath(path)


def local(text: str, where: str) -> Path:
    """A path of this machine; raises InputError where the text is one of object storage."""
    if is_remote(text):
        raise InputError(f"{text} is not a folder of this machine", where, "Give one that is")
    return Path(text).expanduser()


def fetched(text: str, where: str) -> Path:
    """A path of this machine with what the user named: of object storage, a copy in the cache.

    Args:
      text: a file or folder; only what has changed there is copied again.
      where: the config key or flag, for messages.

    Raises:
      InputError: nothing is there, it cannot be reached, or it is no storage that we know.
    """
    if not is_remote(text):
        return Path(text).expanduser()
    with _reached(text, where):
        system = _system(text, where)
        above = system._strip_protocol(text)
        found = {name: about for name, about in system.find(above, detail=True).items()
                 if not name.endswith("/")}  # fmt: skip
    if not found:
        raise InputError(f"there is nothing at {text}", where, "Check its name and your rights")
    cache.root().mkdir(parents=True, exist_ok=True)
    key = f"fetched-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    target = cache.root() / key / above.rsplit("/", 1)[-1]
    with cache.only_one(key), _reached(text, where):
        files = {_inside(target, name[len(above) :]): name for name in found}
        for old in [path for path in target.rglob("*") if path.is_file() and path not in files]:
            old.unlink()  # it is no longer there
        changed = [path for path, name in files.items() if _stamp(path) != _stamp_of(found[name])]
        if changed:
            size = sum(found[files[path]]["size"] for path in changed)
            log.info("data: copying %d files (%.1f MB) from %s", len(changed), size / 1e6, text)
        _get(system, {path: files[path] for path in changed})
        for path in changed:  # the same on every machine: the prepared images are known by it
            os.utime(path, ns=(_stamp_of(found[files[path]])[1],) * 2)
    return target


def _inside(folder: Path, name: str) -> Path:
    """The file of a name below the folder; an object's name may be anything."""
    parts = name.strip("/").split("/") if name else []
    if ".." in parts:
        raise ValueError(f"an object is named {name}")
    return folder.joinpath(*parts)


def _stamp(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def _stamp_of(about: dict[str, Any]) -> tuple[int, int]:
    return int(about["size"]), int(about["mtime"].timestamp() * 1e6) * 1000


def _get(system: Any, files: dict[Path, str]) -> None:
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
    if files:
        system.get([*files.values()], [str(path) for path in files])


def _system(url: str, where: str) -> Any:
    """The file system of fsspec for a path of object storage."""
    if not url.startswith(SCHEME):
        found = f"{url.partition('://')[0]}:// is no storage that can be used"
        raise InputError(found, where, f"Give a path of this machine or {SCHEME}bucket/folder")
    import fsspec

    os.environ.setdefault("EPATH_USE_TF", "false")  # Orbax goes the same way as we
    # What another process, or TensorStore in this one, has written is to be seen at once.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        return fsspec.filesystem("gcs")
    except ImportError as error:
        mend = 'pip install -e ".[gcs]"'
        raise InputError(f"{SCHEME} needs gcsfs ({error})", where, mend) from error


@contextlib.contextmanager
def _reached(url: str, where: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of gcsfs, aiohttp, google.auth, each with its own
        words = first_line(error)[:200]
        mend = "Check its name, the network and your rights (gcloud auth application-default login)"
        raise InputError(f"{url} cannot be read or written ({words})", where, mend) from error


class _Copy:
    """A workdir on object storage and the folder here that stands for it."""

    def __init__(self, url: str, folder: Path, where: str):
        self.url, self.folder, self.where = url.rstrip("/"), folder, where
        self._system = _system(url, where)
        self._known: dict[str, tuple[int, int] | None] = {}  # files that are equal on both sides
        self._pulled: dict[str, Any] = {}  # their versions there

    def pull(self) -> None:
        """Copies from there what this process does not have."""
        with _reached(self.url, self.where):
            above = self._system._strip_protocol(self.url)
            found = {name[len(above) + 1 :]: about["generation"]
                     for name, about in self._system.find(above, detail=True).items()
                     if not name.endswith("/")}  # fmt: skip
            new = {}
            for name, version in found.items():
                parts = name.split("/")
                if direct := [i for i, part in enumerate(parts) if part in DIRECT]:
                    # A stage that has a checkpoint was begun.
                    self.folder.joinpath(*parts[: direct[0] + 1]).mkdir(parents=True, exist_ok=True)
                elif self._ours(name) and self._pulled.get(name) != version:
                    new[_inside(self.folder, name)] = f"{above}/{name}"
            _get(self._system, new)
            self._pulled = found
            for path in new:
                self._known[path.relative_to(self.folder).as_posix()] = _stamp(path)

    def push(self) -> None:
        """Copies there what has changed here: the marks of finished stages last."""
        here = {path.relative_to(self.folder).as_posix(): _stamp(path)
                for path in self.folder.rglob("*") if path.is_file()}  # fmt: skip
        here = {name: stamp for name, stamp in here.items() if self._ours(name)}
        changed = [name for name, stamp in here.items() if self._known.get(name) != stamp]
        with _reached(self.url, self.where):
            for last in (False, True):
                names = [name for name in changed if (name.split("/")[-1] == "DONE") == last]
                if names:
                    self._system.put([str(self.folder / name) for name in names],
                                     [f"{self.url}/{name}" for name in names])  # fmt: skip
            for name in self._known.keys() - here.keys():
                self._system.rm_file(f"{self.url}/{name}")
        self._known = here

    @staticmethod
    def _ours(name: str) -> bool:
        parts = name.split("/")
        return not {*parts} & {*DIRECT} and parts[0] != "lock" and not name.endswith(".draft")


_copies: list[_Copy] = []  # of this process: one, or none


def original(path: Path) -> Any:
    """Where a path of a workdir really lies: an epath.Path of object storage, or the path."""
    for copy in _copies:
        if path.is_relative_to(copy.folder):
            from etils import epath

            return epath.Path(f"{copy.url}/{path.relative_to(copy.folder).as_posix()}")
    return path


def push() -> None:
    """Copies what this process wrote into its workdir to where that lies, if that is elsewhere."""
    for copy in _copies:
        copy.push()


def pull() -> None:
    """Copies what another process has pushed."""
    for copy in _copies:
        copy.pull()


def move(folder: Path, target: Path) -> None:
    """Moves a folder to a place where nothing is; on object storage, file by file."""
    if is_remote(folder):
        _system(str(folder), "--workdir").mv(str(folder), str(target), recursive=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)


@contextlib.contextmanager
def workdir(text: str, process: int) -> Iterator[str]:
    """Yields the folder of this machine in which a run works, text itself where it is one.

    Args:
      text: of --workdir. process: number of this one; only number 0 writes.

    Raises:
      InputError: another run holds it, it cannot be reached, or it is no storage that we know.
    """
    if not is_remote(text):
        yield text
        return
    where = "--workdir"
    key = f"workdir-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    copy = _Copy(text, (cache.root() / key / str(process) / Path(text).name).absolute(), where)
    folder = copy.folder
    with _held(copy) if process == 0 else contextlib.nullcontext():
        shutil.rmtree(folder, ignore_errors=True)  # what counts is there
        folder.mkdir(parents=True)
        copy.pull()
        _copies.append(copy)
        try:
            yield str(folder)
        except InputError as error:  # people know the folder by its name there
            words = (said.replace(str(folder), copy.url)
                     for said in (error.found, error.where, error.mend))  # fmt: skip
            raise InputError(*words) from error
        finally:
            _copies.remove(copy)
            if process == 0:
                copy.push()


@contextlib.contextmanager
def _held(copy: _Copy) -> Iterator[None]:
    """Holds a workdir: the object `lock` is made if there is none, which only one can do, and
    written anew every `BEAT` seconds.

    One that has not changed for `SILENT` seconds is of a dead run and is taken away; of two that do
    this at the same time one finds out at its next beat, and ends.
    """
    system, path = _system(copy.url, copy.where), f"{copy.url}/lock"
    mine = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex}"
    text = lambda: f"{mine} {time.time():.0f}\n".encode()

    def taken() -> bool:
        try:
            system.pipe_file(path, text(), mode="create")
            return True
        except FileExistsError:
            return False

    def content() -> bytes:
        try:
            return bytes(system.cat_file(path))
        except FileNotFoundError:
            return b""

    with _reached(copy.url, copy.where):
        while not taken():
            found, since = content(), time.monotonic()
            who = found.decode(errors="replace").rpartition(",")[0]
            log.info("%s is held by %s; looking for %.0f s whether it is alive", copy.url, who,
                     SILENT)  # fmt: skip
            while (now := content()) == found and time.monotonic() - since < SILENT:
                time.sleep(min(1.0, BEAT))
            if now and now != found:
                raise InputError(f"another run is using {copy.url} ({who})", copy.where,
                                 "Wait for its end, or choose another folder")  # fmt: skip
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(path)

    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            try:
                if not content().startswith(mine.encode()):
                    log.error("error: another run has taken %s; this one ends", copy.url)
                    os._exit(2)
                system.pipe_file(path, text())
            except Exception as error:  # the network may come back
                log.warning("%s cannot be reached (%s)", copy.url, error)

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(Exception):  # else it is silent, which says the same
            system.rm_file(path)
