"""A run whose workdir lies on object storage: killed, gone on elsewhere, the same as one here."""

import os
import re
import signal
import subprocess
import sys
import time

import pipeline
import pytest

object_storage = pytest.importorskip("object_storage", exc_type=ImportError)
pytest.importorskip("gcsfs")

pytestmark = [pytest.mark.slow, pytest.mark.long]

URL = f"gs://{object_storage.BUCKET}/runs/one"
SHORT = ("--config.weights.true_ratio=True", "--config.judge.attribute_sets=()",
         "--config.data.n_biased=40", "--config.gan.kimg=0.4",
         "--config.gan.save_every_kimg=0.08")  # fmt: skip
# A dead run is noticed sooner than in earnest.
PROGRAM = """
import sys
from fairjax.data import storage
storage.BEAT, storage.SILENT = 0.5, 2.0
from fairjax.experiments.command import main
main(["launch/train.py", *sys.argv[1:]])
"""


def start(said, env):
    """Starts the command in a machine's own cache; what it says goes to a file."""
    argv = [sys.executable, "-c", PROGRAM, pipeline.CONFIG, f"--workdir={URL}", *SHORT]
    with said.open("w") as file:
        return subprocess.Popen(argv, cwd=pipeline.ROOT, env=env, stderr=file)


def names(storage):
    """The objects of the run, without the URL."""
    found = storage.get_file_list(object_storage.BUCKET, prefix="runs/one/")[0]
    return [about["name"].removeprefix("runs/one/") for about in found]


def saved(storage):
    hashes = [re.fullmatch("arms/main/gan/checkpoints/([0-9]+)/sha256.json", name)
              for name in names(storage)]  # fmt: skip
    return {int(found.group(1)) for found in hashes if found}


def test_a_run_on_object_storage_is_killed_and_goes_on_elsewhere(tmp_path):
    straight, copy = tmp_path / "one", tmp_path / "copy"
    pipeline.ok(pipeline.run(straight, *SHORT))
    said = [tmp_path / f"said{i}" for i in range(2)]
    with object_storage.served() as (env, storage):
        machines = [pipeline.environment(tmp_path / f"cache{i}") | env for i in range(2)]
        first = start(said[0], machines[0])
        try:
            while not saved(storage):
                assert first.poll() is None, said[0].read_text()[-2000:]
                time.sleep(0.05)
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        time.sleep(1)  # what was on its way arrives
        kept = max(saved(storage))
        assert kept < 50
        assert "arms/main/gan/DONE" not in names(storage)
        again = start(said[1], machines[1])
        assert again.wait(600) == 0, said[1].read_text()[-3000:]
        text = said[1].read_text()
        assert f"gan main: resumed at step {kept} of 50" in text
        assert "stage data: done before" in text
        assert f"open {URL}/report/index.html" in text
        for name in names(storage):
            path = copy / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.get_file(object_storage.BUCKET, f"runs/one/{name}"))
    assert not (copy / "lock").exists()
    assert sorted(pipeline.finished(copy)) == sorted(pipeline.finished(straight))
    assert pipeline.differences(straight, copy) == []
    assert "open gs://" in (copy / "log.txt").read_text()
    assert not (pipeline.ROOT / "gs:").exists()
