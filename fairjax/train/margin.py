"""The strength of R1 in the GAN's steps, and the controller that keeps reals inside the margin.

The hinge has no gradient at a real that the discriminator puts at 1 or above, so that its weight
scales nothing (Byrd and Lipton, 2018, "What is the effect of importance weighting in deep
learning?"), and a generator learns little from a discriminator that tells everything apart. Which
gamma prevents that depends on resolution, width, batch and images. As the controller of
augmentation does (Karras et al., 2020, "Training generative adversarial networks with limited
data", section 3), gamma follows what is to be kept: the share of reals with D(x) < 1.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

EVERY = 4  # iterations between two changes of gamma
RANGE = 1e4  # gamma stays within this factor of where it starts


class Margin(struct.PyTreeNode):
    """The controller's part of the state; it survives a restart in the middle of an interval."""

    gamma: jax.Array
    inside: jax.Array  # reals with D(x) < 1 since gamma last changed
    count: jax.Array  # reals since then


def start(gan: ConfigDict) -> Margin | None:
    """The controller's first state; None where gamma is fixed."""
    if not gan.r1_target:
        return None
    return Margin(jnp.asarray(gan.r1_gamma, float), jnp.zeros(()), jnp.zeros(()))


def gamma(margin: Margin | None, gan: ConfigDict) -> jax.Array | float:
    """The present strength of R1."""
    fixed: float = gan.r1_gamma
    return fixed if margin is None else margin.gamma


def observe(
    margin: Margin, gan: ConfigDict, inside: jax.Array, step: jax.Array
) -> tuple[Margin, dict[str, Any]]:
    """Counts one batch of reals; moves gamma after every fourth.

    Args:
      margin: before the batch.
      gan: the config tree.
      inside: 1 where D(real) < 1, else 0, of the global batch [n].
      step: number of steps before this one.

    Returns: the new state, and `r1/gamma` as a metric.
    """
    seen = Margin(margin.gamma, margin.inside + inside.sum(), margin.count + len(inside))
    missing = jnp.sign(gan.r1_target - seen.inside / seen.count)
    speed = gan.batch * EVERY / (gan.r1_kimg * 1000)
    low, high = gan.r1_gamma / RANGE, gan.r1_gamma * RANGE
    moved = Margin(
        jnp.clip(seen.gamma * 10.0 ** (missing * speed), low, high), jnp.zeros(()), jnp.zeros(())
    )
    margin = jax.tree.map(partial(jnp.where, (step + 1) % EVERY == 0), moved, seen)
    return margin, {"r1/gamma": margin.gamma}
