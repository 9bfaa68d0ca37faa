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
import optax
from ml_collections import ConfigDict

from fairjax.objectives.losses import ADVERSARIAL
from fairjax.objectives.reduce import (
    group_dro,
    group_means,
    ramped,
    running_losses,
    self_normalised,
    weighted_mean,
)
from fairjax.train import ada, second
from fairjax.train.conditions import Conditions, moved_mean
from fairjax.train.gan_pair import Pair
from fairjax.train.gan_state import GanState, Reals, by_part, frozen_blocks, lazy_adam
from fairjax.train.loop import Task
from fairjax.train.penalty import (
    Fakes,
    FrozenJudge,
    penalty_moved,
    penalty_start,
    penalty_term,
)

W_AVG_BETA = 0.995  # in the main phase of each network
PATH_LENGTH_DECAY = 0.01

Evaluate = Callable[[Any, int], dict[str, float]]


class Gan(Pair):
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
        self.loss = ADVERSARIAL[gan.loss]
        self.augment = ada.transform(gan)
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
            second=second.start(self.gan, d, another, self.second_adam),
            group_losses=-jnp.ones(len(q)) if self.gan.dro and self.gan.dro_momentum else None,
            penalty=penalty_start(self.gan, key, judged),
        )

    def _augmented(self, images: jax.Array, state: GanState, key: jax.Array, use: str) -> jax.Array:
        """What the discriminator sees of the images; without augmentation nothing is added."""
        if self.augment is None:
            return images
        p = self.gan.augment_p if state.ada is None else state.ada.p
        return self.augment(images, p, ada.key_of(key, state.step, use))

    def _g_step(
        self,
        state: GanState,
        key: jax.Array,
        path_length: bool,
        judge: FrozenJudge | None = None,
    ) -> tuple[GanState, dict[str, jax.Array]]:
        batch = self.gan.batch
        k_main, k_path, k_directions = jax.random.split(jax.random.fold_in(key, 2 * state.step), 3)

        classes = self._fake_classes(k_main, batch)

        def main(g: Any) -> tuple[jax.Array, Any]:
            k_style, k_noise = jax.random.split(k_main)
            ws, w = self._styles(g, k_style, batch, classes)
            images = self._synthesised(g, ws, k_noise)
            seen = self._augmented(images, state, key, "fakes of g")
            losses = self.loss.generator(self._logits(state.d, seen, classes))
            if state.second is not None:
                share = self.gan.second_share
                other = self.loss.generator(self._logits(state.second.d, seen, classes))
                losses = (1 - share) * losses + share * other
            loss = losses.mean()
            if judge is None:
                return loss, (loss, w, None)
            fakes = Fakes(images, ws, losses)
            added, judged = penalty_term(self.gan, state.penalty, judge, fakes, state.step)
            return loss + added, (loss, w, judged)

        (_, (loss, w, judged)), grads = jax.value_and_grad(main, has_aux=True)(state.g)
        state = self._update_g(state, grads)
        w_avg = moved_mean(state.w_avg, w, classes, W_AVG_BETA)
        metrics = {"loss/g": loss}
        if judge is not None:
            moved, of_penalty = penalty_moved(self.gan, state.penalty, judge, judged)
            state = state.replace(penalty=moved)
            metrics |= of_penalty
        if path_length:

            def regulariser(g: Any) -> tuple[jax.Array, jax.Array]:
                lengths = self._path_lengths(g, k_path, k_directions, max(batch // 2, 1))
                pl_mean = state.pl_mean + PATH_LENGTH_DECAY * (lengths.mean() - state.pl_mean)
                # The gradient flows through the running mean too, as published.
                penalty = jnp.square(lengths - pl_mean).mean()
                return penalty * self.gan.path_length_weight * self.gan.path_length_every, pl_mean

            (penalty, pl_mean), grads = jax.value_and_grad(regulariser, has_aux=True)(state.g)
            state = self._update_g(state, grads)
            state = state.replace(pl_mean=pl_mean)
            metrics["loss/path_length"] = penalty / self.gan.path_length_every
        half_life = self.gan.ema_kimg * 1000
        if self.gan.ema_rampup:
            half_life = jnp.minimum(half_life, state.step * batch * self.gan.ema_rampup)
        beta = 0.5 ** (batch / jnp.maximum(half_life, 1e-8))
        ema = jax.tree.map(lambda a, b: b + beta * (a - b), state.ema, state.g)
        return state.replace(ema=ema, w_avg=w_avg), metrics

    def _update_g(self, state: GanState, grads: Any) -> GanState:
        updates, optimiser = self.g_adam.update(grads, state.g_optimiser)
        return state.replace(g=optax.apply_updates(state.g, updates), g_optimiser=optimiser)

    def _path_lengths(
        self, g: Any, k_style: jax.Array, k_directions: jax.Array, n: int
    ) -> jax.Array:
        """|J_w^T y| per sample [n] (Karras et al., 2020, section 3.2)."""
        k_ws, k_noise = jax.random.split(k_style)
        ws, _ = self._styles(g, k_ws, n, self._fake_classes(k_ws, n))
        shape = (n, self.resolution, self.resolution, self.channels)
        y = jax.random.normal(k_directions, shape) / self.resolution

        def projected(ws: jax.Array) -> jax.Array:
            return jnp.sum(self._synthesised(g, ws, k_noise) * y)

        grads = jax.grad(projected)(ws)
        return jnp.sqrt(jnp.square(grads).sum(2).mean(1) + 1e-12)

    def _d_step(
        self,
        state: GanState,
        batch: dict[str, jax.Array],
        reals: Reals,
        key: jax.Array,
        r1: bool,
    ) -> tuple[GanState, dict[str, jax.Array]]:
        k_fake = jax.random.fold_in(key, 2 * state.step + 1)
        n = self.gan.batch  # what follows in the batch is for the second discriminator
        everything, index = batch["image"].astype(float) / 127.5 - 1, batch["index"][:n]
        x = everything[:n]
        w = self._loss_weights(reals.weight, index, state.step)
        group = reals.group[index]
        classes = None if reals.classes is None else reals.classes[index]
        fake_classes = self._fake_classes(k_fake, len(x))
        fakes, w_fake = self._fakes(state.g, k_fake, len(x), fake_classes)
        fakes = jax.lax.stop_gradient(fakes)
        k = len(state.q)
        seen = self._augmented(x, state, key, "reals of d")
        fakes = self._augmented(fakes, state, key, "fakes of d")

        def main(d: Any) -> tuple[jax.Array, Any]:
            on_real = self._logits(d, seen, classes, w)
            on_fake = self._logits(d, fakes, fake_classes)
            losses = self.loss.real(on_real)
            means, present = group_means(losses, w, group, k)
            running = state.group_losses
            if running is not None:
                running = running_losses(means, present, running, self.gan.dro_momentum)
            if self.gan.dro:
                real, q = group_dro(
                    means, present, state.q, eta=self.gan.dro_eta, adjustment=reals.adjustment,
                    absent=self.gan.dro_absent, scores=running,
                )  # fmt: skip
            else:
                real, q = weighted_mean(losses, w), state.q
            fake = self.loss.fake(on_fake).mean()
            return real + fake, (real, fake, q, running, means, present, on_real, on_fake)

        (_, aux), grads = jax.value_and_grad(main, has_aux=True)(state.d)
        real, fake, q, running, means, present, on_real, on_fake = aux
        state = self._update_d(state, grads).replace(group_losses=running)
        inside = (on_real < 1).astype(float)
        shares, _ = group_means(inside, jnp.ones_like(w), group, k)
        metrics = {
            "loss/d_real": real,
            "loss/d_fake": fake,
            "logit/real": on_real.mean(),
            "logit/fake": on_fake.mean(),
            "real_inside_margin": inside.mean(),
            "weight_inside_margin": jnp.sum(inside * w) / jnp.maximum(jnp.sum(w), 1e-12),
        }
        if k > 1:
            for g in range(k):
                count = present[g].astype(float)  # an absent group adds nothing to a mean
                metrics[f"group_loss/{g}"] = (means[g] * count, count)
                metrics[f"group_inside_margin/{g}"] = (shares[g] * count, count)
                if self.gan.dro:
                    metrics[f"q/{g}"] = q[g]
        if r1:

            def regulariser(d: Any) -> jax.Array:
                penalty = self._r1_penalties(d, x, classes, w, state, key)
                factor = w if self.gan.r1_weighted else jnp.ones_like(w)
                return weighted_mean(penalty, factor) * self.gan.r1_every

            penalty, grads = jax.value_and_grad(regulariser)(state.d)
            state = self._update_d(state, grads)
            metrics["loss/r1"] = penalty / self.gan.r1_every
        if state.second is not None and state.second.optimiser is not None:
            chosen = None if reals.classes is None else reals.classes[batch["index"][n:]]
            state, of_second = self._second_step(state, key, everything[n:], chosen, fakes,
                                                 fake_classes, r1)  # fmt: skip
            metrics |= of_second
        if state.ada is not None:
            controller, of_ada = ada.observe(state.ada, self.gan, on_real, w, state.step)
            state = state.replace(ada=controller)
            metrics |= of_ada
        w_avg = moved_mean(state.w_avg, w_fake, fake_classes, W_AVG_BETA)
        return state.replace(step=state.step + 1, q=q, w_avg=w_avg), metrics

    def _r1_penalties(
        self,
        d: Any,
        x: jax.Array,
        classes: jax.Array | None,
        w: jax.Array | None,
        state: GanState,
        key: jax.Array,
    ) -> jax.Array:
        """gamma / 2 |grad D(x)|^2 of each image [n], at the image before the augmentation."""

        def on_augmented(image: jax.Array) -> jax.Array:
            image = self._augmented(image, state, key, "r1")
            return self._logits(d, image, classes, w).sum()

        slopes = jax.grad(on_augmented)(x)
        return 0.5 * self.gan.r1_gamma * jnp.square(slopes).sum((1, 2, 3))

    def _second_step(
        self,
        state: GanState,
        key: jax.Array,
        x: jax.Array,
        classes: jax.Array | None,
        fakes: jax.Array,
        fake_classes: jax.Array | None,
        r1: bool,
    ) -> tuple[GanState, dict[str, jax.Array]]:
        """One update of the second discriminator: reals x [m, H, W, C], the first m of the fakes
        (already augmented), and every so often R1 as for the first.

        The published hinge losses are scaled by 1 - share and share. The first has no other term
        beside it (R1 is an update of its own), so that Adam takes its scale out; here LeCam has.
        """
        old, m = state.second, len(x)
        assert old is not None
        fakes = fakes[:m]
        fake_classes = None if fake_classes is None else fake_classes[:m]
        seen = self._augmented(x, state, key, "reals of second")
        weight = jnp.where(state.step >= second.LECAM_FROM, self.gan.lecam, 0.0)

        def main(d: Any) -> tuple[jax.Array, Any]:
            on_real = self._logits(d, seen, classes)
            on_fake = self._logits(d, fakes, fake_classes)
            hinge = self.loss.real(on_real).mean() + self.loss.fake(on_fake).mean()
            held = second.lecam(on_real, on_fake, old.means)
            return self.gan.second_share * hinge + weight * held, (hinge, held, on_real, on_fake)

        (_, aux), grads = jax.value_and_grad(main, has_aux=True)(old.d)
        hinge, held, on_real, on_fake = aux
        updates, optimiser = self.second_adam.update(grads, old.optimiser)
        d = optax.apply_updates(old.d, updates)
        metrics = {"loss/second": hinge, "loss/lecam": held}
        if r1:

            def regulariser(d: Any) -> jax.Array:
                penalties = self._r1_penalties(d, x, classes, None, state, key)
                return penalties.mean() * self.gan.r1_every

            updates, optimiser = self.second_adam.update(jax.grad(regulariser)(d), optimiser)
            d = optax.apply_updates(d, updates)
        means = second.moved(old.means, on_real, on_fake)
        return state.replace(second=second.Second(d, optimiser, means)), metrics

    def _loss_weights(self, weight: jax.Array, index: jax.Array, step: jax.Array) -> jax.Array:
        """What the weights [batch] of the reals are at this step: ramped, then normalised.

        While they rise, their mean over what is drawn is what it will be at the end: else the
        reals would count for less than the fakes meanwhile.
        """
        w = weight[index]
        if self.gan.alpha_ramp:
            full = self.gan.alpha_ramp * self.gan.kimg * 1000 / self.gan.batch
            share = jnp.minimum(step / full, 1.0)
            # Hybrid: reals are drawn by w ** s beside weights w ** (1 - s) in the loss.
            s = self.gan.resample_share if self.gan.reweight == "hybrid" else 0.0
            drawn_by = ramped(weight, jnp.asarray(s / (1 - s)))
            now = jnp.sum(drawn_by * ramped(weight, share))
            w = ramped(w, share) * (jnp.sum(drawn_by * weight) / now)
        return self_normalised(w) if self.gan.self_normalise else w

    def _update_d(self, state: GanState, grads: Any) -> GanState:
        updates, optimiser = self.d_adam.update(grads, state.d_optimiser)
        return state.replace(d=optax.apply_updates(state.d, updates), d_optimiser=optimiser)

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
