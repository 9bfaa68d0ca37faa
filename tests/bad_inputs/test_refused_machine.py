"""The machine around the run: files, locks, clusters, devices."""

import os
import subprocess
import sys

import pipeline
import pytest
from answers import SMALL, says


def test_workdir_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    says(refused(*SMALL, f"--workdir={tmp_path / 'file'}"), str(tmp_path / "file"), "folder")
    assert (tmp_path / "file").read_text() == "mine"
    says(refused(*SMALL, f"--workdir={tmp_path / 'file/run'}"), str(tmp_path / "file/run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_workdir_not_writable(refused, tmp_path):
    tmp_path.chmod(0o500)
    says(refused(*SMALL, f"--workdir={tmp_path / 'run'}"), str(tmp_path / "run"), "permission")
    tmp_path.chmod(0o700)


def test_cache_folder_is_a_file(refused, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "file"))
    says(refused(*SMALL, f"--workdir={tmp_path / 'run'}"), str(tmp_path / "file"))


def alone(*args: str, **env: str) -> str:
    """The answer of a process of its own."""
    done = subprocess.run(
        [sys.executable, "launch/train.py", *args], cwd=pipeline.ROOT, text=True,
        env=pipeline.environment() | env, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_cluster_that_is_not_there(tmp_path):
    line = alone(*SMALL, "--distributed=on", f"--workdir={tmp_path / 'run'}")
    says(line, "--distributed=on", "--distributed=off")
    assert not (tmp_path / "run").exists()


def test_device_that_is_not_there(tmp_path):
    line = alone(*SMALL, f"--workdir={tmp_path / 'run'}", JAX_PLATFORMS="abacus")
    says(line, "JAX_PLATFORMS", "abacus", "cpu")


def test_batch_not_divisible_by_devices(tmp_path):
    line = alone(*SMALL, "--config.ratio.batch=14", "--config.gan.batch=12",
                 f"--workdir={tmp_path / 'run'}",
                 XLA_FLAGS="--xla_force_host_platform_device_count=4")  # fmt: skip
    says(line, "ratio.batch (=14)", "2 x 4 devices", "3 images per device")
