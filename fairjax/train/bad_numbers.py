"""What a training does where a number is NaN or infinite: stop, skip the step, or go back.

"stop" ends the run. "skip" leaves the state as it was before a step that breaks it or reports such
a metric, counts these steps as the metric `skipped`, and ends the run where they are more than
`MOST_SKIPPED` of a log interval. "rollback" takes the newest checkpoint and other random numbers
from there on, at most `MOST_ROLLBACKS` times; where it went back is kept in a file, so that a
killed run repeats it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fairjax.data.cache import write_json
from fairjax.errors import InputError
from fairjax.train.stopping import Diverged

SKIPPED = "skipped"
MOST_SKIPPED = 0.5
MOST_ROLLBACKS = 3

Step = Callable[..., tuple[Any, dict[str, Any]]]


def diverged(name: str, step: int, terms: list[str], checkpoint: int | None) -> Diverged:
    """What is raised where a number is not finite.

    Args:
      name: of the task. step: after which it was seen. terms: metrics or parameters.
      checkpoint: step of the newest good checkpoint, if any.
    """
    good = "none yet" if checkpoint is None else f"step {checkpoint}"
    return Diverged(
        f"{name}: not finite at step {step}: {', '.join(terms)}. Last good checkpoint: {good}. "
        "Use another --workdir with a lower learning rate (a GAN: or a higher gan.r1_gamma), "
        "or --config.bad_numbers=rollback",
        checkpoint,
    )


def _floating(tree: Any) -> list[tuple[str, jax.Array]]:
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), x)
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
            if jnp.issubdtype(x.dtype, jnp.floating)]  # fmt: skip


@jax.jit
def finite(state: Any) -> jax.Array:
    """Whether all numbers of a tree of arrays are finite."""
    return jnp.stack([jnp.isfinite(x).all() for _, x in _floating(state)]).all()


def not_finite(state: Any, most: int = 3) -> list[str]:
    """Names of the arrays of a state that are not finite, the first `most` of them."""
    names = [name for name, x in _floating(state) if not bool(jnp.isfinite(x).all())]
    more = [f"and {len(names) - most} more arrays of the state"] if len(names) > most else []
    return [f"the state ({name})" for name in names[:most]] + more


@jax.jit
def _chosen(before: Any, after: Any, metrics: Any) -> tuple[Any, Any]:
    good = finite(after) & finite(metrics)
    kept = jax.tree.map(lambda a, b: jnp.where(good, b, a), before, after)
    # The step counts all the same: the next one has another batch and other random numbers.
    kept = kept.replace(step=after.step)
    pairs = {name: value if isinstance(value, tuple) else (value, jnp.ones(()))
             for name, value in metrics.items()}  # fmt: skip
    counted = {name: tuple(jnp.where(good, x, 0) for x in pair) for name, pair in pairs.items()}
    return kept, counted | {SKIPPED: 1.0 - good}


def skipping(step: Step) -> Step:
    """The step of a task (see `fairjax.train.loop.Task`) that leaves the state where it would break
    it. Holds the state twice."""

    def skipped(state: Any, batch: Any, key: jax.Array, i: int) -> tuple[Any, dict[str, Any]]:
        before = jax.tree.map(jnp.copy, state)  # the step takes the memory of its own
        after, metrics = step(state, batch, key, i)
        return _chosen(before, after, metrics)

    return skipped


class Rollbacks:
    """The steps to which a training went back.

    Args:
      path: of the file that keeps them. writes: whether this process writes it.
    """

    def __init__(self, path: Path, writes: bool):
        self._path, self._writes = path, writes
        try:
            self._steps = [int(s) for s in json.loads(path.read_text())] if path.exists() else []
        except (OSError, ValueError, TypeError) as error:
            mend = f"Delete the folder {path.parent} and rerun: this stage is repeated"
            raise InputError(f"damaged ({error})", str(path), mend) from error

    @property
    def count(self) -> int:
        """How often it went back."""
        return len(self._steps)

    @property
    def used_up(self) -> bool:
        """Whether it may not do so again."""
        return self.count >= MOST_ROLLBACKS

    def add(self, step: int) -> None:
        """Notes that the training goes on from this step, with other random numbers."""
        self._steps.append(step)
        if self._writes:
            write_json(self._path, self._steps)

    def elsewhere(self, step: Step) -> Step:
        """The step of a task, with another key for each time that it went back."""

        def moved(state: Any, batch: Any, key: jax.Array, i: int) -> tuple[Any, dict[str, Any]]:
            times = sum(i >= begun for begun in self._steps)
            return step(state, batch, jax.random.fold_in(key, 2**32 - times) if times else key, i)

        return moved
