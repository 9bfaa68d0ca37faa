"""Labels of a conditional GAN: what each class is called by, and how fakes get theirs.

A label is a row of a table with one row per class, so that drawing labels, averaging w per class
and naming classes all speak of the same small integers. Fakes draw their class from a stated prior:
one that is taken from biased data would repeat the bias. Where labels are numbers (an age, say),
the table has one row for each value that occurs, and w has one mean.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.errors import InputError


class Numbers(NamedTuple):
    """The scale of labels that are numbers: float64 [c] each, over all training images."""

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> "Numbers":
        """What `Conditions.record` says of them; raises KeyError or ValueError for other things."""
        return cls(*np.array([record[field] for field in cls._fields], np.float64))

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Raw values [n, c] -> float32 [n, c + 1]: standardised, and a 1 behind them.

        Both networks scale the embedding of a label to one length. Of a lone number that would
        leave the sign; beside a constant it leaves an angle, which tells all numbers apart.
        """
        standard = (np.asarray(values, np.float64) - self.mean) / self.deviation
        return np.concatenate([standard, np.ones((len(standard), 1))], 1).astype(np.float32)

    def adopted(self, weight: np.ndarray, old: "Numbers") -> np.ndarray:
        """The weight [c + 1, out] of an embedding that was trained on the scale `old`, for this
        one: the same raw values have the same embeddings."""
        change = np.diag(np.append(self.deviation / old.deviation, 1.0))
        change[-1, :-1] = (self.mean - old.mean) / old.deviation
        return (change @ weight).astype(np.float32)


class Conditions(NamedTuple):
    """The classes of a conditional generator.

    Attributes:
      attributes: the attributes whose combinations are the classes.
      names: [k] of the classes.
      labels: float32 [k, c_dim], the label of each class.
      prior: [k], how often a sample has each class; sums to 1.
      classes: int32 [n], the class of each training image.
      numbers: their scale where labels are numbers; a class is then a value that occurs.
      in_training: [k], how often a fake has each class in training; None = as `prior`.
    """

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    prior: np.ndarray
    classes: np.ndarray
    numbers: Numbers | None = None
    in_training: np.ndarray | None = None

    def record(self) -> dict[str, Any]:
        """What generator.json says of them; without the training images."""
        found: dict[str, Any] = {
            "attributes": list(self.attributes),
            "classes": list(self.names),
            "labels": self.labels.tolist(),
            "prior": self.prior.tolist(),
        }
        if self.numbers is not None:
            found["numbers"] = {key: v.tolist() for key, v in self.numbers._asdict().items()}
        if self.in_training is not None:
            found["prior_in_training"] = self.in_training.tolist()
        return found

    def of_fakes(self) -> str:
        """Words for the labels of fakes in training, e.g. "short: 0.500, long: 0.500"."""
        prior = self.prior if self.in_training is None else self.in_training
        if self.numbers is None:
            return ", ".join(f"{n}: {p:.3f}" for n, p in zip(self.names, prior, strict=True))
        mean = prior @ self.labels[:, :-1] * self.numbers.deviation + self.numbers.mean
        return ", ".join(f"mean {n}: {m:.4g}" for n, m in zip(self.attributes, mean, strict=True))


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


def of_numbers(attributes: tuple[str, ...], values: np.ndarray, as_fakes: np.ndarray) -> Conditions:
    """Labels that are numbers.

    Args:
      attributes: names of the c columns.
      values: float64 [n, c], finite, of the training images.
      as_fakes: bool [n], the images among whose labels those of fakes are drawn.

    Raises:
      InputError: all values of a column are equal, or so large that they have no deviation.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scale = Numbers(values.mean(0), values.std(0), values.min(0), values.max(0))
    for name, deviation, low, high in zip(attributes, *scale[1:], strict=True):
        if not 0 < deviation < np.inf:
            raise InputError(
                f"{name!r} is from {low:g} to {high:g} in the training images, with the standard "
                f"deviation {deviation:g}", "gan.condition_form=numbers",
                f"Leave {name} out of gan.condition, or give values that differ",
            )  # fmt: skip
    rows, classes = np.unique(values, axis=0, return_inverse=True)
    classes = classes.reshape(-1).astype(np.int32)
    counts = np.bincount(classes[as_fakes], minlength=len(rows))
    names = tuple(", ".join(f"{n} {v:g}" for n, v in zip(attributes, row, strict=True))
                  for row in rows)  # fmt: skip
    prior = counts / counts.sum()
    return Conditions(attributes, names, scale.labels(rows), prior, classes, scale)


def draw_classes(prior: np.ndarray, key: jax.Array, n: int) -> jax.Array:
    """int32 [n] from the prior [k]; a class of probability 0 is never drawn."""
    return draw_by_ends(cumulative(prior), key, n)


def cumulative(prior: np.ndarray) -> np.ndarray:
    """float32 [k]: the upper ends of the classes' parts of [0, 1]."""
    # By these and not by [n, k] random numbers, of which there would be too many where k is large.
    ends = np.cumsum(np.asarray(prior, np.float64))
    return (ends / ends[-1]).astype(np.float32)


def draw_by_ends(ends: jax.Array | np.ndarray, key: jax.Array, n: int) -> jax.Array:
    """int32 [n]: `draw_classes` where the `cumulative` prior may be an argument of a program."""
    u = jax.random.uniform(key, (n,))  # below 1, so the first end above it exists
    return jnp.searchsorted(jnp.asarray(ends), u, side="right").astype(jnp.int32)


def moved_mean(mean: jax.Array, w: jax.Array, classes: jax.Array | None, beta: float) -> jax.Array:
    """The moving average of w after a batch w [n, w_dim].

    Without classes, or where labels are numbers, `mean` is [w_dim]. With classes [n] it is
    [k, w_dim] and only the means of the classes in the batch move: else a rare class would be
    pulled to zero by every batch without it.
    """
    if classes is None or mean.ndim == 1:
        return w.mean(0) + beta * (mean - w.mean(0))
    member = jax.nn.one_hot(classes, len(mean), dtype=w.dtype)
    count = member.sum(0)[:, None]
    of_batch = (member.T @ w) / jnp.maximum(count, 1)
    return jnp.where(count > 0, of_batch + beta * (mean - of_batch), mean)
