"""Per-example loss vectors: logits [batch] in, losses [batch] out; nothing is reduced here."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Adversarial(NamedTuple):
    """The three per-example terms of a GAN loss, each [batch] -> [batch].

    `real` and `fake` are minimised by the discriminator, `generator` by the generator.
    """

    real: Callable[[jax.Array], jax.Array]
    fake: Callable[[jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


HINGE = Adversarial(  # Lim and Ye, 2017; the weighted form is Choi et al., 2020, section 3.3
    real=lambda logits: jax.nn.relu(1 - logits),
    fake=lambda logits: jax.nn.relu(1 + logits),
    generator=lambda logits: -logits,
)

LOGISTIC = Adversarial(  # Goodfellow et al., 2014, non-saturating
    real=lambda logits: jax.nn.softplus(-logits),
    fake=jax.nn.softplus,
    generator=lambda logits: jax.nn.softplus(-logits),
)

ADVERSARIAL = {"hinge": HINGE, "logistic": LOGISTIC}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats: logits [batch, k], labels int [batch] -> [batch]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(float), labels)


def binary(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Sum over the classes of the sigmoid cross-entropy of "is it this class": [batch]."""
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    return optax.sigmoid_binary_cross_entropy(logits.astype(float), targets).sum(-1)


def focal(logits: jax.Array, labels: jax.Array, gamma: float) -> jax.Array:
    """(1 - p)^gamma times the cross-entropy, p of the true class (Lin et al., 2017, eq. 4)."""
    losses = cross_entropy(logits, labels)
    if not gamma:
        return losses
    # A cross-entropy may round to 0, where a power below 1 has an infinite slope.
    miss = jnp.maximum(-jnp.expm1(-losses), jnp.finfo(losses.dtype).tiny)
    return miss**gamma * losses


def generalised_cross_entropy(logits: jax.Array, labels: jax.Array, q: float) -> jax.Array:
    """(1 - p^q) / q, p of the true class, q in (0, 1] (Zhang and Sabuncu, 2018, eq. 6): [batch].

    Its gradient is p^q times that of the cross-entropy, which is the limit q = 0.
    """
    return -jnp.expm1(-q * cross_entropy(logits, labels)) / q


def multiclass_hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """max(0, 1 + largest other logit - true logit): [batch] (Crammer and Singer, 2001)."""
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    rival = jnp.where(true, -jnp.inf, logits).max(-1)
    return jax.nn.relu(1 + rival - jnp.where(true, logits, 0).sum(-1))


def of_examples(loss: str, focal_gamma: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The per-example loss of a name in `fit.loss`: (logits [b, k], labels [b]) -> [b]."""
    return {
        "cross_entropy": cross_entropy,
        "binary": binary,
        "focal": lambda logits, labels: focal(logits, labels, focal_gamma),
        "hinge": multiclass_hinge,
    }[loss]
