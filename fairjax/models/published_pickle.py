"""Reads the networks of a published StyleGAN2 file (`.pkl`) with NumPy, executing nothing of it.

Such a file holds a dict of networks, each as its attributes and, as text, the program that should
be run to make a network of them. Its tensors are streams of their own inside the pickle. This
reader takes the tensors, the options and the attributes; the program stays text that nobody reads.
Flows in: a file of stylegan2-ada-pytorch, one with StyleGAN2 networks of the stylegan3 repository,
or one of TensorFlow networks, which `published_tensorflow` brings into the form of the others.
Flows out: `Network`s, whose meaning `fairjax.models.published` knows.
"""

import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.errors import InputError
from fairjax.models import published_numpy, published_tensorflow
from fairjax.models.inert_pickle import Budget, Machine, Refused
from fairjax.models.published_tensorflow import Stored
from fairjax.models.torch_file import (
    UNREADABLE,
    Tensor,
    cut,
    ordered_dict,
    read_stream,
    rebuild_tensor,
)

NETWORKS = ("G_ema", "G", "D")
MAX_FILE = 4 * 2**30  # bytes; the largest published file, at 1024 pixels, has 0.4 GiB
MAX_PARTS = 10_000  # modules and tensors of one file; 1024 pixels have about 1,000
MAX_DEPTH = 8  # of modules within modules and of options within options; 4 occur
PLAIN = (str, int, float, bool, type(None))
MEND = (
    "Give a StyleGAN2 network file of stylegan2-ada-pytorch, stylegan3, stylegan2-ada or "
    "stylegan2 (configurations e and f), and copy it again if it may be damaged"
)


class Network(NamedTuple):
    """A network under published names, in published layouts (OIHW, [out, in], [c, h, w]).

    `attributes` are the plain values that its parts carry, by dotted name; a file that is no
    pickle has none.
    """

    class_name: str
    init_kwargs: dict[str, Any]
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]


class _Module(NamedTuple):
    class_name: str
    state: dict[str, Any]


