"""What a GAN run is made of: its two networks, their optimisers, and the state that they train."""

from typing import Any

import jax
import optax
from flax import struct
from ml_collections import ConfigDict

from fairjax.models.discriminator import Discriminator
from fairjax.models.stylegan2 import Generator
from fairjax.train.ada import Ada


class GanState(struct.PyTreeNode):
    """Everything that survives a restart; arrays only."""

    step: jax.Array
    g: Any
    d: Any
    ema: Any  # moving average of g: the generator that is evaluated and shipped
    g_optimiser: Any
    d_optimiser: Any
    w_avg: jax.Array  # [w_dim], for truncation
    pl_mean: jax.Array  # running mean path length
    q: jax.Array  # group weights of group DRO [k], sum 1
    ada: Ada | None = None  # controller of the augmentation, with gan.augment="ada" only


def networks(gan: ConfigDict, resolution: int, channels: int) -> tuple[Generator, Discriminator]:
    """The two networks of a `gan` config tree."""
    shape = {"resolution": resolution, "image_channels": channels,
             "channel_base": gan.channel_base, "channel_max": gan.channel_max,
             "half_resolutions": gan.half_resolutions,
             "conv_clamp": gan.conv_clamp or None}  # fmt: skip
    g = Generator(z_dim=gan.z_dim, w_dim=gan.w_dim, mapping_layers=gan.mapping_layers,
                  architecture=gan.g_architecture, **shape)  # fmt: skip
    d = Discriminator(mbstd_group=gan.mbstd_group, architecture=gan.d_architecture, **shape)
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
