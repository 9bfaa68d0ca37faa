"""What `launch/bench.py --features` measures: Inception-v3 with random weights, and distances."""

import os
import time
from typing import Any

import jax
import numpy as np
from rich.table import Table

from fairjax.errors import InputError
from fairjax.evaluate.distances import frechet, kid
from fairjax.evaluate.moments import moments
from fairjax.experiments import bench_report as report_of
from fairjax.experiments.bench_peer import Worker
from fairjax.models import inception
from fairjax.models.initialize import initialize

# One run of `features` sees `batch` images; `frechet` and `kid` compare two sets of `rows`.
SHAPE = {"batch": 32, "resolution": 64, "rows": 2000}
IMAGE = np.zeros((1, inception.SIDE, inception.SIDE, 3), np.float32)
PROGRAMS = ("features", "frechet", "kid")
TITLES = {
    "features": f"features of {SHAPE['batch']} images",
    "frechet": f"Fréchet distance, 2 x {SHAPE['rows']}",
    "kid": "KID of these, with its error",
    "set": "one comparison of all",
}


class Ours:
    """The three programs on made-up images and features."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        size = SHAPE["batch"], SHAPE["resolution"], SHAPE["resolution"], 3
        self._images = rng.integers(0, 256, size, dtype=np.uint8)
        self._rows = [rng.random((SHAPE["rows"], inception.FEATURES), np.float32) for _ in range(2)]
        self._params = initialize(inception.Inception(), jax.random.key(0), IMAGE)

    def __call__(self, program: str, times: int) -> float:
        """Seconds of `times` runs, one after the other."""
        start = time.perf_counter()
        for _ in range(times):
            if program == "features":
                np.asarray(inception.features(self._params, self._images))
            elif program == "frechet":
                frechet(*map(moments, self._rows))
            else:
                kid(*self._rows)
        return time.perf_counter() - start


def parameters() -> int:
    """Of the network with its head, before batch normalisation was folded into it."""
    params = jax.eval_shape(inception.Inception().init, jax.random.key(0), IMAGE)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    biases = sum(x.size for path, x in leaves if path[-1].key == "bias")
    return sum(x.size for _, x in leaves) + biases + (inception.FEATURES + 1) * inception.CLASSES


def measure(seconds: float, peer: Worker | None) -> dict[str, Any]:
    """Times the programs, and a peer round by round with them; the figures of the JSON line.

    Raises:
      InputError: the peer's network has other parameters than ours.
    """
    if peer and peer.facts["parameters"] != parameters():
        raise InputError(f"its network has {peer.facts['parameters']} parameters, ours "
                         f"{parameters()}: not the same work", "--against",
                         "Use torch-fidelity 0.3 or 0.4")  # fmt: skip
    load = os.getloadavg()[0]  # before we add to it
    timers: dict[str, Any] = {"ours": Ours()} | ({"peer": peer} if peer else {})
    sides = {}
    for side, timer in timers.items():
        timer("features", 1)  # compiles, or allocates
        sides[side] = timer, {name: timer(name, 1) for name in PROGRAMS}
    samples = report_of.rounds(sides, seconds)
    for side in samples.values():
        for sample in side:  # all that is done to compare a set of samples with known features
            sample["set"] = (sample["features"] * SHAPE["rows"] / SHAPE["batch"]
                             + sample["frechet"] + sample["kid"])  # fmt: skip
    found: dict[str, Any] = {
        "shape": SHAPE, "rounds": len(samples["ours"]), "parameters": parameters(),
        "device": report_of.device() | {"load_before": load}, "versions": report_of.versions(),
        "peak_memory_mb": report_of.peak_memory() / 1e6,
    }  # fmt: skip
    ms = {side: {name: report_of.spread([s[name] for s in each]) for name in TITLES}
          for side, each in samples.items()}  # fmt: skip
    found["ms"] = ms["ours"]
    found["images_per_second"] = 1000 * SHAPE["batch"] / ms["ours"]["features"]["median"]
    if peer:
        found["peer"] = {"name": "torch-fidelity", **peer.facts, "ms": ms["peer"]}
        found["speed_over_peer"] = {
            name: report_of.speed_over(*([s[name] for s in samples[side]] for side in sides))
            for name in TITLES
        }
    return found


def table(report: dict[str, Any]) -> Table:
    """The report for people."""
    on, peer = report["device"], report.get("peer")
    shown = Table(title=f"Inception-v3, {SHAPE['resolution']} px, {on['count']} x {on['kind']} "
                        f"({on['cpu']}, {on['threads']} threads), {report['rounds']} rounds",
                  caption=f"{report['images_per_second']:.2f} images/s; load of the machine before:"
                          f" {on['load_before']:.1f}")  # fmt: skip
    titles = ("", "ms [quartiles]", *(("torch-fidelity ms", "ours / its") if peer else ()))
    for name in titles:
        shown.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, title in TITLES.items():
        row = [title, report_of.words(report["ms"][name], ".1f")]
        if peer:
            row += [report_of.words(peer["ms"][name], ".1f"),
                    report_of.words(report["speed_over_peer"][name], ".2f")]  # fmt: skip
        shown.add_row(*row)
    return shown
