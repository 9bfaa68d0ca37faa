"""The discriminator of StyleGAN2: three architectures, minibatch standard deviation, labels.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 4, and
Miyato & Koyama 2018 (projection of the label). Parameters carry the published names: `b8/fromrgb/
weight`, `b4/out/bias`, `mapping/embed/weight`, ...
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax.models.layers import Conv, Dense, minibatch_stddev
from fairjax.models.resample import image_down
from fairjax.models.stylegan2 import (
    ARCHITECTURES,
    MappingNetwork,
    block_resolutions,
    channels,
    compute_dtype,
)


class DiscriminatorBlock(nn.Module):
    """[n, 2h, 2w, c] -> [n, h, w, out] and the image for the next block.

    A 1x1 convolution brings the image to `features` where the block sees it: the first one always,
    with "skip" every one. "resnet" adds a blurred 1x1 skip; both parts are then times sqrt(1/2).
    What runs here runs in `dtype`.
    """

    features: int
    out: int
    architecture: str
    clamp: float | None
    form: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array | None, image: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        x = None if x is None else x.astype(self.dtype)
        if image is not None:
            seen = image.astype(self.dtype)
            y = Conv(self.features, 1, clamp=self.clamp, name="fromrgb")(seen)
            x = y if x is None else x + y
            image = image_down(image, self.form) if self.architecture == "skip" else None
        assert x is not None
        to_half = partial(Conv, self.out, down=True, form=self.form)
        conv0 = Conv(self.features, clamp=self.clamp, name="conv0")
        if self.architecture != "resnet":
            return to_half(clamp=self.clamp, name="conv1")(conv0(x)), image
        half = math.sqrt(0.5)
        y = to_half(kernel=1, use_bias=False, activation="linear", gain=half, name="skip")(x)
        return y + to_half(clamp=self.clamp, gain=half, name="conv1")(conv0(x)), image


class Epilogue(nn.Module):
    """[n, 4, 4, c] -> [n, out]; in float32."""

    out: int
    mbstd_group: int
    mbstd_features: int
    mbstd_mode: str
    clamp: float | None

    @nn.compact
    def __call__(
        self, x: jax.Array, image: jax.Array | None, weights: jax.Array | None
    ) -> jax.Array:
        features = x.shape[-1]
        x = x.astype(float)
        if image is not None:
            x = x + Conv(features, 1, name="fromrgb")(image)  # published without a clamp
        if self.mbstd_group:
            x = minibatch_stddev(x, self.mbstd_group, self.mbstd_features, self.mbstd_mode, weights)
        x = Conv(features, clamp=self.clamp, name="conv")(x)
        x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)  # published order of the inputs
        x = Dense(features, activation="leaky", name="fc")(x)
        return Dense(self.out, name="out")(x)


class Discriminator(nn.Module):
    """Images [n, resolution, resolution, image_channels] in [-1, 1] -> logits [n] float32.

    With `c_dim` the logit is the projection of the output on the mapped label c [n, c_dim];
    `mapping_layers` are the dense layers behind the label's embedding. `architecture` is "resnet"
    (StyleGAN2), "skip" or "orig". `mbstd_group` 0 leaves the minibatch standard deviation out;
    `mbstd_mode` and the `weights` [n] of a call are those of `layers.minibatch_stddev`. The other
    fields are those of the generator.
    """

    resolution: int
    image_channels: int = 3
    channel_base: int = 16384
    channel_max: int = 512
    c_dim: int = 0
    mapping_layers: int = 8
    architecture: str = "resnet"
    half_resolutions: int = 0
    mbstd_group: int = 0
    mbstd_features: int = 1
    mbstd_mode: str = "contiguous"
    conv_clamp: float | None = None
    resample: str = "auto"
    remat: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, c: jax.Array | None = None, weights: jax.Array | None = None
    ) -> jax.Array:
        expected = (self.resolution, self.resolution, self.image_channels)
        if image.shape[1:] != expected:
            raise ValueError(f"images are {image.shape[1:]}, the discriminator takes {expected}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {ARCHITECTURES}: {self.architecture!r}")

        def width(size: int) -> int:
            return channels(size, self.channel_base, self.channel_max)

        block = nn.remat(DiscriminatorBlock) if self.remat else DiscriminatorBlock
        x: jax.Array | None = None
        seen: jax.Array | None = image
        for size in reversed(block_resolutions(self.resolution)[1:]):
            x, seen = block(
                width(size), width(size // 2), self.architecture, self.conv_clamp, self.resample,
                compute_dtype(size, self.resolution, self.half_resolutions), name=f"b{size}",
            )(x, seen)  # fmt: skip
        out = width(4) if self.c_dim else 1
        assert x is not None
        y: jax.Array = Epilogue(
            out, self.mbstd_group, self.mbstd_features, self.mbstd_mode, self.conv_clamp, name="b4"
        )(x, seen, weights)
        if not self.c_dim:
            return y[:, 0]
        label = MappingNetwork(out, self.mapping_layers, self.c_dim, name="mapping")(None, c)
        return jnp.sum(y * label, axis=-1) / math.sqrt(out)
