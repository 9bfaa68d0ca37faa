"""The kernel gradient of a 3x3 convolution as nine matrix products, for XLA on CPU.

Left to itself XLA builds a convolution whose kernel is as large as the image; on CPU that takes 3
to 4 times longer. The products run over blocks of samples that fit the processor's cache, so that
the shifted copies of the image cost little.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fairjax.models.blocks import block_size, sum_blocks

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

    total = sum_blocks(block, block_size(n, h * w, BLOCK), small, large)
    return total.reshape(3, 3, i, o).astype(small.dtype)
