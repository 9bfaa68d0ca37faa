"""Source `shapes3d`: 3D Shapes (Burgess and Kim, 2018), the official `3dshapes.h5`, read in blocks.

480,000 pictures of 64 px: every combination of six factors once. `data.shapes3d.keep` takes only
the pictures with the named values, so that a factor with ten values becomes a group of two. The
same data prepared by TensorFlow Datasets is `data.source=tfds:shapes3d`.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import decode, labelled, storage
from fairjax.data.dataset import Collected
from fairjax.errors import InputError

WHERE = "data.shapes3d.file"
LICENCE = (
    "shapes3d: 3D Shapes (Burgess and Kim 2018), Apache-2.0, "
    "https://github.com/google-deepmind/3d-shapes"
)
MEND = "Use 3dshapes.h5 as published (https://github.com/google-deepmind/3d-shapes)"
SIDE = 64
FEW, MANY = 256, 32768  # images that are read together, at least and at most: 3 and 400 MB

# The file has numbers only; the words are ours (hues are turns of the colour circle).
_HUES = ("red", "orange", "yellow", "green", "spring green", "cyan", "blue", "indigo", "purple",
         "pink")  # fmt: skip


class Factor(NamedTuple):
    """One column of `labels`: its name, its values in the file, and their names."""

    name: str
    numbers: np.ndarray  # float64 [k]
    names: tuple[str, ...]


def _numbered(name: str, numbers: np.ndarray) -> Factor:
    return Factor(name, numbers, tuple(f"{name} {v:.3g}" for v in numbers))


def _hue(name: str) -> Factor:
    return Factor(f"{name}_hue", np.arange(10) / 10, tuple(f"{hue} {name}" for hue in _HUES))


FACTORS = (
    _hue("floor"),
    _hue("wall"),
    _hue("object"),
    _numbered("scale", np.linspace(0.75, 1.25, 8)),
    Factor("shape", np.arange(4.0), ("cube", "cylinder", "sphere", "capsule")),
    _numbered("orientation", np.linspace(-30, 30, 15)),
)


class Context(NamedTuple):
    """What is needed to read and prepare images; `stamp` changes with the file."""

    path: str
    stamp: int
    block: int  # images that are read together
    shape: decode.Shape


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        mend = 'Install it: pip install -e ".[shapes3d]"'
        raise InputError("h5py is not installed", "data.source=shapes3d", mend) from error
    return h5py


def read_labels(path: Path) -> tuple[np.ndarray, int]:
    """Checks the file and reads its labels; no image is read.

    Returns:
      int8 `[n, 6]`, the index of each factor's value in FACTORS, and the number of images that are
      compressed together (reading one of them costs as much as reading all).

    Raises:
      InputError: h5py or the file is missing, or the file has another form.
    """
    h5py = _h5py()
    if not path.is_file():
        found = f"{path} is a folder" if path.is_dir() else f"no file {path}"
        raise InputError(found, WHERE, f"Give the path of 3dshapes.h5. {MEND}")
    try:
        with h5py.File(path, "r") as file:
            for name in ("images", "labels"):
                if not isinstance(file.get(name), h5py.Dataset):
                    raise InputError(f"{path} has {list(file)} and no {name!r}", WHERE, MEND)
            images, labels = file["images"], file["labels"]
            n = labels.shape[0] if labels.ndim else 0
            wanted = {"images": (n, SIDE, SIDE, 3), "labels": (n, len(FACTORS))}
            for name, shape in wanted.items():
                if file[name].shape != shape or not n:
                    has = f"{path}: {name} has the shape {list(file[name].shape)}"
                    found = f"{has} instead of {['n', *shape[1:]]}, n the same for both"
                    raise InputError(found, WHERE, MEND)
            if images.dtype != np.uint8 or labels.dtype.kind not in "fiu":
                found = f"{path}: images are {images.dtype} and labels {labels.dtype}"
                raise InputError(found, WHERE, f"{MEND}: uint8 and float64")
            together = images.chunks[0] if images.chunks else 1
            values = labels[:].astype(np.float64)
    except (OSError, RuntimeError) as error:  # h5py's errors for what is no HDF5, or damaged
        text = " ".join(str(error).split())[:200]
        mend = "The file is cut off, damaged or no HDF5 file; download it anew"
        raise InputError(f"cannot read {path}: {text}", WHERE, mend) from error
    return _indices(values, path), together


def _indices(values: np.ndarray, path: Path) -> np.ndarray:
    """float `[n, 6]` as in the file -> int8 `[n, 6]`, positions in FACTORS."""
    out = np.zeros(values.shape, np.int8)
    for column, factor in enumerate(FACTORS):
        middles = (factor.numbers[1:] + factor.numbers[:-1]) / 2
        nearest = np.searchsorted(middles, values[:, column])
        out[:, column] = nearest
        # Not `>`: a NaN is no value either.
        wrong = np.flatnonzero(~(np.abs(factor.numbers[nearest] - values[:, column]) < 1e-3))
        if len(wrong):
            row = int(wrong[0])
            found = f"{path}: row {row} of labels has {factor.name} {values[row, column]:.6g}"
            known = ", ".join(f"{v:.4g}" for v in factor.numbers)
            raise InputError(found, WHERE, f"{MEND}; it has {known}")
    return out


def select(labels: np.ndarray, keep: Sequence[str]) -> tuple[np.ndarray, np.ndarray, dict]:
    """Takes the images whose factors have the named values.

    Args:
      labels: int8 `[n, 6]`, positions in FACTORS.
      keep: names of values; a factor of which none is named keeps all of its values.

    Returns:
      Ascending rows `[m]`; int8 `[m, 6]`, positions in the values that each factor keeps, in the
      order of `keep`; and {factor: names of these values}.

    Raises:
      InputError: an unknown or repeated name, or no image is left.
    """
    where = "data.shapes3d.keep"
    known = [name for factor in FACTORS for name in factor.names]
    for name in keep:
        if name not in known:
            raise InputError(f"unknown value {name!r}", where, labelled.hint(str(name), known))
    if len(set(keep)) != len(keep):
        raise InputError(f"{list(keep)}", where, "Name each value once")
    code = np.full((len(FACTORS), max(len(f.names) for f in FACTORS)), -1, np.int8)
    values = {}
    for column, factor in enumerate(FACTORS):
        names = tuple(name for name in keep if name in factor.names) or factor.names
        for position, name in enumerate(names):
            code[column, factor.names.index(name)] = position
        values[factor.name] = names
    kept = code[np.arange(len(FACTORS)), labels]
    rows = np.flatnonzero((kept >= 0).all(axis=1))
    if not len(rows):
        raise InputError(f"no image has {list(keep)}", where, "Name more values of a factor")
    return rows, kept[rows], values


@functools.lru_cache(maxsize=1)
def _block(path: str, stamp: int, start: int, size: int) -> np.ndarray:
    """uint8 `[m, 64, 64, 3]`: images from `start`; the last block stays for the next call."""
    with _h5py().File(path, "r") as file:
        return file["images"][start : start + size]


def render(context: Context, rows: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
    """Reads and prepares a chunk of ascending rows, for `pool.fill`."""
    shape, size = context.shape, context.block

    def picture(row: int) -> np.ndarray:
        start = int(row) // size * size
        try:
            block = _block(context.path, context.stamp, start, size)
        except OSError as error:
            text = " ".join(str(error).split())[:200]
            words = f"damaged (images from {start} to {start + size - 1}): {text}"
            raise OSError(words) from error
        return decode.prepare(Image.fromarray(block[int(row) - start]), shape)

    return decode.chunk(shape, rows, picture, (OSError,))


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Reads the labels, gives roles to images, and prepares the images in blocks.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets`.
      log: called with one line at a time.

    Raises:
      InputError: file missing or damaged, unknown names, or more images wanted than there are.
    """
    data = config.data
    if not data.shapes3d.file:
        raise InputError("no file given", WHERE, f"Give the path of 3dshapes.h5. {MEND}")
    path = storage.fetched(data.shapes3d.file, WHERE)
    labels, together = read_labels(path)
    rows, kept, values = select(labels, tuple(data.shapes3d.keep))
    about = path.stat()
    table = labelled.Table(
        ids=tuple(f"3dshapes/{row}" for row in rows.tolist()),
        labels=kept,
        values=values,
        part=None,
        items=rows.tolist(),
        render=render,
        context=Context(
            str(path),
            about.st_mtime_ns,
            min(together * max(FEW // together, 1), MANY),
            decode.Shape(data.resolution, data.crop, data.channels),
        ),
        facts={"first": [about.st_size, about.st_mtime_ns], "count": len(labels)},
        licence=LICENCE,
        workers=1,  # the official file compresses 15,000 images together: each block is read once
    )
    try:
        return labelled.collect(config, "shapes3d", table, log)
    finally:
        _block.cache_clear()
