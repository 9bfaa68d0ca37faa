"""The classifier task of `robust_classification`: one step in which every slot is a choice.

    loss = reduce(weights * l(outputs, targets), groups, state) + sum_k factor_k * penalty_k

(Sampler and two-stage methods are outside: `experiments/fit_stage.py`.) What a slot leaves at its
default is not compiled. All statistics are over the global batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from fairjax.errors import InputError
from fairjax.models.encoders import encoder
from fairjax.models.occam import EXITS, decided
from fairjax.models.pretrained import normalised
from fairjax.objectives import losses, occam, reduce
from fairjax.train import failure, slots, transforms
from fairjax.train.devices import put_replicated
from fairjax.train.loop import Task
from fairjax.train.selection import Held, merit, validation_figures

MOMENTUM = 0.9  # of the running losses of the groups (gamma = 0.1 in the published code)


class FitState(struct.PyTreeNode):
    """Everything that survives a restart; its size is the same at every step."""

    step: jax.Array
    params: Any  # {"encoder", "head"} and, with an adversary, "adversary"
    stats: Any  # of batch normalisation; {} without
    optimiser: Any
    q: jax.Array  # [k], of group DRO
    running: jax.Array  # [k], averages of the groups' losses; below 0 = never seen
    multiplier: jax.Array  # of the constraint
    biased: failure.Biased | None  # of LfF; None without
    memory: Any  # of an OccamNet, see `objectives.occam.memory`; {} without
    best: Any  # {"encoder", "head", "stats"} that were chosen on the validation images
    best_value: jax.Array
    stale: jax.Array  # evaluations since then


class Examples(NamedTuple):
    """What a step looks up by a batch's `index`, and constants of the groups; on the device."""

    target: jax.Array  # int32 [n]
    protected: jax.Array  # int32 [n], -1 = unknown
    group: jax.Array  # int32 [n]
    weight: jax.Array  # float32 [n]
    shares: jax.Array  # float32 [k], of the groups among the training images
    adjustment: jax.Array  # float32 [k], C / sqrt(n_g)


