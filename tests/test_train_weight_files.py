import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.train.weight_files import load_tree, save_tree

TREE = {
    "synthesis": {
        "b4": {"const": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "noise_strength": np.float32(0.5) * np.ones(()),
    },
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "counts": jnp.arange(3, dtype=jnp.int32),
}


def test_round_trip(tmp_path):
    save_tree(tmp_path / "net.safetensors", TREE)
    back = load_tree(tmp_path / "net.safetensors")
    assert back["synthesis"]["noise_strength"].shape == ()
    assert back["counts"].dtype == np.int32
    for path in (("synthesis", "b4", "const"), ("synthesis", "noise_strength"), ("turned",)):
        found, expected = back, TREE
        for name in path:
            found, expected = found[name], expected[name]
        np.testing.assert_array_equal(found, expected)
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]  # no draft is left


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_tree(path, {"a": np.zeros(2)})

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("fairjax.train.weight_files.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_tree(path, {"a": np.ones(2)})
    np.testing.assert_array_equal(load_tree(path)["a"], [0, 0])


@pytest.mark.parametrize("size", [0, 7, 60, -1])
def test_a_damaged_file_is_named(tmp_path, size):
    path = tmp_path / "net.safetensors"
    save_tree(path, TREE)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"net\.safetensors.*Delete the folder"):
        load_tree(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        load_tree(tmp_path / "gone.safetensors")


def test_numbers_that_numpy_does_not_have_are_told(tmp_path):
    path = tmp_path / "net.safetensors"
    about = {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    head = json.dumps(about).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(2))
    with pytest.raises(InputError, match=r"net\.safetensors: not a readable safetensors file"):
        load_tree(path)
