"""Inception-v3 as the Frechet inception distance needs it: weights of 2015-12-05, given by you.

Architecture: Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", as
in the TensorFlow graph with which Heusel et al. 2017 defined the FID: averages leave the padding
out, the last block has a maximum where all others average, 1008 classes, and images are enlarged by
the bilinear interpolation of TensorFlow 1. Weights: the file of pytorch-fid (and torch-fidelity,
where it has another name), read without executing anything; batch normalisation is folded into the
convolutions. uint8 images flow in, the means of the last maps flow out.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from fairjax.models.strided import DIMENSIONS
from fairjax.models.torch_file import read_torch_file, refuse_others

FEATURES, CLASSES = 2048, 1008
SIDE = 299  # pixels at which the network sees an image
# pt_inception-2015-12-05-6726825d.pth and weights-inception-2015-12-05-6726825d.pth
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BATCH_NORM_EPSILON = 1e-3
MEND = "Give pt_inception-2015-12-05-6726825d.pth of pytorch-fid"
Params = dict[str, Any]


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
      params: of `features`. classes: float32 [2048, 1008], features to the logits of the Inception
        score, which has no bias (as in the original graph).
      sha256: of the file.
    """

    params: Params
    classes: np.ndarray
    sha256: str


def load(path: Path) -> Weights:
    """Raises InputError: no readable torch file, or not the tensors of this network."""
    params, classes = fold(read_torch_file(path), str(path))
    return Weights(params, classes, hashlib.sha256(path.read_bytes()).hexdigest())


def fold(tensors: dict[str, np.ndarray], where: str) -> tuple[Params, np.ndarray]:
    """Named tensors -> (parameters of `features` with batch normalisation folded, `classes`).

    Raises InputError where a tensor is missing, left over or of another shape.
    """
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    shapes = flatten_dict(jax.eval_shape(Inception().init, jax.random.key(0), image)["params"])
    places = {place[:-1]: shape.shape for place, shape in shapes.items() if place[-1] == "kernel"}
    expected: dict[str, tuple[int, ...]] = {
        "fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)
    }  # fmt: skip
    for place, (h, w, i, o) in places.items():
        name = ".".join(place)
        expected[f"{name}.conv.weight"] = (o, i, h, w)
        for part in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{name}.bn.{part}"] = (o,)
    refuse_others(tensors, expected, where, MEND)
    params = {}
    for place in places:
        name = ".".join(place)
        weight, bias, mean, var = (
            tensors[f"{name}.bn.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(var + BATCH_NORM_EPSILON)
        kernel = tensors[f"{name}.conv.weight"].transpose(2, 3, 1, 0) * scale  # OIHW -> HWIO
        params[*place, "kernel"] = jnp.asarray(kernel, jnp.float32)
        params[*place, "bias"] = jnp.asarray(bias - mean * scale, jnp.float32)
    return {"params": unflatten_dict(params)}, np.ascontiguousarray(tensors["fc.weight"].T)


@jax.jit
def features(params: Params, images: jax.Array) -> jax.Array:
    """uint8 images [n, h, w, 3 or 1] -> float32 features [n, 2048] ("pool3")."""
    n, h, w, _ = images.shape
    x = jnp.broadcast_to(images, (n, h, w, 3)).astype(jnp.float32)
    found: Any = Inception().apply(params, (resize(x, SIDE) - 128) / 128)
    return found


def resize(x: jax.Array, side: int) -> jax.Array:
    """[n, h, w, c] -> [n, side, side, c] as TensorFlow 1 does it with align_corners=False.

    Output pixel i lies at input pixel i * size / side (pixel centres do not coincide), between the
    two next to it and without anti-aliasing, so a smaller image is a sparse sample of a larger one.
    """
    for axis in (2, 1):
        size = x.shape[axis]
        place = np.arange(side, dtype=np.float32) * np.float32(size / side)
        low = place.astype(np.int32)
        high = np.minimum(low + 1, size - 1)
        shape = [side if a == axis else 1 for a in range(4)]
        share = (place - low).reshape(shape)
        below = jnp.take(x, low, axis)
        x = below + (jnp.take(x, high, axis) - below) * share
    return x


class Conv(nn.Module):
    """A convolution with bias, then ReLU; with stride 2 it has no padding."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        padding = self.padding if self.stride == 1 else "VALID"
        return nn.relu(convolve(x, kernel, self.stride, padding) + bias)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    """Correlates [n, h, w, i] with [a, b, i, o]."""
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    strides = (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def chain(x: jax.Array, prefix: str, *steps: tuple[int, tuple[int, int]]) -> jax.Array:
    """Convolutions <prefix>_1, <prefix>_2, .. of these widths and kernels, one after the other."""
    for number, (width, kernel) in enumerate(steps, 1):
        x = Conv(width, kernel, name=f"{prefix}_{number}")(x)
    return x


def average(x: jax.Array) -> jax.Array:
    """Means over 3 x 3 pixels, at the border over those that there are."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def halved(x: jax.Array) -> jax.Array:
    """Maxima over 3 x 3 pixels, every second one."""
    return nn.max_pool(x, (3, 3), (2, 2))


class A(nn.Module):
    """35 x 35 pixels, as figure 5 of the paper with its first 3 x 3 pair as one 5 x 5."""

    pooled: int  # width of the averaged branch

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate([
            Conv(64, name="branch1x1")(x),
            chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5))),
            chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            Conv(self.pooled, name="branch_pool")(average(x)),
        ], -1)  # fmt: skip


