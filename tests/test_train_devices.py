import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.train import devices

# Three iterations of a GAN, as the loop runs them; prints what must not depend on the devices.
# Arguments: networks, folder of the run, and in a run of several processes rank and port.
# Logistic loss: with hinge the gradients of the last bias, -1 and +1, cancel up to rounding while
# all logits are inside the margin, and Adam makes a whole step of what is left.
PROGRAM = """
import json, pathlib, sys
import jax, numpy as np
if len(sys.argv) > 3:
    jax.distributed.initialize(f"localhost:{sys.argv[4]}", 2, int(sys.argv[3]))
from fairjax.config import defaults
from fairjax.objectives import draw
from fairjax.train import devices, streams
from fairjax.train.gan import Gan
from fairjax.train.gan_state import reals
from fairjax.train.loop import Rhythm, run
from toy_gan import toy_gan
from toy_modes import toy_judge

settings = dict(loss="logistic", dro=True, dro_eta=0.5, r1_every=1, r1_weighted=True)
judge = None
if sys.argv[1] == "penalty":
    judge = toy_judge((0.3, 0.7))
    gan = toy_gan(**settings, path_length_every=1, penalty="adversary")
elif sys.argv[1] == "toy":
    gan = toy_gan(**settings, path_length_every=1)
elif sys.argv[1] == "ada":
    settings |= dict(augment="ada", augment_p=0.5, augment_categories="bg,noise")
    gan = toy_gan(**settings, path_length_every=1, ada_weighted=True)
else:
    config = defaults().gan
    config.update(batch=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=4,
                  mbstd_group=2, path_length_weight=0.0, **settings)
    gan = Gan(config, resolution=8, channels=3)
n, k = 50, 3
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
weight = rng.exponential(size=n)
drawn = []

def feed(start, stop):
    for step in range(start, stop):
        index = draw.draw(1, step, draw.weighted(weight, 8))[devices.local_slice(8)]
        drawn.append(index.tolist())
        yield {"image": images[index], "index": index}

def evaluate(ema, i):
    return {"brightness": float(gan.sample(ema, jax.random.key(3), 8, 8).mean())}

task = gan.task("gan", reals(weight, np.arange(n) % k, np.full(k, 1 / k), np.zeros(k)), evaluate,
                jax.random.key(2), judge)
folder = pathlib.Path(sys.argv[2])
rhythm = Rhythm(3, 8, log=1, save=2, evaluate=3, sample=3 if sys.argv[1] == "toy" else 0)
state = run(task, feed, jax.random.key(1), rhythm, folder)
again = run(task, feed, jax.random.key(1), rhythm, folder)  # restores the newest checkpoint
same = all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(again)))
record = streams.read(folder / "metrics.jsonl")
for line in record:
    line.pop("time"), line.pop("images_per_second", None)
print(json.dumps({
    "devices": jax.device_count(), "drawn": drawn, "record": record, "restored": same,
    "q": state.q.tolist(), "programs": [gan.g_step._cache_size(), gan.d_step._cache_size()],
}))
"""


def start(kind, folder, devices_each, *process):
    """Starts the program on so many CPU devices; `process` is (rank, port)."""
    tests = Path(__file__).parent
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    env = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices_each),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{tests}:{tests.parent}",
        "XLA_FLAGS": flags.strip(),  # the numbers are few, compiling is what takes time
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, kind, folder, *map(str, process)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(processes):
    """What each process printed; fails with the messages of all where one failed."""
    try:
        ends = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), "\n".join(errors for _, errors in ends)
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def assert_same_training(a, b):
    assert len(a["record"]) == len(b["record"]) == 4
    for one, other in zip(a["record"], b["record"], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5), name
    assert a["q"] == pytest.approx(b["q"], rel=1e-5)
    assert a["restored"]
    assert b["restored"]
    assert a["programs"] == b["programs"] == [1, 1]  # the state keeps its layout


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["toy", slow("ada"), slow("penalty"), slow("stylegan2")])
def test_four_devices_compute_what_one_computes(kind, tmp_path):
    one, four = results([start(kind, tmp_path / "1", 1), start(kind, tmp_path / "4", 4)])
    assert (one["devices"], four["devices"]) == (1, 4)
    assert one["drawn"] == four["drawn"]
    assert_same_training(one, four)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", "penalty"])
def test_two_processes_compute_what_one_computes(kind, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    one, first, second = results(
        [start(kind, tmp_path / "1", 1)]
        + [start(kind, tmp_path / "2", 2, rank, port) for rank in (0, 1)]
    )
    assert second["devices"] == 4
    halves = zip(first["drawn"], second["drawn"], strict=True)
    assert one["drawn"] == [a + b for a, b in halves]
    assert_same_training(one, first)
    assert first["record"] == second["record"]  # one file, written by the first process only


def test_a_batch_crosses_to_the_device_as_it_is():
    batch = {"image": np.zeros((4, 2, 2, 3), np.uint8), "index": np.arange(4, dtype=np.int32)}
    there = devices.put_batch(batch)
    assert there["image"].dtype == np.uint8
    np.testing.assert_array_equal(there["index"], batch["index"])
    assert devices.put_replicated(np.arange(3)).sharding.is_fully_replicated
    assert devices.local_slice(8) == slice(0, 8)
    assert devices.is_lead()
    assert devices.lead_says(True)
    assert not devices.lead_says(False)


def test_spread_leaves_values_alone():
    x = np.arange(6.0).reshape(6, 1)
    np.testing.assert_array_equal(jax.jit(devices.spread)(x), x)


@pytest.fixture
def attempts(monkeypatch):
    """Records whether processes would be joined; no cluster is announced."""
    for name in (*devices._CLUSTERS, "SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr("jax.distributed.initialize", lambda: calls.append(1))
    return calls


@pytest.mark.parametrize(
    ("distributed", "environment", "joins"),
    [
        ("auto", {}, False),
        ("off", {"JAX_COORDINATOR_ADDRESS": "a:1"}, False),
        ("on", {}, True),
        ("auto", {"JAX_COORDINATOR_ADDRESS": "a:1"}, True),
        ("auto", {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[0-3]"}, True),
        ("auto", {"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n0"}, False),
    ],
)
def test_processes_join_where_a_cluster_is(attempts, monkeypatch, distributed, environment, joins):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    devices.initialise(distributed)
    assert bool(attempts) == joins


def test_asking_for_a_cluster_that_is_not_there_is_an_input_error(attempts, monkeypatch):
    def alone():
        raise ValueError("coordinator_address should be defined")

    monkeypatch.setattr("jax.distributed.initialize", alone)
    with pytest.raises(InputError, match="--distributed=on.*coordinator_address"):
        devices.initialise("on")
