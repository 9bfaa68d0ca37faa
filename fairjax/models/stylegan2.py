"""StyleGAN2: a mapping network, a skip generator and a residual discriminator.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 4.
Parameters carry the published names, so that published weights can be imported by a rename:
`mapping/fc0/weight`, `synthesis/b8/conv0/affine/bias`, `b4/out/weight`, ... Everything learned is
in the collection "params"; the fixed noise images are in "buffers" and are needed only with
`noise="const"`. Latents in are `[n, z_dim]`, images `[n, resolution, resolution, channel]` in
about [-1, 1] (the generator's output is not clipped).
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax.errors import InputError
from fairjax.models.layers import (
    Conv,
    Dense,
    SynthesisLayer,
    ToRGB,
    minibatch_stddev,
    normalize_second_moment,
)
from fairjax.models.resample import image_up


def channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps of the block at `resolution`, in both networks."""
    return min(channel_base // resolution, channel_max)


def block_resolutions(resolution: int) -> list[int]:
    """4, 8, .., `resolution`. Raises InputError unless it is a power of two from 8 up."""
    if resolution < 8 or resolution & (resolution - 1):
        raise InputError(
            f"StyleGAN2 at {resolution} pixels",
            "data.resolution",
            "Choose a power of two, 8 or more",
        )
    return [2**i for i in range(2, resolution.bit_length())]


def num_ws(resolution: int) -> int:
    """Style vectors that `Generator.synthesis` takes: 8 at 32 px, 10 at 64 px, .."""
    return 2 * len(block_resolutions(resolution))


class MappingNetwork(nn.Module):
    """z [n, z_dim] -> w [n, w_dim]: z scaled to mean square one, then dense layers."""

    w_dim: int
    layers: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = normalize_second_moment(z)
        for i in range(self.layers):
            x = Dense(self.w_dim, lr_mult=0.01, activation="leaky", name=f"fc{i}")(x)
        return x


class SynthesisBlock(nn.Module):
    """One resolution of the skip generator: (x, image so far) -> (x, image), both at `resolution`.

    The first block starts from a learned constant. `ws` has a style for each convolution and one
    for the image, `noise_keys` a key for each convolution.
    """

    resolution: int
    features: int
    image_channels: int
    clamp: float | None
    form: str

    @nn.compact
    def __call__(
        self,
        x: jax.Array | None,
        image: jax.Array | None,
        ws: list[jax.Array],
        noise_keys: list[jax.Array | None],
        fixed_noise: bool,
    ) -> tuple[jax.Array, jax.Array]:
        size = self.resolution
        if x is None:
            const = self.param("const", nn.initializers.normal(1.0), (size, size, self.features))
            x = jnp.broadcast_to(const, (ws[0].shape[0], *const.shape))
        else:
            x = SynthesisLayer(
                self.features, size, up=True, clamp=self.clamp, form=self.form, name="conv0"
            )(x, ws[0], noise_keys[0], fixed_noise)
        x = SynthesisLayer(self.features, size, clamp=self.clamp, form=self.form, name="conv1")(
            x, ws[-2], noise_keys[-1], fixed_noise
        )
        rgb = ToRGB(self.image_channels, clamp=self.clamp, name="torgb")(x, ws[-1])
        return x, rgb if image is None else image_up(image, self.form) + rgb


class SynthesisNetwork(nn.Module):
    """ws [n, num_ws, w_dim] -> image [n, resolution, resolution, image_channels].

    A block's image layer shares its style with the first convolution of the next block.
    """

    resolution: int
    image_channels: int
    channel_base: int
    channel_max: int
    clamp: float | None
    form: str

    @nn.compact
    def __call__(self, ws: jax.Array, noise_key: jax.Array | None, fixed_noise: bool) -> jax.Array:
        x = image = None
        layer = 0
        for size in block_resolutions(self.resolution):
            convs = 1 if size == 4 else 2
            keys = [
                None if noise_key is None else jax.random.fold_in(noise_key, layer + i)
                for i in range(convs)
            ]
            x, image = SynthesisBlock(
                size,
                channels(size, self.channel_base, self.channel_max),
                self.image_channels,
                self.clamp,
                self.form,
                name=f"b{size}",
            )(x, image, [ws[:, layer + i] for i in range(convs + 1)], keys, fixed_noise)
            layer += convs
        assert image is not None
        return image


class _Networks(nn.Module):
    """Holds the two parts under the published names `mapping` and `synthesis`."""

    w_dim: int
    mapping_layers: int
    resolution: int
    image_channels: int
    channel_base: int
    channel_max: int
    clamp: float | None
    form: str

    def setup(self) -> None:
        self.mapping = MappingNetwork(self.w_dim, self.mapping_layers)
        self.synthesis = SynthesisNetwork(
            self.resolution,
            self.image_channels,
            self.channel_base,
            self.channel_max,
            self.clamp,
            self.form,
        )


class Generator(nn.Module):
    """The generator; use `apply(variables, .., method="mapping")` and `"synthesis"` for the parts.

    `channel_base` and `channel_max` give the widths (`channels`), `conv_clamp` clips activations
    (for half precision), `resample` is the form of the resampling (`fairjax.models.resample`).
    """

    resolution: int
    image_channels: int = 3
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    conv_clamp: float | None = None
    resample: str = "auto"

    def setup(self) -> None:
        self.networks = _Networks(
            self.w_dim,
            self.mapping_layers,
            self.resolution,
            self.image_channels,
            self.channel_base,
            self.channel_max,
            self.conv_clamp,
            self.resample,
        )
        # Without a level of its own in the parameter tree, as in the published weights.
        nn.share_scope(self, self.networks)

    def mapping(self, z: jax.Array) -> jax.Array:
        """z [n, z_dim] -> w [n, w_dim]; no truncation and no moving average here."""
        if z.shape[-1] != self.z_dim:
            raise ValueError(
                f"latents have {z.shape[-1]} numbers, the generator takes {self.z_dim}"
            )
        return self.networks.mapping(z)

    def synthesis(
        self, ws: jax.Array, noise_key: jax.Array | None = None, noise: str | None = None
    ) -> jax.Array:
        """ws [n, num_ws, w_dim] -> image [n, resolution, resolution, image_channels] float32.

        `noise` is "random" (a fresh image per sample and layer, from `noise_key`), "const" (the
        fixed images in "buffers") or "none"; by default "random" with a key and "none" without.
        """
        if noise is None:
            noise = "none" if noise_key is None else "random"
        if noise not in ("random", "const", "none") or (noise == "random" and noise_key is None):
            raise ValueError(
                f'noise must be "random" with a noise_key, "const" or "none": {noise!r}'
            )
        key = noise_key if noise == "random" else None
        return self.networks.synthesis(ws, key, noise == "const")

    def __call__(
        self, z: jax.Array, noise_key: jax.Array | None = None, noise: str | None = None
    ) -> jax.Array:
        """z [n, z_dim] -> image: one w for all layers (no style mixing)."""
        w = self.mapping(z)
        ws = jnp.broadcast_to(w[:, None], (w.shape[0], num_ws(self.resolution), w.shape[1]))
        return self.synthesis(ws, noise_key, noise)


class DiscriminatorBlock(nn.Module):
    """[n, 2h, 2w, c] -> [n, h, w, out]: two convolutions beside a blurred 1x1 skip, both * sqrt .5.

    With `from_image` the input is the image and a 1x1 convolution first brings it to `features`.
    """

    features: int
    out: int
    from_image: bool
    clamp: float | None
    form: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.from_image:
            x = Conv(self.features, 1, clamp=self.clamp, name="fromrgb")(x)
        half = math.sqrt(0.5)
        to_half = partial(Conv, self.out, down=True, gain=half, form=self.form)
        y = to_half(kernel=1, use_bias=False, activation="linear", name="skip")(x)
        x = Conv(self.features, clamp=self.clamp, name="conv0")(x)
        return y + to_half(clamp=self.clamp, name="conv1")(x)


class Epilogue(nn.Module):
    """[n, 4, 4, c] -> logits [n]."""

    mbstd_group: int
    mbstd_features: int
    mbstd_mode: str
    clamp: float | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        if self.mbstd_group:
            x = minibatch_stddev(x, self.mbstd_group, self.mbstd_features, self.mbstd_mode)
        x = Conv(features, clamp=self.clamp, name="conv")(x)
        x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)  # published order of the inputs
        x = Dense(features, activation="leaky", name="fc")(x)
        return Dense(1, name="out")(x)[:, 0]


