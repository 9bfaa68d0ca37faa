"""Augmentation in the GAN's steps: which transform, with which p, and the controller of p.

Karras et al., 2020, "Training generative adversarial networks with limited data", section 3: the
share of reals that the discriminator knows as real, r_t = E[sign D(real)], tells how far it
overfits them; p follows it. All of it lives on the device; nothing here waits for a number.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from fairjax.augmentations import multipliers, policies
from fairjax.models.augment import augment
from fairjax.models.diffaugment import diffaugment

EVERY = 4  # iterations between two changes of p
# The phases of a step number their keys 0, 1, 2, ..: augmentation starts from the other end.
_ROOT = 2**32 - 1
USES = ("fakes of g", "reals of d", "fakes of d", "r1", "reals of second")

Transform = Callable[[jax.Array, jax.Array | float, jax.Array], jax.Array]


class Ada(struct.PyTreeNode):
    """The controller's part of the state; it survives a restart in the middle of an interval."""

    p: jax.Array
    signs: jax.Array  # sum of weight * sign D(real) since p last changed
    weights: jax.Array  # sum of the weights


def transform(gan: ConfigDict) -> Transform | None:
    """(images [n, s, s, c], p, key) -> images, of a `gan` config tree; None with "none"."""
    if gan.augment == "none":
        return None
    if gan.augment == "diffaugment":
        policy = policies(gan.diffaugment_policy)
        return lambda x, p, key: diffaugment(x, key, policy)
    return partial(augment, multipliers=multipliers(gan.augment_categories))


def start(gan: ConfigDict) -> Ada | None:
    """The controller's first state; None without a controller."""
    if gan.augment != "ada":
        return None
    return Ada(jnp.asarray(gan.augment_p, float), jnp.zeros(()), jnp.zeros(()))


def key_of(key: jax.Array, step: jax.Array, use: str) -> jax.Array:
    """The key of one use in one step, apart from those of latents and noise."""
    root = jax.random.fold_in(jax.random.fold_in(key, _ROOT), step)
    return jax.random.fold_in(root, USES.index(use))


def observe(
    ada: Ada, gan: ConfigDict, on_real: jax.Array, weight: jax.Array, step: jax.Array
) -> tuple[Ada, dict[str, Any]]:
    """Adds the logits of one batch of reals; moves p after every fourth.

    Each real counts once: the logits of the R1 phase are those of the same reals again.

    Args:
      ada: before the batch.
      gan: the config tree.
      on_real: logits of the global batch [n].
      weight: importance weights [n], used with `gan.ada_weighted`.
      step: number of steps before this one.

    Returns: the new state, and `ada/p` and `ada/r_t` as metrics (r_t as a pair: sum, weight).
    """
    w = weight if gan.ada_weighted else jnp.ones_like(on_real)
    signs, weights = jnp.sum(w * jnp.sign(on_real)), jnp.sum(w)
    seen = Ada(ada.p, ada.signs + signs, ada.weights + weights)
    r_t = seen.signs / jnp.maximum(seen.weights, 1e-12)
    speed = gan.batch * EVERY / (gan.ada_kimg * 1000)
    p = jnp.clip(seen.p + jnp.sign(r_t - gan.ada_target) * speed, 0.0, gan.ada_p_max)
    moved = Ada(p, jnp.zeros(()), jnp.zeros(()))
    ada = jax.tree.map(partial(jnp.where, (step + 1) % EVERY == 0), moved, seen)
    return ada, {"ada/p": ada.p, "ada/r_t": (signs, weights)}
