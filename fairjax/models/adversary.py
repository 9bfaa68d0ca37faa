"""The network that guesses an attribute from the style of an image."""

import flax.linen as nn
import jax


class StyleClassifier(nn.Module):
    """Two hidden layers of leaky ReLU: styles w [n, w_dim] -> logits float32 [n, classes].

    Small on purpose: it must keep pace with a generator that changes at every step.
    """

    classes: int
    width: int = 64

    @nn.compact
    def __call__(self, w: jax.Array) -> jax.Array:
        for layer in range(2):
            w = nn.leaky_relu(nn.Dense(self.width, name=f"dense{layer}")(w), 0.2)
        return nn.Dense(self.classes, name="out")(w)


@jax.custom_vjp
def reverse_gradient(x: jax.Array, factor: jax.Array | float) -> jax.Array:
    """The identity, whose gradient is -factor times that of the identity (Ganin et al., 2016)."""
    del factor
    return x


def _forward(x: jax.Array, factor: jax.Array | float) -> tuple[jax.Array, jax.Array | float]:
    return x, factor


def _backward(factor: jax.Array | float, slope: jax.Array) -> tuple[jax.Array, None]:
    return -factor * slope, None


reverse_gradient.defvjp(_forward, _backward)