class B(nn.Module):
    """35 to 17 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        double = chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        return jnp.concatenate([
            Conv(384, (3, 3), 2, name="branch3x3")(x),
            Conv(96, (3, 3), 2, name="branch3x3dbl_3")(double),
            halved(x),
        ], -1)  # fmt: skip


class C(nn.Module):
    """17 x 17 pixels, figure 6: rows and columns of seven."""

    inner: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, row, column = self.inner, (1, 7), (7, 1)
        return jnp.concatenate([
            Conv(192, name="branch1x1")(x),
            chain(x, "branch7x7", (c, (1, 1)), (c, row), (192, column)),
            chain(x, "branch7x7dbl", (c, (1, 1)), (c, column), (c, row), (c, column), (192, row)),
            Conv(192, name="branch_pool")(average(x)),
        ], -1)  # fmt: skip


class D(nn.Module):
    """17 to 8 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        wide = chain(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        return jnp.concatenate([
            Conv(320, (3, 3), 2, name="branch3x3_2")(chain(x, "branch3x3", (192, (1, 1)))),
            Conv(192, (3, 3), 2, name="branch7x7x3_4")(wide),
            halved(x),
        ], -1)  # fmt: skip


class E(nn.Module):
    """8 x 8 pixels, figure 7: branches that fork into a row and a column of three."""

    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = chain(x, "branch3x3", (384, (1, 1)))
        double = chain(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        return jnp.concatenate([
            Conv(320, name="branch1x1")(x),
            Conv(384, (1, 3), name="branch3x3_2a")(single),
            Conv(384, (3, 1), name="branch3x3_2b")(single),
            Conv(384, (1, 3), name="branch3x3dbl_3a")(double),
            Conv(384, (3, 1), name="branch3x3dbl_3b")(double),
            Conv(192, name="branch_pool")(self.pool(x)),
        ], -1)  # fmt: skip


class Inception(nn.Module):
    """float32 images [n, h, w, 3] in -1 to 1, at least 75 x 75 -> features [n, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(32, (3, 3), 2, name="Conv2d_1a_3x3")(x)
        x = Conv(32, (3, 3), padding="VALID", name="Conv2d_2a_3x3")(x)
        x = halved(Conv(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = Conv(80, name="Conv2d_3b_1x1")(x)
        x = halved(Conv(192, (3, 3), padding="VALID", name="Conv2d_4a_3x3")(x))
        for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
            x = A(pooled, name=f"Mixed_5{letter}")(x)
        x = B(name="Mixed_6a")(x)
        for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = C(inner, name=f"Mixed_6{letter}")(x)
        x = D(name="Mixed_7a")(x)
        x = E(average, name="Mixed_7b")(x)
        # The graph of 2015 has a maximum here.
        x = E(partial(nn.max_pool, window_shape=(3, 3), padding="SAME"), name="Mixed_7c")(x)
        return jnp.mean(x, (1, 2))