def read_pickle(path: Path) -> dict[str, Network]:
    """The networks `G_ema`, `G` and `D` of the file, as far as it has them; arrays are copies.

    Raises:
      InputError: no such file, damaged, another kind of file, or one that names anything but the
        parts of such a network. Nothing that it names is imported or called, in any case.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not 0 < size <= MAX_FILE:
                raise Refused(f"it has {size} bytes")
            # Mapped, not read: a large file of another kind is refused at its first byte.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _networks(memoryview(content))
    except UNREADABLE as error:
        raise InputError(
            f"not a readable network file ({type(error).__name__}: {error})", str(path), MEND
        ) from error


def _networks(content: memoryview) -> dict[str, Network]:
    budget = Budget(len(content))

    def load_from_bytes(data: Any) -> np.ndarray:
        if not isinstance(data, bytes | memoryview):
            raise Refused("a storage that is not of bytes")
        budget.spend(len(data))
        key, storages, end = read_stream(data, budget)
        if not hasattr(key, "key") or end != len(data):
            raise Refused("a storage with something else inside")
        return storages[key.key]

    def encode(text: Any, encoding: Any) -> bytes:  # how protocol 2 writes bytes
        if type(text) is not str or encoding != "latin1":
            raise Refused("bytes in another form than usual")
        budget.spend(len(text))
        return text.encode("latin1")

    def named_set(items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple) or any(type(i) not in (str, int) for i in items):
            raise Refused("a set of something else than names")
        budget.spend(64 * len(items))  # a copy, of which a few bytes of the file can ask for many
        return set(items)

    sets = {("builtins", "set"): named_set, ("__builtin__", "set"): named_set}
    names = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
        ("collections", "OrderedDict"): ordered_dict,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch.storage", "_load_from_bytes"): load_from_bytes,
        ("dnnlib.util", "EasyDict"): ordered_dict,
        ("dnnlib.tflib.network", "Network"): Stored,
        ("_codecs", "encode"): encode,
    }
    names |= sets | published_numpy.NAMES
    machine = Machine(names, budget, "no part of a network", build=_set_state)
    data, end = machine.load(content)
    if end != len(content):
        raise Refused("something follows after its end")
    parts = _Parts(budget)
    if type(data) is tuple:
        there = published_tensorflow.networks(data, budget)
        return {name: Network(kind, parts.plain(options), arrays, {})
                for name, (kind, options, arrays) in there.items()}  # fmt: skip
    if type(data) is not dict:
        raise Refused(f"it holds a {type(data).__name__} instead of networks by name")
    found = {name: data[name] for name in NETWORKS if data.get(name) is not None}
    if not found:
        raise Refused(f"it holds none of {', '.join(NETWORKS)}")
    return {name: parts.network(name, module) for name, module in found.items()}


# What the names of a file stand for: functions that describe, and do nothing else.


def _module(meta: Any) -> _Module:
    if type(meta) is not dict or meta.get("type") != "class" or meta.get("version") != 6:
        raise Refused("an object of an unknown version")
    name, state = meta.get("class_name"), meta.get("state")
    if type(meta.get("module_src")) is not str or type(name) is not str or type(state) is not dict:
        raise Refused("an object without a class or a state")
    return _Module(name, state)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Refused("a parameter that is no tensor")
    return tensor


def _set_state(target: Any, state: Any) -> None:
    take = published_tensorflow if isinstance(target, Stored) else published_numpy
    take.set_state(target, state)


class _Parts:
    """Collects what the modules of a file hold, by dotted name, and counts it."""

    def __init__(self, budget: Budget):
        self.budget, self.left = budget, MAX_PARTS

    def network(self, name: str, module: Any) -> Network:
        if not isinstance(module, _Module):
            raise Refused(f"{name} is no network")
        if module.state.get("_init_args", ()) != ():
            raise Refused(f"{name} was made with options that have no name")
        found = Network(module.class_name, {}, {}, {})
        found.init_kwargs.update(self.plain(module.state.get("_init_kwargs")))
        self._collect(module, "", 0, found)
        return found

    def _count(self, depth: int) -> None:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise Refused("it has more parts than a network")

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Options as JSON can hold them."""
        self._count(depth)
        if isinstance(value, dict):
            return {str(key): self.plain(item, depth + 1) for key, item in value.items()}
        if type(value) in (list, tuple):
            return [self.plain(item, depth + 1) for item in value]
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str and len(value) <= 1000:
            return value
        raise Refused(f"an option of the type {type(value).__name__}")

    def _collect(self, module: Any, prefix: str, depth: int, found: Network) -> None:
        self._count(depth)
        if not isinstance(module, _Module):
            raise Refused(f"the part {prefix[:-1][:80]} is of an unknown kind")
        for key, value in module.state.items():
            if type(key) is str and key[:1] != "_" and isinstance(value, PLAIN):
                found.attributes[prefix + key] = value
        for kind in ("_parameters", "_buffers"):
            for key, value in self._entries(module, kind):
                self._count(depth)
                if not isinstance(value, Tensor):
                    raise Refused(f"{prefix}{key} is no tensor")
                if prefix + key in found.arrays:
                    raise Refused(f"{prefix}{key} occurs twice")
                found.arrays[prefix + key] = cut(value, self.budget)
        for key, value in self._entries(module, "_modules"):
            self._collect(value, f"{prefix}{key}.", depth + 1, found)

    def _entries(self, module: _Module, kind: str) -> list[tuple[str, Any]]:
        entries = module.state.get(kind)
        if type(entries) is not dict:
            raise Refused(f"the class {module.class_name[:40]} has no {kind}")
        bad = [
            key for key in entries if type(key) is not str or not key.isprintable() or "." in key
        ]
        if bad or not all(0 < len(key) <= 100 for key in entries):
            raise Refused("a part without a proper name")
        return [(key, value) for key, value in entries.items() if value is not None]
