"""The discriminator's step: the weighted loss or group DRO over reals, R1, a second one, ADA."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fairjax.objectives.reduce import (
    group_dro,
    group_means,
    ramped,
    running_losses,
    self_normalised,
    weighted_mean,
)
from fairjax.train import ada, margin, second
from fairjax.train.conditions import moved_mean
from fairjax.train.gan_pair import W_AVG_BETA, Pair
from fairjax.train.gan_state import GanState, Reals


class DiscriminatorStep(Pair):
    """What `Gan` does with the discriminators; their optimisers are made there."""

    d_adam: optax.GradientTransformation
    second_adam: optax.GradientTransformation

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
        if state.margin is not None:
            follower, of_r1 = margin.observe(state.margin, self.gan, inside, state.step)
            state = state.replace(margin=follower)
            metrics |= of_r1
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
        return 0.5 * margin.gamma(state.margin, self.gan) * jnp.square(slopes).sum((1, 2, 3))

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

        The published hinge losses are scaled by 1 - share and share. All that the first minimises
        has one scale, which Adam takes out; here LeCam is beside it, so hinge and R1 are scaled.
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
                return self.gan.second_share * penalties.mean() * self.gan.r1_every

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
