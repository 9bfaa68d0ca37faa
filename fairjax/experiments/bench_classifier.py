"""What a method costs per step beside another: two arms of a classifier in alternating windows."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.table import Table
from scipy import stats

from fairjax.classifier_config import with_arm
from fairjax.experiments import keys
from fairjax.models.initialize import FAST_COMPILE
from fairjax.train.devices import put_batch, put_replicated, replicated
from fairjax.train.group_classifier import Examples, GroupClassifier

GROUPS = 4  # two classes, two values of the protected attribute
WINDOW = 0.25  # seconds, about


class _Side:
    """The compiled step of an arm on one batch of random bytes, in a state that trains on."""

    def __init__(self, config: ConfigDict, arm: str):
        tree, data = with_arm(config, arm), config.data
        fit, n = tree.fit, tree.fit.batch
        rng = np.random.default_rng(0)
        size = {"resolution": data.resolution, "channels": data.channels}
        net = GroupClassifier(fit, classes=2, values=2, steps=1000, **size)
        group = np.arange(n, dtype=np.int32) % GROUPS
        share = np.full(GROUPS, 1 / GROUPS, np.float32)
        ints = (group // 2, group % 2, group)
        floats = (np.ones(n, np.float32), share, 0.1 * share)
        self.known = Examples(*map(put_replicated, (*ints, *floats)))
        shape = (n, data.resolution, data.resolution, data.channels)
        pixels = rng.integers(0, 256, shape, np.uint8)
        self.batch = put_batch({"image": pixels, "index": np.arange(n, dtype=np.int32)})
        self.key = keys.root(config.seed, "fit")
        init = jax.jit(lambda key: net.init(key, jnp.asarray(share), n), out_shardings=replicated(),
                       compiler_options=FAST_COMPILE)  # fmt: skip
        self.state = jax.block_until_ready(init(self.key))
        lowered = net.program.lower(self.state, self.batch, self.known, self.key)
        self.program = lowered.compile()
        costs = self.program.cost_analysis() or {}
        self.flop = float((costs[0] if isinstance(costs, list) else costs)["flops"])
        self(3)

    def __call__(self, steps: int) -> float:
        """Seconds per step of a window."""
        start = time.perf_counter()
        for _ in range(steps):
            self.state, logs = self.program(self.state, self.batch, self.known, self.key)
        jax.block_until_ready((self.state, logs))
        return (time.perf_counter() - start) / steps


def measure(config: ConfigDict, arm: str, baseline: str, seconds: float) -> dict[str, Any]:
    """Times both arms for about `seconds` each, window by window in turn.

    Returns:
      {"ms": {arm: [median, quartiles]}, "ratio": [median over the pairs of windows, and its 95 %
      interval from their order statistics], "flop_ratio", "windows", "steps_per_window"}.
    """
    sides = {name: _Side(config, name) for name in (baseline, arm)}
    steps = max(1, round(WINDOW / sides[baseline](20)))
    windows: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or len(windows[arm]) < 8:
        # No side is always the first.
        for name in list(sides) if len(windows[arm]) % 2 else list(sides)[::-1]:
            windows[name].append(sides[name](steps))
    ratios = np.sort(np.divide(windows[arm], windows[baseline]))
    low, high = stats.binom.ppf([0.025, 0.975], len(ratios), 0.5).astype(int)
    ends = [float(ratios[max(low - 1, 0)]), float(ratios[min(high, len(ratios) - 1)])]
    return {
        "ms": {name: np.quantile(np.multiply(1000, of), [0.5, 0.25, 0.75]).round(4).tolist()
               for name, of in windows.items()},
        "ratio": [float(np.median(ratios)), *ends],
        "flop_ratio": sides[arm].flop / sides[baseline].flop,
        "windows": len(ratios),
        "steps_per_window": steps,
    }  # fmt: skip


def table(report: dict[str, Any]) -> Table:
    """The report for people."""
    out = Table("arm", "ms per step, median [quartiles]")
    for name, (middle, low, high) in report["ms"].items():
        out.add_row(name, f"{middle:.3f} [{low:.3f}, {high:.3f}]")
    middle, low, high = report["ratio"]
    out.add_row("ratio of a pair of windows [95 %]", f"{middle:.3f} [{low:.3f}, {high:.3f}]")
    out.add_row("ratio of the compiled operations", f"{report['flop_ratio']:.4f}")
    return out
