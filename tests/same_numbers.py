"""The same numbers on any devices: python tests/same_numbers.py [--steps=50]

Trains a GAN (StyleGAN2 with importance weights, group DRO, weighted minibatch statistics, ADA,
R1 and path length) and a classifier (batch normalisation, flips) on one device, on four, and in
two processes with two devices each, once in float64 and once in float32, and prints the largest
difference of any logged number from those on one device, images per step, the Frechet distance of
final samples, collectives of a step (without R1 and path length), and time. In float64 every
difference must be below 1e-10; in float32 it is reported.

The four devices are parts of one CPU, so the times say what spreading costs there, no more.
Takes about six minutes on two cores.
"""

import argparse
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pipeline

TESTS = Path(__file__).resolve().parent
LIMIT = 1e-10
BATCH = 8


# What runs in each process.


def gan_config(**overrides):
    """The smallest StyleGAN2 in which every sum over the batch occurs.

    The logistic loss: with hinge the gradients of the last bias, -1 and +1, cancel up to rounding
    while all logits are inside the margin, and Adam makes a whole step of what is left.
    """
    from fairjax.config import defaults

    config = defaults()
    config.data.resolution = 8
    config.gan.update(
        batch=BATCH, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=4,
        loss="logistic", reweight="loss", dro=True, dro_eta=0.5, r1_every=4, r1_weighted=True,
        path_length_every=4, path_length_weight=2.0, mbstd_group=2, mbstd_weighted=True,
        augment="ada", augment_p=0.5, augment_categories="bg,noise", ada_weighted=True,
        ada_kimg=0.1,
    )  # fmt: skip
    config.gan.update(overrides)
    return config


def programs(kind):
    """(Gan, judge of its penalty) of a kind of GAN."""
    from toy_gan import toy_gan
    from toy_modes import toy_judge

    from fairjax.train.gan import Gan

    toy = dict(loss="logistic", dro=True, dro_eta=0.5, r1_every=1, r1_weighted=True,
               path_length_every=1)  # fmt: skip
    if kind == "toy":
        return toy_gan(**toy), None
    if kind == "penalty":
        return toy_gan(**toy, penalty="adversary"), toy_judge((0.3, 0.7))
    return Gan(gan_config().gan, resolution=8, channels=3), None


