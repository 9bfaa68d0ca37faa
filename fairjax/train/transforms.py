"""What happens to a batch of a classifier before the gradient: mining, mixing, attacks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

Loss = Callable[[jax.Array, slice], jax.Array]  # (targets [b], rows of the view) -> losses [b]


class View(NamedTuple):
    """Images [m, h, w, c] for the network and how its per-example losses [b] come about."""

    images: jax.Array
    reduce: Callable[[Loss], jax.Array]


def mined(key: jax.Array, losses: jax.Array, k: int, by: str) -> jax.Array:
    """Which k examples of a batch are trained on: int [k].

    "highest": the k largest losses (Shrivastava et al., 2016); "proportional": drawn without
    replacement in proportion to the loss, by the Gumbel-max trick.
    """
    if by == "proportional":
        losses = jnp.log(losses + 1e-12) + jax.random.gumbel(key, losses.shape)
    return jax.lax.top_k(losses, k)[1]


def view(
    fit: ConfigDict,
    key: jax.Array,
    x: jax.Array,
    target: jax.Array,
    protected: jax.Array,
    loss: Callable[[jax.Array], jax.Array],
) -> View:
    """The view of `fit.transform`.

    Args:
      x: images in [-1, 1], [b, h, w, c].
      target, protected: int [b]; the latter -1 where unknown.
      loss: images [b, h, w, c] -> summed loss at the present parameters, for attacks.
    """
    b = len(x)
    whole = slice(0, b)
    if fit.transform in ("mixup", "lisa"):
        of_pair, of_share, of_kind = jax.random.split(key, 3)
        if fit.transform == "mixup":  # Zhang et al., 2018
            other = jax.random.permutation(of_pair, b)
        else:
            within = jax.random.bernoulli(of_kind, fit.lisa_within_class)
            other = partners(of_pair, target, protected, within)
        share = jax.random.beta(of_share, fit.mix_alpha, fit.mix_alpha, (b,))
        wide = share[:, None, None, None]
        return View(
            wide * x + (1 - wide) * x[other],
            lambda of: share * of(target, whole) + (1 - share) * of(target[other], whole),
        )
    if fit.transform in ("fgsm", "pgd"):
        steps = 1 if fit.transform == "fgsm" else fit.attack_steps
        worse = attacked(x, jax.grad(loss), fit.attack_eps / 127.5, steps)
        return View(
            jnp.concatenate([x, worse]),
            lambda of: (of(target, whole) + of(target, slice(b, 2 * b))) / 2,
        )
    return View(x, lambda of: of(target, whole))


def partners(
    key: jax.Array, target: jax.Array, protected: jax.Array, within_class: jax.Array
) -> jax.Array:
    """LISA's partner of each example, int [b] (Yao et al., 2022): one of the same class with
    another protected attribute, or one of the same attribute with another class; the example
    itself where the batch has none."""
    same_y = target[:, None] == target[None]
    same_a = protected[:, None] == protected[None]
    known = (protected[:, None] >= 0) & (protected[None] >= 0)
    fits = known & jnp.where(within_class, same_y & ~same_a, same_a & ~same_y)
    luck = jnp.where(fits, jax.random.uniform(key, fits.shape), -1)
    return jnp.where(fits.any(1), luck.argmax(1), jnp.arange(len(target)))


def attacked(
    x: jax.Array, slope: Callable[[jax.Array], jax.Array], eps: jax.Array | float, steps: int
) -> jax.Array:
    """Images that raise the loss, within eps of x in every pixel and in [-1, 1].

    One step is the fast gradient sign method (Goodfellow et al., 2015); more are projected gradient
    ascent with steps of 2.5 eps / steps (Madry et al., 2018).
    """
    size = eps if steps == 1 else 2.5 * eps / steps
    worse = x
    for _ in range(steps):
        moved = worse + size * jnp.sign(slope(worse))
        worse = jnp.clip(jnp.clip(moved, x - eps, x + eps), -1, 1)
    return jax.lax.stop_gradient(worse)
