"""Reads the tensors of a PyTorch file with NumPy, without running anything in it.

A pickle is a program; an ordinary load runs whatever function it names. This reader knows a few
names, none of which does more than describe a tensor, and refuses the file at any other name.
Flows in: a `.pth` of `torch.save`, which is a zip archive of a pickle and of raw numbers, or before
version 1.6 one stream of both (that may also lie inside another file). Flows out: {name: array}.
"""

import hashlib
import io
import math
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.errors import InputError
from fairjax.models.inert_pickle import Budget, Buffer, Machine, Refused, shown

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MEND = "Install the package or copy the file again; other torch files are not read here"
ZIP = b"PK\x03\x04"
MAX_DIMENSIONS = 8
# What reading a damaged or hostile file can raise: never anything else.
UNREADABLE = (OSError, EOFError, ArithmeticError, LookupError, MemoryError, NotImplementedError,
              TypeError, ValueError, zipfile.BadZipFile)  # fmt: skip


class Storage(NamedTuple):
    """Numbers that lie in the stream under `key`."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage: of a described one, or of its numbers where they are known."""

    storage: Storage | np.ndarray
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    """What `torch._utils._rebuild_tensor_v2` stands for; looks at types only."""
    if not isinstance(storage, Storage | np.ndarray):
        raise Refused("a tensor without a storage")
    numbers = (offset, *shape, *stride)
    if any(type(n) is not int or not 0 <= n <= sys.maxsize for n in numbers):
        raise Refused("a tensor whose shape or place is not of whole numbers from 0 up")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise Refused(f"a tensor with {len(shape)} dimensions and {len(stride)} strides")
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def ordered_dict() -> dict[str, Any]:
    """What `collections.OrderedDict()` stands for; its items follow."""
    return {}


# The storage types are strings, which cannot be called.
STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2",
            "LongStorage": "<i8"}  # fmt: skip
NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


def read_torch_file(path: Path, sha256_start: str = "") -> dict[str, np.ndarray]:
    """All tensors of the file, C-contiguous, by name.

    `sha256_start` is what the hexadecimal SHA-256 of the file must start with; it is checked first.

    Raises InputError if the file is missing or another one, is no torch file, is cut short, or
    names anything but tensors. Nothing that the file names is ever called.
    """
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if not found.startswith(sha256_start):
            raise ValueError(f"its SHA-256 {found} does not start with {sha256_start}")
        budget = Budget(len(content))
        archive = content.startswith(ZIP)
        state, storages = (read_archive if archive else read_stream)(content, budget)[:2]
        if type(state) is not dict:
            raise Refused("it holds no tensors by name")
        tensors = {name: t for name, t in state.items() if isinstance(t, Tensor)}
        used = {t.storage.key for t in tensors.values() if isinstance(t.storage, Storage)}
        if not used or used != storages.keys():
            raise Refused("its tensors and its storages do not fit together")
        return {
            name: cut(t._replace(storage=storages[t.storage.key]), budget)
            for name, t in tensors.items()
            if isinstance(t.storage, Storage)
        }
    except UNREADABLE as error:
        raise InputError(
            f"not a readable torch file ({type(error).__name__}: {error})", str(path), MEND
        ) from error


def read_stream(data: Buffer, budget: Budget) -> tuple[Any, dict[str, np.ndarray], int]:
    """One legacy stream -> (its object, the numbers of its storages by key, where it ends).

    The numbers are views of `data`. Raises what `UNREADABLE` lists.
    """
    found: dict[str, Storage] = {}
    plain = Machine({}, budget, "not a tensor")
    at = 0
    head = []
    for _ in range(3):
        value, at = plain.load(data, at)
        head.append(value)
    if head[:2] != [MAGIC, PROTOCOL] or type(head[2]) is not dict:
        raise Refused("it does not start like a legacy torch file")
    if head[2].get("little_endian") is not True:
        raise Refused("it was written on a big-endian machine")
    body, at = _describing(budget, found).load(data, at)
    keys, at = plain.load(data, at)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise Refused("its list of storages is no list")
    if len(keys) != len(set(keys)) or set(keys) != found.keys():
        raise Refused("its tensors and its storages do not fit together")
    storages = {}
    for key in keys:  # the raw numbers follow in the order of the list
        count = int.from_bytes(data[at : at + 8], "little")
        dtype = np.dtype(found[key].dtype)
        if count != found[key].size:
            raise EOFError(f"storage {shown(key)} should have {found[key].size} numbers")
        at += 8
        if count * dtype.itemsize > len(data) - at:
            raise EOFError(f"it ends inside storage {shown(key)}")
        storages[key] = np.frombuffer(data, dtype, count, at)
        at += count * dtype.itemsize
    return body, storages, at


