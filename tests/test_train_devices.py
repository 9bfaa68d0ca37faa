from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import pytest
import same_numbers

from fairjax.errors import InputError
from fairjax.train import devices


def assert_same_training(one, other, limit):
    assert same_numbers.difference(one, other) <= limit
    for found in (one, other):
        assert found["restored"]
    # In each topology one program for each phase: the state keeps its layout.
    assert one["compilations"] == other["compilations"]


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("kind", "steps", "limit"),
    [("toy", 3, 1e-5), slow("gan", 6, same_numbers.LIMIT), slow("penalty", 3, same_numbers.LIMIT)],
)
def test_four_devices_compute_what_one_computes(kind, steps, limit, tmp_path):
    """The toy in float32, as in use; the others in float64, where rounding hides nothing."""
    more = {"steps": steps, "x64": limit < 1e-8, "facts": int(kind == "toy")}
    one, four = same_numbers.results(
        [same_numbers.start(kind, tmp_path / str(n), n, **more) for n in (1, 4)]
    )
    assert (one["devices"], four["devices"]) == (1, 4)
    assert one["drawn"] == four["drawn"]
    assert_same_training(one, four, limit)
    for found in one["facts"].values():
        assert found["sent"] == {}
    for found in four["facts"].values():
        # The gradients are summed, in one piece with the sums over the batch; parameters are never
        # gathered, and the new state takes over the memory of the old one.
        assert found["sent"].keys() == {"all-reduce"}
        number, sent = found["sent"]["all-reduce"]
        assert number <= 3
        assert found["size"] <= sent <= 2 * found["size"] + 2000
        assert found["donated"] >= found["state"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", pytest.param("classifier", marks=pytest.mark.long)])
def test_two_processes_compute_what_one_computes(kind, tmp_path):
    more = {"steps": 3, "x64": True}
    one, first, second = same_numbers.results(
        [same_numbers.start(kind, tmp_path / "1", 1, **more)]
        + same_numbers.pair(kind, tmp_path / "2", **more)
    )
    assert second["devices"] == 4
    halves = zip(first["drawn"], second["drawn"], strict=True)
    assert one["drawn"] == [a + b for a, b in halves]
    assert_same_training(one, first, same_numbers.LIMIT)
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


@dataclass(frozen=True)
class Chip:
    process_index: int
    id: int
    platform: str = "tpu"
    device_kind: str = "TPU"
    client: None = None


def test_devices_of_a_process_are_neighbours_as_local_slice_takes_them_to_be(monkeypatch):
    """On a slice of TPUs the order by place alternates between two hosts."""
    by_place = [Chip(process, 4 * process + i) for i in range(4) for process in (1, 0)]
    monkeypatch.setattr(jax, "devices", lambda: by_place)
    devices._own_mesh.cache_clear()
    try:
        own = devices.mesh()
    finally:
        devices._own_mesh.cache_clear()
    with devices.described(by_place):
        described = devices.mesh()
    for mesh in (own, described):
        assert [chip.id for chip in mesh.devices] == list(range(8))
        assert [chip.process_index for chip in mesh.devices] == [0] * 4 + [1] * 4
    assert own.axis_types == (jax.sharding.AxisType.Auto,)


def test_spread_leaves_values_alone():
    x = np.arange(6.0).reshape(6, 1)
    np.testing.assert_array_equal(jax.jit(devices.spread)(x), x)


@pytest.fixture
def attempts(monkeypatch):
    """Records whether processes would be joined; no cluster is announced."""
    for name in (*devices._CLUSTERS, *devices._SIZES, "SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **kw: calls.append(kw))
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
    def alone(**more):
        raise ValueError("coordinator_address should be defined")

    monkeypatch.setattr("jax.distributed.initialize", alone)
    with pytest.raises(InputError, match="--distributed=on.*coordinator_address"):
        devices.initialise("on")


def test_processes_are_named_by_flags_where_no_launcher_does(attempts, monkeypatch):
    devices.initialise("auto", "host:1234", 4, 3)
    assert attempts[0]["coordinator_address"] == "host:1234"
    assert (attempts[0]["num_processes"], attempts[0]["process_id"]) == (4, 3)
    for given in (("host:1234", 0, -1), ("", 4, 3), ("host:1234", 4, 4), ("host:1234", 4, -1)):
        with pytest.raises(InputError, match="all three in every process"):
            devices.initialise("auto", *given)
    with pytest.raises(InputError, match="--distributed=off"):
        devices.initialise("off", "host:1234", 4, 3)
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(InputError, match="WORLD_SIZE: 8 processes.*--coordinator"):
        devices.initialise("auto")
    devices.initialise("off")
    assert len(attempts) == 1
