"""A workdir that is damaged, or was begun in another way."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pipeline
import pytest
from answers import SMALL, pretend, says

from fairjax.experiments.command import main


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run whose data and weights are made; nothing is trained (the ratio is the true one)."""
    os.chdir(pipeline.ROOT)
    workdir = tmp_path_factory.mktemp("prepared") / "run"
    for stage in ("data", "weights"):
        main(["launch/train.py", *SMALL, f"--workdir={workdir}", f"--stage={stage}"])
    return workdir


@pytest.fixture
def work(prepared, tmp_path) -> Path:
    """A copy of the prepared run, to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


def test_finished_stage_with_another_config(refused, work):
    line = refused(*SMALL, f"--workdir={work}", "--config.data.bias=0.8", "--config.seed=3")
    says(line, "stage data", "data.bias = 0.9, now 0.8", "seed = 0, now 3", "another --workdir")
    assert json.loads((work / "config.json").read_text())["seed"] == 0


def test_begun_gan_with_another_shape(refused, work):
    folder = work / "arms/main/gan"
    pretend(work, "judge/long_hair", "arms/main/gan")
    (folder / "checkpoints").mkdir()
    (folder / "DONE").unlink()
    line = refused(*SMALL, f"--workdir={work}", "--config.gan.channel_max=8")
    says(line, "stage arms/main/gan", "gan.channel_max = 4, now 8")


def test_damaged_done(refused, work):
    for text in ("", "{", "[]", "null", "{}", '{"config": {}}'):
        (work / "weights/DONE").write_text(text)
        line = refused(*SMALL, f"--workdir={work}")
        says(line, str(work / "weights/DONE"), "Delete", "rerun")
    (work / "weights/DONE").write_bytes(b"\xff\xfe")
    says(refused(*SMALL, f"--workdir={work}"), str(work / "weights/DONE"))


def test_stage_before_its_inputs(refused, work, tmp_path):
    says(refused(*SMALL, f"--workdir={work}", "--stage=gan"),
         "stage judge/long_hair is not finished", "Run it first")  # fmt: skip
    says(refused(*SMALL, f"--workdir={tmp_path / 'new'}", "--stage=weights"),
         "stage data is not finished")  # fmt: skip


def test_input_changed_after_a_stage(refused, work):
    """The weights were computed on other data than now lies there."""
    record = json.loads((work / "data/DONE").read_text())
    record["output"]["manifest"] = "another"
    (work / "data/DONE").write_text(json.dumps(record))
    says(refused(*SMALL, f"--workdir={work}"), "stage weights", "another version of data")


JUDGED_BY_NOBODY = (*SMALL, "--config.judge.attribute_sets=()")


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory) -> Path:
    """As `prepared`, without a judge, so that the GAN stage can be reached at once."""
    os.chdir(pipeline.ROOT)
    workdir = tmp_path_factory.mktemp("unjudged") / "run"
    for stage in ("data", "weights"):
        main(["launch/train.py", *JUDGED_BY_NOBODY, f"--workdir={workdir}", f"--stage={stage}"])
    return workdir


@pytest.mark.parametrize(
    "damage",
    ["other images", "other data", "nan", "negative", "zero", "short", "cut", "gone", "key"],
)
def test_weights_that_do_not_fit(damage, refused, unjudged, tmp_path):
    work = Path(shutil.copytree(unjudged, tmp_path / "run"))
    path = work / "weights/weights.npz"
    arrays = dict(np.load(path))
    if damage == "other images":
        arrays["id"] = arrays["id"][::-1]
    elif damage == "other data":
        arrays["manifest"] = np.array("another")
    elif damage == "nan":
        arrays["weight"][3] = np.nan
    elif damage == "negative":
        arrays["weight"][3] = -1
    elif damage == "zero":
        arrays["weight"][:] = 0
    elif damage == "short":
        arrays["weight"] = arrays["weight"][1:]
    elif damage == "key":
        del arrays["weight"]
    np.savez(path, **arrays)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "gone":
        path.unlink()
    if damage not in ("gone", "cut"):  # a file that was replaced together with its hash
        record = json.loads((path.parent / "DONE").read_text())
        (path.parent / "DONE").write_text(json.dumps(record | {"files": {}}))
    line = refused(*JUDGED_BY_NOBODY, f"--workdir={work}", "--stage=gan")
    says(line, str(path), "elete")
    assert not (work / "arms/main/gan/checkpoints").exists()


def test_cut_generator(refused, unjudged, tmp_path):
    work = Path(shutil.copytree(unjudged, tmp_path / "run"))
    pretend(work, "arms/main/gan", args=JUDGED_BY_NOBODY)
    path = work / "arms/main/gan/generator.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    line = refused(*JUDGED_BY_NOBODY, f"--workdir={work}", "--stage=eval")
    says(line, str(path), "Delete", "rerun")
    assert not (work / "arms/main/eval/metrics.json").exists()


def test_cut_judge(refused, work):
    pretend(work, "judge/long_hair")
    folder = work / "judge/long_hair"
    summary = {"confusion": [[9, 1], [1, 9]], "soft_confusion": [[0.9, 0.1], [0.1, 0.9]]}
    (folder / "summary.json").write_text(json.dumps(summary))
    line = refused(*SMALL, f"--workdir={work}", "--stage=gan")
    says(line, str(folder), "no judge of a run", "classes")
    (folder / "summary.json").write_text(json.dumps(summary | {"classes": ["short", "long"]}))
    (folder / "network.safetensors").write_bytes(b"cut")
    line = refused(*SMALL, f"--workdir={work}", "--stage=gan")
    says(line, str(folder / "network.safetensors"), "Delete", "rerun")


def test_manifest_changed_by_hand(work, capsys):
    """Not an error: what the data stage made is made again, with the same hash."""
    path = work / "data/manifest.json"
    before = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"short hair"', '"no hair"'))
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=data"])
    shutil.rmtree(work / "weights")
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=weights"])
    assert "the manifest was changed" in capsys.readouterr().err
    assert json.loads(path.read_text())["hash"] == before["hash"]


def test_cut_image_cache_is_drawn_anew(work, tmp_path, monkeypatch, capsys):
    """Not an error: a damaged cache of avatars is noticed and drawn again."""
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))
    again = tmp_path / "again"
    args = ["launch/train.py", *SMALL, "--stage=data"]
    main([*args, f"--workdir={tmp_path / 'first'}"])
    (images,) = (tmp_path / "cache").glob("avatars-*/images.u8")
    whole = images.read_bytes()
    images.write_bytes(whole[:1000])
    main([*args, f"--workdir={again}"])
    assert "are damaged" in capsys.readouterr().err
    assert next((tmp_path / "cache").glob("avatars-*/images.u8")).read_bytes() == whole


def test_workdir_in_use(refused, work):
    (work / "lock").write_text("4711\n")
    with (work / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        says(refused(*SMALL, f"--workdir={work}"), str(work), "another run", "4711", "Wait")
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=data"])
