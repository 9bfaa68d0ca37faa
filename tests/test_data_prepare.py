import json

import numpy as np
import pytest
from data_config import config

from fairjax.data import cache
from fairjax.data.dataset import ROLES, Collected
from fairjax.data.prepare import load, prepare, separate
from fairjax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    prepare(config(), tmp_path / "data", lambda line: None)
    return tmp_path / "data"


def test_load_gives_back_what_prepare_gave(tmp_path):
    made = prepare(config(), tmp_path / "data", lambda line: None)
    read = load(tmp_path / "data")
    assert (
        read.manifest == made.manifest == json.loads((tmp_path / "data/manifest.json").read_text())
    )
    np.testing.assert_array_equal(read.images, made.images)
    np.testing.assert_array_equal(read.attributes, made.attributes)
    assert read.ids == made.ids
    assert set(read.roles) == set(ROLES)


def test_load_refuses_a_damaged_cache_and_prepare_mends_it(tmp_path, folder):
    path = cache.root() / load(folder).manifest["cache"]["path"] / "images.u8"
    data = bytearray(path.read_bytes())
    data[5] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="--stage=data"):
        load(folder)
    prepare(config(), folder, lambda line: None)
    assert load(folder).images[0].any()


@pytest.mark.parametrize("name", ["manifest.json", "index.npz"])
def test_load_refuses_missing_and_changed_files(folder, name):
    text = (folder / name).read_bytes()
    (folder / name).write_bytes(text.replace(b"avatar", b"AVATAR", 1) if name[0] == "m" else b"")
    with pytest.raises(InputError, match="changed"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match="no complete data stage"):
        load(folder)


@pytest.mark.parametrize("content", [b"\xff", b"[]", b"3", b'{"hash": []}'])
def test_load_refuses_what_is_no_manifest(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"no complete data stage|was changed"):
        load(folder)


def test_load_refuses_a_cache_that_is_gone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="gone"):
        load(folder)


def test_unknown_attribute_is_named(folder):
    with pytest.raises(InputError, match="unknown attribute 'age'"):
        load(folder).classes(("age",), np.arange(3))


def test_a_picture_in_two_roles_stays_in_the_first():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images[2:] = [[[[1]]], [[[2]]]]  # images 0 and 1 are equal
    roles = {"train_biased": np.array([0, 2]), "train_reference": np.array([1, 3])}
    collected = Collected(
        entry=cache.Entry("key", images, {}),
        attributes=np.zeros((4, 0), np.int8),
        attribute_values={},
        ids=("a", "b", "c", "d"),
        domain=np.array([0, 1, 0, 1], np.int8),
        roles=roles,
        licences=(),
    )
    kept, dropped = separate(collected)
    assert dropped == 1
    assert kept.roles["train_reference"].tolist() == [1, 3]
    assert kept.roles["train_biased"].tolist() == [2]
