"""The 3x3 convolution with stride one or two, its transpose and its kernel gradient.

The three are closed under differentiation: the derivatives of each one are the other two. Saying so
with `jax.custom_vjp` keeps gradients of every order (reverse mode, as R1 and path length need) on
forms that a backend runs fast. Left to itself, JAX differentiates a transposed convolution, and the
gradient of any, into convolutions with a kernel as large as the image; those take 2 to 10 times
longer on CPU, and cuDNN has no kernel for some of them.

There are two sets of forms: `products` (for CPU: matrix products over shifted slices; `winograd`
where channels are wide) and `library` (one convolution call each, of a kind that cuDNN has:
forward, backward data, backward filter).

Shapes: `small` [n, h, w, i]; `kernel` [3, 3, i, o]; `large` [n, 2h + 1, 2w + 1, o] with stride 2;
with stride 1 it is [n, h, w, o] and a border of zeros belongs to it. One trilinear form joins them:
sum over pixels and taps of small[r, c, i] kernel[a, b, i, o] large[stride r + a, stride c + b, o].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fairjax.models import taps, winograd
from fairjax.models.shifts import interleave

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Trio(NamedTuple):
    """The three functions of a stride; they differentiate into each other."""

    grow: Callable[[jax.Array, jax.Array], jax.Array]  # (small, kernel) -> large: transposed
    shrink: Callable[[jax.Array, jax.Array], jax.Array]  # (large, kernel) -> small: correlation
    kernel_gradient: Callable[[jax.Array, jax.Array], jax.Array]  # (small, large) -> kernel


def closed(grow: Any, shrink: Any, kernel_gradient: Any) -> Trio:
    """Joins three functions of one trilinear form, so that no other is ever made of them."""
    trio = Trio(*(jax.custom_vjp(f) for f in (grow, shrink, kernel_gradient)))
    grow, shrink, kernel_gradient = trio
    grow.defvjp(
        lambda small, kernel: (grow(small, kernel), (small, kernel)),
        lambda saved, large: (shrink(large, saved[1]), kernel_gradient(saved[0], large)),
    )
    shrink.defvjp(
        lambda large, kernel: (shrink(large, kernel), (large, kernel)),
        lambda saved, small: (grow(small, saved[1]), kernel_gradient(small, saved[0])),
    )
    kernel_gradient.defvjp(
        lambda small, large: (kernel_gradient(small, large), (small, large)),
        lambda saved, kernel: (shrink(saved[1], kernel), grow(saved[0], kernel)),
    )
    return trio


def _grow_2(small: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution: each small pixel adds its 3x3 patch to the large image.

    An even output row sees kernel rows 0 and 2, an odd one only row 1; so the four phases are
    matrix products with 4, 2, 2 and 1 of the nine taps, and no tap is multiplied with zeros.
    """
    h, w = small.shape[1:3]
    x, k = jnp.pad(small, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel
    here, left = x[:, 1:, 1:], x[:, 1:, :-1]
    up, corner = x[:, :-1, 1:], x[:, :-1, :-1]
    even_even = jnp.concatenate([here, left, up, corner], -1) @ jnp.concatenate(
        [k[0, 0], k[0, 2], k[2, 0], k[2, 2]], 0
    )
    even_odd = jnp.concatenate([here, up], -1) @ jnp.concatenate([k[0, 1], k[2, 1]], 0)
    odd_even = jnp.concatenate([here, left], -1) @ jnp.concatenate([k[1, 0], k[1, 2]], 0)
    odd_odd = here @ k[1, 1]
    even = interleave(even_even, even_odd, axis=2)
    odd = interleave(odd_even, odd_odd, axis=2)
    large = interleave(even, odd, axis=1)
    return large[:, : 2 * h + 1, : 2 * w + 1]


def _shrink_2(large: jax.Array, kernel: jax.Array) -> jax.Array:
    """Correlation with stride two and no padding, as one product over the patches."""
    turned = jnp.swapaxes(kernel, 2, 3)
    return _patches(large) @ turned.reshape(-1, turned.shape[3])


def _patches(large: jax.Array) -> jax.Array:
    """[n, 2h + 1, 2w + 1, o] -> [n, h, w, 9 o]; the nine taps in the order of the kernel."""
    h, w = large.shape[1] // 2, large.shape[2] // 2
    return jnp.concatenate(
        [
            large[:, a : a + 2 * h - 1 : 2, b : b + 2 * w - 1 : 2]
            for a in range(3)
            for b in range(3)
        ],
        -1,
    )


def _kernel_gradient_1(small: jax.Array, large: jax.Array) -> jax.Array:
    if winograd.pays(small, 1, small.shape[-1], large.shape[-1]):
        return winograd.kernel_gradient(small, large)
    return taps.kernel_gradient(small, jnp.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0))), 1)


def _or_fewer(grow: Any, shrink: Any, stride: int) -> tuple[Any, Any]:
    """These two, or those of `winograd` where they pay."""

    def fewer_grow(small: jax.Array, kernel: jax.Array) -> jax.Array:
        fewer = winograd.pays(small, 1, *kernel.shape[2:])
        return winograd.grow(small, kernel, stride) if fewer else grow(small, kernel)

    def fewer_shrink(large: jax.Array, kernel: jax.Array) -> jax.Array:
        fewer = winograd.pays(large, stride, *kernel.shape[2:])
        return winograd.shrink(large, kernel, stride) if fewer else shrink(large, kernel)

    return fewer_grow, fewer_shrink


def _library(stride: int) -> tuple[Any, Any, Any]:
    pad = 2 - stride  # around the large image

    def grow(small: jax.Array, kernel: jax.Array) -> jax.Array:
        around = 2 - pad
        return lax.conv_general_dilated(
            small, kernel[::-1, ::-1], (1, 1), ((around, around), (around, around)),
            lhs_dilation=(stride, stride), dimension_numbers=DIMENSIONS,
        )  # fmt: skip

    def shrink(large: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            large, jnp.swapaxes(kernel, 2, 3), (stride, stride), ((pad, pad), (pad, pad)),
            dimension_numbers=DIMENSIONS,
        )  # fmt: skip

    def kernel_gradient(small: jax.Array, large: jax.Array) -> jax.Array:
        kernel = jax.ShapeDtypeStruct((3, 3, small.shape[-1], large.shape[-1]), small.dtype)
        (gradient,) = jax.linear_transpose(lambda k: shrink(large, k), kernel)(small)
        return gradient

    return grow, shrink, kernel_gradient


LIBRARY = {stride: closed(*_library(stride)) for stride in (1, 2)}
PRODUCTS = {
    1: closed(*_or_fewer(LIBRARY[1].grow, LIBRARY[1].shrink, 1), _kernel_gradient_1),
    2: closed(
        *_or_fewer(_grow_2, _shrink_2, 2),
        lambda small, large: taps.kernel_gradient(small, large, 2),
    ),
}
