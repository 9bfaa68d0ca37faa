"""What `torch.save` writes since version 1.6, put together from the operations of a pickle."""

import io
import struct
import zipfile

import numpy as np


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(number(v) for v in values) + b"t"


EMPTY = b"ccollections\nOrderedDict\n)R"
STORAGE = {"float32": b"FloatStorage", "int64": b"LongStorage"}


def state_dict(tensors):
    """The pickle of {name: tensor}; each is C-contiguous in a storage of its own."""
    body = b"\x80\x02" + EMPTY + b"("
    for key, (name, value) in enumerate(tensors.items()):
        stride = [s // value.itemsize for s in np.empty(value.shape, value.dtype).strides]
        storage = b"(" + text("storage") + b"ctorch\n" + STORAGE[str(value.dtype)] + b"\n"
        storage += text(str(key)) + text("cpu") + number(value.size) + b"tQ"
        place = number(0) + numbers(value.shape) + numbers(stride)
        tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + b"\x89" + EMPTY + b"tR"
        body += text(name) + tensor
    # Torch hangs a dict of versions on the ordered dict.
    return body + b"u}" + text("_metadata") + EMPTY + b"sb."


def archive(tensors, pickled=None, compression=zipfile.ZIP_STORED):
    """The bytes of a .pth; `pickled` takes the place of its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("net/data.pkl", state_dict(tensors) if pickled is None else pickled)
        file.writestr("net/byteorder", "little")
        for key, value in enumerate(tensors.values()):
            file.writestr(f"net/data/{key}", np.ascontiguousarray(value).tobytes())
        file.writestr("net/version", "3\n")
    return buffer.getvalue()
