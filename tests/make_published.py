"""Writes files with the structure of published StyleGAN2 pickles, without PyTorch.

Modules of the published names stand in `sys.modules` while a file is written; reading it back with
an ordinary unpickler would need them, and would run the text that is stored with every object.
"""

import io
import pickle
import sys
from collections import OrderedDict
from types import ModuleType
from unittest import mock

import numpy as np

from fairjax.models.torch_file import MAGIC, PROTOCOL

BUFFERS = ("noise_const", "w_avg", "resample_filter")


def _named(module, name, value):
    value.__module__, value.__qualname__, value.__name__ = module, name, name
    return value


def _function(module, name):
    return _named(module, name, lambda *args: None)


RECONSTRUCT = _function("torch_utils.persistence", "_reconstruct_persistent_obj")
PARAMETER = _function("torch._utils", "_rebuild_parameter")
TENSOR = _function("torch._utils", "_rebuild_tensor_v2")
BYTES = _function("torch.storage", "_load_from_bytes")
EasyDict = _named("dnnlib.util", "EasyDict", type("EasyDict", (dict,), {}))
TensorFlowNetwork = _named("dnnlib.tflib.network", "Network", type("Network", (), {}))
STORAGES = {kind: _named("torch", kind, type(kind, (), {}))
            for kind in ("FloatStorage", "DoubleStorage", "LongStorage", "IntStorage")}  # fmt: skip


def published_modules():
    modules = {}
    classes = (EasyDict, TensorFlowNetwork, *STORAGES.values())
    for value in (RECONSTRUCT, PARAMETER, TENSOR, BYTES, *classes):
        module = modules.setdefault(value.__module__, ModuleType(value.__module__))
        setattr(module, value.__name__, value)
    for name in list(modules):
        parent = name.rpartition(".")[0]
        if parent:
            modules.setdefault(parent, ModuleType(parent))
    return mock.patch.dict(sys.modules, modules)


def dumps(value, protocol=4):
    with published_modules():
        return pickle.dumps(value, protocol)


class Call:
    """Pickled as a call of a named function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class _StoragePickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, tuple) and value[:1] == ("storage",):
            return value
        return None


def stream(numbers, kind="FloatStorage", count=None, view=None, body=None):
    """The old torch stream of one storage; `count` is what it says of its length."""
    file = io.BytesIO()
    size = len(numbers) if count is None else count
    sizes = {"short": 2, "int": 4, "long": 4}
    head = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": sizes}
    with published_modules():
        for value in (MAGIC, PROTOCOL, head):
            pickle.dump(value, file, 2)
        storage = ("storage", STORAGES[kind], "94", "cpu", size, view)
        _StoragePickler(file, 2).dump(storage if body is None else body)
        pickle.dump(["94"], file, 2)
    return file.getvalue() + size.to_bytes(8, "little", signed=True) + numbers.tobytes()


def state_dict(arrays):
    """The file of `torch.save` before version 1.6 of these float32 and int64 arrays by name."""
    kinds = {np.dtype("<f4"): "FloatStorage", np.dtype("<i8"): "LongStorage"}
    body = OrderedDict()
    for key, (name, array) in enumerate(arrays.items()):
        storage = ("storage", STORAGES[kinds[array.dtype]], str(key), "cpu", array.size, None)
        steps = tuple(step // array.itemsize for step in array.strides)
        body[name] = Call(TENSOR, storage, 0, array.shape, steps, False, OrderedDict())
    file = io.BytesIO()
    with published_modules():
        for value in (MAGIC, PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, 2)
        _StoragePickler(file, 2).dump(body)
        pickle.dump([str(key) for key in range(len(arrays))], file, 2)
    numbers = (a.size.to_bytes(8, "little") + a.tobytes() for a in arrays.values())
    return file.getvalue() + b"".join(numbers)


def tensor(array, *, offset=0, shape=None, stride=None, data=None):
    """What a tensor is pickled as; the arguments say something else than the array."""
    array = np.asarray(array, "<f4")
    steps = tuple(step // 4 for step in np.empty(array.shape, "<f4").strides)
    return Call(
        TENSOR,
        Call(BYTES, stream(array.ravel()) if data is None else data),
        offset,
        array.shape if shape is None else shape,
        steps if stride is None else stride,
        False,
        OrderedDict(),
    )


def module(class_name, source, *, parameters=None, buffers=None, modules=None, **attributes):
    """What a network, or a part of one, is pickled as."""
    state = {
        "training": False,
        "_parameters": OrderedDict(parameters or {}),
        "_buffers": OrderedDict(buffers or {}),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict(modules or {}),
        **attributes,
    }
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name,
            "state": state}  # fmt: skip
    return Call(RECONSTRUCT, meta)


def network(net, source="raise RuntimeError('the text of a file was run')"):
    """The pickled form of a `Network`: its arrays as a tree of modules."""

    def part(arrays, class_name, **attributes):
        own = {k: v for k, v in arrays.items() if "." not in k}
        parameters = {k: Call(PARAMETER, tensor(v), False, OrderedDict())
                      for k, v in own.items() if k not in BUFFERS}  # fmt: skip
        buffers = {k: tensor(v) for k, v in own.items() if k in BUFFERS}
        children = dict.fromkeys(k.split(".", 1)[0] for k in arrays if "." in k)
        for child in children:
            below = {k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith(child + ".")}
            children[child] = part(below, "Part", activation="lrelu", gain=np.sqrt(2), up=2)
        parameters["absent"] = None  # a layer without a bias
        return module(class_name, source, parameters=parameters, buffers=buffers,
                      modules=children, **attributes)  # fmt: skip

    options = EasyDict({k: EasyDict(v) if isinstance(v, dict) else v
                        for k, v in net.init_kwargs.items()})  # fmt: skip
    return part(net.arrays, net.class_name, _init_args=(), _init_kwargs=options)


def content(networks, protocol=4, source="raise RuntimeError"):
    """The bytes of a published file."""
    data = {"training_set_kwargs": EasyDict(path="x.zip", resolution=8, max_size=np.int64(7))}
    data |= {name: network(net, source) for name, net in networks.items()}
    return dumps(data | {"augment_pipe": None}, protocol)
