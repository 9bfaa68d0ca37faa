"""Fairness penalties of a generator: pure functions of a frozen judge's probabilities of fakes.

Probabilities are [batch, k], rows sum to 1; sums run over the global batch. Whatever is small here
is so for the judge that was asked: a generator can learn what pleases that one network.
"""

import jax
import jax.numpy as jnp


def squared_distance(
    probabilities: jax.Array, target: jax.Array, unbiased: bool = False
) -> jax.Array:
    """|m - target|^2, the squared L2 distance of the mean m over the batch from shares [k].

    The distance of Choi et al., 2020, eq. 2, squared, so that it has a slope of 0 at the target. By
    chance the mean of n fakes is off by tr Cov(p) / n on average (at most (1 - 1/k) / n), even if
    all fakes together are at the target. The slope of that part makes every fake more like the
    mean: images that the judge is unsure of. `unbiased` subtracts the estimate
    sum_i |p_i - m|^2 / (n (n - 1)); the result can be negative.

    Raises:
      ValueError: other shapes, or `unbiased` with a batch of one.
    """
    n = _batch(probabilities, target)
    mean = probabilities.mean(0)
    distance = jnp.square(mean - target).sum()
    if not unbiased:
        return distance
    if n < 2:
        raise ValueError("an unbiased distance needs a batch of two or more")
    return distance - jnp.square(probabilities - mean[None]).sum() / (n * (n - 1))


def slope_along(shares: jax.Array, target: jax.Array, probabilities: jax.Array) -> jax.Array:
    """2 (shares - target) . m, m the mean of the probabilities [batch, k]: its gradient is that of
    |m - target|^2 where m is at `shares` [k], which are constant to it.

    Raises:
      ValueError: other shapes.
    """
    _batch(probabilities, target)
    gap = jax.lax.stop_gradient(shares - target)
    return 2 * jnp.sum(gap * probabilities.mean(0))


def raised(mu: jax.Array, distance: jax.Array, slack: float, rate: float) -> jax.Array:
    """The multiplier of `distance <= slack` after a step of dual ascent, >= 0; no gradient flows.

    max(0, mu + rate * (distance - slack)): it rises while the constraint is violated.
    """
    step = rate * (jax.lax.stop_gradient(distance) - slack)
    return jnp.maximum(0.0, jax.lax.stop_gradient(mu) + step)


def lagrangian(mu: jax.Array, distance: jax.Array, slack: float) -> jax.Array:
    """mu * (distance - slack), which the generator's loss gets; mu is constant to the generator."""
    return jax.lax.stop_gradient(mu) * (distance - slack)


def soft_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-mean over the batch of sum_u labels_u log softmax(logits)_u, in nats; both [batch, k].

    The adversary minimises it, the generator maximises it (Ganin et al., 2016, gradient reversal;
    Zhang et al., 2018).
    """
    if logits.shape != labels.shape or logits.ndim != 2:
        raise ValueError(f"two tables of one shape are needed, found {logits.shape} {labels.shape}")
    return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean()


def chance_level(labels: jax.Array) -> jax.Array:
    """The smallest `soft_cross_entropy` without any input: the entropy of the mean label [k]."""
    return jax.scipy.special.entr(labels.mean(0)).sum()


def _batch(probabilities: jax.Array, target: jax.Array) -> int:
    """(n, k) minus (n, 1) would silently broadcast."""
    if probabilities.ndim != 2 or target.shape != probabilities.shape[1:]:
        raise ValueError(
            f"[batch, k] and [k] are needed, found {probabilities.shape} {target.shape}"
        )
    return probabilities.shape[0]
