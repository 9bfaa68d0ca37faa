"""The classifier task: ResNet-18, cross-entropy, Adam; the best held-out log-loss is kept.

Used for the density ratio (classes biased, reference) and for the judge (classes of attributes).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from fairjax.augmentations import multipliers
from fairjax.models.augment import augment
from fairjax.models.resnet import ResNet
from fairjax.objectives.losses import cross_entropy
from fairjax.train.devices import put_replicated
from fairjax.train.loop import Task

# What a judge's training images go through (`judge.augment_p`): the samples of a generator are
# noisier and blurrier than real images, and neither moves an attribute.
AUGMENTED = multipliers("noise,filter")


class ClassifierState(struct.PyTreeNode):
    """Everything that survives a restart; `best` is what the classifier is used with."""

    step: jax.Array
    params: Any
    batch_stats: Any
    optimiser: Any
    best: Any  # {"params", "batch_stats"} at the smallest held-out log-loss
    best_loss: jax.Array  # the largest number before the first evaluation: a state is finite


Held = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]


class Classifier:
    """Compiled programs of one network shape; `task` may be called many times (folds, sets).

    Args:
      config: the `ratio` or `judge` tree.
      resolution, channels: of the images.
      classes: number of outputs.
      steps: length of one training run, for the cosine schedule.
    """

    def __init__(
        self, config: ConfigDict, *, resolution: int, channels: int, classes: int, steps: int
    ):
        self._config, self._classes = config, classes
        self._shape = (1, resolution, resolution, channels)
        self.model = ResNet(width=config.width, classes=classes, stem=config.stem)
        self._optimiser = optax.adamw(
            optax.cosine_decay_schedule(config.learning_rate, steps, alpha=0.01),
            weight_decay=config.weight_decay,
        )
        self._augment_p = config.get("augment_p", 0.0)  # of a judge
        self._program = jax.jit(self._step, donate_argnums=0)
        self._predict = jax.jit(self._logits)
        self.width = 8 * config.width  # of `features`
        self.features = jax.jit(self._features)

    def init(self, key: jax.Array) -> ClassifierState:
        """A fresh state; the key decides the initial weights."""
        variables = self.model.init(key, jnp.zeros(self._shape), train=False)
        params, stats = variables["params"], variables["batch_stats"]
        return ClassifierState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=stats,
            optimiser=self._optimiser.init(params),
            best={"params": params, "batch_stats": stats},
            best_loss=jnp.asarray(jnp.finfo(jnp.result_type(float)).max, float),
        )

    def _step(
        self,
        state: ClassifierState,
        batch: dict[str, jax.Array],
        labels: jax.Array,
        key: jax.Array,
    ) -> tuple[ClassifierState, dict[str, jax.Array]]:
        truth = labels[batch["index"]]
        x = batch["image"].astype(float) / 127.5 - 1
        if self._config.flip:
            flips = jax.random.bernoulli(jax.random.fold_in(key, state.step), shape=(len(x),))
            x = jnp.where(flips[:, None, None, None], x[:, :, ::-1], x)
        if self._augment_p:
            own = jax.random.fold_in(jax.random.fold_in(key, state.step), 1)
            x = augment(x, self._augment_p, own, AUGMENTED)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
            logits, updates = self.model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                train=True,
                mutable=["batch_stats"],
            )
            return cross_entropy(logits, truth).mean(), (updates["batch_stats"], logits)

        (loss, (stats, logits)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, optimiser = self._optimiser.update(grads, state.optimiser, state.params)
        accuracy = jnp.mean(logits.argmax(-1) == truth)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=stats,
            optimiser=optimiser,
        )
        return state, {"loss/train": loss, "accuracy/train": accuracy}

    def _logits(self, variables: Any, images: jax.Array) -> jax.Array:
        x = images.astype(float) / 127.5 - 1
        logits: Any = self.model.apply(variables, x, train=False)
        return logits

    def _features(self, variables: Any, images: jax.Array) -> jax.Array:
        """Images uint8 [n, H, W, C] -> what the last layer sees, float32 [n, width]."""
        x = images.astype(float) / 127.5 - 1
        found: Any = self.model.apply(variables, x, train=False, features=True)
        return found

    def predict(self, variables: Any, images: np.ndarray, batch: int = 128) -> np.ndarray:
        """Images uint8 [n, H, W, C] -> logits float32 [n, classes], with running statistics."""
        parts = []
        for start in range(0, len(images), batch):
            part = np.asarray(images[start : start + batch])
            padded = np.zeros((batch, *part.shape[1:]), np.uint8)  # one shape, one program
            padded[: len(part)] = part
            parts.append(np.asarray(self._predict(variables, padded))[: len(part)])
        return np.concatenate(parts) if parts else np.zeros((0, self._classes), np.float32)

    def task(self, name: str, labels: np.ndarray, held: Held) -> Task:
        """One training run.

        Args:
          name: shown in progress lines.
          labels: int [n], by the `index` of a batch.
          held: returns (images [m, H, W, C], labels [m], mass [m], sum 1) for choosing the
            parameters: the smallest mass-weighted log-loss wins.
        """
        on_device = put_replicated(np.asarray(labels, np.int32))

        def step(
            state: ClassifierState, batch: dict[str, jax.Array], key: jax.Array, i: int
        ) -> tuple[ClassifierState, dict[str, jax.Array]]:
            del i
            return self._program(state, batch, on_device, key)

        def evaluate(state: ClassifierState, i: int) -> tuple[ClassifierState, dict[str, float]]:
            del i
            images, truth, mass = held()
            now = {"params": state.params, "batch_stats": state.batch_stats}
            logits = self.predict(now, images)
            losses = np.asarray(cross_entropy(jnp.asarray(logits), jnp.asarray(truth)))
            loss = float(np.sum(losses * mass))
            accuracy = float(np.sum((logits.argmax(-1) == truth) * mass))
            if loss < float(state.best_loss):
                # A copy: the parameters themselves are donated to the next step.
                best = jax.tree.map(jnp.copy, now)
                state = state.replace(
                    best=best, best_loss=put_replicated(np.asarray(loss, state.best_loss.dtype))
                )
            return state, {"loss/held_out": loss, "accuracy/held_out": accuracy}

        return Task(name, self.init, step, evaluate)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    e = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
