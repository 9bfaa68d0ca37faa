"""ResNet-18 and ResNet-50 (He et al. 2015, table 1, with batch normalisation).

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

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # depth -> blocks of each stage
WIDENING = 4  # of a bottleneck's output over its inner width
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
        y = nn.relu(norm(train, "norm0")(Conv3x3(self.out, self.stride, name="conv0")(x)))
        y = norm(train, "norm1")(Conv3x3(self.out, name="conv1")(y))
        return nn.relu(_beside(x, self.out, self.stride, train) + y)


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution, the last `WIDENING` times as wide, beside the identity or
    a 1x1 convolution. The stride is that of the 3x3 convolution, as in torchvision's networks (He
    et al. have it in the first one)."""

    inner: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        out = WIDENING * self.inner
        y = nn.relu(norm(train, "norm0")(_pointwise(self.inner, "conv0")(x)))
        y = nn.relu(norm(train, "norm1")(Conv3x3(self.inner, self.stride, name="conv1")(y)))
        y = norm(train, "norm2")(_pointwise(out, "conv2")(y))
        return nn.relu(_beside(x, out, self.stride, train) + y)


class ResNet(nn.Module):
    """Four stages of residual blocks with `width` * (1, 2, 4, 8) channels, then a mean.

    `depth` 18 has two plain blocks a stage; 50 has bottlenecks, whose outputs are 4 times as wide.

    `stem` is the reduction before the first stage: "imagenet" is a 7x7 convolution with stride two
    and a max-pool (by 4 in all), "stride2" a 3x3 convolution with stride two, "small" one with
    stride one. At 32 px on CPU, take width 8 to 16 and "stride2" or "small".
    """

    width: int = 64
    classes: int = 2
    stem: str = "imagenet"
    depth: int = 18

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = False) -> jax.Array:
        """Images [n, h, w, c] -> logits [n, classes], or with `features` the means [n, d].

        `train` normalises with the batch's own statistics and updates the running ones.
        """
        *_, x = trunk(self.width, self.stem, self.depth, x, train)
        x = jnp.mean(x, axis=(1, 2))
        return x if features else nn.Dense(self.classes, name="out")(x)


def trunk(width: int, stem: str, depth: int, x: jax.Array, train: bool) -> list[jax.Array]:
    """The maps [n, h, w, c] after each of the four stages; layers belong to the calling module."""
    if stem == "imagenet":
        x = nn.Conv(width, (7, 7), 2, 3, use_bias=False, kernel_init=HE_FAN_OUT, name="stem")(x)
    elif stem in ("small", "stride2"):
        x = Conv3x3(width, 1 if stem == "small" else 2, name="stem")(x)
    else:
        raise ValueError(f'stem must be "imagenet", "small" or "stride2", found {stem!r}')
    x = nn.relu(norm(train, "stem_norm")(x))
    if stem == "imagenet":
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    maps = []
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            kind = ResidualBlock if depth == 18 else Bottleneck
            stride = 2 if stage and not block else 1
            x = kind(width * 2**stage, stride, name=f"stage{stage}_block{block}")(x, train)
        maps.append(x)
    return maps


def norm(train: bool, name: str) -> nn.BatchNorm:
    """Batch normalisation, whose running statistics move by a tenth a step."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)


def _pointwise(out: int, name: str) -> nn.Dense:
    return nn.Dense(out, use_bias=False, kernel_init=HE_FAN_OUT, name=name)


def _beside(x: jax.Array, out: int, stride: int, train: bool) -> jax.Array:
    """What a block's branch is added to."""
    if stride == 1 and x.shape[-1] == out:
        return x
    # Apart: XLA on GPU (jaxlib 0.11) ends the process where it fuses this with the product.
    x = lax.optimization_barrier(x[:, ::stride, ::stride])
    return norm(train, "shortcut_norm")(_pointwise(out, "shortcut")(x))
