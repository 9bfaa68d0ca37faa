"""Which folder a run uses, what is written into it, and who may use it."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pipeline
import pytest

import fairjax
from fairjax.errors import InputError
from fairjax.experiments import workdir


@pytest.fixture
def config():
    return pipeline.get_config()


def begin(path: Path, config, finished: bool) -> Path:
    """A run's folder, as far as `choose` looks into it."""
    (path / "report").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config.to_dict(), default=list))
    if finished:
        (path / "report/DONE").write_text("{}")
    return path


def test_given(config, tmp_path):
    begin(tmp_path / "other", config, finished=False)
    assert workdir.choose(config, "mine", root=tmp_path) == Path("mine")


def test_new_folder_has_name_and_date(config, tmp_path):
    first = workdir.choose(config, "", root=tmp_path)
    assert re.fullmatch(r"small-\d{8}", first.name)
    first.mkdir()
    assert workdir.choose(config, "", root=tmp_path).name == f"{first.name}-2"
    (tmp_path / f"{first.name}-2").mkdir()
    assert workdir.choose(config, "", root=tmp_path).name == f"{first.name}-3"
    assert len(list(tmp_path.iterdir())) == 2  # choosing makes nothing


def test_unfinished_run_with_the_same_config_is_resumed(config, tmp_path):
    other = pipeline.get_config()
    other.gan.kimg = 3.0
    begin(tmp_path / "small-9", other, finished=False)
    mine = begin(tmp_path / "small-1", config, finished=False)
    begin(tmp_path / "small-3", config, finished=True)
    assert workdir.choose(config, "", root=tmp_path) == mine


def test_unfinished_run_of_an_older_version_is_resumed(config, tmp_path):
    """What it was begun with lacks a key; it goes on only where that has its default."""
    mine = begin(tmp_path / "small-1", config, finished=False)
    record = json.loads((mine / "config.json").read_text())
    del record["eval"]["features_during"]
    (mine / "config.json").write_text(json.dumps(record))
    assert workdir.choose(config, "", root=tmp_path) == mine
    config.eval.features_during = True
    assert workdir.choose(config, "", root=tmp_path) != mine


def test_newest_of_several(config, tmp_path):
    paths = [begin(tmp_path / name, config, finished=False) for name in ("small-9", "small-10")]
    for age, path in enumerate(paths):
        os.utime(path / "config.json", (1000 - age, 1000 - age))
    assert workdir.choose(config, "", root=tmp_path) == paths[0]


def test_finished_run_is_not_reused_but_for_one_stage(config, tmp_path):
    done = begin(tmp_path / "small-1", config, finished=True)
    assert workdir.choose(config, "", root=tmp_path) != done
    assert workdir.choose(config, "", "report", root=tmp_path) == done


def test_foreign_folders_are_passed_over(config, tmp_path):
    for name, text in (("a", b""), ("b", b"[]"), ("c", b"\xff\xfe"), ("d", b"null")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(text)
    (tmp_path / "e/config.json").mkdir(parents=True)
    assert workdir.choose(config, "", root=tmp_path).name.startswith("small-")


HOLD = """
import sys, time
from pathlib import Path
from fairjax.experiments import workdir
with workdir.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_freed_when_its_holder_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True,
        env=pipeline.environment(),
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another run.*process {holder.pid}.*Wait"):
            with workdir.lock(tmp_path / "run"):
                pytest.fail("two runs hold the folder")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with workdir.lock(tmp_path / "run"):
        assert (tmp_path / "run/lock").read_text() == f"{os.getpid()}\n"


def test_lock_can_be_taken_again(tmp_path):
    for _ in range(2):
        with workdir.lock(tmp_path / "new/run"):
            pass


def test_lock_needs_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        with workdir.lock(tmp_path / "file"):
            pytest.fail("a file is no folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_describe(config, tmp_path):
    root, tmp_path = tmp_path, tmp_path / "run"
    tmp_path.mkdir()
    workdir.describe(tmp_path, config, ["python", "launch/train.py", "--config.a=(1, 2)"])
    assert (tmp_path / "command.txt").read_text() == "python launch/train.py '--config.a=(1, 2)'\n"
    assert json.loads((tmp_path / "config.json").read_text())["data"]["n_biased"] == 240
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert versions["fairjax"] == fairjax.__version__
    assert {"jax", "flax", "numpy", "python", "devices", "date", "git"} <= versions.keys()
    # What was written is what `choose` recognises.
    assert workdir.choose(config, "", root=root) == tmp_path


def test_log_goes_to_stderr_and_file(tmp_path, capsys):
    log = logging.getLogger("fairjax")
    workdir.log_to(None)
    log.info("one")
    workdir.log_to(tmp_path)
    workdir.log_to(tmp_path)  # again: no line twice
    log.info("two")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d two\n", (tmp_path / "log.txt").read_text())
