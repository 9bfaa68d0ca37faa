"""The pair of networks of a GAN run and what it makes: styles, fakes, logits, samples.

How it is trained is in `gan_generator.py` and `gan_discriminator.py`, the whole in `gan.py`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fairjax.models.initialize import FAST_COMPILE
from fairjax.models.stylegan2 import as_bytes, num_ws, truncate
from fairjax.objectives.losses import ADVERSARIAL
from fairjax.train import ada
from fairjax.train.conditions import Conditions, draw_classes
from fairjax.train.devices import replicated, spread
from fairjax.train.gan_state import GanState, networks

W_AVG_BETA = 0.995  # in the main phase of each network


class Pair:
    """Generator and discriminator of one shape; all methods are pure functions of parameters."""

    def __init__(
        self, gan: ConfigDict, resolution: int, channels: int, conditions: Conditions | None
    ):
        self.gan, self.resolution, self.channels = gan, resolution, channels
        self.loss = ADVERSARIAL[gan.loss]
        self.augment = ada.transform(gan)
        self.conditions = conditions
        c_dim = 0 if conditions is None else conditions.labels.shape[1]
        self.g, self.d = networks(gan, resolution, channels, c_dim)
        # Replicated: in a run of several processes each must be able to read all of it.
        self._sample = jax.jit(self._images, static_argnums=2, out_shardings=replicated())
        self._ends = jax.jit(self._step_ends, static_argnums=2, out_shardings=replicated())

    def fixed_noise(self, key: jax.Array) -> Any:
        """Noise images for sampling with `noise="const"`, one for each layer; training has none."""
        c = self._labels(None if self.conditions is None else jnp.zeros(1, jnp.int32))
        z = jnp.zeros((1, self.gan.z_dim))
        drawn = jax.jit(
            lambda key: self.g.init(key, z, noise="const", **c)["buffers"],
            compiler_options=FAST_COMPILE,
        )
        return drawn(key)

    def _classes_shape(self) -> tuple[int, ...]:
        known = self.conditions
        return () if known is None or known.numbers is not None else (len(known.prior),)

    def _fake_classes(self, key: jax.Array, n: int) -> jax.Array | None:
        """Classes [n] of fakes in training, from the stated prior; None without labels."""
        known = self.conditions
        if known is None:
            return None
        return self._drawn(known.prior if known.in_training is None else known.in_training, key, n)

    def _drawn(self, prior: np.ndarray, key: jax.Array, n: int) -> jax.Array:
        return spread(draw_classes(prior, jax.random.fold_in(key, 0xC1A55), n))

    def _labels(self, classes: jax.Array | None) -> dict[str, Any]:
        """The labels of classes [n] as the argument of a network; none without classes."""
        if classes is None or self.conditions is None:
            return {}
        return {"c": jnp.asarray(self.conditions.labels)[classes]}

    def _styles(
        self, params: Any, key: jax.Array, n: int, classes: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Latents -> (ws [n, num_ws, w_dim] with style mixing, w [n, w_dim] of the first latents).

        Both latents of a mix have the label of their image.
        """
        k_z, k_mix, k_cut, k_use = jax.random.split(key, 4)
        layers = num_ws(self.resolution)
        w = self._mapped(params, k_z, n, classes)
        ws = jnp.broadcast_to(w[:, None], (n, layers, self.gan.w_dim))
        if self.gan.style_mixing > 0:
            w2 = self._mapped(params, k_mix, n, classes)
            cut = jax.random.randint(k_cut, (), 1, layers)
            mixes = jax.random.bernoulli(k_use, self.gan.style_mixing)
            second = (jnp.arange(layers) >= jnp.where(mixes, cut, layers))[None, :, None]
            ws = jnp.where(second, w2[:, None], ws)
        return ws, jax.lax.stop_gradient(w)

    def _mapped(self, params: Any, key: jax.Array, n: int, classes: jax.Array | None) -> jax.Array:
        z = spread(jax.random.normal(key, (n, self.gan.z_dim)))
        w: Any = self.g.apply({"params": params}, z, **self._labels(classes), method="mapping")
        return w

    def _synthesised(self, params: Any, ws: jax.Array, key: jax.Array) -> jax.Array:
        images: Any = self.g.apply({"params": params}, ws, key, method="synthesis")
        return images

    def _fakes(
        self, params: Any, key: jax.Array, n: int, classes: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(images [n, H, W, C], w [n, w_dim])."""
        k_style, k_noise = jax.random.split(key)
        ws, w = self._styles(params, k_style, n, classes)
        return self._synthesised(params, ws, k_noise), w

    def _logits(
        self,
        params: Any,
        images: jax.Array,
        classes: jax.Array | None = None,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [n]; `weights` are those of the minibatch statistics (`gan.mbstd_weighted`)."""
        more = self._labels(classes)
        if weights is not None and self.gan.mbstd_weighted:
            more["weights"] = weights
        logits: Any = self.d.apply({"params": params}, images, **more)
        return logits

    def _augmented(self, images: jax.Array, state: GanState, key: jax.Array, use: str) -> jax.Array:
        """What the discriminator sees of the images; without augmentation nothing is added."""
        if self.augment is None:
            return images
        p = self.gan.augment_p if state.ada is None else state.ada.p
        return self.augment(images, p, ada.key_of(key, state.step, use))

    def _images(
        self, params: Any, key: jax.Array, n: int, centre: jax.Array, psi: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        k_z, k_noise = jax.random.split(key)
        known = self.conditions
        classes = None if known is None else self._drawn(known.prior, key, n)
        w = self._mapped(params, k_z, n, classes)
        goal = centre if centre.ndim == 1 else centre[classes]
        images = self._synthesised(params, truncate(self._every_layer(w), goal, psi), k_noise)
        return as_bytes(images), w

    def _every_layer(self, w: jax.Array) -> jax.Array:
        return jnp.broadcast_to(w[:, None], (len(w), num_ws(self.resolution), self.gan.w_dim))

    def sample(
        self,
        params: Any,
        key: jax.Array,
        n: int,
        batch: int,
        centre: np.ndarray | None = None,
        psi: float = 1.0,
    ) -> np.ndarray:
        """n images uint8 [n, H, W, C]; equal keys give equal latents and noise.

        Args:
          centre: where truncation by `psi` pulls to: the mean w [w_dim], or that of each class
            [classes, w_dim]; needed for a psi other than 1.

        With labels the classes are drawn from the prior.
        """
        return np.concatenate([x for x, _ in self.drawn(params, key, n, batch, centre, psi)])

    def drawn(
        self,
        params: Any,
        key: jax.Array,
        n: int,
        batch: int,
        centre: np.ndarray | None = None,
        psi: float = 1.0,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `sample` draws, batch by batch, and the w [.., w_dim] behind each image, before
        truncation."""
        assert centre is not None or psi == 1
        goal = np.zeros((*self._classes_shape(), self.gan.w_dim)) if centre is None else centre
        goal = np.asarray(goal, np.float32)
        for start in range(0, n, batch):
            own = jax.random.fold_in(key, start // batch)
            images, w = jax.tree.map(np.asarray, self._sample(params, own, batch, goal, psi))
            yield images[: n - start], w[: n - start]

    def _step_ends(
        self, params: Any, key: jax.Array, n: int, epsilon: float
    ) -> tuple[jax.Array, jax.Array]:
        k_z, k_other, k_noise = jax.random.split(key, 3)
        known = self.conditions
        classes = None if known is None else self._drawn(known.prior, key, n)
        w, other = (self._mapped(params, k, n, classes) for k in (k_z, k_other))
        at, beside = (
            self._synthesised(params, self._every_layer(x), k_noise) * 127.5 + 127.5
            for x in (w, w + epsilon * (other - w))
        )
        return at, beside

    def step_ends(
        self, params: Any, key: jax.Array, batch: int, epsilon: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images at w and a share `epsilon` of the way to another w, of equal noise and label.

        Returns:
          two float32 [batch, H, W, C] on the scale of bytes, neither rounded nor clipped.
        """
        at, beside = self._ends(params, key, batch, epsilon)
        return np.asarray(at), np.asarray(beside)
