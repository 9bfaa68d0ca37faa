"""A generator of two kinds of images, whose shares can move, in the place of StyleGAN2.

Bright (class 1) and dark (class 0) images, from u = w.a + b + c * noise by a steep tanh: b decides
the shares, and a and c how much of the class the style decides.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm
from toy_gan import SHAPE, quick_step

from fairjax.config import defaults
from fairjax.train.gan import Gan
from fairjax.train.gan_state import reals
from fairjax.train.penalty import frozen_judge

W_DIM, STEEP, N = 4, 3.0, 4000


class ModeGenerator(nn.Module):
    def setup(self):
        self.a = self.param("a", nn.initializers.constant(0.5), (W_DIM,))
        self.b = self.param("b", nn.initializers.zeros, ())
        self.c = self.param("c", nn.initializers.constant(0.1), ())

    def mapping(self, z):
        return z

    def synthesis(self, ws, noise_key=None):
        u = ws.mean(1) @ self.a + self.b
        if noise_key is not None:
            u = u + self.c * jax.random.normal(noise_key, u.shape)
        return jnp.broadcast_to(0.9 * jnp.tanh(STEEP * u)[:, None, None, None], (len(u), *SHAPE))

    def __call__(self, z, noise_key=None, noise=None):
        del noise
        return self.synthesis(jnp.repeat(z[:, None], 4, 1), noise_key)


class SmallDiscriminator(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = image.mean((1, 2, 3))[:, None]
        for layer in range(2):
            x = nn.leaky_relu(nn.Dense(32, name=f"dense{layer}")(x), 0.2)
        return nn.Dense(1, name="out")(x)[:, 0]


class BrightnessJudge(nn.Module):
    """p(bright) = sigmoid(2 * scale * mean of the image)."""

    @nn.compact
    def __call__(self, x, train):
        del train
        scale = self.param("scale", nn.initializers.constant(4.0), ())
        s = scale * x.mean((1, 2, 3))
        return jnp.stack([-s, s], 1)


def toy_modes(**overrides):
    """The programs of a configuration on these networks."""
    gan = defaults().gan
    gan.update(batch=64, z_dim=W_DIM, w_dim=W_DIM, mbstd_group=0, r1_gamma=0.1, r1_every=4,
               path_length_weight=0.0, style_mixing=0.0, learning_rate_g=0.01,
               learning_rate_d=0.01)  # fmt: skip
    gan.update(overrides)
    programs = Gan(gan, resolution=SHAPE[0], channels=SHAPE[2])
    programs.g, programs.d = ModeGenerator(), SmallDiscriminator()
    programs.g_step = quick_step(programs._g_step, "path_length")
    programs.d_step = quick_step(programs._d_step, "r1")
    return programs


def toy_judge(target):
    """The judge of brightness and the shares (dark, bright) that it should see."""
    member = {"params": {"scale": np.float32(4.0)}}
    return frozen_judge(BrightnessJudge(), [member], np.array(target))


def trained(programs, bright, steps, judge=None):
    """(state, metrics of each step) after so many steps on images of which a share is bright.

    The generator starts with that share.
    """
    rng = np.random.default_rng(0)
    offset = norm.ppf(bright)
    level = 0.9 * np.tanh(STEEP * (rng.normal(size=N) + offset))
    images = np.round(level * 127.5 + 127.5).astype(np.uint8)
    images = np.broadcast_to(images[:, None, None, None], (N, *SHAPE))
    task = programs.task("modes", reals(np.ones(N), np.zeros(N), np.ones(1), np.zeros(1)),
                         lambda ema, i: {}, jax.random.key(1), judge)  # fmt: skip
    state = jax.jit(task.init)(jax.random.key(0))
    state = state.replace(g=state.g | {"b": jnp.float32(offset)})
    rows = []
    for i in range(steps):
        index = rng.integers(0, N, programs.gan.batch).astype(np.int32)
        batch = {"image": jnp.asarray(images[index]), "index": jnp.asarray(index)}
        state, metrics = task.step(state, batch, jax.random.key(2), i)
        rows.append(metrics)
    return state, jax.device_get(rows)


def fakes(programs, g, n=4000):
    """(bright? bool [n], w [n, w_dim]) of fakes as in training."""
    images, w = jax.jit(programs._fakes, static_argnums=2)(g, jax.random.key(9), n)
    return np.asarray(images.mean((1, 2, 3)) > 0), np.asarray(w)
