"""The command in two processes: stopped in order, killed on one side, gone on alone."""

import json
import signal
import subprocess
import time

import pipeline
import pytest
from same_numbers import free_port

pytestmark = pytest.mark.slow

# Only the stages that a GAN needs: the ratio is the true one, and nobody judges.
SHORT = ("--config.weights.true_ratio=True", "--config.judge.attribute_sets=()",
         "--config.data.n_biased=40", "--config.gan.kimg=0.4",
         "--config.gan.save_every_kimg=0.08")  # fmt: skip


def start(workdir):
    """Starts both processes; what each says goes to a file beside the workdir."""
    port, processes = free_port(), []
    for i in (0, 1):
        argv = pipeline.command(workdir, *SHORT, f"--coordinator=localhost:{port}",
                                "--processes=2", f"--process={i}")  # fmt: skip
        with (workdir.parent / f"said{i}").open("w") as file:
            processes.append(subprocess.Popen(argv, cwd=pipeline.ROOT, env=pipeline.environment(),
                                              stdout=subprocess.DEVNULL, stderr=file))  # fmt: skip
    return processes


def said(workdir, i):
    return (workdir.parent / f"said{i}").read_text()


def steps(workdir):
    folder = workdir / "arms/main/gan/checkpoints"
    return {int(f.name) for f in folder.iterdir() if f.name.isdigit()} if folder.is_dir() else set()


def wait_for_save(workdir, processes, after):
    while max(steps(workdir), default=0) <= after:
        codes = [p.poll() for p in processes]
        assert codes == [None, None], said(workdir, 0)[-2000:] + said(workdir, 1)[-2000:]
        time.sleep(0.02)


def test_two_processes_stop_together_survive_a_death_and_one_goes_on(tmp_path):
    workdir = tmp_path / "run"
    processes = start(workdir)
    try:
        wait_for_save(workdir, processes, 0)
        processes[1].send_signal(signal.SIGTERM)
        assert [p.wait(120) for p in processes] == [143, 143], said(workdir, 0)[-2000:]
        for i in (0, 1):
            assert "stopped by SIGTERM" in said(workdir, i).strip().splitlines()[-1]
        stopped = max(steps(workdir))

        processes = start(workdir)
        wait_for_save(workdir, processes, stopped)
        for i in (0, 1):
            assert f"gan main: resumed at step {stopped} of 50" in said(workdir, i)
        begun = time.monotonic()
        processes[1].kill()
        assert processes[0].wait(120) not in (0, None)
        assert time.monotonic() - begun < 120
        text = said(workdir, 0)
        assert "process 0 lost another process of the run" in text
        assert "Task 1" in text or "task:1" in text  # JAX names it when a heartbeat is missing
    finally:
        for process in processes:
            process.kill()
            process.wait()

    # A checkpoint whose hashes the kill prevented does not count.
    folder = workdir / "arms/main/gan/checkpoints"
    kept = max(step for step in steps(workdir) if (folder / f"{step}/sha256.json").exists())
    alone = pipeline.ok(pipeline.run(workdir, *SHORT))
    assert f"gan main: resumed at step {kept} of 50" in alone
    lines = (workdir / "arms/main/gan/metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line)["step"] for line in lines if "loss/g" in line]
    assert logged == sorted(set(logged))  # nothing twice
    assert set(range(10, 51, 10)) <= set(logged)  # nothing lost
    assert (workdir / "report/DONE").exists()
