"""A second discriminator beside the first: the rivals that bring the reference set in through one.

"frozen" is the discriminator that `gan.init_from` gave, as it was: it goes on asking for quality
while the first is fine-tuned on the reference set (fairTL++: Teo, Abdollahzadeh and Cheung 2023,
"Fair generative models via transfer learning", multiple feedback). "reference" is a second network
that sees the reference set alone, held by a LeCam penalty, while the first sees the biased set
(Um and Suh 2023, "A fair generative model using LeCam divergence"). Either way the generator's loss
is (1 - share) of the first's and share of the second's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

KINDS = ("none", "frozen", "reference")
LECAM_FROM = 1000  # steps after which the penalty acts, when its running means are worth something
LECAM_DECAY = 0.9


class Second(struct.PyTreeNode):
    """Its part of the state; a frozen one has no optimiser."""

    d: Any
    optimiser: Any
    means: jax.Array  # [2]: running means of its logits on reals and on fakes


def reals_of(gan: ConfigDict) -> int:
    """How many reals of a step are for the second discriminator; they follow those of the first."""
    return int(gan.second_batch) if gan.second_d == "reference" else 0


def start(gan: ConfigDict, d: Any, fresh: Callable[[], Any], adam: Any) -> Second | None:
    """Its first state: a copy of `d`, or fresh parameters with an optimiser; None without one."""
    if gan.second_d == "none":
        return None
    if gan.second_d == "frozen":
        return Second(jax.tree.map(jnp.copy, d), None, jnp.zeros(2))
    params = fresh()
    return Second(params, adam.init(params), jnp.zeros(2))


def lecam(on_real: jax.Array, on_fake: jax.Array, means: jax.Array) -> jax.Array:
    """Scalar: how far logits [n] went beyond the running means of the other kind.

    mean relu(D(x) - mean of fakes)^2 + mean relu(mean of reals - D(G))^2 (Um and Suh 2023, after
    Tseng et al. 2021, "Regularizing generative adversarial networks under limited data", eq. 3).
    No gradient flows into the means.
    """
    of_real, of_fake = jax.lax.stop_gradient(means)
    beyond = jnp.square(jax.nn.relu(on_real - of_fake)).mean()
    return beyond + jnp.square(jax.nn.relu(of_real - on_fake)).mean()


def moved(means: jax.Array, on_real: jax.Array, on_fake: jax.Array) -> jax.Array:
    """The running means [2] after a batch of logits."""
    new = jax.lax.stop_gradient(jnp.stack([on_real.mean(), on_fake.mean()]))
    return LECAM_DECAY * means + (1 - LECAM_DECAY) * new
