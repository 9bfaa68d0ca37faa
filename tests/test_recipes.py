"""The recipes of launch/ for clusters: what they start, and what they do when it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import same_numbers
import yaml

from fairjax.experiments.config_line import command_flags
from fairjax.train import devices

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
GIVEN = ["--config=configs/quickstart.py:tiny", "--config.name=two words; $(echo no)"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Writes a program that is found before the real one, and logs its arguments, one a line."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name: str, then: str) -> Path:
        log = tmp_path / f"{name}.log"
        file = tmp_path / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >> {log}\n{then}\n')
        file.chmod(0o755)
        return log

    return write


def bash(*argv: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *map(str, argv)], env=os.environ | env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("recipe", ["slurm.sh", "tpu_pod.sh", "kubernetes.yaml"])
def test_recipes_use_flags_that_exist(recipe):
    known = set(command_flags(["launch/train.py"]))
    text = (LAUNCH / recipe).read_text()
    used = set(re.findall(r"--(config|workdir|distributed|coordinator|process\w*)\b", text))
    assert {"config", "workdir", "distributed"} <= used <= known
    assert "launch/train.py" in text


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (2, False), (143, True)])
def test_slurm_puts_a_stopped_job_into_the_queue_again(programs, code, requeued):
    srun, scontrol = programs("srun", f"exit {code}"), programs("scontrol", "")
    done = bash(LAUNCH / "slurm.sh", *GIVEN, SLURM_SUBMIT_DIR=str(LAUNCH.parent), SLURM_JOB_ID="7")
    assert done.returncode == code, done.stderr
    started = srun.read_text().splitlines()
    assert started[-len(GIVEN) :] == GIVEN
    assert started[-len(GIVEN) - 3 : -len(GIVEN)] == [
        "python",
        "launch/train.py",
        "--distributed=on",
    ]
    assert scontrol.exists() == requeued
    if requeued:
        assert scontrol.read_text().split() == ["requeue", "7"]


def test_slurm_refuses_to_run_outside_a_job(monkeypatch):
    monkeypatch.delenv("SLURM_SUBMIT_DIR", raising=False)
    done = bash(LAUNCH / "slurm.sh")
    assert done.returncode != 0
    assert "sbatch" in done.stderr


def test_every_host_of_a_slice_gets_the_command_as_it_was_typed(programs, tmp_path):
    gcloud, python = programs("gcloud", ""), programs("python3", "")
    done = bash(LAUNCH / "tpu_pod.sh", *GIVEN, TPU="slice", ZONE="zone")
    assert done.returncode == 0, done.stderr
    words = gcloud.read_text().splitlines()
    assert words[:5] == ["compute", "tpus", "tpu-vm", "ssh", "slice"]
    assert "--worker=all" in words
    (remote,) = (word.removeprefix("--command=") for word in words if word.startswith("--command="))
    (tmp_path / "fairjax").mkdir()
    assert bash("-c", f"cd {tmp_path} && {remote}").returncode == 0
    assert python.read_text().splitlines() == ["launch/train.py", "--distributed=on", *GIVEN]
    assert bash(LAUNCH / "tpu_pod.sh", TPU="slice", ZONE="zone").returncode == 2
    assert "ZONE" in bash(LAUNCH / "tpu_pod.sh", "stop", TPU="slice", ZONE="").stderr


def test_the_jobset_names_its_own_pods():
    jobset = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    given = dict(arg[2:].split("=", 1) for arg in container["command"] if arg.startswith("--"))
    name = jobset["metadata"]["name"]
    assert given["coordinator"].split(":")[0] == f"{name}-{group['name']}-0-0.{name}"
    assert int(given["processes"]) == job["completions"] == job["parallelism"]
    assert given["process"] == "$(JOB_COMPLETION_INDEX)"
    assert job["completionMode"] == "Indexed"
    assert container["command"][:2] == ["python", "launch/train.py"]  # it gets SIGTERM itself
    assert job["backoffLimit"] == 0  # one pod does not come back alone
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other():
    """What srun sets is enough for JAX and for us: two real processes on this machine."""
    program = (
        "import jax; from fairjax.train import devices; devices.initialise('auto');"
        "devices.refuse_copies('auto'); print(jax.process_index(), jax.process_count())"
    )
    job = str(same_numbers.free_port())
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program], text=True, stdout=subprocess.PIPE, env=os.environ | {
                "SLURM_JOB_ID": job, "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "localhost",
                "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        )
        for i in (0, 1)
    ]  # fmt: skip
    try:
        assert [process.communicate(timeout=120)[0] for process in both] == ["0 2\n", "1 2\n"]
    finally:
        for process in both:
            process.kill()


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, 0),
        ({"SLURM_NTASKS": "16", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_JOB_ID": "7"}, 16),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, 1),
    ],
)
def test_copies_are_refused(monkeypatch, environment, processes):
    for name in (*devices._CLUSTERS, *devices._SIZES, "SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices.announced() == processes
    devices.refuse_copies("off")
    if processes < 2:
        devices.refuse_copies("auto")
    else:
        with pytest.raises(devices.InputError, match=f"{processes} processes.*each would train"):
            devices.refuse_copies("auto")
    with pytest.raises(devices.InputError, match="20 processes"):
        devices.refuse_copies("auto", 20)
    monkeypatch.setenv(
        "WORLD_SIZE", "8"
    )  # flags say how many there are, whatever the launcher does
    devices.refuse_copies("auto", 1)
    monkeypatch.setattr(devices, "is_alone", lambda: False)
    devices.refuse_copies("auto", 20)


def test_a_job_without_srun_is_refused(monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(devices.InputError, match="Slurm gave 8 tasks.*srun"):
        devices.initialise("auto")
    devices.initialise("off")
