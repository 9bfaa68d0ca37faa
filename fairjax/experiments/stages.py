"""Stages: each fills one folder of the workdir and writes DONE last; a rerun skips what is done."""

import contextlib
import json
import logging
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import numpy as np

from fairjax.config import digest
from fairjax.data import storage
from fairjax.data.cache import file_sha256, write_json
from fairjax.errors import InputError
from fairjax.train.devices import is_lead, lead_says
from fairjax.train.energy import Energy
from fairjax.train.progress import clock

log = logging.getLogger("fairjax")


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Reads the named arrays of an NPZ that a stage wrote.

    Raises:
      InputError: the file is gone or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def read_json(path: Path) -> Any:
    """Reads a JSON file that a stage wrote; raises InputError where it is gone or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def shared() -> None:
    """Waits in all processes until they can read what the lead process has written so far."""
    if is_lead():
        storage.push()
    lead_says(True)
    if not is_lead():
        storage.pull()


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"gone or damaged ({error})",
        str(path),
        f"Delete the folder {path.parent} and rerun: this stage is repeated",
    )


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that a stage hands on, by name."""
    names = {f: f.relative_to(folder) for f in sorted(folder.rglob("*")) if f.suffix in _KEPT}
    return {
        name.as_posix(): file_sha256(f)
        for f, name in names.items()
        if _handed_on(name) and f.is_file()
    }


_KEPT = (".csv", ".npy", ".npz", ".safetensors", ".json", ".jsonl", ".png")
_MENDED = ("manifest.json", "index.npz")  # by the data stage itself


def _handed_on(name: PurePath) -> bool:
    """Whether a file of a stage is one that later stages read.

    Checkpoints are not, wherever they lie: they have hashes of their own, and may be deleted.
    """
    return name.parts[0] not in _MENDED and not {*storage.DIRECT} & {*name.parts}


def _recorded(record: dict[str, Any]) -> dict[str, str]:
    """The hashes in a DONE. Those of older versions have checkpoints of parts of a stage too."""
    return {name: known for name, known in record.get("files", {}).items()
            if _handed_on(PurePath(name))}  # fmt: skip


class Spent:
    """Time and energy of a stage over all its starts.

    Args:
      before: the record of the start before; {} for the first.
    """

    def __init__(self, before: Mapping[str, Any]):
        self._before, self._began, self.energy = before, time.monotonic(), Energy()

    def so_far(self) -> dict[str, Any]:
        """`seconds`, and `joules` by kind of chip."""
        seconds = float(self._before.get("seconds", 0)) + time.monotonic() - self._began
        joules = dict(self._before.get("joules", {}))
        for kind, value in self.energy.joules.items():
            joules[kind] = joules.get(kind, 0.0) + value
        return {"seconds": round(seconds, 1),
                "joules": {kind: round(value, 1) for kind, value in joules.items()}}  # fmt: skip