class Discriminator(nn.Module):
    """Images [n, resolution, resolution, image_channels] in [-1, 1] -> logits [n] float32.

    `mbstd_group` 0 leaves the minibatch standard deviation out; `mbstd_mode` is that of
    `layers.minibatch_stddev`. The other fields are those of the generator.
    """

    resolution: int
    image_channels: int = 3
    channel_base: int = 16384
    channel_max: int = 512
    mbstd_group: int = 0
    mbstd_features: int = 1
    mbstd_mode: str = "contiguous"
    conv_clamp: float | None = None
    resample: str = "auto"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        expected = (self.resolution, self.resolution, self.image_channels)
        if image.shape[1:] != expected:
            raise ValueError(f"images are {image.shape[1:]}, the discriminator takes {expected}")
        x = image
        for size in reversed(block_resolutions(self.resolution)[1:]):
            x = DiscriminatorBlock(
                channels(size, self.channel_base, self.channel_max),
                channels(size // 2, self.channel_base, self.channel_max),
                size == self.resolution,
                self.conv_clamp,
                self.resample,
                name=f"b{size}",
            )(x)
        return Epilogue(
            self.mbstd_group, self.mbstd_features, self.mbstd_mode, self.conv_clamp, name="b4"
        )(x).astype(jnp.float32)
