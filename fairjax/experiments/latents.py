"""Images of a generator by their number: its latents, its styles, and images of edited ones."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.experiments.saved_generator import Trained, labels_of
from fairjax.models.stylegan2 import as_bytes, num_ws, truncate
from fairjax.train.conditions import cumulative, draw_by_ends


def _keys(index: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of an image: of its latent (and class), and of its noise."""
    k_z, k_noise = jax.random.split(jax.random.fold_in(key, index))
    return k_z, k_noise


def latent_of(net: Any, index: jax.Array, key: jax.Array) -> jax.Array:
    """z [1, z_dim] of image `index` of a key."""
    return jax.random.normal(_keys(index, key)[0], (1, net.z_dim))


def style_of(
    net: Any, z: jax.Array, index: jax.Array, key: jax.Array, variables: Any, labels: Any, ends: Any
) -> tuple[Any, Any]:
    """(w [w_dim], class) of z [1, z_dim] with the class that image `index` of a key has."""
    chosen = draw_by_ends(ends, jax.random.fold_in(_keys(index, key)[0], 1), 1)
    c = {"c": labels[chosen]} if net.c_dim else {}
    w: Any = net.apply(variables, z, **c, method="mapping")
    return w[0], chosen[0]


@functools.cache
def programs(net: Any, noise: str) -> tuple[Any, Any]:
    """(indices, key, ..) -> styles w [n, w_dim] and classes [n]; and these styles -> images.

    All else is an argument of theirs: whoever draws again from networks of this shape compiles
    nothing.
    """

    @jax.jit
    def styles(
        indices: jax.Array, key: jax.Array, variables: Any, labels: jax.Array, ends: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def one(index: jax.Array) -> tuple[Any, Any]:
            z = latent_of(net, index, key)
            return style_of(net, z, index, key, variables, labels, ends)

        return jax.vmap(one)(indices)

    @jax.jit
    def images(
        indices: jax.Array, key: jax.Array, variables: Any, w: jax.Array, goal: jax.Array,
        psi: jax.Array, until: int,
    ) -> jax.Array:  # fmt: skip
        def one(index: jax.Array, w: jax.Array, goal: jax.Array, psi: jax.Array) -> jax.Array:
            _, k_noise = _keys(index, key)
            ws = jnp.broadcast_to(w, (1, num_ws(net.resolution), net.w_dim))
            x: Any = net.apply(variables, truncate(ws, goal, psi, until), k_noise, noise,
                               method="synthesis")  # fmt: skip
            return as_bytes(x[0])

        return jax.vmap(one)(indices, w, goal, psi)

    return styles, images


class Drawing:
    """Images of a generator by number and latent, without truncation, with noise of their own."""

    def __init__(self, saved: Trained, seed: int, batch: int, space: str):
        self._styles, self._images = programs(saved.net, "random")
        self._through_z = _through_z(saved.net) if space == "z" else None
        self._variables = {"params": saved.params}
        labels, prior = labels_of(saved, None, None)
        self._given = self._variables, np.asarray(labels, np.float32), cumulative(prior)
        self._key, self._batch = jax.random.key(seed), batch
        self._layers = num_ws(saved.net.resolution)

    def parts(self, numbers: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images, latents float64 [.., d]) of the images with these numbers, batch by batch."""
        numbers = np.asarray(numbers)
        for start in range(0, len(numbers), self._batch):
            part = numbers[start : start + self._batch]
            at = self._padded(part), self._key
            made = (
                self._through_z[0](*at) if self._through_z else self._styles(*at, *self._given)[0]
            )
            latents = np.asarray(made, np.float64)[: len(part)]
            yield self.images(part, latents), latents

    def images(self, numbers: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, C] of n <= batch images with latents [n, d]."""
        padded = np.zeros((self._batch, latents.shape[1]), np.float32)
        padded[: len(latents)] = latents
        at = self._padded(numbers), self._key
        w = self._through_z[1](padded, *at, *self._given) if self._through_z else padded
        made = self._images(*at, self._variables, w, np.zeros_like(w), np.ones(self._batch),
                            self._layers)  # fmt: skip
        return np.asarray(made)[: len(latents)]

    def _padded(self, numbers: np.ndarray) -> np.ndarray:
        return np.resize(numbers, self._batch)


@functools.cache
def _through_z(net: Any) -> tuple[Any, Any]:
    """(indices, key) -> z [n, z_dim]; and (z, indices, key, ..) -> styles w [n, w_dim]."""

    @jax.jit
    def latents(indices: jax.Array, key: jax.Array) -> jax.Array:
        return jax.vmap(lambda index: latent_of(net, index, key)[0])(indices)

    @jax.jit
    def styles(
        z: jax.Array, indices: jax.Array, key: jax.Array, variables: Any, labels: jax.Array,
        ends: jax.Array,
    ) -> jax.Array:  # fmt: skip
        one = lambda z, i: style_of(net, z[None], i, key, variables, labels, ends)[0]
        return jax.vmap(one)(z, indices)

    return latents, styles