class GroupClassifier:
    """Compiled programs of one arm.

    Args:
      fit: the `fit` tree of the arm.
      resolution, channels: of the images.
      classes, values: of the target and of the protected attribute.
      steps: length of the training.
    """

    def __init__(
        self,
        fit: ConfigDict,
        *,
        resolution: int,
        channels: int,
        classes: int,
        values: int,
        steps: int,
    ):
        self._fit, self._classes, self._values, self._steps = fit, classes, values, steps
        self._shape = (1, resolution, resolution, channels)
        self._encoder = encoder(fit.model, fit.width, fit.stem, classes)
        self._exits = fit.model == "occam_resnet18"
        self._loss = losses.of_examples(fit.loss, fit.focal_gamma)
        inner = {
            "sgd": lambda: optax.sgd(fit.learning_rate, momentum=fit.momentum),
            "adam": lambda: optax.adam(fit.learning_rate),
        }[fit.optimiser]()
        self._optimiser = optax.multi_transform(
            {
                "net": optax.chain(optax.add_decayed_weights(fit.weight_decay), inner),
                "adversary": optax.adam(fit.adversary_learning_rate),
            },
            lambda params: {name: "adversary" if name == "adversary" else "net" for name in params},
        )
        self.program = jax.jit(self._step, donate_argnums=0)
        self._forward = jax.jit(self.outputs)

    def _network(self, of_encoder: jax.Array, of_head: jax.Array) -> tuple[Any, Any, Any]:
        """A fresh network: ({"encoder", "head"}, statistics, features of an empty image); the heads
        of an OccamNet are in its encoder."""
        image = jnp.zeros(self._shape)
        variables = self._encoder.init(of_encoder, image, train=False, features=True)
        features = self._encoder.apply(variables, image, train=False, features=True)
        net: dict[str, Any] = {"encoder": variables.get("params", {}), "head": {}}
        if not self._exits:
            shape = (features.shape[-1], self._classes)
            kernel = jax.nn.initializers.lecun_normal()(of_head, shape)
            net["head"] = {"kernel": kernel, "bias": jnp.zeros(self._classes)}
        return net, variables.get("batch_stats", {}), features

    def init(self, key: jax.Array, q: jax.Array, examples: int = 1) -> FitState:
        """A fresh state; q is where group DRO starts, [k]. LfF and OccamNets remember something of
        each of the `examples` of the training list."""
        of_encoder, of_head, of_adversary = jax.random.split(key, 3)
        net, stats, features = self._network(of_encoder, of_head)
        params = dict(net)
        biased = None
        if self._fit.weights == "lff":
            other = self._network(*jax.random.split(jax.random.fold_in(key, 1)))
            biased = failure.start(*other[:2], self._optimiser, examples)
        if self._fit.adversary:
            nothing = jnp.zeros((1, self._classes)), jnp.zeros(1, jnp.int32)
            seen = slots.shown(self._fit, features, *nothing)
            guesser = slots.adversary(self._fit, self._values)
            params["adversary"] = guesser.init(of_adversary, seen)["params"]
        return FitState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            optimiser=self._optimiser.init(params),
            q=jnp.asarray(q, jnp.float32),
            running=jnp.full(len(q), -1.0, jnp.float32),
            multiplier=jnp.zeros(()),
            biased=biased,
            memory=occam.memory(examples, EXITS, self._classes) if self._exits else {},
            best=jax.tree.map(jnp.copy, net | {"stats": stats}),
            best_value=jnp.asarray(jnp.finfo(jnp.float32).min),
            stale=jnp.zeros((), jnp.int32),
        )

    def _apply(
        self, params: Any, stats: Any, x: jax.Array, train: bool, drops: jax.Array | None = None
    ) -> tuple[Any, Any, Any]:
        """Images in [-1, 1] -> (features [n, d], logits [n, c], new statistics); `drops` is the key
        of the features that the head does not see."""
        if self._fit.pretrained:
            x = normalised(x)
        variables = {"params": params["encoder"], "batch_stats": stats}
        if train:
            features, new = self._encoder.apply(
                variables, x, train=True, features=True, mutable=["batch_stats"]
            )
            stats = new.get("batch_stats", {})
        else:
            features = self._encoder.apply(variables, x, train=False, features=True)
        if self._exits:  # the features are all exits
            return features, decided(features), stats
        head, seen = params["head"], features
        if self._fit.dropout and drops is not None:
            kept = 1 - self._fit.dropout
            seen = jnp.where(jax.random.bernoulli(drops, kept, seen.shape), seen / kept, 0)
        return features, seen @ head["kernel"] + head["bias"], stats

    def _step(
        self, state: FitState, batch: dict[str, jax.Array], known: Examples, key: jax.Array
    ) -> tuple[FitState, dict[str, Any]]:
        fit = self._fit
        of_step = jax.random.fold_in(key, state.step)
        of_mining, of_transform = jax.random.split(of_step)
        of_dropout = jax.random.fold_in(of_step, 2)
        x, index = batch["image"].astype(jnp.float32) / 127.5 - 1, batch["index"]

        def vector(params: Any, x: jax.Array, target: jax.Array) -> jax.Array:
            return self._loss(self._apply(params, state.stats, x, train=True)[1], target)

        if fit.mine:
            hard = vector(state.params, x, known.target[index])
            chosen = transforms.mined(of_mining, hard, fit.mine, fit.mine_by)
            x, index = x[chosen], index[chosen]
        target, protected = known.target[index], known.protected[index]
        group, weight = known.group[index], known.weight[index]
        view = transforms.view(
            fit, of_transform, x, target, protected,
            lambda x: vector(state.params, x, target).sum(),
        )  # fmt: skip

        biased, weights = state.biased, weight
        if biased is not None:
            apply = partial(self._apply, drops=jax.random.fold_in(of_step, 3))
            biased, failed = failure.learnt(biased, apply, self._optimiser, view, fit.lff_q)

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            features, logits, stats = self._apply(
                params, state.stats, view.images, train=True, drops=of_dropout
            )
            if self._exits:
                each, aside, memory, own_logs = slots.exits(
                    fit, features, target, index, state.memory, state.step, self._loss
                )
            else:
                each = view.reduce(lambda target, rows: self._loss(logits[rows], target))
                aside, memory, own_logs = jnp.zeros(()), state.memory, {}
            weight, remembered = weights, biased
            if biased is not None:
                plain = view.reduce(lambda y, rows: losses.cross_entropy(logits[rows], y))
                remembered, difficulty = failure.weighed(
                    biased, (failed, plain), known.target, self._classes, index, fit.lff_momentum
                )
                weight = weight * difficulty
            if fit.weights_normalise == "batch":
                weight = reduce.self_normalised(weight)
            # Penalties see the clean half of attacked images; those that read labels are not
            # allowed with mixed ones.
            features, logits = jax.tree.map(lambda x: x[: len(target)], (features, logits))
            means, present = reduce.group_means(each, weight, group, len(state.q))
            running = reduce.running_losses(means, present, state.running, MOMENTUM)
            loss, q = slots.objective(
                fit, each, weight, means, present, running, state.q, known.shares, known.adjustment
            )
            penalty, multiplier, logs = slots.penalties(
                fit, params, features, logits, target, protected, group, values=self._values,
                groups=len(state.q), multiplier=state.multiplier, done=state.step / self._steps,
            )  # fmt: skip
            logs |= own_logs | {
                "loss/train": each.mean(),
                "loss/objective": loss,
                "accuracy/train": jnp.mean(logits.argmax(-1) == target),
            }
            for g in range(len(means)):
                there = present[g].astype(jnp.float32)
                logs |= {f"group_loss/{g}": (there * means[g], there), f"q/{g}": q[g]}
            if biased is not None:
                logs |= {"lff/weight": weight.mean(), "lff/biased_loss": failed.mean()}
            total = loss + penalty + aside
            if fit.irm:
                total /= jnp.maximum(slots.irm_factor(fit, state.step / self._steps), 1)
            return total, (stats, q, running, multiplier, remembered, memory, logs)

        found, slope = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        stats, q, running, multiplier, biased, memory, logs = found[1]
        updates, optimiser = self._optimiser.update(slope, state.optimiser, state.params)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            optimiser=optimiser,
            q=q,
            running=running,
            multiplier=multiplier,
            biased=biased,
            memory=memory,
        )
        return state, logs

    def outputs(self, variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [n, H, W, C], 0 to 255 -> (features [n, d], logits [n, classes]); not compiled."""
        x = images.astype(jnp.float32) / 127.5 - 1
        features, logits, _ = self._apply(variables, variables.get("stats", {}), x, train=False)
        return features.gates if self._exits else features, logits

    def predict(
        self,
        variables: Any,
        images: np.ndarray,
        positions: np.ndarray | None = None,
        batch: int = 256,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images -> (features [n, d], logits [n, classes]), float32; what an OccamNet gives as
        features are the logits of its gates, [n, 4].

        Args:
          variables: {"encoder", "head", "stats"}, as in `FitState.best`.
          images: uint8 [m, H, W, C], usually a memory map: a batch at a time is read.
          positions: int [n], which of them; None = all.
          batch: images that are computed at once.
        """
        # Empty trees leave no entry in a file.
        variables = {"encoder": {}, "head": {}, "stats": {}} | variables
        parts = []
        positions = np.arange(len(images)) if positions is None else positions
        for start in range(0, len(positions), batch):
            part = np.asarray(images[positions[start : start + batch]])
            padded = np.zeros((batch, *part.shape[1:]), np.uint8)  # one shape, one program
            padded[: len(part)] = part
            found = jax.device_get(self._forward(variables, padded))
            parts.append([x[: len(part)] for x in found])
        features, logits = (np.concatenate(p) for p in zip(*parts, strict=True))
        return features, logits

    def task(
        self,
        name: str,
        known: Examples,
        held: Held,
        start_from: Callable[[FitState], FitState] | None = None,
    ) -> Task:
        """One training run; see `Task`.

        Args:
          name: shown in progress lines.
          known: labels and weights, by the `index` of a batch.
          held: chooses the parameters by `fit.select`.
          start_from: puts the numbers of a file into a fresh state.

        Raises:
          InputError: that figure does not exist for these images.
        """
        fit = self._fit
        if fit.select == "auroc" and len(np.unique(held.target)) < 2:
            raise InputError(
                "the validation images are all of one class, which has no ROC curve",
                f"fit.select (={fit.select!r}, {name})",
                "Give images of several classes, or select by another figure",
            )
        start = known.shares if fit.dro_start == "shares" else jnp.full_like(
            known.shares, 1 / len(known.shares))  # fmt: skip

        def step(
            state: FitState, batch: dict[str, jax.Array], key: jax.Array, i: int
        ) -> tuple[FitState, dict[str, Any]]:
            del i
            return self.program(state, batch, known, key)

        def evaluate(state: FitState, i: int) -> tuple[FitState, dict[str, float]]:
            del i
            now = {name: state.params[name] for name in ("encoder", "head")}
            now["stats"] = state.stats
            logits = self.predict(now, held.images, held.positions)[1]
            figures = validation_figures(logits, held)
            # As it is kept, or else what is equal would seem better than it.
            value = np.float32(merit(fit.select, figures))
            if fit.select == "last" or value > float(state.best_value):
                state = state.replace(  # a copy: the parameters themselves are donated
                    best=jax.tree.map(jnp.copy, now),
                    best_value=put_replicated(np.asarray(value)),
                    stale=put_replicated(np.asarray(0, np.int32)),
                )
            else:
                state = state.replace(stale=state.stale + 1)
            return state, figures

        finished: Callable[[FitState], bool] | None = None
        if fit.patience:
            finished = lambda state: int(state.stale) >= fit.patience
        return Task(
            name, lambda key: self.init(key, start, len(known.target)), step, evaluate,
            parameters=lambda state: state.params, start=start_from, finished=finished,
        )  # fmt: skip


def started(state: FitState, trunk: dict[str, Any]) -> FitState:
    """A fresh state with the encoder of {"params", "batch_stats"}, which has the same tree."""
    put = lambda tree: jax.tree.map(lambda x: put_replicated(np.asarray(x, np.float32)), tree)
    best = {"encoder": put(trunk["params"]), "stats": put(trunk["batch_stats"])}
    biased = state.biased
    if biased is not None:
        biased = biased.replace(
            params=biased.params | {"encoder": put(trunk["params"])},
            stats=put(trunk["batch_stats"]),
        )
    return state.replace(  # a copy each: the parameters are donated
        params=state.params | {"encoder": put(trunk["params"])},
        stats=put(trunk["batch_stats"]),
        best=state.best | best,
        biased=biased,
    )
