"""A trained classifier on images that were made to mislead it, or changed in harmless ways."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairjax.objectives.losses import of_examples
from fairjax.train.group_classifier import GroupClassifier
from fairjax.train.transforms import attacked

STEPS = {"fgsm": 1, "pgd": 10}


Attack = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def attack_on(net: GroupClassifier, variables: Any, kind: str, batch: int = 256) -> Attack:
    """(images uint8 [n, H, W, C], target int [n], eps of 255) -> logits float32 [n, classes].

    The logits are those on images that raise the cross-entropy of the target. The attack knows the
    network; it starts at the image and changes each pixel by at most eps (`transforms.attacked`);
    attacked images are not rounded.

    Args:
      variables: {"encoder", "head", "stats"}. kind: one of `STEPS`.
    """
    loss = of_examples("cross_entropy", 0.0)
    variables = {"encoder": {}, "head": {}, "stats": {}} | variables

    @jax.jit
    def misled(variables: Any, images: jax.Array, target: jax.Array, eps: jax.Array) -> jax.Array:
        outputs = lambda x: net.outputs(variables, (x + 1) * 127.5)[1]
        slope = jax.grad(lambda x: loss(outputs(x), target).sum())
        x = images.astype(jnp.float32) / 127.5 - 1
        return outputs(attacked(x, slope, eps / 127.5, STEPS[kind]))

    def attack(images: np.ndarray, target: np.ndarray, eps: float) -> np.ndarray:
        parts = []
        for start in range(0, len(images), batch):
            part, of = images[start : start + batch], target[start : start + batch]
            padded = np.zeros((batch, *part.shape[1:]), np.uint8)  # one shape, one program
            known = np.zeros(batch, np.int32)
            padded[: len(part)], known[: len(part)] = part, of
            found = misled(variables, padded, known, np.float32(eps))
            parts.append(np.asarray(found)[: len(part)])
        return np.concatenate(parts)

    return attack


def noisy(images: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """uint8 images with normal noise of this standard deviation (of 255) on each pixel."""
    if not deviation:
        return images
    drawn = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + drawn), 0, 255).astype(np.uint8)


def _shifted(images: np.ndarray) -> np.ndarray:
    by = max(1, images.shape[2] // 32)
    return np.concatenate([np.repeat(images[:, :, :1], by, 2), images[:, :, :-by]], 2)


def _scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: np.clip(np.rint(images * factor), 0, 255).astype(np.uint8)


# Changes of uint8 images [n, H, W, C] that should not matter.
HARMLESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shift": _shifted,  # to the right by a 32nd of the width, at least a pixel
    "brighter": _scaled(1.1),
    "darker": _scaled(0.9),
    "mirror": lambda images: images[:, :, ::-1],
}
