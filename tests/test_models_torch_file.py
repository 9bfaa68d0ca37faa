import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch_files

from fairjax.errors import InputError
from fairjax.models.torch_file import MAGIC, PROTOCOL, read_torch_file

NUMBERS = np.arange(6, dtype="<f4")


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def numbers(values):
    return b"(" + b"".join(b"K" + bytes([v]) for v in values) + b"t"


def state(*, function=b"torch._utils\n_rebuild_tensor_v2", shape=(2, 3), stride=(3, 1), offset=0):
    """The pickle of {"weight": tensor}, put together from its operations."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("7") + text("cpu")
    storage += b"K\x06NtQ"
    place = b"K" + bytes([offset]) + numbers(shape) + numbers(stride)
    empty = b"ccollections\nOrderedDict\n)R"
    tensor = b"c" + function + b"\n(" + storage + place + b"\x89" + empty + b"tR"
    return b"\x80\x02" + empty + text("weight") + tensor + b"s."


def file(body):
    head = [pickle.dumps(v, 2) for v in (MAGIC, PROTOCOL, {"little_endian": True})]
    tail = pickle.dumps(["7"], 2) + struct.pack("<q", 6) + NUMBERS.tobytes()
    return b"".join(head) + body + tail


def read(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return read_torch_file(path)


def test_it_reads_tensors(tmp_path):
    (found,) = read(tmp_path, file(state())).values()
    np.testing.assert_array_equal(found, NUMBERS.reshape(2, 3))
    turned = read(tmp_path, file(state(shape=(3, 2), stride=(1, 3))))["weight"]
    np.testing.assert_array_equal(turned, NUMBERS.reshape(2, 3).T)
    assert turned.flags.c_contiguous


class Attack:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("first", [True, False])
def test_a_malicious_file_runs_nothing(tmp_path, first):
    marker = tmp_path / "attacked"
    attack = pickle.dumps(Attack(f"touch {marker}"), 2)
    with pytest.raises(InputError, match=r"system, which is not a tensor"):
        read(tmp_path, attack if first else file(attack))
    assert not marker.exists()
    pickle.loads(attack)  # the attack works where nobody looks at the names
    assert marker.exists()


@pytest.mark.parametrize(
    "function",
    [b"builtins\neval", b"torch\nload", b"torch\nFloatStorage", b"torch.storage\n_load_from_bytes"],
)
def test_other_names_are_refused(tmp_path, function):
    with pytest.raises(InputError, match="weights.pth"):
        read(tmp_path, file(state(function=function)))


@pytest.mark.parametrize(
    "place",
    [
        dict(offset=1),
        dict(shape=(3, 3)),
        dict(stride=(4, 1)),
        dict(shape=(200, 200), stride=(0, 0)),
        dict(shape=(2, 3), stride=(3,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, place):
    with pytest.raises(InputError):
        read(tmp_path, file(state(**place)))


def test_every_truncation_is_refused(tmp_path):
    content = file(state())
    for end in range(len(content)):
        with pytest.raises(InputError, match="weights.pth"):
            read(tmp_path, content[:end])


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 zip", pickle.dumps({"weight": 1}), b"\x00" * 100):
        with pytest.raises(InputError):
            read(tmp_path, content)
    with pytest.raises(InputError, match="FileNotFoundError"):
        read_torch_file(tmp_path / "none.pth")
    path = tmp_path / "good.pth"
    path.write_bytes(file(state()))
    with pytest.raises(InputError, match="SHA-256"):
        read_torch_file(path, sha256_start="zz")


TENSORS = {"weight": NUMBERS.reshape(2, 3), "count": np.array(7)}


def test_it_reads_an_archive(tmp_path):
    found = read(tmp_path, torch_files.archive(TENSORS))
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)


def test_a_malicious_archive_runs_nothing(tmp_path):
    marker = tmp_path / "attacked"
    attack = pickle.dumps(Attack(f"touch {marker}"), 2)
    with pytest.raises(InputError, match=r"system, which is not a tensor"):
        read(tmp_path, torch_files.archive(TENSORS, attack))
    assert not marker.exists()


def test_every_damaged_archive_is_refused_or_read_as_it_was(tmp_path):
    """Cut it is refused; with a byte changed it is refused or its numbers are the same."""
    content = torch_files.archive(TENSORS)
    for end in range(0, len(content), 9):
        with pytest.raises(InputError, match="weights.pth"):
            read(tmp_path, content[:end])
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        try:
            found = read(tmp_path, bytes(changed))
        except InputError:
            continue
        np.testing.assert_array_equal(found.get("weight", TENSORS["weight"]), TENSORS["weight"])


def test_archives_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="is compressed or encrypted"):
        read(tmp_path, torch_files.archive(TENSORS, compression=zipfile.ZIP_DEFLATED))
    longer = TENSORS | {"weight": np.arange(7, dtype=np.float32)}
    with pytest.raises(InputError, match="storage 0 should have 6 numbers"):
        read(tmp_path, torch_files.archive(longer, torch_files.state_dict(TENSORS)))
    with pytest.raises(InputError, match="holds no tensors by name"):
        read(tmp_path, torch_files.archive({}, pickle.dumps([1], 2)))
