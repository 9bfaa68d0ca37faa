"""Saving and restoring a training state with Orbax; the only file that imports it."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fairjax.data import storage
from fairjax.data.cache import write_json
from fairjax.errors import InputError, first_line
from fairjax.train.devices import is_lead, lead_says, replicated

log = logging.getLogger("fairjax")

State = TypeVar("State")
HASHES = "sha256.json"  # in the folder of a step: the hash of each other file there


class Checkpoints:
    """The checkpoints of one training run, newest last; a context manager.

    A checkpoint becomes visible by an atomic rename and whole by the hashes that are written last,
    so a killed save leaves the one before. One that is not whole is put aside, with a warning,
    when the folder is opened: into the folder checkpoints_aside beside it, where nobody reads it.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self._folder = storage.original(folder.absolute())
        if is_lead():
            _put_aside(self._folder)
        lead_says(True)  # the others look when this is done
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(keep),
                enable_async_checkpointing=False,  # small states; a finished save is on disk
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Writes the state; a step that is already there is left as it is.

        Raises:
          InputError: it cannot be written (a full disk, say); the checkpoint before stays.
        """
        if step == self.latest:
            return
        if is_lead():
            storage.push()  # what belongs to the steps before
        try:
            # Forced, as Orbax would else ask JAX for preemption notices with numbers of its own.
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
            if is_lead():
                folder = self._folder / str(step)
                _write(folder / HASHES, _hashes(folder))
        except (OSError, ValueError, RuntimeError) as error:
            told = re.search("os[ _]error", str(error), re.IGNORECASE)  # in TensorStore's words
            if not isinstance(error, OSError) and not told:
                raise
            before = [s for s in self._manager.all_steps() if s != step]
            why = first_line(error)[:200]
            good = f"step {max(before)} is kept" if before else "there is none before it"
            raise InputError(
                f"the checkpoint of step {step} cannot be written ({why}); {good}",
                str(self._folder),
                "Make space or the folder writable, and start again: it goes on from there",
            ) from error

    def restore(self, abstract: State) -> State:
        """Reads the newest checkpoint into the shapes of `abstract` on any number of devices."""
        sharding = replicated()
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract
        )
        return self._manager.restore(self.latest, args=ocp.args.StandardRestore(target))


def _put_aside(folder: Path) -> None:
    """Moves what is newer than the newest whole checkpoint."""
    aside = folder.with_name(f"{folder.name}_aside")
    steps = [int(f.name) for f in folder.iterdir() if f.name.isdigit()] if folder.is_dir() else []
    for step in sorted(steps, reverse=True):
        wrong = damage(folder / str(step))
        if wrong is None:
            return
        log.warning("%s: the checkpoint of step %d is damaged (%s) and is put into %s; the one "
                    "before it, if any, is taken", folder, step, wrong, aside.name)  # fmt: skip
        epath.Path(aside / str(step)).rmtree(missing_ok=True)
        storage.move(folder / str(step), aside / str(step))


def damage(folder: Path) -> str | None:
    """Says in words what is wrong with the checkpoint in the folder of a step, or None."""
    try:
        known = json.loads((folder / HASHES).read_text())
        found = _hashes(folder)
    except (OSError, ValueError) as error:
        return f"no hashes: {first_line(error)[:200]}"
    if not isinstance(known, dict):
        return f"{HASHES} holds no hashes"
    for name in sorted({*known, *found}):
        if known.get(name) != found.get(name):
            return f"{name} is {'missing' if name not in found else 'not what was written'}"
    return None


def _write(path: Path, hashes: dict[str, str]) -> None:
    if storage.is_remote(path):  # an object appears whole or not at all
        path.write_text(json.dumps(hashes, indent=1))
    else:
        write_json(path, hashes)


def _hashes(folder: Path) -> dict[str, str]:
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in _files(folder) if f.name != HASHES}  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):  # object storage has no rglob
        if path.is_dir():
            yield from _files(path)
        else:
            yield path
