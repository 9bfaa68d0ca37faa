"""The GAN task: StyleGAN2 with weighted adversarial loss, lazy R1, path length and group DRO.

Each iteration runs `g_step` (generator, every few steps also path length, then the moving average)
and `d_step` (discriminator, every few steps also R1), in the published order; every phase has
latents and an optimiser update of its own. Importance weights enter where real images do.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fairjax.train import ada, margin, second
from fairjax.train.conditions import Conditions
from fairjax.train.gan_discriminator import DiscriminatorStep
from fairjax.train.gan_generator import GeneratorStep
from fairjax.train.gan_state import GanState, Reals, by_part, frozen_blocks, lazy_adam
from fairjax.train.loop import Task
from fairjax.train.penalty import FrozenJudge, penalty_start

Evaluate = Callable[[Any, int], dict[str, float]]


class Gan(GeneratorStep, DiscriminatorStep):
    """Compiled programs of one shape and objective; arms that differ in data only share them."""

    def __init__(
        self,
        gan: ConfigDict,
        *,
        resolution: int,
        channels: int,
        conditions: Conditions | None = None,
    ):
        super().__init__(gan, resolution, channels, conditions)
        self.path_length = gan.path_length_weight > 0
        self.r1 = gan.r1_gamma > 0
        self.g_adam = lazy_adam(gan, gan.learning_rate_g, gan.path_length_every, self.path_length)
        self.d_adam = lazy_adam(gan, gan.learning_rate_d, gan.r1_every, self.r1)
        self.second_adam = self.d_adam
        self.reals_per_step = gan.batch + second.reals_of(gan)
        self.g_adam = by_part(self.g_adam, {"mapping": gan.learning_rate_mapping})
        self.d_adam = by_part(
            self.d_adam, dict.fromkeys(frozen_blocks(resolution, gan.freeze_d), 0.0)
        )
        self.g_step = jax.jit(self._g_step, static_argnames="path_length", donate_argnums=0)
        self.d_step = jax.jit(self._d_step, static_argnames="r1", donate_argnums=0)

    def init(self, key: jax.Array, q: jax.Array | np.ndarray, judged: int = 0) -> GanState:
        """A fresh state; the key decides all initial weights.

        `judged` is the number of classes of the penalty's judge; see `penalty_start`.
        """
        k_g, k_d = jax.random.split(key)
        image = jnp.zeros((1, self.resolution, self.resolution, self.channels))
        c = self._labels(None if self.conditions is None else jnp.zeros(1, jnp.int32))
        g = self.g.init(k_g, jnp.zeros((1, self.gan.z_dim)), noise="none", **c)["params"]

        def discriminator(key: jax.Array) -> Any:
            return self.d.init(key, image, **c)["params"]

        d = discriminator(k_d)
        another = partial(discriminator, jax.random.fold_in(k_d, 1))
        return GanState(
            step=jnp.zeros((), jnp.int32),
            g=g,
            d=d,
            ema=jax.tree.map(jnp.copy, g),
            g_optimiser=self.g_adam.init(g),
            d_optimiser=self.d_adam.init(d),
            w_avg=jnp.zeros((*self._classes_shape(), self.gan.w_dim)),
            pl_mean=jnp.zeros(()),
            q=jnp.asarray(q, float),
            ada=ada.start(self.gan),
            margin=margin.start(self.gan),
            second=second.start(self.gan, d, another, self.second_adam),
            group_losses=-jnp.ones(len(q)) if self.gan.dro and self.gan.dro_momentum else None,
            penalty=penalty_start(self.gan, key, judged),
        )

    def task(
        self,
        name: str,
        reals: Reals,
        evaluate: Evaluate,
        grid_key: jax.Array,
        judge: FrozenJudge | None = None,
    ) -> Task:
        """One training run on the given weights and groups.

        Args:
          name: shown in progress lines.
          reals: weight and group of every training image.
          evaluate: (ema parameters, number of steps) -> {figure name: value}.
          grid_key: key of the fixed latents of the sample grid.
          judge: which the penalty asks; given if and only if there is one.
        """
        if (self.gan.penalty == "none") != (judge is None):
            which = "without" if judge is None else "with"
            raise ValueError(f"gan.penalty={self.gan.penalty} {which} a judge")
        pl_every, r1_every = self.gan.path_length_every, self.gan.r1_every
        start = np.asarray(reals.q)  # a program cannot hold an array of several processes
        judged = 0 if judge is None else len(judge.target)

        def step(
            state: GanState, batch: dict[str, jax.Array], key: jax.Array, i: int
        ) -> tuple[GanState, dict[str, jax.Array]]:
            state, of_g = self.g_step(
                state, key, path_length=self.path_length and i % pl_every == 0, judge=judge
            )
            state, of_d = self.d_step(state, batch, reals, key, r1=self.r1 and i % r1_every == 0)
            return state, of_g | of_d

        return Task(
            name,
            init=lambda key: self.init(key, start, judged),
            step=step,
            evaluate=lambda state, i: (state, evaluate(state.ema, i)),
            sample=lambda state: grid(self.sample(state.ema, grid_key, 64, 64)),
            parameters=lambda state: {"generator": state.g, "discriminator": state.d},
        )


def grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images [n, H, W, C] -> one picture [rows * H, columns * W, C], row by row."""
    n, h, w, c = images.shape
    rows = n // columns
    table = images[: rows * columns].reshape(rows, columns, h, w, c)
    return table.transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
