"""Two networks in closed form in the place of StyleGAN2, for exact tests of the GAN's steps.

They have the interface of `fairjax.models.stylegan2` at 8 px: `Gan` looks its networks up by
attribute, and what a step does with them does not depend on what is inside.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from quick import quick_jit

from fairjax.config import defaults
from fairjax.train.gan import Gan

SIZE, CHANNELS, LAYERS, W_DIM = 8, 3, 4, 4
SHAPE = (SIZE, SIZE, CHANNELS)
PIXELS = SIZE * SIZE * CHANNELS


class LinearGenerator(nn.Module):
    """w = z scaled by a vector; image = bias + sum over layers of matrix[l] w_l (+ noise)."""

    def setup(self):
        init = nn.initializers.normal(0.1)
        self.scale = self.param("scale", nn.initializers.normal(1.0), (W_DIM,))
        self.matrix = self.param("matrix", init, (LAYERS, PIXELS, W_DIM))
        self.bias = self.param("bias", init, (PIXELS,))
        self.strength = self.param("strength", nn.initializers.zeros, ())

    def mapping(self, z):
        return z * self.scale[None]

    def synthesis(self, ws, noise_key=None):
        flat = jnp.einsum("nlw,lpw->np", ws, self.matrix) + self.bias[None]
        if noise_key is not None:
            flat = flat + self.strength * jax.random.normal(noise_key, flat.shape)
        return flat.reshape(len(ws), *SHAPE)

    def __call__(self, z, noise_key=None, noise=None):
        del noise
        w = self.mapping(z)
        return self.synthesis(jnp.repeat(w[:, None], LAYERS, 1), noise_key)


class QuadraticDiscriminator(nn.Module):
    """D(x) = a.x + s |x|^2 / 2."""

    @nn.compact
    def __call__(self, image):
        x = image.reshape(len(image), -1)
        a = self.param("a", nn.initializers.normal(0.05), (PIXELS,))
        s = self.param("s", nn.initializers.constant(0.01), ())
        return x @ a + s * jnp.square(x).sum(1) / 2


def toy_gan(**overrides):
    """The programs of a small configuration on the two networks above."""
    gan = defaults().gan
    gan.update(batch=8, z_dim=W_DIM, w_dim=W_DIM, mbstd_group=0)
    gan.update(overrides)
    programs = Gan(gan, resolution=SIZE, channels=CHANNELS)
    programs.g, programs.d = LinearGenerator(), QuadraticDiscriminator()
    programs.g_step = quick_step(programs._g_step, "path_length")
    programs.d_step = quick_step(programs._d_step, "r1")
    return programs


def quick_step(function, *static):
    """A step program that takes its state's memory, as in training."""
    return quick_jit(function, static_argnames=static, donate_argnums=0)
