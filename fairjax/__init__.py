"""Fair image generation and robust classification in JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairjax.experiments.loaded import Loaded

__version__ = "0.1.0"


def load(path: str) -> "Loaded":
    """A trained generator: `fairjax.load("runs/RUN/arms/weighted/gan").sample(16)`.

    Args:
      path: the folder of a finished `gan` stage, a .safetensors file with its .json, or an official
        StyleGAN2 .pkl (nothing in it is executed).

    Raises:
      InputError: a file is missing or damaged, or of another kind.
    """
    from fairjax.experiments.loaded import Loaded

    return Loaded.of(path)
