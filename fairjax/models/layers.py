"""The layers of StyleGAN2: equalised learning rate, modulated convolution, minibatch stddev.

Source: Karras et al. 2018 (equalised learning rate, minibatch standard deviation), 2019 (style
mapping) and 2020 (modulation and demodulation, section 2.2). Parameters keep the published names
`weight` and `bias`; dense weights are `[in, out]`, convolution weights HWIO.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from fairjax.errors import InputError
from fairjax.models import resample

LEAKY_GAIN = math.sqrt(2)


def leaky(x: jax.Array, gain: float = 1.0, clamp: float | None = None) -> jax.Array:
    """Leaky ReLU with slope 0.2, times sqrt(2) and `gain`, then clipped to +-`clamp * gain`."""
    x = jax.nn.leaky_relu(x, 0.2) * (LEAKY_GAIN * gain)
    return x if clamp is None else jnp.clip(x, -clamp * gain, clamp * gain)


def normalize_second_moment(x: jax.Array) -> jax.Array:
    """Scales each row of `x` [n, c] to mean square one; a row of zeros stays zero."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def modulated_conv(
    x: jax.Array,
    weight: jax.Array,
    styles: jax.Array,
    *,
    up: bool = False,
    demodulate: bool = True,
    form: str = "auto",
) -> jax.Array:
    """Convolution whose input channels are scaled per sample (Karras et al. 2020, eq. 1-3).

    Activations are scaled instead of weights: the same numbers without a kernel per sample,
    whose grouped convolution has a very slow gradient in XLA.

    Args:
      x: [n, h, w, i], whose dtype is that of the convolution and the result; the norms are taken
        in float32. weight: [k, k, i, o]. styles: [n, i].
      up: doubles the size; `weight` is then in convolution orientation (`resample.conv_up`).
      demodulate: divides each output channel of each sample by the norm of its scaled weights.
      form: see `resample`.

    Returns: [n, h, w, o], or [n, 2h, 2w, o] with `up`.
    """
    x = x * styles[:, None, None, :].astype(x.dtype)
    kernel = weight.astype(x.dtype)
    x = resample.conv_up(x, kernel, form) if up else resample.conv(x, kernel, form)
    if demodulate:
        squares = jnp.sum(jnp.square(weight), axis=(0, 1))
        factor = jax.lax.rsqrt(jnp.square(styles) @ squares + 1e-8)
        x = x * factor[:, None, None, :].astype(x.dtype)
    return x


