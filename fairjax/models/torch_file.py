"""Reads the tensors of a legacy (non-zip) PyTorch file with NumPy, without running anything in it.

A pickle is a program; an ordinary load runs whatever function it names. This reader knows four
names, none of which does more than describe a tensor, and refuses the file at any other name.
Flows in: a `.pth` of `torch.save` before version 1.6. Flows out: {name: array}.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from fairjax.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MEND = "Install the package or copy the file again; other torch files are not read here"


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, offset, shape, stride)


class _AllowList(pickle.Unpickler):
    """Knows only the names below; the storage types are strings, which cannot be called."""

    NAMES: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not a tensor")
        return self.NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or dtype not in ("<f4", "<i8") or view is not None:
            raise pickle.UnpicklingError(f"a storage of an unknown kind: {pid!r}")
        return _Storage(str(key), dtype, int(count))


def read_torch_file(path: Path, sha256_start: str = "") -> dict[str, np.ndarray]:
    """All tensors of the file, C-contiguous, by name.

    `sha256_start` is what the hexadecimal SHA-256 of the file must start with; it is checked first.

    Raises InputError if the file is missing or another one, is no legacy torch file, is cut short,
    or names anything but tensors. Nothing that the file names is ever called.
    """
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if not found.startswith(sha256_start):
            raise ValueError(f"its SHA-256 {found} does not start with {sha256_start}")
        return _read(io.BytesIO(content))
    except (
        OSError,
        EOFError,
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,  # also UnicodeDecodeError
    ) as error:
        raise InputError(
            f"not a readable legacy torch file ({type(error).__name__}: {error})", str(path), MEND
        ) from error


def _read(file: IO[bytes]) -> dict[str, np.ndarray]:
    if _AllowList(file).load() != MAGIC or _AllowList(file).load() != PROTOCOL:
        raise pickle.UnpicklingError("it does not start like a legacy torch file")
    if not _AllowList(file).load()["little_endian"]:
        raise pickle.UnpicklingError("it was written on a big-endian machine")
    state = _AllowList(file).load()
    keys = _AllowList(file).load()
    wanted = {t.storage.key: t.storage for t in state.values() if isinstance(t, _Tensor)}
    if len(wanted) == 0 or set(wanted) != set(keys) or len(keys) != len(set(keys)):
        raise pickle.UnpicklingError("its tensors and its storages do not fit together")
    storages = {}
    for key in keys:  # the raw numbers follow in the order of the list
        count = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(wanted[key].dtype)
        if count != wanted[key].size:
            raise EOFError(f"storage {key} should have {wanted[key].size} numbers")
        data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise EOFError(f"it ends inside storage {key}")
        storages[key] = np.frombuffer(data, dtype)
    return {
        name: _cut(tensor, storages[tensor.storage.key])
        for name, tensor in state.items()
        if isinstance(tensor, _Tensor)
    }


def _cut(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """The part of the storage that a tensor describes, whose strides must stay inside it."""
    shape, stride = tensor.shape, tensor.stride
    last = tensor.offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if (
        min((tensor.offset, *shape, *stride)) < 0
        or last >= numbers.size
        or math.prod(shape) > numbers.size
    ):
        raise ValueError(f"a tensor of shape {shape} does not lie in its storage")
    steps = [step * numbers.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps).copy()
