"""The reader of published pickles: what it reads, and that it runs nothing of what it refuses."""

import builtins
import gc
import os
import pickle
import struct
import time

import make_published as make
import numpy as np
import pytest
from published_networks import saved

from fairjax.errors import InputError
from fairjax.models import published_pickle
from fairjax.models.published_pickle import read_pickle
from fairjax.train.network_files import to_published


@pytest.fixture
def own_objects():
    """The garbage collector leaves the objects of other tests alone: their number costs no time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def networks():
    return to_published(saved())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_it_reads_every_protocol_bit_by_bit_and_runs_no_text(tmp_path, networks, protocol):
    path, marker = tmp_path / "net.pkl", tmp_path / "run"
    source = f"open({str(marker)!r}, 'w')"
    path.write_bytes(make.content(networks, protocol, source))
    found = read_pickle(path)
    assert list(found) == ["G_ema", "G", "D"]
    for name, net in networks.items():
        assert found[name].class_name == net.class_name
        assert found[name].init_kwargs == net.init_kwargs
        assert found[name].arrays.keys() == net.arrays.keys()
        for key, array in net.arrays.items():
            there = found[name].arrays[key]
            assert (there.dtype, there.shape) == (array.dtype, array.shape), key
            assert there.tobytes() == array.tobytes()
    assert found["D"].attributes["b8.conv0.gain"] == np.sqrt(2)
    assert not marker.exists()


def test_a_strided_tensor_is_read_as_it_is_meant(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    turned = make.tensor(numbers, offset=1, shape=(3, 2), stride=(1, 4))
    net = make.module("Generator", "", buffers={"x": turned}, _init_kwargs={})
    path = tmp_path / "net.pkl"
    path.write_bytes(make.dumps({"G_ema": net}))
    expected = [[1, 5], [2, 6], [3, 7]]
    np.testing.assert_array_equal(read_pickle(path)["G_ema"].arrays["x"], expected)


# Hostile files.


class Calls:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def net(**state):
    """The bytes of a file with one network of this state."""
    return make.dumps({"G_ema": make.module("Generator", "", _init_kwargs={}, **state)})


def with_tensor(tensor=None, **changes):
    tensor = make.tensor(np.ones(4), **changes) if tensor is None else tensor
    return net(parameters={"x": tensor})


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name(module, word):
    return b"c" + f"{module}\n{word}\n".encode()


def proto(body, protocol=4):
    return b"\x80" + bytes([protocol]) + body


def storage(data):
    return make.Call(make.BYTES, data)


def scalar(dtype, data):
    """A NumPy number of a type as text, as it lies in a file."""
    kind = name("numpy", "dtype") + b"(" + text(dtype) + b"\x89\x88tR"
    body = b"\x8e" + struct.pack("<Q", len(data)) + data
    return proto(name("numpy._core.multiarray", "scalar") + b"(" + kind + body + b"tR.", 5)


META = b"}(" + text("type") + text("class") + text("version") + b"K\x06" + text("module_src")
META += text("") + text("class_name") + text("X") + text("state")


def module_ops(modules):
    """Operations that make a module with these entries of modules."""
    state = b"}(" + text("_parameters") + b"}" + text("_buffers") + b"}"
    state += text("_init_kwargs") + b"}" + text("_modules") + modules + b"u"
    make_it = name("torch_utils.persistence", "_reconstruct_persistent_obj")
    return make_it + META + state + b"u\x85R"


def module_within_itself():
    modules = b"}q\x05"
    whole = module_ops(modules) + b"q\x06"
    return proto(
        b"}" + text("G_ema") + whole + b"s" + b"(" + b"h\x05" + text("a") + b"h\x06s" + b"t."
    )


def many_parts(depth=40):
    keep = b""
    for level in range(depth):
        below = b"}" if level == 0 else b"}(" + text("a") + b"h\x01" + text("b") + b"h\x01u"
        keep += module_ops(below) + b"q\x01"
    return proto(b"}(" + text("kept") + b"(" + keep + b"t" + text("G_ema") + b"h\x01u.")


def own_options():
    whole = module_ops(b"}").replace(
        text("_init_kwargs") + b"}", text("_init_kwargs") + b"}q\x07" + text("a") + b"h\x07s"
    )
    return proto(b"}" + text("G_ema") + whole + b"s.")


HUGE = 2**62
CASES = {
    "os.system": lambda mark: pickle.dumps({"G_ema": Calls(os.system, f"touch {mark}")}),
    "os.system, protocol 2": lambda mark: pickle.dumps(Calls(os.system, f"touch {mark}"), 2),
    "os.system as an option": lambda mark: net(_x=Calls(os.system, f"touch {mark}")),
    "eval": lambda mark: pickle.dumps(Calls(eval, f"__import__('os').mkdir({str(mark)!r})"), 3),
    "exec": lambda mark: pickle.dumps([Calls(exec, f"open({str(mark)!r}, 'w')")]),
    "open": lambda mark: pickle.dumps(Calls(open, str(mark), "w")),
    "getattr": lambda mark: pickle.dumps(Calls(getattr, "x", "upper")),
    "a dotted name": lambda mark: proto(
        text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93."),
    "a nested hostile pickle": lambda mark: with_tensor(
        data=pickle.dumps(Calls(os.system, f"touch {mark}"), 2)),
    "code within a nested stream": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4"), body=Calls(os.system, f"touch {mark}"))),
    "a storage of an unknown type": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<i4"), "IntStorage")),
    "a view of a storage": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4"), view=("v", 0, 1))),
    "a storage of absurd size": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4"), count=HUGE)),
    "a storage of negative size": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4"), count=-4)),
    "a storage that is too short": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4"))[:-1]),
    "a storage with more behind": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4")) + b"x"),
    "text instead of a storage": lambda mark: with_tensor(data="text"),
    "an absurd shape": lambda mark: with_tensor(shape=(HUGE,), stride=(0,)),
    "an absurd product": lambda mark: with_tensor(shape=(2**31,) * 8, stride=(0,) * 8),
    "many dimensions": lambda mark: with_tensor(shape=(1,) * 64, stride=(1,) * 64),
    "a negative shape": lambda mark: with_tensor(shape=(-1,), stride=(1,)),
    "a negative stride": lambda mark: with_tensor(offset=3, stride=(-1,)),
    "a negative offset": lambda mark: with_tensor(offset=-1),
    "an offset outside": lambda mark: with_tensor(offset=1),
    "an absurd offset": lambda mark: with_tensor(offset=HUGE * 4, shape=(0,)),
    "a stride outside": lambda mark: with_tensor(stride=(2,)),
    "an absurd stride": lambda mark: with_tensor(shape=(2,), stride=(HUGE,)),
    "a repeated number": lambda mark: with_tensor(shape=(5,), stride=(0,)),
    "a shape of text": lambda mark: with_tensor(shape=("4",), stride=(1,)),
    "a tensor of a list": lambda mark: with_tensor(make.Call(make.TENSOR, [1.0], 0, (1,), (1,))),
    "one tensor under many names": lambda mark: net(parameters=dict.fromkeys(
        map(str, range(2000)), make.tensor(np.ones(50_000)))),
    "objects as a number": lambda mark: scalar("O8", b"\0" * 8),
    "text as a number": lambda mark: scalar("U2", b"\0" * 8),
    "a number with few bytes": lambda mark: scalar("f8", b"\0" * 7),
    "a number with many bytes": lambda mark: scalar("f8", b"\0" * 4000),
    "a big-endian number": lambda mark: proto(
        name("numpy", "dtype") + b"(" + text("f8") + b"\x89\x88tR(K\x03" + text(">") + b"tb."),
    "an array": lambda mark: make.dumps({"G_ema": np.ones(3)}),
    "a list of absurd length": lambda mark: proto(b"]" + b"]" * 400_000 + b"."),
    "deep nesting": lambda mark: proto(b")" + b"\x85" * 10**6 + b"."),
    "deep nesting below the limit": lambda mark: proto(b")" + b"\x85" * 140_000 + b"."),
    "laughing tuples": lambda mark: proto(b")" + b"q\x00h\x00\x86" * 60 + b"."),
    "laughing tuples as a key": lambda mark: proto(
        b"})q\x00" + b"h\x00\x86q\x00" * 60 + b"Ns."),
    "a module with 2^40 parts": lambda mark: many_parts(),
    "a module within itself": lambda mark: module_within_itself(),
    "a list within itself": lambda mark: proto(b"]q\x00h\x00a."),
    "options within themselves": lambda mark: own_options(),
    "a dict within itself": lambda mark: proto(b"}q\x00" + text("G_ema") + b"h\x00s."),
    "bytes of absurd length": lambda mark: proto(b"\x8e" + struct.pack("<Q", HUGE) + b"x."),
    "text of absurd length": lambda mark: proto(b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"x."),
    "a frame of absurd length": lambda mark: proto(b"\x95" + struct.pack("<Q", HUGE) + b"."),
    "a memo of absurd index": lambda mark: proto(b"Nr" + struct.pack("<I", 2**32 - 1) + b"."),
    "an unknown memo": lambda mark: proto(b"h\x07."),
    "a number of absurd length": lambda mark: proto(
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01."),
    "the same large bytes again": lambda mark: proto(
        b"X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"q\x00" + name("_codecs", "encode")
        + b"q\x01" + (b"h\x01h\x00" + text("latin1") + b"\x86R") * 10_000 + b"."),
    "the same long set again": lambda mark: proto(
        b"(" + b"".join(b"J" + struct.pack("<i", i) for i in range(5000)) + b"tq\x00"
        + name("builtins", "set") + b"q\x01" + b"h\x01h\x00\x85R" * 10_000 + b"."),
    "a persistent id": lambda mark: proto(text("x") + b"Q."),
    "a persistent id as text": lambda mark: proto(b"Px\n."),
    "an extension": lambda mark: proto(b"\x82\x01."),
    "an instance": lambda mark: proto(b"(ios\nsystem\n."),
    "an object": lambda mark: proto(b"(" + name("collections", "OrderedDict") + b"o."),
    "a duplicate": lambda mark: proto(b"N2."),
    "a buffer from outside": lambda mark: proto(b"\x97.", 5),
    "state for a function": lambda mark: proto(
        name("torch._utils", "_rebuild_parameter") + b"}" + text("marked") + b"\x88sb."),
    "slots for a class": lambda mark: proto(
        name("collections", "OrderedDict") + b"N}" + text("marked") + b"\x88s\x86b."),
    "a call of text": lambda mark: proto(text("x") + b")R."),
    "a call of a storage type": lambda mark: proto(name("torch", "FloatStorage") + b")R."),
    "wrong arguments": lambda mark: proto(
        name("torch_utils.persistence", "_reconstruct_persistent_obj") + b")R."),
    "a later version": lambda mark: proto(
        name("torch_utils.persistence", "_reconstruct_persistent_obj")
        + META.replace(b"K\x06", b"K\x07") + b"}u\x85R."),
    "a name of several lines": lambda mark: proto(text("a\n\x1b[2J") + text("b\n") + b"\x93."),
    "a type of a storage that is deep": lambda mark: with_tensor(
        data=make.stream(np.ones(4, "<f4")).replace(
            b"ctorch\nFloatStorage\n", b")" + b"\x85" * 10_000)),
    "a part of several lines": lambda mark: net(buffers={"a\nb": make.tensor(np.ones(4))}),
    "an empty stack": lambda mark: proto(b"."),
    "operands missing": lambda mark: proto(b"s."),
    "a mark missing": lambda mark: proto(b"t."),
    "something behind the end": lambda mark: net() + b"cos\nsystem\n",
    "an unknown protocol": lambda mark: proto(b"}.", 9),
    "protocol 0": lambda mark: pickle.dumps({"G_ema": 1}, 0),
    "no networks": lambda mark: pickle.dumps({"a": 1}),
    "a list": lambda mark: pickle.dumps([1]),
    "numbers as networks": lambda mark: pickle.dumps({"G_ema": 1}),
    "an empty file": lambda mark: b"",
    "a zip": lambda mark: b"PK\x03\x04" + b"\0" * 100,
    "zeros": lambda mark: b"\0" * 100,
    "text": lambda mark: b"hello world\n" * 10,
}  # fmt: skip


@pytest.mark.usefixtures("own_objects")
@pytest.mark.parametrize("case", list(CASES))
def test_a_hostile_file_is_refused_at_once_and_has_no_effect(tmp_path, case):
    marker, path = tmp_path / "attacked", tmp_path / "bad.pkl"
    path.write_bytes(CASES[case](marker))
    watched = (vars(published_pickle._parameter), dict(vars(builtins)))
    before = [dict(w) for w in watched]
    began = time.process_time()
    with pytest.raises(InputError) as error:
        read_pickle(path)
    assert time.process_time() - began < 1
    said = str(error.value)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) < 700
    assert not marker.exists()
    assert [dict(w) for w in watched] == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_attacks_work_where_nobody_looks(tmp_path):
    for case in ("os.system", "eval"):
        marker = tmp_path / case
        pickle.loads(CASES[case](marker))
        assert marker.exists()


def test_every_way_of_cutting_a_file_short_is_refused(tmp_path, networks):
    content = make.content({"D": networks["D"]})
    path = tmp_path / "cut.pkl"
    for end in [*range(40), *range(100, len(content), len(content) // 60), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match="cut.pkl"):
            read_pickle(path)


def test_random_damage_raises_nothing_else(tmp_path, networks):
    content = make.content({"D": networks["D"]})
    path, draw = tmp_path / "damaged.pkl", np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[draw.integers(len(content))] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            read_pickle(path)
        except InputError:
            refused += 1
    assert refused > 20


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.pkl", tmp_path):
        with pytest.raises(InputError, match="not a readable network file"):
            read_pickle(path)


@pytest.mark.usefixtures("own_objects")
def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate(2**36)  # sparse: it takes no space
    began = time.process_time()
    with pytest.raises(InputError, match="68719476736 bytes"):
        read_pickle(path)
    assert time.process_time() - began < 1
