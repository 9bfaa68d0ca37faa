"""ResNet-18 for the density ratio and the judges (He et al. 2015, with batch normalisation).

Images [n, h, w, c] in [-1, 1] flow in, logits [n, classes] float32 out, from 16 to 256 pixels.
The variables are in the collections "params" and "batch_stats"; a training step passes
`mutable=["batch_stats"]`. Batch statistics are taken over the whole batch that the call sees,
which under `jax.jit` with a sharded batch is the global one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fairjax.models.resample import DIMENSIONS, conv, trio

STAGES = (2, 2, 2, 2)
# As in the original: normal with the fan-out, which keeps the size of gradients.
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv3x3(nn.Module):
    """3x3 convolution without bias, stride 1 or 2, zero padding 1: [n, h, w, i] -> [.., out]."""

    out: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE_FAN_OUT, (3, 3, x.shape[-1], self.out))
        if self.stride == 1:
            return conv(x, kernel)
        # One row before, and one after only where the size is odd: the window never sees more.
        x = jnp.pad(x, ((0, 0), (1, x.shape[1] % 2), (1, x.shape[2] % 2), (0, 0)))
        closed = trio(2)
        if closed is not None:
            return closed.shrink(x, jnp.swapaxes(kernel, 2, 3))
        return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=DIMENSIONS)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, or a 1x1 convolution where the shape changes."""

    out: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.relu(_norm(train, "norm0")(Conv3x3(self.out, self.stride, name="conv0")(x)))
        y = _norm(train, "norm1")(Conv3x3(self.out, name="conv1")(y))
        if self.stride != 1 or x.shape[-1] != self.out:
            # Apart: XLA on GPU (jaxlib 0.11) ends the process where it fuses this with the product.
            x = lax.optimization_barrier(x[:, :: self.stride, :: self.stride])
            x = nn.Dense(self.out, use_bias=False, kernel_init=HE_FAN_OUT, name="shortcut")(x)
            x = _norm(train, "shortcut_norm")(x)
        return nn.relu(x + y)


class ResNet18(nn.Module):
    """Four stages of two residual blocks with `width` * (1, 2, 4, 8) channels, then a mean.

    `stem` is the reduction before the first stage: "imagenet" is a 7x7 convolution with stride two
    and a max-pool (by 4 in all), "stride2" a 3x3 convolution with stride two, "small" one with
    stride one. At 32 px on CPU, take width 8 to 16 and "stride2" or "small".
    """

    width: int = 64
    classes: int = 2
    stem: str = "imagenet"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = False) -> jax.Array:
        """Images [n, h, w, c] -> logits [n, classes], or with `features` [n, 8 * width].

        `train` normalises with the batch's own statistics and updates the running ones.
        """
        if self.stem == "imagenet":
            x = nn.Conv(
                self.width, (7, 7), 2, 3, use_bias=False, kernel_init=HE_FAN_OUT, name="stem"
            )(x)
        elif self.stem in ("small", "stride2"):
            x = Conv3x3(self.width, 1 if self.stem == "small" else 2, name="stem")(x)
        else:
            raise ValueError(f'stem must be "imagenet", "small" or "stride2", found {self.stem!r}')
        x = nn.relu(_norm(train, "stem_norm")(x))
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(STAGES):
            for block in range(blocks):
                x = ResidualBlock(
                    self.width * 2**stage,
                    2 if stage and not block else 1,
                    name=f"stage{stage}_block{block}",
                )(x, train)
        x = jnp.mean(x, axis=(1, 2))
        return x if features else nn.Dense(self.classes, name="out")(x)


def _norm(train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
