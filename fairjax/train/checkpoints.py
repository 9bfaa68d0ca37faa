"""Saving and restoring a training state with Orbax; the only file that imports it."""

from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fairjax.train.devices import replicated

State = TypeVar("State")


class Checkpoints:
    """The checkpoints of one training run, newest last; a context manager.

    A checkpoint becomes visible by an atomic rename, so a killed save leaves the one before.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
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
        """Writes the state; a step that is already there is left as it is."""
        if step != self.latest:
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, abstract: State) -> State:
        """Reads the newest checkpoint into the shapes of `abstract` on any number of devices."""
        sharding = replicated()
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract
        )
        return self._manager.restore(self.latest, args=ocp.args.StandardRestore(target))
