"""Images in, features out: the trunks of the classifiers of `robust_classification`.

Images [n, h, w, c] in [-1, 1] -> features [n, d]; a linear head makes logits of them. All have the
call of `ResNet` with `features=True`; the small ones have no statistics of the batch.
"""

from typing import Any

import flax.linen as nn
import jax

from fairjax.models.occam import OccamResNet
from fairjax.models.resnet import ResNet


class SmallCNN(nn.Module):
    """Two 3x3 convolutions with stride two and a dense layer; `width` channels, then twice that."""

    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = True) -> jax.Array:
        del train, features
        for layer in range(2):
            wide = self.width * 2**layer
            x = nn.relu(nn.Conv(wide, (3, 3), 2, name=f"conv{layer}")(x))
        x = x.reshape(len(x), -1)
        return nn.relu(nn.Dense(4 * self.width, name="dense")(x))


class MLP(nn.Module):
    """Two hidden layers of 8 * `width` units on the pixels."""

    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = True) -> jax.Array:
        del train, features
        x = x.reshape(len(x), -1)
        for layer in range(2):
            x = nn.relu(nn.Dense(8 * self.width, name=f"dense{layer}")(x))
        return x


class Pixels(nn.Module):
    """The pixels themselves: with the linear head, logistic regression."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, features: bool = True) -> jax.Array:
        del train, features
        return x.reshape(len(x), -1)


def encoder(model: str, width: int, stem: str, classes: int) -> Any:
    """The trunk of a name in `fit.model`; an OccamNet brings its own heads, for so many classes."""
    return {
        "cnn": lambda: SmallCNN(width),
        "resnet18": lambda: ResNet(width, stem=stem),
        "resnet50": lambda: ResNet(width, stem=stem, depth=50),
        "occam_resnet18": lambda: OccamResNet(width, classes, stem),
        "mlp": lambda: MLP(width),
        "linear": lambda: Pixels(),
    }[model]()
