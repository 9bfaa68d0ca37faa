"""Arrays of a safetensors file by name."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fairjax.errors import InputError


def read_safetensors(path: Path, mend: str) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Args:
      mend: what to do about a file that cannot be read, for the error message.

    Raises:
      InputError: missing, damaged, or numbers of a kind that NumPy does not have.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, KeyError, AttributeError) as error:
        raise InputError(f"not a readable safetensors file ({error})", str(path), mend) from error
