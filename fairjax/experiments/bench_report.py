"""What `launch/bench.py` measures: rounds of timed steps, the report made of them, its table."""

import importlib.metadata
import logging
import os
import platform
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

import fairjax
from fairjax.errors import InputError
from fairjax.experiments import bench_phases as phases
from fairjax.experiments.bench_peer import SHAPE, Peer
from fairjax.experiments.bench_profile import profile
from fairjax.experiments.bench_work import PHASES, forward_macs, phase_flop

log = logging.getLogger("fairjax")

ROUNDS = 12  # at most
LEAST_ROUNDS = 3
TITLES = {"g": "G", "path_length": "path length", "d": "D", "r1": "R1", "iteration": "iteration"}

Timer = Callable[[str, int], float]  # (program, steps) -> seconds


def cores() -> int:
    """CPU cores that this process may use: the threads of both sides."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(
    config: ConfigDict, seconds: float, peer: Peer | None, folder: str | None = None
) -> dict[str, Any]:
    """Times an arm, and a peer round by round with it; returns the figures of the JSON line.

    With a `folder` the steps are traced there afterwards, and "profile" holds their operations.

    Raises:
      InputError: the peer's networks have other parameters than ours.
    """
    load = os.getloadavg()[0]  # before we add to it: what else the machine was doing
    phases.count_compilations()
    programs = phases.used_programs(config)
    matmul = phases.Matmul(config.gan.half_resolutions > 0)
    matmul.measure()
    with phases.pool(config) as images:
        steps = phases.Steps(config, images)
        if peer is not None and peer.facts["parameters"] != [*steps.parameters()]:
            raise InputError(
                f"its networks have {peer.facts['parameters']} parameters, ours "
                f"{[*steps.parameters()]}: not the same iteration",
                "--peer_path",
                "Use a clean checkout of stylegan2-ada-pytorch",
            )
        before = phases.compilations()
        firsts, seconds_of = {}, {}
        for name in programs:
            firsts[name], seconds_of[name] = steps(name, 1), steps(name, 1)
            log.info("bench: first step of %s after %.1f s, the second took %.1f ms",
                     name, firsts[name], 1000 * seconds_of[name])  # fmt: skip
        compile_seconds = {name: firsts[name] - seconds_of[name] for name in programs}
        compiled = phases.compilations() - before
        sides: dict[str, tuple[Timer, dict[str, float]]] = {"ours": (steps, seconds_of)}
        if peer is not None:
            theirs_of = {}
            for name in programs:
                peer(name, 1)
                theirs_of[name] = peer(name, 1)
                log.info("bench: second step of %s in PyTorch took %.1f ms",
                         name, 1000 * theirs_of[name])  # fmt: skip
            sides["peer"] = (peer, theirs_of)
        samples = rounds(sides, seconds)
        recompiled = phases.compilations() - before - compiled
        input_seconds = steps.input_seconds()
        losses = jax.tree.leaves(jax.device_get(steps.metrics))
        operations = profile(steps, programs, folder) if folder else None
        parameters = steps.parameters()
    matmul.measure()
    ours = [phases.phases_of(config, s) for s in samples["ours"]]
    flop, names = phase_flop(config), _names(config)
    report: dict[str, Any] = {
        "shape": {"resolution": config.data.resolution, "channels": config.data.channels}
        | {name: config.gan[name] for name in SHAPE},
        "parameters": {"g": parameters[0], "d": parameters[1]},
        "device": device() | {"load_before": load},
        "versions": versions(),
        "rounds": len(ours),
        **_timing(config, ours),
        "compile_seconds": compile_seconds,
        "compilations": compiled + recompiled,
        "recompilations": recompiled,
        "finite": bool(np.isfinite(losses).all()),
        "forward_gmac": {k: v / 1e9 for k, v in forward_macs(config)._asdict().items()},
        "gflop": {name: flop[name] / 1e9 for name in names},
        "matmul_gflops": matmul.best,
    }
    rates = {name: flop[name] / 1e6 / report["ms"][name]["median"]
             for name in names if report["ms"][name]["median"] > 0}  # fmt: skip
    report["gflops"] = rates
    report["share_of_matmul"] = {
        dtype: rates["iteration"] / (rate * jax.device_count())  # the products run on one device
        for dtype, rate in matmul.best.items()
    }
    report["peak_memory_mb"] = peak_memory() / 1e6
    report["input"] = {
        "ms": input_seconds * 1000,
        "share": input_seconds * 1000 / report["ms"]["iteration"]["median"],
    }
    if operations is not None:
        report["profile"] = operations
    if peer is not None:
        theirs = [phases.phases_of(config, s) for s in samples["peer"]]
        report["peer"] = {"name": "pytorch", **peer.facts, **_timing(config, theirs)}
        report["speed_over_peer"] = {
            name: speed_over([sample[name] for sample in ours], [sample[name] for sample in theirs])
            for name in names
        }
    return report


def rounds(
    sides: dict[str, tuple[Timer, dict[str, float]]], seconds: float
) -> dict[str, list[dict[str, float]]]:
    """Times every program of every side in each round -> side -> milliseconds per step.

    Where there are two sides, the first program of a turn runs once more before it, untimed.

    Args:
      sides: name -> (timer, seconds of one step of each program, from the second run).
      seconds: for one side.
    """
    repeats = {}
    count = ROUNDS
    for _, once in sides.values():
        count = min(count, max(int(seconds / sum(once.values())), LEAST_ROUNDS))
    for side, (_, once) in sides.items():
        block = seconds / count / len(once)
        repeats[side] = {name: max(1, round(block / s)) for name, s in once.items()}
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for i in range(count):
        # Who begins changes, so that a drift of the machine favours nobody.
        for side in list(sides)[:: 1 if i % 2 == 0 else -1]:
            timer, once = sides[side]
            if len(sides) > 1:  # what the other side's turn took of caches and pages comes back
                timer(next(iter(once)), 1)
            found = {n: 1000 * timer(n, repeats[side][n]) / repeats[side][n] for n in once}
            samples[side].append(found)
            log.info("bench: round %d/%d, %s: %s", i + 1, count, side,
                     ", ".join(f"{n} {ms:.1f} ms" for n, ms in found.items()))  # fmt: skip
    return samples


def _names(config: ConfigDict) -> list[str]:
    """The phases that a config runs, and the mean iteration."""
    used = phases.used_programs(config)
    of = zip(PHASES, phases.PROGRAMS, strict=True)
    return [*(phase for phase, program in of if program in used), "iteration"]


def _timing(config: ConfigDict, samples: list[dict[str, float]]) -> dict[str, Any]:
    ms = {name: spread([r[name] for r in samples]) for name in _names(config)}
    rate = {name: config.gan.batch * 1000 / ms[name]["median"]
            for name in ms if ms[name]["median"] > 0}  # fmt: skip
    return {"ms": ms, "images_per_second": rate}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def speed_over(ours: list[float], theirs: list[float]) -> dict[str, float] | None:
    """How many times our speed is theirs, from milliseconds of the same rounds.

    "median" is the ratio of the medians, "low" and "high" the quartiles over the rounds. A small
    difference of two programs can come out as zero or less: then there is no ratio.
    """
    if min(*ours, *theirs) <= 0:
        return None
    found = spread([b / a for a, b in zip(ours, theirs, strict=True)])
    return found | {"median": float(np.median(theirs) / np.median(ours))}


def peak_memory() -> int:
    """Bytes: of this process on a CPU, else the largest peak of a device."""
    if jax.devices()[0].platform == "cpu":
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(s.get("peak_bytes_in_use", 0) for s in stats)


def device() -> dict[str, Any]:
    """What the figures were measured on."""
    first = jax.devices()[0]
    found = {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    cpu = names[0] if names else platform.processor()
    return found | {"cpu": cpu, "threads": cores(), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    found = {"fairjax": fairjax.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")}


def table(report: dict[str, Any]) -> Table:
    """The report for people."""
    shape, gan = report["shape"], report["device"]
    title = (f"{shape['resolution']} px, batch {shape['batch']}, {gan['count']} x {gan['kind']} "
             f"({gan['cpu']}, {gan['threads']} threads), {report['rounds']} rounds")  # fmt: skip
    peer = report.get("peer")
    shown = Table(title=title, caption=_caption(report))
    for name in ("phase", "ms [quartiles]", "images/s", "GFLOP", "GFLOP/s"):
        shown.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    if peer:
        for name in ("PyTorch ms", "images/s", "ours / PyTorch"):
            shown.add_column(name, justify="right", no_wrap=True)
    for name, ms in report["ms"].items():
        row = [TITLES[name], words(ms, ".1f"), _number(report["images_per_second"].get(name)),
               f"{report['gflop'][name]:.1f}", _number(report["gflops"].get(name))]  # fmt: skip
        if peer:
            row += [words(peer["ms"][name], ".1f"), _number(peer["images_per_second"].get(name)),
                    words(report["speed_over_peer"][name], ".2f")]  # fmt: skip
        shown.add_row(*row)
    return shown


def words(value: dict[str, float] | None, form: str) -> str:
    """`median [low, high]`."""
    if value is None:
        return "-"
    return f"{value['median']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _caption(report: dict[str, Any]) -> str:
    compiled = ", ".join(f"{n} {s:.1f} s" for n, s in report["compile_seconds"].items())
    shares = ", ".join(
        f"{100 * report['share_of_matmul'][n]:.0f} % of the {rate:.0f} GFLOP/s of {n} products"
        for n, rate in report["matmul_gflops"].items()
    )
    load = report["device"]["load_before"]
    lines = [
        f"iteration: {report['gflops']['iteration']:.1f} GFLOP/s, {shares}",
        f"compiled {report['compilations']} programs ({compiled}), "
        f"{report['recompilations']} while timing; peak memory {report['peak_memory_mb']:.0f} MB",
        f"input: {report['input']['ms']:.2f} ms a batch, "
        f"{100 * report['input']['share']:.1f} % of an iteration; "
        f"load of the machine before: {load:.1f}",
    ]
    if "start_seconds" in report:
        start = report["start_seconds"]
        lines.append(f"start to first step: {start['cold']:.1f} s with an empty compilation cache, "
                     f"{start['warm']:.1f} s with a filled one")  # fmt: skip
    return "\n".join(lines)
