"""What a GAN run is made of: its two networks, their optimisers, and the state that they train."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from fairjax.config import d_widths
from fairjax.models.discriminator import Discriminator
from fairjax.models.stylegan2 import Generator, block_resolutions
from fairjax.train.ada import Ada
from fairjax.train.devices import put_replicated
from fairjax.train.margin import Margin
from fairjax.train.penalty import PenaltyState
from fairjax.train.second import Second


class GanState(struct.PyTreeNode):
    """Everything that survives a restart; arrays only."""

    step: jax.Array
    g: Any
    d: Any
    ema: Any  # moving average of g: the generator that is evaluated and shipped
    g_optimiser: Any
    d_optimiser: Any
    w_avg: jax.Array  # [w_dim], for truncation; with labels [classes, w_dim]
    pl_mean: jax.Array  # running mean path length
    q: jax.Array  # group weights of group DRO [k], sum 1
    ada: Ada | None = None  # controller of the augmentation, with gan.augment="ada" only
    margin: Margin | None = None  # controller of R1, with gan.r1_target only
    second: Second | None = None  # with gan.second_d only
    group_losses: jax.Array | None = None  # running [k], with gan.dro_momentum only
    penalty: PenaltyState = None  # of gan.penalty, where it has one


class Reals(struct.PyTreeNode):
    """What is known of each training image, by its position in the training list."""

    weight: jax.Array  # importance weight in the loss [n]; ones when reals are resampled
    group: jax.Array  # int32 [n]; -1 = none
    q: jax.Array  # start of q [k]
    adjustment: jax.Array  # C / sqrt(n_g) [k]
    classes: jax.Array | None = None  # int32 [n], with labels


def reals(
    weight: np.ndarray,
    group: np.ndarray,
    q: np.ndarray,
    adjustment: np.ndarray,
    classes: np.ndarray | None = None,
) -> Reals:
    """Puts the vectors on all devices."""
    real = jnp.result_type(float)
    return Reals(
        weight=put_replicated(weight.astype(real)),
        group=put_replicated(group.astype(np.int32)),
        q=put_replicated(q.astype(real)),
        adjustment=put_replicated(adjustment.astype(real)),
        classes=None if classes is None else put_replicated(classes.astype(np.int32)),
    )


def networks(
    gan: ConfigDict, resolution: int, channels: int, c_dim: int = 0
) -> tuple[Generator, Discriminator]:
    """The two networks of a `gan` config tree; `c_dim` is the length of a label."""
    shape = {"resolution": resolution, "image_channels": channels,
             "half_resolutions": gan.half_resolutions, "remat": gan.remat, "c_dim": c_dim,
             "conv_clamp": gan.conv_clamp or None}  # fmt: skip
    g = Generator(channel_base=gan.channel_base, channel_max=gan.channel_max, z_dim=gan.z_dim,
                  w_dim=gan.w_dim, mapping_layers=gan.mapping_layers,
                  architecture=gan.g_architecture, **shape)  # fmt: skip
    base, most = d_widths(gan)
    d = Discriminator(channel_base=base, channel_max=most, mbstd_group=gan.mbstd_group,
                      mbstd_features=gan.mbstd_features, mbstd_mode=gan.mbstd_mode,
                      mapping_layers=gan.d_mapping_layers, architecture=gan.d_architecture,
                      **shape)  # fmt: skip
    return g, d


def lazy_adam(
    gan: ConfigDict, learning_rate: float, every: int, regularised: bool
) -> optax.GradientTransformation:
    """Adam, corrected for a regulariser that runs every `every` steps (Karras et al., 2020, B).

    With `gan.decay_from` below 1 the rate falls linearly to 0 over the rest of the training, which
    damps the swing of the group shares from one evaluation to the next.
    """
    c = every / (every + 1) if regularised else 1.0
    rate: float | optax.Schedule = learning_rate * c
    if gan.decay_from < 1:
        updates = gan.kimg * 1000 / gan.batch / c  # the regulariser's updates count too
        start = int(gan.decay_from * updates)
        rate = optax.linear_schedule(learning_rate * c, 0.0, int(updates) - start, start)
    return optax.adam(rate, b1=gan.beta1**c, b2=gan.beta2**c, eps=1e-8)


def by_part(
    optimiser: optax.GradientTransformation, factors: Mapping[str, float]
) -> optax.GradientTransformation:
    """The optimiser with updates times a factor for the parameters below some names of the tree.

    A factor of 0 lets these parameters rest, bit by bit, and keeps no state for them. Without
    factors other than 1 the optimiser is returned as it is.
    """
    factors = {part: float(factor) for part, factor in factors.items() if factor != 1}
    if not factors:
        return optimiser

    def labels(tree: Any) -> Any:
        return unflatten_dict({path: str(factors.get(path[0], 1.0)) for path in flatten_dict(tree)})

    scaled = {str(f): optax.chain(optimiser, optax.scale(f)) if f else optax.set_to_zero()
              for f in factors.values()}  # fmt: skip
    return optax.multi_transform({"1.0": optimiser} | scaled, labels)


def frozen_blocks(resolution: int, count: int) -> list[str]:
    """The `count` blocks of the discriminator at the highest resolutions (Mo et al. 2020)."""
    return [f"b{size}" for size in reversed(block_resolutions(resolution))][:count]
