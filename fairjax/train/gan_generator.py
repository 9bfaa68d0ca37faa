"""The generator's step: its loss, the fairness penalty, path length, then the moving average."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairjax.train.conditions import moved_mean
from fairjax.train.gan_pair import W_AVG_BETA, Pair
from fairjax.train.gan_state import GanState
from fairjax.train.penalty import Fakes, FrozenJudge, penalty_moved, penalty_term

PATH_LENGTH_DECAY = 0.01


class GeneratorStep(Pair):
    """What `Gan` does with the generator; its optimiser is made there."""

    g_adam: optax.GradientTransformation

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
        if self.gan.ema_rampup and not self.gan.init_from:  # an average that is there is kept
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
