"""The energy that a piece of work takes, where the platform counts it.

CPU packages: the powercap files of Linux (RAPL), which many systems show to root only. NVIDIA GPUs:
the counters of NVML, through nvidia-ml-py. They count whole chips of this machine, whatever else
runs on them included, and no memory, fans or other machines.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger("fairjax")

POWERCAP = Path("/sys/class/powercap")
EVERY = 60.0  # seconds between readings: a package's counter starts again after some minutes
Count = tuple[float, float]  # joules, and those at which the counter starts again at 0


class Energy:
    """Counts from `with Energy() as energy:` to its end.

    Attributes:
      joules: by kind of chip, "CPU" and "GPU"; a kind that nobody counts here is missing.
    """

    def __init__(self) -> None:
        self.joules: dict[str, float] = {}
        self._before: dict[str, Count] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Energy":
        self._before = counters()
        self.joules = {name.split()[0]: 0.0 for name in self._before}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self._before:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._before:
            self._thread.join()
            self._read()

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self._read()

    def _read(self) -> None:
        now = counters()
        for name, (joules, whole) in now.items():
            if name in self._before:
                more = joules - self._before[name][0]
                self.joules[name.split()[0]] += more if more >= 0 else more + whole
        self._before |= now


def counters() -> dict[str, Count]:
    """Every counter that can be read here, by a name that begins with its kind of chip."""
    return _packages() | _gpus()


def _packages() -> dict[str, Count]:
    found = {}
    # Zones below a package are parts of it, and a platform's zone holds its packages: not twice.
    for zone in sorted(POWERCAP.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            joules, whole = (int((zone / file).read_text()) / 1e6
                             for file in ("energy_uj", "max_energy_range_uj"))  # fmt: skip
        except (OSError, ValueError):
            continue
        if name.startswith("package"):
            found[f"CPU {name}"] = joules, whole
    return found


def _gpus() -> dict[str, Count]:
    """The GPUs that CUDA may use in this process; none without a driver or nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return {}
    found = {}
    try:
        pynvml.nvmlInit()
        for name in _visible(pynvml):
            by = pynvml.nvmlDeviceGetHandleByIndex if name.isdigit() else (
                pynvml.nvmlDeviceGetHandleByUUID)  # fmt: skip
            of = int(name) if name.isdigit() else name
            found[f"GPU {name}"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(by(of)) / 1e3, 0.0
    except pynvml.NVMLError as error:
        log.debug("no energy of GPUs: %s", error)
    return found


def _visible(pynvml: Any) -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(i) for i in range(pynvml.nvmlDeviceGetCount())]
    return [name.strip() for name in named.split(",") if name.strip()]
