"""The forms of the resampled convolutions, timed here: `launch/bench.py --forms`.

Which one a backend gets is decided in `fairjax.models.resample`; this is what to look at first on a
machine that nobody has measured.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.table import Table

from fairjax.models import resample
from fairjax.models.stylegan2 import channels

SECONDS = 0.3  # for which each is timed


def measure(config: ConfigDict) -> dict[str, dict[str, float]]:
    """Milliseconds of value and all gradients: operation -> form -> ms.

    The shapes are those of the highest resolution of the generator of a config (an arm applied),
    in bfloat16 where that computes so.
    """
    size, n, gan = config.data.resolution, config.gan.batch, config.gan
    wide, half = (channels(s, gan.channel_base, gan.channel_max) for s in (size, size // 2))
    dtype = jnp.bfloat16 if gan.half_resolutions else jnp.float32

    def drawn(*shape: int) -> jax.Array:
        return jax.random.normal(jax.random.key(len(shape)), shape).astype(dtype)

    large, small = drawn(n, size, size, wide), drawn(n, size // 2, size // 2, half)
    image = drawn(n, size, size, config.data.channels)
    same, up, down = drawn(3, 3, wide, wide), drawn(3, 3, half, wide), drawn(3, 3, wide, half)
    operations: dict[str, tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]] = {
        "blur": (lambda x, form: resample.blur(x, 2, 1.0, form), (large,)),
        "image_up": (lambda x, form: resample.image_up(x, form), (image,)),
        "image_down": (lambda x, form: resample.image_down(x, form), (image,)),
        "conv": (resample.conv, (large, same)),
        "conv_up": (resample.conv_up, (small, up)),
        "conv_down": (resample.conv_down, (large, down)),
    }
    return {
        name: {form: _milliseconds(operation, given, form) for form in resample.FORMS}
        for name, (operation, given) in operations.items()
    }


def _milliseconds(operation: Callable[..., jax.Array], given: Any, form: str) -> float:
    def loss(*given: jax.Array) -> jax.Array:
        return jnp.square(operation(*given, form=form).astype(jnp.float32)).sum()

    both = jax.jit(jax.value_and_grad(loss, tuple(range(len(given)))))
    jax.block_until_ready(both(*given))  # compiles
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS or count < 3:
        jax.block_until_ready(both(*given))
        count += 1
    return 1000 * (time.perf_counter() - start) / count


def table(found: dict[str, dict[str, float]]) -> Table:
    """One row an operation; the form that this backend gets is marked."""
    shown = Table(title="forms: ms of the value and all gradients")
    shown.add_column("operation")
    for form in resample.FORMS:
        shown.add_column(f"{form} *" if form == resample.chosen() else form, justify="right")
    for name, of in found.items():
        shown.add_row(name, *(f"{of[form]:.2f}" for form in resample.FORMS))
    shown.caption = "* what this backend gets"
    return shown
