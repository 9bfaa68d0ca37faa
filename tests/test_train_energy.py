"""Energy from counters whose course is known."""

import sys
import types

import pytest

from fairjax.train import energy


@pytest.fixture
def zones(tmp_path, monkeypatch):
    """Writes (name, microjoules) of powercap zones; a counter starts again at 10 J."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def write(**values):
        for zone, (name, count) in values.items():
            folder = tmp_path / f"intel-rapl:{zone[1:].replace('_', ':')}"
            folder.mkdir(exist_ok=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "energy_uj").write_text(f"{count}\n")
            (folder / "max_energy_range_uj").write_text("10000000\n")

    return write


def test_packages_are_added_and_their_parts_and_the_platform_are_not(zones):
    zones(z0=("package-0", 1_000_000), z0_0=("core", 500_000), z1=("package-1", 0),
          z2=("psys", 0))  # fmt: skip
    with energy.Energy() as counted:
        zones(z0=("package-0", 3_000_000), z0_0=("core", 1_500_000), z1=("package-1", 500_000),
              z2=("psys", 9_000_000))  # fmt: skip
    assert counted.joules == pytest.approx({"CPU": 2.5})


def test_a_counter_that_started_again_is_followed(zones, monkeypatch):
    monkeypatch.setattr(energy, "EVERY", 0.01)
    zones(z0=("package-0", 9_000_000))
    with energy.Energy() as counted:
        for count in (9_900_000, 2_000_000, 8_000_000, 1_000_000):
            zones(z0=("package-0", count))
            counted._over.wait(0.2)  # several readings
    assert counted.joules == pytest.approx({"CPU": 0.9 + 2.1 + 6.0 + 3.0})


def test_without_counters_nothing_is_said(zones):
    with energy.Energy() as counted:
        pass
    assert counted.joules == {}


def test_only_the_gpus_of_this_process_count(zones, monkeypatch):
    totals = {0: 0, 3: 5_000, "GPU-ab": 7_000}  # millijoules since the driver was loaded
    nvml = types.SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 4,
        nvmlDeviceGetHandleByIndex=lambda i: i, nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: totals[handle],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    with energy.Energy() as counted:
        totals.update({0: 10_000, 3: 6_000, "GPU-ab": 7_250})
    assert counted.joules == pytest.approx({"GPU": 1.25})
