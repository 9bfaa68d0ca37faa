"""Blurred resampling by two, alone or with a 3x3 convolution, in a form that suits the machine.

Images flow in and out as `[batch, height, width, channel]`, kernels as HWIO. The blur is the
separable filter [1, 3, 3, 1] / 8 with zero padding (Karras et al. 2020, "Analyzing and improving
the image quality of StyleGAN"; the paddings are those of the published networks).

Every operation has three forms with equal values and derivatives:

- "slices", for CPU: shifted adds and matrix products (`strided.PRODUCTS`). XLA on CPU runs dilated
  and grouped convolutions, and above all their gradients, 10 to 50 times slower.
- "library", for GPU: shifted adds, and convolutions of the kinds that cuDNN has, in gradients too
  (`strided.LIBRARY`). On one H100 (jax 0.11.2, bfloat16, 64 x 256 x 256 x 64) the blur took 0.9 ms
  instead of 16.9 ms as a depthwise convolution, and the kernel gradient of a transposed convolution
  0.3 ms instead of the 4.8 ms of what JAX makes of it (jax issues 13800 and 31662).
- "lax", for TPU: dilated and depthwise convolutions, differentiated by JAX.

The first two have reverse mode of any order and no forward mode. "auto" picks by the default
backend when it is traced, or by that of `built_for`.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fairjax.models import strided
from fairjax.models.shifts import interleave, shift, split
from fairjax.models.strided import DIMENSIONS, Trio

TAPS = (1.0, 3.0, 3.0, 1.0)
FORMS = ("slices", "library", "lax")
FORM_OF = {"cpu": "slices", "gpu": "library"}  # of a backend; others: "lax"


_backend = ""


@contextlib.contextmanager
def built_for(backend: str) -> Iterator[None]:
    """Programs traced inside are to run on this backend, which need not be there."""
    global _backend
    _backend = backend
    try:
        yield
    finally:
        _backend = ""


def chosen(form: str = "auto") -> str:
    """One of `FORMS`; "auto" is that of the default backend."""
    if form == "auto":
        return FORM_OF.get(_backend or jax.default_backend(), "lax")
    if form not in FORMS:
        raise ValueError(f'form must be "auto" or one of {FORMS}, found {form!r}')
    return form


def trio(stride: int, form: str = "auto") -> Trio | None:
    """The convolutions of a stride that are closed under differentiation; None for "lax"."""
    of = {"slices": strided.PRODUCTS, "library": strided.LIBRARY}.get(chosen(form))
    return None if of is None else of[stride]


def blur(x: jax.Array, pad: int, gain: float = 1.0, form: str = "auto") -> jax.Array:
    """Blurs `x` [n, h, w, c] after `pad` zeros on each side -> [n, h + 2 pad - 3, w + .., c]."""
    if chosen(form) != "lax":
        return _blur_slices(x, pad, gain)
    return _depthwise(x, gain, strides=1, padding=pad)


def image_up(x: jax.Array, form: str = "auto") -> jax.Array:
    """Doubles height and width: zeros between the pixels, then the blur with gain 4."""
    if chosen(form) != "lax":
        for axis in (1, 2):
            before, after = shift(x, 1, axis), shift(x, -1, axis)
            x = interleave(0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after, axis=axis)
        return x
    return _depthwise(x, 4.0, strides=1, padding=2, lhs_dilation=2)


def image_down(x: jax.Array, form: str = "auto") -> jax.Array:
    """Halves height and width (both even): the blur with padding 1, then every second pixel."""
    if chosen(form) != "lax":
        for axis in (1, 2):
            even, odd = split(x, axis)
            x = 0.375 * (even + odd) + 0.125 * (shift(odd, 1, axis) + shift(even, -1, axis))
        return x
    return _depthwise(x, 1.0, strides=2, padding=1)


def conv(x: jax.Array, kernel: jax.Array, form: str = "auto") -> jax.Array:
    """Correlates `x` [n, h, w, i] with a 1x1 or 3x3 `kernel` [k, k, i, o] at equal size."""
    if kernel.shape[0] == 1:  # as matrices: XLA on CPU is 2 to 7 times slower at the gradient else
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    closed = trio(1, form)
    return _conv(x, kernel) if closed is None else closed.shrink(x, jnp.swapaxes(kernel, 2, 3))


def conv_up(x: jax.Array, kernel: jax.Array, form: str = "auto") -> jax.Array:
    """Transposed 3x3 convolution by two and the blur: [n, h, w, i] -> [n, 2h, 2w, o].

    `kernel` [3, 3, i, o] is in convolution orientation, the one in which the published weights
    are stored: pixel (r, c) adds `x[r, c] @ kernel[a, b]` to the pixel (2r + a, 2c + b).
    """
    closed = trio(2, form)
    if closed is not None:
        y = closed.grow(x, kernel)
    else:
        y = lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=DIMENSIONS,
        )
    return blur(y, 1, 4.0, form)


def conv_down(x: jax.Array, kernel: jax.Array, form: str = "auto") -> jax.Array:
    """The blur and a 3x3 correlation with stride two: [n, 2h, 2w, i] -> [n, h, w, o]."""
    x = blur(x, 2, 1.0, form)
    closed = trio(2, form)
    if closed is not None:
        return closed.shrink(x, jnp.swapaxes(kernel, 2, 3))
    return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=DIMENSIONS)


def _conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS
    )


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _blur_slices(x: jax.Array, pad: int, gain: float) -> jax.Array:
    taps = np.asarray(TAPS) / 8 * np.sqrt(gain)
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for axis in (1, 2):
        size = x.shape[axis] - 3
        x0, x1, x2, x3 = (lax.slice_in_dim(x, k, k + size, axis=axis) for k in range(4))
        x = float(taps[0]) * (x0 + x3) + float(taps[1]) * (x1 + x2)
    return x


# The filter is symmetric: its transpose is the same filter with the complementary padding.
_blur_slices.defvjp(
    lambda x, pad, gain: (_blur_slices(x, pad, gain), None),
    lambda pad, gain, _, y: (_blur_slices(y, 3 - pad, gain),),
)


def _depthwise(
    x: jax.Array, gain: float, *, strides: int, padding: int, lhs_dilation: int = 1
) -> jax.Array:
    taps = np.outer(TAPS, TAPS) / 64 * gain
    kernel = jnp.asarray(np.repeat(taps[:, :, None, None], x.shape[-1], axis=3), x.dtype)
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((padding, padding), (padding, padding)),
        lhs_dilation=(lhs_dilation, lhs_dilation),
        dimension_numbers=DIMENSIONS,
        feature_group_count=x.shape[-1],
    )
