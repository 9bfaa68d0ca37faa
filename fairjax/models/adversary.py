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