class Stages:
    """The stages of one run in their order.

    Args:
      workdir: every stage `name` owns the folder workdir/name.
      plan: name -> the part of the config that the stage reads.
      only: run just the stages of this name ("gan" = those of all arms); None = all.
      defaults: the config's default tree. A stage that was made before a key existed is taken for
        one that was made with the key's default: an update of fairjax must not strand a run.

    Raises:
      InputError: the name is unknown, or a stage was finished or begun under another config.
    """

    def __init__(
        self,
        workdir: Path,
        plan: dict[str, Any],
        only: str | None = None,
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ):
        self._workdir, self._only = workdir, only
        self._usual = leaves(dict(defaults))
        self._plan = {name: json.loads(json.dumps(tree, default=list, sort_keys=True))
                      for name, tree in plan.items()}  # fmt: skip
        if only is not None and not any(self._selected(name) for name in plan):
            raise InputError(f"no stage is named '{only}'", "--stage", f"Stages: {', '.join(plan)}")
        self._made: set[str] = set()  # the stages that this process ran
        self._checked: set[str] = set()  # those whose files it found whole
        problems = [p for name in plan for p in self._changed(name)]
        if problems:
            raise InputError(
                "; ".join(problems),
                str(workdir),
                "Use another --workdir, or restore these values",
            )

    def _selected(self, name: str) -> bool:
        only = self._only
        return (
            only is None or name == only or only in name.split("/") or name.startswith(f"{only}/")
        )

    def _record(self, name: str, which: str) -> dict[str, Any] | None:
        path = self._workdir / name / which
        if not path.exists():
            return None
        keys = {"config", "inputs"} | ({"output", "seconds"} if which == "DONE" else set())
        try:
            record = json.loads(path.read_text())
            if not keys <= record.keys():
                raise ValueError(f"it lacks {', '.join(sorted(keys - record.keys()))}")
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"not a record of a stage ({error})",
                str(path),
                f"Delete the folder {path.parent} and rerun: this stage is repeated",
            ) from error
        return record

    def _begun(self, name: str) -> dict[str, Any] | None:
        """The record of a stage that began and was interrupted; None where it has made nothing yet
        (its input was refused, say), so that it may begin in another way."""
        folder = self._workdir / name
        if not folder.is_dir() or {f.name for f in folder.iterdir()} <= {"STARTED"}:
            return None
        return self._record(name, "STARTED")

    def _changed(self, name: str) -> list[str]:
        """Config keys in which a finished or begun stage differs from the plan, as sentences."""
        if self._view(name):  # it follows what it shows
            return []
        record = self._record(name, "DONE") or self._begun(name)
        return [] if record is None else [
            f"stage {name} was run with {key} = {before!r}, now {now!r}"
            for key, before, now in self._differences(name, record["config"])
        ]  # fmt: skip

    def _differences(self, name: str, config: Any) -> list[tuple[str, Any, Any]]:
        return differences(leaves(config), leaves(self._plan[name]), self._usual)

    def done(self, name: str) -> bool:
        """Whether the stage is finished; the lead process decides for all."""
        return lead_says((self._workdir / name / "DONE").exists())

    def _view(self, name: str) -> bool:
        """A stage without config (the report, say) only shows what others made: it is always cheap
        to make again, and is, whenever it is asked for by name or what it shows has changed."""
        return not self._plan[name]

    def pending(self) -> list[str]:
        """The stages that `run` would not skip, as far as is known before they run."""
        return [name for name in self._plan if self._selected(name)
                and (not self.done(name) or (self._view(name) and self._only == name))]  # fmt: skip

    def check(self, name: str) -> None:
        """Raises InputError where a file of a finished stage is not what the stage wrote."""
        record = self._record(name, "DONE")
        if record is None or name in self._made or name in self._checked:
            return
        folder = self._workdir / name
        found = hashes(folder)
        for file, known in _recorded(record).items():
            if found.get(file) != known:
                raise InputError(
                    "gone" if file not in found else "not what the stage wrote",
                    str(folder / file),
                    f"Delete the folder {folder} and rerun: this stage is repeated",
                )
        self._checked.add(name)

    def take_over(self, others: Sequence[Path]) -> list[str]:
        """Copies what other runs have finished and this one would make from the same.

        Args:
          others: workdirs of runs of the same experiment.

        Returns:
          names of the stages that were copied: config and inputs are equal, every file is whole,
          and this run has not begun them. One process alone may do this.
        """
        taken = []
        for name in self._plan:
            folder = self._workdir / name
            if self._view(name) or folder.exists():
                continue
            source = next((o / name for o in others if self._made_alike(name, o / name)), None)
            if source is not None:
                draft = folder.with_name(folder.name + ".draft")
                shutil.rmtree(draft, ignore_errors=True)  # of a copy that was interrupted
                shutil.copytree(source, draft)
                draft.rename(folder)
                taken.append(name)
        return taken

    def _made_alike(self, name: str, folder: Path) -> bool:
        try:
            record = json.loads((folder / "DONE").read_text())
            return (
                not self._differences(name, record["config"])
                and all(self._record(need, "DONE") is not None and self.fingerprint(need) == made
                        for need, made in record["inputs"].items())
                and "files" in record and hashes(folder) == _recorded(record)
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False  # not there, not finished, or damaged

    def fingerprint(self, name: str) -> str:
        """Hash of what a finished stage read and, as far as it says, of what it made."""
        record = self._record(name, "DONE")
        if record is None:
            raise InputError(
                f"stage {name} is not finished",
                f"--stage={self._only}",
                "Run it first, or leave --stage out",
            )
        return digest({k: record[k] for k in ("config", "inputs", "output")})

    def run(
        self, name: str, needs: list[str], body: Callable[[Path], dict[str, Any] | None]
    ) -> None:
        """Runs `body(folder)` unless the stage is done (or not asked for).

        Args:
          name: key of the plan.
          needs: finished stages whose files the body reads.
          body: fills the folder; what it returns goes into DONE as the stage's output.

        Raises:
          InputError: a needed stage is missing, or has changed since this one was finished.
        """
        if not self._selected(name):
            return
        for need in needs:
            self.check(need)
        inputs = {need: self.fingerprint(need) for need in needs}
        folder = self._workdir / name
        done = self.done(name)
        record = self._record(name, "DONE") if done else self._begun(name)
        changed = [n for n in needs if record and record["inputs"].get(n) != inputs[n]]
        if changed and not self._view(name):
            raise InputError(
                f"stage {name} was {'finished' if done else 'begun'} on another version of "
                f"{', '.join(changed)}",
                str(folder),
                "Delete this folder to run the stage again, or use another --workdir",
            )
        stale = record is not None and record["inputs"] != inputs  # or an arm came or went
        again = self._view(name) and (stale or self._only == name or self._made & {*needs})
        if done and record and not again:
            self.check(name)
            log.info("stage %s: done before (%s)", name, clock(record["seconds"]))
            return
        log.info("stage %s", name)
        folder.mkdir(parents=True, exist_ok=True)
        started = {"config": self._plan[name], "inputs": inputs}
        spent = Spent({} if done else record or {})
        if is_lead():
            write_json(folder / "STARTED", started | spent.so_far())
        try:
            with spent.energy:
                output = body(folder) or {}
        except BaseException:
            # What a resumed stage took is what all its starts took, but for those that were killed.
            if is_lead():
                with contextlib.suppress(OSError):
                    write_json(folder / "STARTED", started | spent.so_far())
            raise
        taken = spent.so_far()
        if is_lead():
            write_json(
                folder / "DONE",
                {**started, "output": output, **taken,
                 "files": {} if self._view(name) else hashes(folder)},
            )  # fmt: skip
        shared()  # DONE is there to be read
        self._made.add(name)
        log.info("stage %s: finished in %s", name, clock(taken["seconds"]))


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], usual: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """(key, its value in a config of before, its value now) where these differ; a key that the one
    of before lacks had its default. All three are `leaves`."""
    before = {k: usual[k] for k in now.keys() & usual.keys()} | dict(before)
    return [(k, before.get(k), now.get(k)) for k in sorted(before.keys() | now.keys())
            if before.get(k) != now.get(k)]  # fmt: skip


def leaves(tree: Any) -> dict[str, Any]:
    """The values of a config by dotted key, as JSON has them; that of no dict is named ""."""
    return _flat(json.loads(json.dumps(tree, default=list)))


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
