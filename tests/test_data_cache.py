import errno
import json
import os
import threading

import numpy as np
import pytest

from fairjax.data import cache
from fairjax.experiments.program import ended


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


def fill(images):
    images[:] = np.arange(images.size, dtype=np.uint64).reshape(images.shape) % 251
    return {"note": 1}


def make(lines, fill=fill, shape=(5, 4, 4, 3)):
    return cache.get("test", {"a": 1}, shape, fill, lines.append)


def test_second_time_reads_what_the_first_wrote():
    lines: list[str] = []
    first = make(lines)
    again = make(lines, fill=lambda images: pytest.fail("was filled again"))
    np.testing.assert_array_equal(first.images, again.images)
    assert again.notes == {"note": 1}
    assert "using" in lines[-1]


@pytest.mark.parametrize("spot", [b"note", b"blocks", b"shape", b"{", b'"a": 1'])
def test_a_flipped_bit_in_the_record_is_damage(spot):
    path = cache.root() / make([]).key / "entry.json"
    whole = path.read_bytes()
    for bit in (0x80, 1):
        data = bytearray(whole)
        data[data.index(spot)] ^= bit
        path.write_bytes(data)
        lines: list[str] = []
        assert make(lines).notes == {"note": 1}
        assert "are damaged" in lines[0]


def test_the_record_of_an_older_version_needs_no_hash():
    path = cache.root() / make([]).key / "entry.json"
    record = json.loads(path.read_text())
    del record["hash"]
    cache.write_json(path, record)
    assert cache.damage(path.parent, full=True) is None
    del record["notes"]
    cache.write_json(path, record)
    assert "notes" in cache.damage(path.parent, full=True)


def test_a_full_disk_is_told_in_one_line(monkeypatch, capsys):
    def full(number, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SystemExit) as end, ended("again"):
        make([], fill=lambda images: pytest.fail("there is no room"))
    assert end.value.code == 2
    assert "images.u8: No space left on device. Check" in capsys.readouterr().err
    assert not [f for f in cache.root().iterdir() if f.suffix != ".lock"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_takes_no_space_ahead(monkeypatch, number):
    def unknown(*args):
        raise OSError(number, "unknown")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    np.testing.assert_array_equal(make([]).images.ravel(), np.arange(240) % 251)


@pytest.mark.parametrize("harm", ["truncate", "flip", "no entry", "grow"])
def test_damage_is_noticed_and_mended(harm):
    lines: list[str] = []
    entry = make(lines)
    path = cache.root() / entry.key / "images.u8"
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        path.write_bytes(data[:-1])
    elif harm == "grow":
        path.write_bytes(data + b"x")
    elif harm == "flip":
        data[100] ^= 1
        path.write_bytes(data)
    else:
        (path.parent / "entry.json").unlink()
    assert cache.damage(path.parent, full=False) is not None
    again = make(lines)
    assert any("damaged" in line for line in lines)
    np.testing.assert_array_equal(again.images.ravel(), np.arange(240) % 251)


def test_sampled_check_sees_the_size_of_a_large_entry(monkeypatch):
    entry = make([])
    monkeypatch.setattr(cache, "FULL_CHECK_BYTES", 10)
    assert cache.damage(cache.root() / entry.key, full=False) is None


def test_interrupted_filling_leaves_nothing_that_looks_finished():
    def broken(images):
        images[:2] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make([], fill=broken)
    assert not [f for f in cache.root().iterdir() if f.suffix != ".lock"]


def test_what_a_killed_filling_left_is_removed():
    entry = make([])
    left = cache.root() / f"{entry.key}.partial.abc"
    (cache.root() / entry.key).rename(left)
    make([])
    assert not left.exists()


def test_two_processes_make_one_entry_once():
    """The second waits for the first, whose draft it leaves alone."""
    begun, went_on = threading.Event(), threading.Event()

    def slow(images):
        begun.set()
        went_on.wait(0.5)
        return fill(images)

    first = threading.Thread(target=make, args=([], slow))
    first.start()
    begun.wait()
    second = make([], fill=lambda images: pytest.fail("was filled again"))
    first.join()
    assert second.notes == {"note": 1}


def test_shape_and_facts_decide_the_entry():
    keys = {make([]).key, make([], shape=(6, 4, 4, 3)).key}
    keys.add(cache.get("test", {"a": 2}, (5, 4, 4, 3), fill, print).key)
    assert len(keys) == 3


def test_write_json_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    cache.write_json(path, {"x": (1, 2)})
    with pytest.raises(TypeError):
        cache.write_json(path, {"x": 1j})
    assert json.loads(path.read_text()) == {"x": [1, 2]}
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        cache.write_json(path, {"x": 3})
    assert json.loads(path.read_text()) == {"x": [1, 2]}