def read_archive(content: bytes, budget: Budget) -> tuple[Any, dict[str, np.ndarray]]:
    """A zip archive of `torch.save` -> (its object, the numbers of its storages by key).

    It holds NAME/data.pkl and NAME/data/KEY for each storage, all without compression. Raises what
    `UNREADABLE` lists.
    """
    found: dict[str, Storage] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused(f"the archive holds {len(pickles)} data.pkl")
        folder = pickles[0].removesuffix("data.pkl")

        def member(name: str) -> bytes:
            info = archive.getinfo(folder + name)
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Refused(f"{shown(name)} is compressed or encrypted")
            return archive.read(info)

        if folder + "byteorder" in archive.namelist() and member("byteorder") != b"little":
            raise Refused("it was written on a big-endian machine")
        body, _ = _describing(budget, found).load(member("data.pkl"))
        storages = {}
        for key, storage in found.items():
            dtype = np.dtype(storage.dtype)
            numbers = member(f"data/{key}")
            if len(numbers) != storage.size * dtype.itemsize:
                raise EOFError(f"storage {shown(key)} should have {storage.size} numbers")
            storages[key] = np.frombuffer(numbers, dtype)
    return body, storages


def _describing(budget: Budget, found: dict[str, Storage]) -> Machine:
    """The machine for the pickle of an object with tensors; collects their storages by key."""

    def persistent(pid: Any) -> Storage:
        kind, dtype, key, _, size, *view = pid  # archives have no view
        if kind != "storage" or dtype not in STORAGES.values() or view not in ([], [None]):
            raise Refused("a storage of an unknown kind")
        if type(key) is not str or type(size) is not int or size < 0:
            raise Refused("a storage without a key or a size")
        storage = Storage(key, dtype, size)
        if found.setdefault(key, storage) != storage:
            raise Refused(f"two storages are called {shown(key)}")
        return storage

    return Machine(NAMES, budget, "not a tensor", persistent=persistent)


def refuse_others(
    tensors: dict[str, np.ndarray], expected: dict[str, tuple[int, ...]], where: str, mend: str
) -> None:
    """Raises InputError unless the tensors have exactly these names and shapes; counters of batch
    normalisation may be there too."""
    found = {k: v.shape for k, v in tensors.items() if not k.endswith(".num_batches_tracked")}
    if wrong := sorted(k for k in expected | found if expected.get(k) != found.get(k)):
        name = wrong[0]
        raise InputError(
            f"{len(wrong)} tensors are not those of the network, such as {shown(name)}: "
            f"{found.get(name, 'missing')} instead of {expected.get(name, 'none')}",
            where,
            mend,
        )


def cut(tensor: Tensor, budget: Budget) -> np.ndarray:
    """A C-contiguous copy of what a tensor describes, which must lie in its storage."""
    numbers, shape, stride = tensor.storage, tensor.shape, tensor.stride
    assert isinstance(numbers, np.ndarray)
    last = tensor.offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if last >= numbers.size or tensor.offset > numbers.size or math.prod(shape) > numbers.size:
        raise Refused(f"a tensor of shape {shape} does not lie in its storage")
    budget.spend(math.prod(shape) * numbers.itemsize)
    steps = [step * numbers.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps)
    return np.array(view, order="C")
