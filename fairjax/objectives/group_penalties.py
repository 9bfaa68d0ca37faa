"""Penalties of a classifier: pure functions of its outputs, features and labels; sums run over the
global batch. A group that is absent from a batch adds nothing and never gives NaN."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fairjax.objectives import reduce


def spectral(logits: jax.Array, labels: jax.Array, gamma: jax.Array) -> jax.Array:
    """Spectral decoupling: mean((f - gamma)^2) / 2 (Pezeshki et al., 2021, eq. 20).

    With one gamma f are all outputs, and the mean is over them and the batch. A softmax does not
    see a number that is added to all outputs: their differences are pulled to 0 for any gamma.
    With a gamma for each of two classes f is the one output of the paper's table 2, which is
    logits[:, 1] - logits[:, 0]; the means within the classes are added up.

    Args:
      logits: [b, c], c = 2 where gamma is [2].
      labels: int [b].
      gamma: [1] or [2].
    """
    if gamma.shape == (1,):
        return jnp.square(logits - gamma[0]).mean() / 2
    off = jnp.square(logits[:, 1] - logits[:, 0] - gamma[labels])
    return reduce.group_means(off, jnp.ones(len(off)), labels, 2)[0].sum() / 2


def l1(params: object) -> jax.Array:
    """Sum of the absolute values of all parameters."""
    return sum((jnp.abs(x).sum() for x in jax.tree.leaves(params)), jnp.zeros(()))


def gap(
    logits: jax.Array, labels: jax.Array, attribute: jax.Array, values: int, kind: str
) -> jax.Array:
    """How unevenly the scores fall on the values of the protected attribute, 0 is even.

    The mean probability of each class is taken within each value of the attribute, and per class
    the spread (largest minus smallest) over the values that are present. "parity": over all
    examples; "opportunity": over those of a class, for this class (two classes: class 1 only);
    "odds": over those of each true class. The mean over the classes (for "odds": the largest over
    the true classes, then the mean).

    Args:
      logits: [b, c]. labels: int [b]. attribute: int [b], negative = unknown. values: of a.
    """
    scores = jax.nn.softmax(logits)
    c = logits.shape[1]
    member = jax.nn.one_hot(attribute, values)  # an unknown attribute is a zero row
    if kind == "parity":
        return _spread(scores, member).mean()
    of_class = jax.nn.one_hot(labels, c)
    within = jnp.stack(
        [_spread(scores, member * of_class[:, i : i + 1]) for i in range(c)]
    )  # [true class, class]
    if kind == "odds":
        return within.max(0).mean()
    own = jnp.diagonal(within)
    return own[1] if c == 2 else own.mean()


def _spread(scores: jax.Array, member: jax.Array) -> jax.Array:
    """Largest minus smallest mean score per class over the groups that are present: [c]."""
    mass = member.sum(0)
    there = (mass > 0)[:, None]
    means = member.T @ scores / jnp.maximum(mass, 1)[:, None]
    widest = jnp.where(there, means, -jnp.inf).max(0) - jnp.where(there, means, jnp.inf).min(0)
    return jnp.where(there.sum() > 1, jnp.where(jnp.isfinite(widest), widest, 0), 0)


def mmd(
    features: jax.Array, labels: jax.Array, attribute: jax.Array, classes: int, values: int
) -> jax.Array:
    """Squared maximum mean discrepancy between the features of each value of a and of all examples,
    within each class: mean over the pairs (class, value) that are present (Gretton et al., 2012,
    the biased estimate, >= 0; the kernel is a sum of Gaussians, their widths multiples of the mean
    squared distance).

    Args:
      features: [b, d]. labels: int [b]. attribute: int [b], negative = unknown.
    """
    square = jnp.square(features).sum(1)
    distance = jnp.maximum(square[:, None] + square[None] - 2 * features @ features.T, 0)
    width = jax.lax.stop_gradient(distance.mean()) + 1e-6
    kernel = sum(jnp.exp(-distance / (s * width)) for s in (0.25, 1.0, 4.0)) / 3
    of_class = jax.nn.one_hot(labels, classes)
    of_value = jax.nn.one_hot(attribute, values)
    known = of_value.sum(1, keepdims=True)
    part = (of_class[:, :, None] * of_value[:, None]).reshape(len(features), -1)  # [b, c * v]
    whole = jnp.repeat(of_class * known, values, axis=1)
    there = part.sum(0) > 0
    p = part / jnp.maximum(part.sum(0), 1)[None]
    q = whole / jnp.maximum(whole.sum(0), 1)[None]
    squared = jnp.einsum("ig,ij,jg->g", p - q, kernel, p - q)
    return jnp.where(there, squared, 0).sum() / jnp.maximum(there.sum(), 1)


def invariance(
    logits: jax.Array,
    labels: jax.Array,
    environment: jax.Array,
    k: int,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """How far the classifier is from being the best one in each environment at once, 0 is not at
    all: the mean, over the environments that are present, of the squared slope of their mean loss
    in a factor of all logits, at 1 (IRMv1: Arjovsky et al., 2019, section 3.1).

    A square of a mean over few examples is too large by the variance of that mean.

    Args:
      logits: [b, c]. labels: int [b].
      environment: int [b] in [0, k); negative = in none.
      loss: (logits [b, c], labels [b]) -> [b].
    """
    equal = jnp.ones(len(labels))

    def means(factor: jax.Array) -> tuple[jax.Array, jax.Array]:
        return reduce.group_means(loss(factor * logits, labels), equal, environment, k)

    slopes, present = jax.jvp(means, (jnp.ones(()),), (jnp.ones(()),), has_aux=True)[1:]
    return reduce.present_mean(jnp.square(slopes), present)
