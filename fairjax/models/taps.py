"""The kernel gradient of a 3x3 convolution as nine matrix products, for XLA on CPU.

Left to itself XLA builds a convolution whose kernel is as large as the image; on CPU that takes 3
to 4 times longer. The products run over blocks of samples that fit the processor's cache, so that
the shifted copies of the image cost little.
"""

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 2048  # pixels of the small image per product; measured best of 512 to 16384


def kernel_gradient(small: jax.Array, large: jax.Array, stride: int) -> jax.Array:
    """Sum over samples and pixels of small[r, c, i] large[stride r + a, stride c + b, o].

    Args:
      small: [n, h, w, i].
      large: [n, H, W, o] with H >= stride (h - 1) + 3 and W likewise.

    Returns: [3, 3, i, o] in the dtype of `small`, summed in float32 or better.
    """
    n, h, w, i = small.shape
    o = large.shape[-1]
    dtype = jnp.promote_types(small.dtype, jnp.float32)

    def block(small: jax.Array, large: jax.Array) -> jax.Array:
        # Turned once, for all nine: without the barrier each product would turn it again.
        flat = lax.optimization_barrier(small.reshape(-1, i).T)
        rows = []
        for a in range(3):
            for b in range(3):
                tap = large[:, a : a + stride * (h - 1) + 1 : stride,
                            b : b + stride * (w - 1) + 1 : stride]  # fmt: skip
                rows.append(jnp.dot(flat, tap.reshape(-1, o), preferred_element_type=dtype))
        return jnp.stack(rows)

    size = _block_size(n, h * w)
    if size == n:
        total = block(small, large)
    else:
        blocks = [x.reshape(n // size, size, *x.shape[1:]) for x in (small, large)]
        zero = jnp.zeros((9, i, o), dtype)
        total, _ = lax.scan(lambda total, pair: (total + block(*pair), None), zero, tuple(blocks))
    return total.reshape(3, 3, i, o).astype(small.dtype)


def _block_size(n: int, pixels: int) -> int:
    """The largest divisor of n whose samples have at most BLOCK pixels together, at least 1.

    All n where a batch may be split over devices: blocks would cut across them.
    """
    if jax.device_count() > 1:
        return n
    return max((d for d in range(1, n + 1) if n % d == 0 and d * pixels <= BLOCK), default=1)
