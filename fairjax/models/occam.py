"""OccamNet on a ResNet-18: an exit after each stage (Shrestha et al., 2022, "OccamNets: Mitigating
Dataset Bias by Favoring Simpler Hypotheses", section 3; sizes as in the published code).

Images [n, h, w, c] flow in; class activation maps, their means (the logits) and gates flow out. At
test time an image leaves by the first open gate, but not by the first exit, which only serves to
tell what is easy.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fairjax.models.resnet import Conv3x3, norm, trunk

EXITS = 4
EARLIEST = 1  # that an image may leave by
GATE_WIDTH = 16


class Exits(NamedTuple):
    """What an OccamNet says of n images at each of its exits."""

    logits: jax.Array  # [n, 4, classes]
    gates: jax.Array  # [n, 4], logits: above 0 the gate is open
    maps: tuple[jax.Array, ...]  # class activation maps, 4 times [n, h, w, classes]


class Exit(nn.Module):
    """Two 3x3 convolutions, a class activation map, and a gate that looks at the same features
    without a gradient to them."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[n, h, w, d] -> (map [n, h, w, classes], logit of the gate [n])."""
        width = x.shape[-1]
        x = nn.relu(norm(train, "norm")(Conv3x3(max(1, width // 4), name="conv0")(x)))
        x = Conv3x3(width, name="conv1")(x)
        x = nn.relu(x + self.param("bias", nn.initializers.zeros, (width,)))
        seen = nn.Dense(GATE_WIDTH, name="gate0")(lax.stop_gradient(x).mean((1, 2)))
        gate = nn.Dense(1, name="gate1")(nn.relu(norm(train, "gate_norm")(seen)))
        return nn.Dense(self.classes, name="map")(x), gate[:, 0]


class OccamResNet(nn.Module):
    """ResNet-18 with exits; the published width is 58, with which it is about as large as a
    ResNet-18 of width 64. The gradient of the first exit does not reach the trunk."""

    width: int = 58
    classes: int = 2
    stem: str = "imagenet"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = True) -> Exits:
        """Images [n, h, w, c] in [-1, 1] -> all exits."""
        del features
        stages = trunk(self.width, self.stem, 18, x, train)
        stages[0] = lax.stop_gradient(stages[0])
        found = [Exit(self.classes, name=f"exit{j}")(x, train) for j, x in enumerate(stages)]
        maps, gates = zip(*found, strict=True)
        logits = jnp.stack([x.mean((1, 2)) for x in maps], 1)
        return Exits(logits, jnp.stack(gates, 1), maps)


def left_by(gates: jax.Array) -> jax.Array:
    """Which exit images leave by: gates [n, 4] -> int32 [n] in 1 to 3. The first open gate from
    `EARLIEST` on decides (a probability of at least 1/2), the last exit takes all others."""
    opens = (gates >= 0).at[:, -1].set(True)
    return (EARLIEST + opens[:, EARLIEST:].argmax(1)).astype(jnp.int32)


def decided(exits: Exits) -> jax.Array:
    """The logits [n, classes] of the exits that the images leave by."""
    at = left_by(exits.gates)[:, None, None]
    return jnp.take_along_axis(exits.logits, at, 1)[:, 0]
