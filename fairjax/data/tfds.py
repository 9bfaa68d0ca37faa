"""Source `tfds`: a prepared TensorFlow Datasets directory (array_record), without TensorFlow.

Attributes are features of whole numbers. Numbered classes without names get the feature's name, as
in "label_floor_hue 6" of `shapes3d`; its features `value_...` are measures and are refused.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import cache, decode, labelled
from fairjax.data.dataset import MAX_VALUES, Collected
from fairjax.errors import InputError


class Context(NamedTuple):
    """What a worker process needs to open the source and to prepare an image."""

    name: str
    folder: str
    split: str
    image: str
    shape: decode.Shape


@functools.lru_cache(maxsize=2)
def _source(name: str, folder: str, split: str, skip: str) -> Any:
    """Opens the data source once per process; `skip` names the image feature not to decode."""
    import tensorflow_datasets as tfds

    decoders = {skip: tfds.decode.SkipDecoding()} if skip else None
    return tfds.data_source(
        name, data_dir=folder or None, split=split, download=False, decoders=decoders
    )


def _nested(example: Any, path: str) -> Any:
    for key in path.split("/"):
        example = example[key]
    return example


def _is_picture(feature: Any) -> bool:
    """Whether a feature is an image, encoded or as an array of bytes."""
    import tensorflow_datasets as tfds

    array = getattr(feature, "np_dtype", None) == np.uint8 and len(feature.shape) in (2, 3)
    return array or isinstance(feature, tfds.features.Image)


def _is_whole(value: Any) -> bool:
    """Whether a feature is one whole number (or bool): no text, no NaN, no array."""
    found = np.asarray(value)
    return found.ndim == 0 and found.dtype.kind in "biuf" and float(found).is_integer()


def render(context: Context, indices: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes a chunk of records, for `pool.fill`."""
    shape = context.shape
    source = _source(context.name, context.folder, context.split, context.image)

    def picture(index: int) -> np.ndarray:
        raw = _nested(source[int(index)], context.image)
        if isinstance(raw, bytes):
            return decode.decode(raw, shape)
        array = np.asarray(raw)
        array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
        return decode.prepare(Image.fromarray(array), shape)

    return decode.chunk(shape, indices, picture, (ValueError,))


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Opens a prepared TFDS directory; its one split is the pool for all roles.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets`.
      log: called with one line at a time.

    Raises:
      InputError: the source cannot be opened, or lacks a feature that the config names.
    """
    data, own = config.data, config.data.tfds
    name_of_set = own.name or data.source.partition(":")[2]  # data.source may be "tfds:celeb_a"
    if not name_of_set:
        raise InputError("no name given", "data.tfds.name", 'Give a name such as "celeb_a"')
    try:
        source = _source(name_of_set, own.data_dir, own.split, own.image)
        info = source.dataset_info
        count = len(source)
    except Exception as error:
        # tfds raises its own errors, ValueError, NotImplementedError, OSError ... for bad names,
        # folders, splits and file formats; each of them is an answer to the user's config.
        text = " ".join(str(error).split())[:300]
        mend = "Prepare it before with file_format array_record, and set data.tfds.data_dir"
        raise InputError(f"cannot open {name_of_set!r}: {text}", "data.tfds", mend) from error
    paths = tuple(own.attributes)
    for path in (own.image, *paths):
        try:
            _nested(info.features, path)
        except (KeyError, TypeError) as error:
            mend = f"It has {list(info.features)}"
            raise InputError(f"no feature {path!r} in {name_of_set}", "data.tfds", mend) from error
    if not _is_picture(_nested(info.features, own.image)):
        mend = "Name the feature that holds the images"
        raise InputError(f"{own.image!r} of {name_of_set} is no image", "data.tfds.image", mend)
    leaves = [path.rsplit("/", 1)[-1] for path in paths]
    for name in leaves:
        if leaves.count(name) > 1:
            mend = "Name one of them, once"
            raise InputError(f"several features end in {name!r}", "data.tfds.attributes", mend)
    columns: list[list[int]] = [[] for _ in paths]
    for i in range(count):
        example = source[i]
        for column, path in zip(columns, paths, strict=True):
            value = _nested(example, path)
            if not _is_whole(value):
                text = f"{path!r} of example {i} is {value!r}, no whole number"
                mend = "Name features that are groups, such as class labels"
                raise InputError(text, "data.tfds.attributes", mend)
            column.append(int(value))
    values: dict[str, tuple[str, ...]] = {}
    labels = np.full((count, len(paths)), -1, np.int8)
    for c, (name, path, column) in enumerate(zip(leaves, paths, columns, strict=True)):
        found = sorted(set(column) - {-1})
        if len(found) > MAX_VALUES:
            mend = "Name features that are groups"
            raise InputError(f"{path!r} has {len(found)} values", "data.tfds.attributes", mend)
        titles = getattr(_nested(info.features, path), "names", None)
        if titles:
            found = list(range(len(titles)))
            values[name] = tuple(f"{name} {t}" if t.isdigit() else t for t in titles)
        elif set(found) <= {0, 1}:
            found, values[name] = [0, 1], (f"not {name}", name)
        else:
            values[name] = tuple(f"{name} {v}" for v in found)
        code = {v: i for i, v in enumerate(found)} | {-1: -1}
        labels[:, c] = [code[v] for v in column]
    facts = {"tfds": info.full_name, "split": own.split, "data_dir": str(info.data_dir)}
    # The same version may have been built anew, with its records in another order.
    facts["files"] = cache.stamps(sorted(f for f in Path(info.data_dir).glob("*") if f.is_file()))
    if own.image != "image":  # the usual one is not named, as in entries of older versions
        facts["image"] = own.image
    table = labelled.Table(
        ids=tuple(f"{name_of_set}/{own.split}/{i}" for i in range(count)),
        labels=labels,
        values=values,
        part=None,
        items=range(count),
        render=render,
        context=Context(
            name_of_set,
            own.data_dir,
            own.split,
            own.image,
            decode.Shape(data.resolution, data.crop, data.channels),
        ),
        facts=facts,
        licence=f"tfds: {info.full_name}; see its page for the licence",
    )
    return labelled.collect(config, "tfds", table, log)
