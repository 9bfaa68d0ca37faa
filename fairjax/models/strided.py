"""The 3x3 convolution with stride two, its transpose and its kernel gradient, for XLA on CPU.

All three are matrix products over shifted slices. Together they are closed under differentiation:
the derivatives of each one are the other two. Saying so with `jax.custom_vjp` keeps gradients of
every order (reverse mode, as R1 and path length need) on these fast forms. Left to itself, XLA
builds dilated convolutions for the gradients, which take 2 to 10 times longer on CPU.

Shapes: `small` [n, h, w, i], `large` [n, 2h + 1, 2w + 1, o], `kernel` [3, 3, i, o]. One trilinear
form joins them: sum over pixels and taps of small[r, c, i] kernel[a, b, i, o] large[2r+a, 2c+b, o].
"""

import jax
import jax.numpy as jnp

from fairjax.models import taps
from fairjax.models.shifts import interleave


@jax.custom_vjp
def grow(small: jax.Array, kernel: jax.Array) -> jax.Array:
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
    large = interleave(interleave(even_even, even_odd, 2), interleave(odd_even, odd_odd, 2), 1)
    return large[:, : 2 * h + 1, : 2 * w + 1]


@jax.custom_vjp
def shrink(large: jax.Array, kernel: jax.Array) -> jax.Array:
    """Correlation with stride two and no padding -> small [n, h, w, i]."""
    turned = jnp.swapaxes(kernel, 2, 3)
    return _patches(large) @ turned.reshape(-1, turned.shape[3])


@jax.custom_vjp
def kernel_gradient(small: jax.Array, large: jax.Array) -> jax.Array:
    """The gradient of both with respect to the kernel -> [3, 3, i, o]."""
    return taps.kernel_gradient(small, large, 2)


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
