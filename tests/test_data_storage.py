"""Data and workdirs on object storage, in a stand-in on this machine."""

import os
import sys
import threading
import time
import zipfile
from datetime import datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_config import config
from PIL import Image

from fairjax.data import storage
from fairjax.data.prepare import prepare
from fairjax.errors import InputError
from fairjax.experiments.program import new_folder
from fairjax.train.checkpoints import Checkpoints

object_storage = pytest.importorskip("object_storage", exc_type=ImportError)
fsspec = pytest.importorskip("fsspec")
gcsfs = pytest.importorskip("gcsfs")

HOME = f"gs://{object_storage.BUCKET}"


@pytest.fixture(scope="module")
def server():
    with object_storage.served() as (env, _):
        yield env


@pytest.fixture
def system(server, tmp_path, monkeypatch):
    """The file system of the stand-in, and a cache of this test's own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))
    gcsfs.GCSFileSystem.clear_instance_cache()
    found = storage._system(HOME, "here")
    if found.find("bucket"):
        found.rm([f"bucket/{name.partition('/')[2]}" for name in found.find("bucket")])
    yield found
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def home(tmp_path):
    """Images of two sets and their labels: `biased` as a folder, `reference` as a zip."""
    rng = np.random.default_rng(0)
    for name, count in (("biased", 12), ("reference", 8)):
        (tmp_path / name / "inner").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / "inner" / f"{i}.png")
    with zipfile.ZipFile(tmp_path / "reference.zip", "w") as archive:
        for path in sorted((tmp_path / "reference").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    names = [f"{name}/inner/{i},{i % 2}" for name in ("biased", "reference") for i in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,hair", *(n.replace(",", ".png,")
                                                                   for n in names)]))  # fmt: skip
    return tmp_path


def prepared(root, folder):
    own = {"biased": (f"{root}/biased",), "reference": (f"{root}/reference.zip",),
           "attributes": f"{root}/labels.csv"}  # fmt: skip
    settings = config(source="folder", sets=(), group_attributes=(), folder=own)
    return prepare(settings, folder, lambda line: None)


def test_data_there_is_the_same_data(home, system, caplog, monkeypatch):
    monkeypatch.setattr(storage.log, "propagate", True)
    caplog.set_level("INFO", "fairjax")
    system.put(str(home / "biased"), "bucket/biased", recursive=True)
    for name in ("reference.zip", "labels.csv"):
        system.put_file(str(home / name), f"bucket/{name}")
    here, there = prepared(home, home / "here"), prepared(HOME, home / "there")
    np.testing.assert_array_equal(there.images, here.images)
    np.testing.assert_array_equal(there.attributes, here.attributes)
    assert (there.ids, there.manifest["counts"]) == (here.ids, here.manifest["counts"])
    assert len([r for r in caplog.messages if "copying" in r]) == 3
    assert f"copying 12 files (0.0 MB) from {HOME}/biased" in caplog.text

    caplog.clear()  # another machine, then the same again
    monkeypatch.setenv("FAIRJAX_CACHE", str(home / "other"))
    assert prepared(HOME, home / "other_machine").manifest["hash"] == there.manifest["hash"]
    assert prepared(HOME, home / "again").manifest["hash"] == there.manifest["hash"]
    assert len([r for r in caplog.messages if "copying" in r]) == 3

    caplog.clear()
    system.put_file(str(home / "biased/inner/0.png"), "bucket/biased/inner/new.png")
    system.rm_file("bucket/biased/inner/3.png")
    system.put_file(str(home / "biased/inner/1.png"), "bucket/biased/inner/2.png")
    ids = prepared(HOME, home / "changed").ids
    assert "biased/inner/new.png" in ids
    assert "biased/inner/3.png" not in ids
    assert "copying 2 files" in caplog.text


def test_what_cannot_be_fetched_is_said_in_one_line(system, monkeypatch):
    def refused(text):
        with pytest.raises(InputError) as error:
            storage.fetched(text, "data.folder.biased")
        assert str(error.value).startswith("data.folder.biased: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert f"there is nothing at {HOME}/none" in refused(f"{HOME}/none")
    assert "s3:// is no storage that can be used" in refused("s3://bucket/none")
    assert "cannot be read or written" in refused("gs://elsewhere/none")
    with monkeypatch.context() as patch:  # the stand-in itself refuses such a name
        evil = {"bucket/evil/../../out.txt": {"size": 1, "mtime": datetime.now()}}
        patch.setattr(storage._system(HOME, "here"), "find", lambda *args, **kwargs: evil)
        assert "cannot be read or written (an object is named" in refused(f"{HOME}/evil")
    with pytest.raises(InputError, match="not a folder of this machine"):
        new_folder(f"{HOME}/audit")
    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gcs")
    assert 'pip install -e ".[gcs]"' in refused(f"{HOME}/none")


def test_a_workdir_there_is_a_copy_of_what_was_pushed(system, tmp_path):
    with storage.workdir(f"{HOME}/run", 0) as folder:
        work = Path(folder)
        assert work.name == "run"
        assert str(storage.original(work / "a/checkpoints")) == f"{HOME}/run/a/checkpoints"
        assert storage.original(tmp_path) == tmp_path
        (work / "a/checkpoints/5").mkdir(parents=True)
        (work / "a/checkpoints/5/state").write_text("Orbax writes it there itself")
        (work / "a/DONE").write_text("done")
        time.sleep(0.01)
        (work / "a/z.json").write_text("1")
        (work / "gone.json").write_text("1")
        storage.push()
        versions = {name: about["generation"]
                    for name, about in system.find("bucket/run", detail=True).items()}  # fmt: skip
        assert {*versions} == {f"bucket/run/{n}" for n in ("a/DONE", "a/z.json", "gone.json",
                                                           "lock")}  # fmt: skip
        assert int(versions["bucket/run/a/DONE"]) > int(versions["bucket/run/a/z.json"])
        (work / "gone.json").unlink()
        (work / "a/z.json").write_text("22")
        storage.push()
        assert system.cat_file("bucket/run/a/z.json") == b"22"
        assert system.info("bucket/run/a/DONE")["generation"] == versions["bucket/run/a/DONE"]
        system.pipe_file("bucket/run/a/checkpoints/5/state", b"7")

        copies = list(storage._copies)
        with storage.workdir(f"{HOME}/run", 1) as other:  # another process of the run
            assert sorted(str(p.relative_to(other)) for p in Path(other).rglob("*")) == [
                "a", "a/DONE", "a/checkpoints", "a/z.json"]  # fmt: skip
            system.pipe_file("bucket/run/b.json", b"3")
            storage._copies[-1].pull()
            assert (Path(other) / "b.json").read_text() == "3"
        assert storage._copies == copies
        (work / "log.txt").write_text("last words")
    assert system.cat_file("bucket/run/log.txt") == b"last words"
    assert not system.exists("bucket/run/lock")

    def refused():
        with storage.workdir(f"{HOME}/run", 0) as folder:
            assert (Path(folder) / "log.txt").exists()
            raise InputError("gone", f"{folder}/a/DONE", f"Delete {folder}/a")

    with pytest.raises(InputError, match=f"^{HOME}/run/a/DONE: gone. Delete {HOME}/run/a.$"):
        refused()


@pytest.mark.long
@pytest.mark.slow
def test_checkpoints_are_written_there_and_a_damaged_one_is_put_aside(system, monkeypatch, caplog):
    monkeypatch.setattr("fairjax.train.checkpoints.log.propagate", True)
    state = {"a": jnp.arange(6.0), "step": jnp.zeros((), int)}
    with storage.workdir(f"{HOME}/run", 0) as folder:
        (Path(folder) / "metrics.jsonl").write_text("{}")
        with Checkpoints(Path(folder) / "checkpoints") as checkpoints:
            for step in (1, 2, 3):
                checkpoints.save(step, state | {"step": jnp.asarray(step)})
                assert system.exists("bucket/run/metrics.jsonl")  # before the checkpoint
        above = "bucket/run/checkpoints"
        assert {name.split("/")[3] for name in system.find(above)} == {"2", "3"}
        assert not (Path(folder) / "checkpoints").exists()
        newest = next(name for name in system.find(f"{above}/3") if "/d/" in name)
        system.pipe_file(newest, b"damaged")
        with Checkpoints(Path(folder) / "checkpoints") as checkpoints:
            assert checkpoints.latest == 2
            found = checkpoints.restore(jax.eval_shape(lambda: state))
            np.testing.assert_array_equal(found["a"], state["a"])
            assert found["step"] == 2
        assert "the checkpoint of step 3 is damaged" in caplog.text
        assert {name.split("/")[2] for name in system.find("bucket/run")} == {
            "checkpoints", "checkpoints_aside", "lock", "metrics.jsonl"}  # fmt: skip


def test_two_runs_cannot_use_one_workdir(system, monkeypatch):
    monkeypatch.setattr(storage, "BEAT", 0.2)
    monkeypatch.setattr(storage, "SILENT", 4.0)
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    with storage.workdir(f"{HOME}/run", 0):
        with pytest.raises(InputError, match=f"another run is using {HOME}/run"):
            storage.workdir(f"{HOME}/run", 0).__enter__()

        # One that wrongly took this one for dead is noticed.
        ended.clear()
        for _ in range(100):
            system.pipe_file("bucket/run/lock", b"elsewhere, process 7, abc 1")
            if ended.wait(0.1):
                break
        assert ended.is_set()
    # A dead one is not waited for for ever.
    system.pipe_file("bucket/run/lock", b"elsewhere, process 7, abc 1")
    begun = time.monotonic()
    with storage.workdir(f"{HOME}/run", 0):
        assert time.monotonic() - begun > 4.0
        assert os.fsencode(f"process {os.getpid()}") in system.cat_file("bucket/run/lock")
