"""A generator as one file that runs wherever JAX does, without fairjax: a `jax.export` artifact.

In the program are the averaged parameters; it maps z float32 [n, z_dim], where the generator has
labels c float32 [n, c_dim], psi float32 (truncation towards the mean of all images; 1 = none) and a
seed uint32 (of the noise) to images uint8 [n, H, W, C].
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from fairjax.models.published import build
from fairjax.models.stylegan2 import as_bytes, num_ws, truncate
from fairjax.train.network_files import Saved

PLATFORMS = ("cpu", "cuda", "tpu")


def write_portable(saved: Saved, path: Path) -> None:
    """Writes the artifact; any batch size, any of `PLATFORMS`."""
    net: Any = build("Generator", saved.g_fields)
    params = jax.tree.map(jnp.asarray, saved.ema)
    mean = jnp.asarray(saved.mean(), jnp.float32)

    def images(z: jax.Array, *rest: jax.Array) -> jax.Array:
        *labels, psi, seed = rest
        c = {"c": labels[0]} if labels else {}
        w: Any = net.apply({"params": params}, z, **c, method="mapping")
        pulled = truncate(w[:, None], mean, psi)
        ws = jnp.broadcast_to(pulled, (w.shape[0], num_ws(net.resolution), w.shape[1]))
        key = jax.random.key(seed)
        x: Any = net.apply({"params": params}, ws, key, "random", method="synthesis")
        return as_bytes(x)

    (n,) = export.symbolic_shape("n")
    inputs = [jax.ShapeDtypeStruct((n, net.z_dim), jnp.float32)]
    inputs += [jax.ShapeDtypeStruct((n, net.c_dim), jnp.float32)] if net.c_dim else []
    scalars = [jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.uint32)]
    made = export.export(jax.jit(images), platforms=PLATFORMS)(*inputs, *scalars)
    path.write_bytes(made.serialize())
