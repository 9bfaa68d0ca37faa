"""The timed parts of `launch/bench.py` on our side: step programs, input, matrix products."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fairjax.experiments import gan_stage, keys
from fairjax.experiments.bench_work import iteration
from fairjax.experiments.dry_run import assumed_judge, assumed_labels
from fairjax.models.initialize import FAST_COMPILE
from fairjax.objectives import draw
from fairjax.train import loop
from fairjax.train.devices import put_batch, replicated
from fairjax.train.gan_state import reals

# The four step programs; the two long ones are a short one and a regulariser.
PROGRAMS = ("g", "g+path_length", "d", "d+r1")
POOL_BYTES = 64 << 20  # of the made-up data set

_compiled: list[float] = []  # seconds of every compilation since `count_compilations`


def count_compilations() -> None:
    """From now on every program that the backend compiles is noted; none comes from a cache."""
    jax.config.update("jax_enable_compilation_cache", False)

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            _compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)


def compilations() -> int:
    """Number of programs compiled so far."""
    return len(_compiled)


def used_programs(config: ConfigDict) -> tuple[str, ...]:
    """The programs that a config runs: without a penalty its program is never compiled."""
    off = set()
    if config.gan.path_length_weight <= 0:
        off.add("g+path_length")
    if config.gan.r1_gamma <= 0:
        off.add("d+r1")
    return tuple(name for name in PROGRAMS if name not in off)


def phases_of(config: ConfigDict, programs: dict[str, float]) -> dict[str, float]:
    """Milliseconds of the programs -> of the phases and of a mean iteration.

    A regulariser is the difference of two programs, so noise may make it negative.
    """
    of = {
        "g": programs["g"],
        "path_length": programs.get("g+path_length", programs["g"]) - programs["g"],
        "d": programs["d"],
        "r1": programs.get("d+r1", programs["d"]) - programs["d"],
    }
    return of | {"iteration": iteration(config.gan, of)}


@contextlib.contextmanager
def pool(config: ConfigDict) -> Iterator[np.ndarray]:
    """A memory-mapped uint8 array [n, H, W, C] of noise, as the data stage would leave images."""
    size, channels = config.data.resolution, config.data.channels
    n = max(config.gan.batch, min(4096, POOL_BYTES // (size * size * channels)))
    with tempfile.TemporaryDirectory(prefix="fairjax-bench-") as folder:
        path = Path(folder) / "images.u8"
        np.random.default_rng(0).integers(0, 256, n * size * size * channels, np.uint8).tofile(path)
        yield np.memmap(path, np.uint8, "r", shape=(n, size, size, channels))


class Steps:
    """The compiled steps of an arm on one batch of real bytes, in a state that goes on training."""

    def __init__(self, config: ConfigDict, images: np.ndarray):
        self.config, self.images = config, images
        n = len(images)
        labels = assumed_labels(config, n)
        self.gan = gan_stage.programs(config, labels)
        classes = None if labels is None else labels.classes
        self.reals = reals(np.ones(n), np.arange(n) % 2, np.full(2, 0.5), np.zeros(2), classes)
        count = self.gan.reals_per_step
        table = draw.uniform(np.arange(n), count)
        self.feed = loop.drawn(images, np.arange(n), table, seed=0, batch=count)
        (first,) = self.feed(0, 1)
        self.batch = put_batch(first)
        self.key = keys.root(config.seed, "gan")
        q = np.full(2, 0.5)
        self.judge, k = None, 0
        if config.gan.penalty != "none":
            asked = jax.jit(lambda key: assumed_judge(config, key), out_shardings=replicated(),
                            compiler_options=FAST_COMPILE)  # fmt: skip
            self.judge = asked(self.key)
            k = len(self.judge.target)
        init = jax.jit(lambda key: self.gan.init(key, q, k), out_shardings=replicated(),
                       compiler_options=FAST_COMPILE)  # fmt: skip
        self.state = jax.block_until_ready(init(self.key))

    def __call__(self, program: str, times: int) -> float:
        """Seconds of `times` steps of a program, one after the other."""
        start = time.perf_counter()
        for _ in range(times):
            self.metrics = self._step(program)
        jax.block_until_ready((self.state, self.metrics))
        return time.perf_counter() - start

    def _step(self, program: str) -> dict[str, Any]:
        if program.startswith("g"):
            path = program == "g+path_length"
            self.state, metrics = self.gan.g_step(
                self.state, self.key, path_length=path, judge=self.judge
            )
        else:
            self.state, metrics = self.gan.d_step(
                self.state, self.batch, self.reals, self.key, r1=program == "d+r1"
            )
        return metrics

    def parameters(self) -> tuple[int, int]:
        """Numbers in the generator and in the discriminator."""
        g, d = ([x.size for x in jax.tree.leaves(p)] for p in (self.state.g, self.state.d))
        return sum(g), sum(d)

    def input_seconds(self, budget: float = 1.5) -> float:
        """Seconds to draw, fetch and put one batch, with nothing else running."""
        examples = self.feed(0, 1 << 30)
        try:
            for _ in range(8):  # threads start, what was fetched ahead is used up
                put_batch(next(examples))
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < budget or count < 3:
                jax.block_until_ready(put_batch(next(examples)))
                count += 1
            return (time.perf_counter() - start) / count
        finally:
            close: Callable[[], None] = getattr(examples, "close", lambda: None)
            close()


class Matmul:
    """The rate of square matrix products on one device: what a convolution could hope for."""

    def __init__(self, half: bool):
        sizes = (512, 1024, 2048) if jax.devices()[0].platform == "cpu" else (2048, 4096, 8192)
        self.best: dict[str, float] = {}
        self._work = []
        for dtype in (jnp.float32, jnp.bfloat16) if half else (jnp.float32,):
            for size in sizes:
                a = jnp.full((size, size), 0.5, dtype)
                self._work.append((jnp.dtype(dtype).name, size, a, jax.jit(jnp.matmul)))
        for _, _, a, product in self._work:
            product(a, a).block_until_ready()

    def measure(self, budget: float = 0.1) -> None:
        """Times each product for a while; `best` keeps the highest GFLOP/s of each dtype."""
        for name, size, a, product in self._work:
            end = time.perf_counter() + budget
            seconds = float("inf")
            while time.perf_counter() < end:
                start = time.perf_counter()
                product(a, a).block_until_ready()
                seconds = min(seconds, time.perf_counter() - start)
            rate = 2 * size**3 / seconds / 1e9
            self.best[name] = max(self.best.get(name, 0.0), rate)
