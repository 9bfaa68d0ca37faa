"""Per-example loss vectors: logits [batch] in, losses [batch] out; nothing is reduced here."""

from collections.abc import Callable
from typing import NamedTuple

import jax
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
