"""The second network of LfF (Nam et al., 2020): trained to fail where shortcuts fail.

It learns by the generalised cross-entropy, whose gradient is small where the network is unsure, so
that it keeps to what is easy. What it finds harder than the other network does gets a large weight.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fairjax.objectives import difficulty, losses
from fairjax.train.transforms import View

Apply = Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, jax.Array, Any]]


class Biased(struct.PyTreeNode):
    """The biased network; its size is known beforehand and the same at every step."""

    params: Any  # {"encoder", "head"}
    stats: Any  # of batch normalisation; {} without
    optimiser: Any
    losses: jax.Array  # [2, n], averages of both networks for each training image, the biased first


def start(
    params: Any, stats: Any, optimiser: optax.GradientTransformation, examples: int
) -> Biased:
    """Before the first step; `examples` is n, below 0 stands what was never seen."""
    return Biased(params, stats, optimiser.init(params), jnp.full((2, examples), -1.0, jnp.float32))


def learnt(
    biased: Biased, apply: Apply, optimiser: optax.GradientTransformation, view: View, q: float
) -> tuple[Biased, jax.Array]:
    """One step of the biased network on a view of a batch.

    Args:
      apply: (params, stats, images, train) -> (features, logits, new stats).
      q: of the generalised cross-entropy.

    Returns:
      (the network after the step, its cross-entropies [b] before it).
    """

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        logits, stats = apply(params, biased.stats, view.images, True)[1:]
        easy = view.reduce(lambda y, rows: losses.generalised_cross_entropy(logits[rows], y, q))
        plain = view.reduce(lambda y, rows: losses.cross_entropy(logits[rows], y))
        return easy.mean(), (stats, plain)

    slope, (stats, plain) = jax.grad(loss_of, has_aux=True)(biased.params)
    updates, moments = optimiser.update(slope, biased.optimiser, biased.params)
    params = optax.apply_updates(biased.params, updates)
    return biased.replace(params=params, stats=stats, optimiser=moments), plain


def weighed(
    biased: Biased,
    plain: tuple[jax.Array, jax.Array],
    target: jax.Array,
    classes: int,
    index: jax.Array,
    momentum: float,
) -> tuple[Biased, jax.Array]:
    """Averages the losses and weighs a batch.

    Args:
      plain: cross-entropies [b] of the biased network and of the other.
      target: int [n], of all training images. index: int [b], which of them the batch holds.
      momentum: of the averages.

    Returns:
      (the network with the new averages, relative difficulty [b]).
    """
    of_biased, of_other = (
        difficulty.averaged(before, jax.lax.stop_gradient(now), index, momentum)
        for before, now in zip(biased.losses, plain, strict=True)
    )
    weights = difficulty.relative(of_biased, of_other, target, classes, index)
    return biased.replace(losses=jnp.stack([of_biased, of_other])), weights