def minibatch_stddev(
    x: jax.Array,
    group: int,
    features: int,
    mode: str = "contiguous",
    weights: jax.Array | None = None,
) -> jax.Array:
    """Appends the standard deviation over small groups of samples as `features` channels.

    Args:
      x: [n, h, w, c]; n must be divisible by min(group, n), c by `features`.
      group: samples in a group.
      mode: "contiguous" groups neighbours, so that a batch split over devices needs no
        communication; "strided" groups sample i with i + n/group, .., as the published networks do.
      weights: [n] >= 0, or None = all equal. Mean and variance of a group are then those of the
        weighted samples, so that the statistics of a biased batch are those of the batch that the
        importance weights stand for. The variance is raised by what unequal weights take from its
        expectation beyond what equal ones take: else D could tell a weighted batch from one of
        equal weights by it. Equal weights change no bit; a group without weight counts as one of
        equal weights.

    Returns: [n, h, w, c + features].
    """
    n, h, w, c = x.shape
    size = min(group, n)
    if n % size or c % features:
        raise InputError(
            f"a batch of {n} with {c} channels does not split into groups of {size} samples "
            f"and {features} features",
            "minibatch standard deviation",
            "Choose a batch size that is a multiple of the group",
        )
    if mode == "contiguous":
        y = x.reshape(n // size, size, h, w, features, c // features)
        axis, table = 1, (n // size, size)
    elif mode == "strided":
        y = x.reshape(size, n // size, h, w, features, c // features)
        axis, table = 0, (size, n // size)
    else:
        raise ValueError(f'mode must be "contiguous" or "strided", found {mode!r}')
    if weights is None:
        y = y - jnp.mean(y, axis=axis, keepdims=True)
        variance = jnp.mean(jnp.square(y), axis=axis)  # [n/size, h, w, features, c/features]
    else:
        v = weights.reshape(table)
        largest = jnp.max(v, axis=axis, keepdims=True)
        v = jnp.where(largest > 0, v / jnp.where(largest > 0, largest, 1), 1)  # equal: exactly 1
        v = v * (size / jnp.sum(v, axis=axis, keepdims=True))  # mean 1
        v = v.reshape(*table, 1, 1, 1, 1)
        y = y - jnp.mean(v * y, axis=axis, keepdims=True)
        # E = sigma^2 (1 - sum of squared shares); of equal weights sigma^2 (1 - 1 / size).
        left = size - jnp.mean(jnp.square(v), axis=axis)
        raised = jnp.where(left > 1e-3, (size - 1) / jnp.where(left > 1e-3, left, 1), 1)
        variance = raised * jnp.mean(v * jnp.square(y), axis=axis)
    y = jnp.sqrt(variance + 1e-8)
    y = jnp.mean(y, axis=(1, 2, 4))  # [n/size, features]
    y = jnp.repeat(y, size, axis=0) if mode == "contiguous" else jnp.tile(y, (size, 1))
    return jnp.concatenate([x, jnp.broadcast_to(y[:, None, None, :], (n, h, w, features))], -1)


class Dense(nn.Module):
    """[n, in] -> [n, out], equalised: weight * lr_mult / sqrt(in) and bias * lr_mult.

    `activation` is "linear" or "leaky".
    """

    out: int
    lr_mult: float = 1.0
    bias_init: float = 0.0
    activation: str = "linear"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.out)
        weight = self.param("weight", nn.initializers.normal(1 / self.lr_mult), shape)
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.out,))
        x = x @ (weight * (self.lr_mult / math.sqrt(shape[0]))) + bias * self.lr_mult
        return leaky(x) if self.activation == "leaky" else x


class Conv(nn.Module):
    """[n, h, w, in] -> [n, h, w, out], or half the size with `down`; equalised learning rate.

    A 1x1 convolution with `down` blurs and drops pixels first (the skip of a residual block); one
    with `up` doubles the size afterwards. The dtype of the input decides that of the result.
    `gain` multiplies the output, `clamp` clips it to +-clamp * gain; `activation` is "linear"
    or "leaky".
    """

    out: int
    kernel: int = 3
    down: bool = False
    up: bool = False
    use_bias: bool = True
    activation: str = "leaky"
    gain: float = 1.0
    clamp: float | None = None
    form: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.out)
        weight = self.param("weight", nn.initializers.normal(1.0), shape)
        weight = (weight / math.sqrt(math.prod(shape[:3]))).astype(x.dtype)
        if self.up:
            x = resample.image_up(resample.conv(x, weight), self.form)
        elif not self.down:
            x = resample.conv(x, weight, self.form)
        elif self.kernel == 1:
            x = resample.conv(resample.image_down(x, self.form), weight)
        else:
            x = resample.conv_down(x, weight, self.form)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.out,)).astype(x.dtype)
        if self.activation == "leaky":
            return leaky(x, self.gain, self.clamp)
        x = x * self.gain
        return (
            x
            if self.clamp is None
            else jnp.clip(x, -self.clamp * self.gain, self.clamp * self.gain)
        )


class SynthesisLayer(nn.Module):
    """A modulated 3x3 convolution, noise, bias and leaky ReLU: [n, h, w, in], w [n, w_dim] -> out.

    The weight has no equalised-learning-rate factor, since demodulation removes its scale.
    `resolution` is the output height. Noise is scaled by the learned `noise_strength`: the fixed
    image `noise_const` from the collection "buffers" with `fixed_noise`, else one image per sample
    drawn from `noise_key`, else none. `gain` multiplies the output (and the clamp).
    """

    out: int
    resolution: int
    up: bool = False
    gain: float = 1.0
    clamp: float | None = None
    form: str = "auto"

    @nn.compact
    def __call__(
        self, x: jax.Array, w: jax.Array, noise_key: jax.Array | None, fixed_noise: bool
    ) -> jax.Array:
        channels, size = x.shape[-1], self.resolution
        styles = Dense(channels, bias_init=1.0, name="affine")(w)
        weight = self.param("weight", nn.initializers.normal(1.0), (3, 3, channels, self.out))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        bias = self.param("bias", nn.initializers.zeros, (self.out,))
        x = modulated_conv(x, weight, styles, up=self.up, form=self.form)
        if fixed_noise or self.is_initializing():
            fixed = self.variable(
                "buffers",
                "noise_const",
                lambda: jax.random.normal(self.make_rng("params"), (size, size)),
            )
        if fixed_noise:
            x = x + (fixed.value[None, :, :, None] * strength).astype(x.dtype)
        elif noise_key is not None:
            noise = jax.random.normal(noise_key, (x.shape[0], size, size, 1)) * strength
            x = x + noise.astype(x.dtype)
        return leaky(x + bias.astype(x.dtype), self.gain, self.clamp)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to the image, without demodulation or activation."""

    out: int
    clamp: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        styles = Dense(channels, bias_init=1.0, name="affine")(w) / math.sqrt(channels)
        weight = self.param("weight", nn.initializers.normal(1.0), (1, 1, channels, self.out))
        bias = self.param("bias", nn.initializers.zeros, (self.out,))
        x = modulated_conv(x, weight, styles, demodulate=False) + bias.astype(x.dtype)
        return x if self.clamp is None else jnp.clip(x, -self.clamp, self.clamp)
