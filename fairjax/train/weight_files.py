"""Trained networks as safetensors: a tree of arrays under dotted names, readable anywhere."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from fairjax.models.safetensors_file import read_safetensors


def save_tree(path: Path, tree: Any) -> None:
    """Writes a nested dict of arrays in one step; names are joined by dots."""
    flat = {name: np.array(v, order="C") for name, v in flatten_dict(tree, sep=".").items()}
    draft = path.with_name(path.name + ".draft")
    save_file(flat, draft)
    os.replace(draft, path)


def load_tree(path: Path) -> Any:
    """Reads what `save_tree` wrote; raises InputError where the file is missing or damaged."""
    mend = "Delete the folder it is in and rerun: the stage that writes it is repeated"
    return unflatten_dict(read_safetensors(path, mend), sep=".")
