"""Labels of a conditional GAN: what each class is called by, and how fakes get theirs.

A label is a row of a table with one row per class, so that drawing labels, averaging w per class
and naming classes all speak of the same small integers. Fakes draw their class from a stated prior:
one that is taken from biased data would repeat the bias.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Conditions(NamedTuple):
    """The classes of a conditional generator.

    Attributes:
      attributes: the attributes whose combinations are the classes.
      names: [k] of the classes.
      labels: float32 [k, c_dim], the label of each class.
      prior: [k], how often a fake has each class; sums to 1.
      classes: int32 [n], the class of each training image.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    prior: np.ndarray
    classes: np.ndarray

    def record(self) -> dict[str, Any]:
        """What generator.json says of them; without the training images."""
        return {
            "attributes": list(self.attributes),
            "classes": list(self.names),
            "labels": self.labels.tolist(),
            "prior": self.prior.tolist(),
        }


def label_table(form: str, cardinalities: list[int]) -> np.ndarray:
    """float32 [k, c_dim]: the labels of all combinations, in the order of `proportions.classes`.

    Args:
      form: "classes" = one-hot of the combination; "attributes" = for each attribute one number
        (0 or 1) if it has two values, else a one-hot part, side by side.
      cardinalities: number of values of each attribute.
    """
    k = int(np.prod(cardinalities))
    if form == "classes":
        return np.eye(k, dtype=np.float32)
    values = np.unravel_index(np.arange(k), tuple(cardinalities))
    parts = [np.eye(c)[v][:, 1:] if c == 2 else np.eye(c)[v]
             for v, c in zip(values, cardinalities, strict=True)]  # fmt: skip
    return np.concatenate(parts, axis=1).astype(np.float32)


def draw_classes(prior: np.ndarray, key: jax.Array, n: int) -> jax.Array:
    """int32 [n] from the prior [k]; a class of probability 0 is never drawn."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.asarray(prior, np.float64)).astype(np.float32)
    return jax.random.categorical(key, jnp.asarray(logits), shape=(n,)).astype(jnp.int32)


def moved_mean(mean: jax.Array, w: jax.Array, classes: jax.Array | None, beta: float) -> jax.Array:
    """The moving average of w after a batch w [n, w_dim].

    Without classes `mean` is [w_dim]. With classes [n] it is [k, w_dim] and only the means of the
    classes in the batch move: else a rare class would be pulled to zero by every batch without it.
    """
    if classes is None:
        return w.mean(0) + beta * (mean - w.mean(0))
    member = jax.nn.one_hot(classes, len(mean), dtype=w.dtype)
    count = member.sum(0)[:, None]
    of_batch = (member.T @ w) / jnp.maximum(count, 1)
    return jnp.where(count > 0, of_batch + beta * (mean - of_batch), mean)