def images():
    """Uint8 [50, 8, 8, 3] and the importance weights of the images."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (50, 8, 8, 3)).astype(np.uint8), rng.exponential(size=50)


def first_batch():
    """The first images, over all devices."""
    from fairjax.train.devices import local_slice, put_batch

    mine = np.arange(BATCH, dtype=np.int32)[local_slice(BATCH)]
    return put_batch({"image": images()[0][mine], "index": mine})


def facts_of(lowered, trained, state):
    """What a compiled program sends and takes over; bytes of what it trains, and of the state."""
    import jax

    from fairjax.train import compiled

    program = lowered.compile()
    size, whole = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (trained, state))
    return {"sent": compiled.collectives(program.as_text()), "size": size,
            "donated": compiled.donated(program), "state": whole}  # fmt: skip


def gan_task(kind):
    """(task, number of compilations of each program, facts of two programs of a state)."""
    import jax

    from fairjax.evaluate.distances import frechet
    from fairjax.evaluate.moments import moments
    from fairjax.models import random_features
    from fairjax.train.gan_state import reals

    gan, judge = programs(kind)
    pictures, weight = images()
    theirs = np.asarray(random_features.features(pictures), np.float64)[:, :20]

    def evaluate(ema, i):
        samples = gan.sample(ema, jax.random.key(3), 40, 8)
        ours = np.asarray(random_features.features(samples), np.float64)[:, :20]
        far = frechet(moments(ours), moments(theirs))
        return {"frechet": far, "brightness": float(samples.mean())}

    k = 3
    groups = np.arange(len(pictures)) % k
    examples = reals(weight, groups, np.full(k, 1 / k), np.zeros(k))
    task = gan.task(kind, examples, evaluate, jax.random.key(2), judge)

    def facts(state):
        key = jax.random.key(1)
        g = gan.g_step.lower(state, key, path_length=False, judge=judge)
        d = gan.d_step.lower(state, first_batch(), examples, key, r1=False)
        return {"g": facts_of(g, state.g, state), "d": facts_of(d, state.d, state)}

    return task, lambda: [gan.g_step._cache_size(), gan.d_step._cache_size()], facts


def classifier_task():
    """As `gan_task`.

    The stem that keeps 8 pixels: after the others whole stages are one pixel wide, where batch
    normalisation takes out what a bias before it adds. The gradient of such a bias is nothing but
    rounding, and Adam makes a step of it.
    """
    import jax

    from fairjax.config import defaults
    from fairjax.train.classifier import Classifier
    from fairjax.train.devices import put_replicated

    config = defaults().judge
    config.update(width=2, stem="small")
    network = Classifier(config, resolution=8, channels=3, classes=2, steps=50)
    pictures, _ = images()
    labels = (pictures.mean((1, 2, 3)) > np.median(pictures.mean((1, 2, 3)))).astype(int)
    mass = np.full(len(labels), 1 / len(labels))
    task = network.task("classifier", labels, lambda: (pictures, labels, mass))

    def facts(state):
        truth, key = put_replicated(np.asarray(labels, np.int32)), jax.random.key(1)
        step = network._program.lower(state, first_batch(), truth, key)
        return {"step": facts_of(step, state.params, state)}

    return task, lambda: [network._program._cache_size()], facts


def at_full_precision(x):
    """Floating point numbers in float64, where JAX has it."""
    return x.astype(float) if np.issubdtype(x.dtype, np.floating) else x


def child(given) -> None:
    """Trains in this process and prints what must not depend on the devices, as JSON."""
    import jax

    from fairjax.objectives import draw
    from fairjax.train import devices, streams
    from fairjax.train.loop import Rhythm, run

    if given.processes > 1:
        devices.initialise("on", f"localhost:{given.port}", given.processes, given.process)
    pictures, weight = images()
    made = classifier_task() if given.kind == "classifier" else gan_task(given.kind)
    task, compilations, facts = made
    init, drawn, begun = task.init, [], []
    # Layers of Flax keep their parameters in float32 unless each is told otherwise.
    task = replace(task, init=lambda key: jax.tree.map(at_full_precision, init(key)))

    def feed(start, stop):
        for step in range(start, stop):
            mine = draw.draw(1, step, draw.weighted(weight, BATCH))[devices.local_slice(BATCH)]
            drawn.append(mine.tolist())
            begun.append(time.perf_counter())
            yield {"image": pictures[mine], "index": mine}

    steps, folder = given.steps, Path(given.folder)
    rhythm = Rhythm(steps, BATCH, log=1, save=max(steps - 1, 1), evaluate=steps,
                    sample=steps if given.kind == "toy" else 0)  # fmt: skip
    state = run(task, feed, jax.random.key(1), rhythm, folder)
    again = run(task, feed, jax.random.key(1), rhythm, folder)  # restores the newest checkpoint
    same = all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(again)))
    record = streams.read(folder / "metrics.jsonl")
    for line in record:
        for clock in ("time", "images_per_second", "data_wait"):
            line.pop(clock, None)
    print(json.dumps({
        "devices": jax.device_count(), "drawn": drawn, "record": record, "restored": same,
        "facts": facts(state) if given.facts else {},
        "compilations": compilations(), "seconds": float(np.median(np.diff(begun))),
    }))  # fmt: skip


# What starts them.


def start(kind, folder, devices_each, *, steps, x64, processes=1, process=0, port=0, facts=0):
    """Starts this file as a child on so many CPU devices."""
    env = pipeline.environment() | {
        "JAX_NUM_CPU_DEVICES": str(devices_each),
        "JAX_ENABLE_X64": str(x64),
        "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
    }
    given = {"kind": kind, "folder": folder, "steps": steps, "processes": processes,
             "process": process, "port": port, "facts": facts}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, *(f"--{k}={v}" for k, v in given.items())],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def pair(kind, folder, **more):
    """Starts two processes with two devices each."""
    port = free_port()
    return [start(kind, folder, 2, processes=2, process=i, port=port, **more) for i in (0, 1)]


def results(processes) -> list[dict[str, Any]]:
    """What each process printed; fails with the messages of all where one failed."""
    try:
        ends = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), "\n".join(errors for _, errors in ends)
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def difference(one, other, until=math.inf) -> float:
    """The largest difference of any number in two records, relative where it is above 1."""
    assert len(one["record"]) == len(other["record"])
    largest = 0.0
    for a, b in zip(one["record"], other["record"], strict=True):
        assert a.keys() == b.keys()
        if a["step"] > until:
            break
        for name in a:
            largest = max(largest, abs(a[name] - b[name]) / max(abs(a[name]), 1.0))
    return largest


def sent(facts) -> str:
    """The collectives of each program in words."""
    words = [
        f"{name} {number} {kind} of {size:,} bytes"
        for name, fact in facts.items()
        for kind, (number, size) in fact["sent"].items()
    ]
    return ", ".join(words) or "none"


def main() -> None:
    """The experiment of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kind", default="")
    for name in ("folder",):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    for name in ("processes", "process", "port", "facts"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        child(given)
        return
    failed = False
    print(
        "| task | numbers | devices | images per step | largest difference in 10 steps | "
        "in all | losses at the end | collectives of a step | ms per step |\n|" + " --- |" * 9
    )
    for kind in [given.kind] if given.kind else ["gan", "classifier"]:
        for x64 in (True, False):
            with tempfile.TemporaryDirectory() as scratch:
                more = {"steps": given.steps, "x64": x64, "facts": 1}
                (one,) = results([start(kind, f"{scratch}/1", 1, **more)])
                (four,) = results([start(kind, f"{scratch}/4", 4, **more)])
                first, second = results(pair(kind, f"{scratch}/2", **more))
            both = [a + b for a, b in zip(first["drawn"], second["drawn"], strict=True)]
            assert one["drawn"] == four["drawn"] == both
            for name, found in (("1", one), ("4", four), ("2 x 2 processes", first)):
                off = difference(one, found)
                failed |= x64 and off > LIMIT
                last = {k: v for k, v in found["record"][-2].items() if k.startswith("loss")}
                losses = ", ".join(f"{k.removeprefix('loss/')} {v:.12g}" for k, v in last.items())
                words = [kind, "float64" if x64 else "float32", name, len(one["drawn"][0]),
                         f"{difference(one, found, 10):.1e}", f"{off:.1e}", losses,
                         sent(found["facts"]), f"{1000 * found['seconds']:.1f}"]  # fmt: skip
                print("|", " | ".join(map(str, words)), "|", flush=True)
    sys.exit(f"a float64 difference is above {LIMIT:g}" if failed else 0)


if __name__ == "__main__":
    main()
