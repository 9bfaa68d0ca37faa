"""The generator of StyleGAN2: a mapping network and a synthesis network of three architectures.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 4.
Parameters carry the published names, so that published weights can be imported by a rename:
`mapping/fc0/weight`, `synthesis/b8/conv0/affine/bias`, ... Everything learned is in the collection
"params"; the fixed noise images are in "buffers" and are needed only with `noise="const"`. Latents
in are `[n, z_dim]`, labels `[n, c_dim]` (one-hot, several ones, or any numbers), images out
`[n, resolution, resolution, channel]` in about [-1, 1] (not clipped). The discriminator is in
`fairjax.models.discriminator`.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax.errors import InputError
from fairjax.models.layers import (
    Conv,
    Dense,
    SynthesisLayer,
    ToRGB,
    normalize_second_moment,
)
from fairjax.models.resample import image_up

ARCHITECTURES = ("skip", "resnet", "orig")


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


def compute_dtype(size: int, resolution: int, half_resolutions: int) -> Any:
    """bfloat16 in the highest `half_resolutions` blocks from 8 pixels up; elsewhere JAX's default:
    float32, or float64 with JAX_ENABLE_X64."""
    half = half_resolutions and size >= max(2 * resolution >> half_resolutions, 8)
    return jnp.bfloat16 if half else jnp.result_type(float)


class MappingNetwork(nn.Module):
    """z [n, z_dim], label c [n, c_dim] -> w [n, w_dim]: dense layers on inputs of mean square one.

    Without labels c is not used; without latents (z None: the discriminator's) z is not.
    """

    w_dim: int
    layers: int
    c_dim: int = 0

    @nn.compact
    def __call__(self, z: jax.Array | None, c: jax.Array | None = None) -> jax.Array:
        parts = [] if z is None else [normalize_second_moment(z)]
        if self.c_dim:
            if c is None or c.shape[-1] != self.c_dim:
                found = "none" if c is None else c.shape[-1]
                raise ValueError(f"labels have {found} numbers, the network takes {self.c_dim}")
            parts.append(normalize_second_moment(Dense(self.w_dim, name="embed")(c)))
        x = jnp.concatenate(parts, axis=-1)
        for i in range(self.layers):
            x = Dense(self.w_dim, lr_mult=0.01, activation="leaky", name=f"fc{i}")(x)
        return x


def as_bytes(images: jax.Array) -> jax.Array:
    """Images in [-1, 1], as the generator draws them -> uint8, rounded, clipped."""
    return jnp.clip(jnp.round(images * 127.5 + 127.5), 0, 255).astype(jnp.uint8)


def truncate(
    ws: jax.Array, centre: jax.Array, psi: float | jax.Array, cutoff: int | None = None
) -> jax.Array:
    """Pulls styles towards a centre: psi * w + (1 - psi) * centre (Karras et al. 2019, section 2).

    Args:
      ws: [n, num_ws, w_dim].
      centre: [w_dim], the mean of all w; or [n, w_dim], one for each sample, so that the samples
        of a group are pulled to the centre of their own group and not to that of the majority.
      psi: 1 = unchanged, 0 = the centre itself.
      cutoff: number of layers that are truncated, from the coarsest; None = all.
    """
    if centre.ndim == 2:
        centre = centre[:, None]
    pulled = psi * ws + (1 - psi) * centre
    if cutoff is None:
        return pulled
    return jnp.where(jnp.arange(ws.shape[1])[:, None] < cutoff, pulled, ws)


class SynthesisBlock(nn.Module):
    """One resolution: (x, image so far) -> (x, image), both at `resolution`.

    The first block starts from a learned constant. `ws` has a style for each convolution and, where
    the block makes an image, one for that; `noise_keys` has a key for each convolution. What runs
    here runs in `dtype`; the image is float32.
    """

    resolution: int
    features: int
    image_channels: int
    architecture: str
    last: bool
    clamp: float | None
    form: str
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array | None,
        image: jax.Array | None,
        ws: list[jax.Array],
        noise_keys: list[jax.Array | None],
        fixed_noise: bool,
    ) -> tuple[jax.Array, jax.Array | None]:
        size = self.resolution
        layer = partial(SynthesisLayer, self.features, size, clamp=self.clamp, form=self.form)
        if x is None:
            const = self.param("const", nn.initializers.normal(1.0), (size, size, self.features))
            x = jnp.broadcast_to(const, (ws[0].shape[0], *const.shape)).astype(self.dtype)
            x = layer(name="conv1")(x, ws[0], noise_keys[0], fixed_noise)
        else:
            x = x.astype(self.dtype)
            residual = self.architecture == "resnet"
            gain = math.sqrt(0.5) if residual else 1.0
            y = None
            if residual:
                y = Conv(self.features, 1, up=True, use_bias=False, activation="linear", gain=gain,
                         form=self.form, name="skip")(x)  # fmt: skip
            x = layer(up=True, name="conv0")(x, ws[0], noise_keys[0], fixed_noise)
            x = layer(gain=gain, name="conv1")(x, ws[1], noise_keys[1], fixed_noise)
            x = x if y is None else y + x
        if image is not None:
            image = image_up(image, self.form)
        if self.last or self.architecture == "skip":
            rgb = ToRGB(self.image_channels, clamp=self.clamp, name="torgb")(x, ws[-1])
            rgb = rgb.astype(float)
            image = rgb if image is None else image + rgb
        return x, image


class SynthesisNetwork(nn.Module):
    """ws [n, num_ws, w_dim] -> image [n, resolution, resolution, image_channels].

    A block's image layer shares its style with the first convolution of the next block.
    """

    resolution: int
    image_channels: int
    channel_base: int
    channel_max: int
    architecture: str
    half_resolutions: int
    clamp: float | None
    form: str
    remat: bool

    @nn.compact
    def __call__(self, ws: jax.Array, noise_key: jax.Array | None, fixed_noise: bool) -> jax.Array:
        # Argument 5, counted from self, is a Python bool.
        block = nn.remat(SynthesisBlock, static_argnums=(5,)) if self.remat else SynthesisBlock
        x = image = None
        layer = 0
        for size in block_resolutions(self.resolution):
            convs = 1 if size == 4 else 2
            last = size == self.resolution
            styles = convs + (last or self.architecture == "skip")
            keys = [
                None if noise_key is None else jax.random.fold_in(noise_key, layer + i)
                for i in range(convs)
            ]
            x, image = block(
                size,
                channels(size, self.channel_base, self.channel_max),
                self.image_channels,
                self.architecture,
                last,
                self.clamp,
                self.form,
                compute_dtype(size, self.resolution, self.half_resolutions),
                name=f"b{size}",
            )(x, image, [ws[:, layer + i] for i in range(styles)], keys, fixed_noise)
            layer += convs
        assert image is not None
        return image


class _Networks(nn.Module):
    """Holds the two parts under the published names `mapping` and `synthesis`."""

    mapping_fields: tuple
    synthesis_fields: tuple

    def setup(self) -> None:
        self.mapping = MappingNetwork(*self.mapping_fields)
        self.synthesis = SynthesisNetwork(*self.synthesis_fields)


class Generator(nn.Module):
    """The generator; use `apply(variables, .., method="mapping")` and `"synthesis"` for the parts.

    `architecture` is "skip" (StyleGAN2), "resnet" or "orig" (Karras et al. 2020, figure 7).
    `channel_base` and `channel_max` give the widths (`channels`), `c_dim` the length of a label,
    `half_resolutions` how many of the highest resolutions run in bfloat16, `conv_clamp` clips
    activations (for half precision), `resample` is the form of the resampling
    (`fairjax.models.resample`), `remat` recomputes each block in the backward pass, so that only
    the activations between blocks are kept.
    """

    resolution: int
    image_channels: int = 3
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    mapping_layers: int = 8
    architecture: str = "skip"
    half_resolutions: int = 0
    conv_clamp: float | None = None
    resample: str = "auto"
    remat: bool = False

    def setup(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {ARCHITECTURES}: {self.architecture!r}")
        self.networks = _Networks(
            (self.w_dim, self.mapping_layers, self.c_dim),
            (self.resolution, self.image_channels, self.channel_base, self.channel_max,
             self.architecture, self.half_resolutions, self.conv_clamp, self.resample,
             self.remat),
        )  # fmt: skip
        # Without a level of its own in the parameter tree, as in the published weights.
        nn.share_scope(self, self.networks)

    def mapping(self, z: jax.Array, c: jax.Array | None = None) -> jax.Array:
        """z [n, z_dim], c [n, c_dim] -> w [n, w_dim]; no truncation and no moving average here."""
        if z.shape[-1] != self.z_dim:
            raise ValueError(
                f"latents have {z.shape[-1]} numbers, the generator takes {self.z_dim}"
            )
        return self.networks.mapping(z, c)

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
        self,
        z: jax.Array,
        noise_key: jax.Array | None = None,
        noise: str | None = None,
        c: jax.Array | None = None,
    ) -> jax.Array:
        """z [n, z_dim], c [n, c_dim] -> image: one w for all layers (no style mixing)."""
        w = self.mapping(z, c)
        ws = jnp.broadcast_to(w[:, None], (w.shape[0], num_ws(self.resolution), w.shape[1]))
        return self.synthesis(ws, noise_key, noise)
