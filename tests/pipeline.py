"""Runs the command as a user does, and kills it; a small config of its own. No test in this file.

By hand: `python tests/pipeline.py --kills 5` runs all stages once, then once more with that many
kills (SIGKILL to the whole process group) at random moments, and prints what happened.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import load_file

from fairjax.config import defaults, tiny

ROOT = Path(__file__).resolve().parent.parent
CONFIG = f"--config={Path(__file__).resolve()}"
STAGES = ("data", "ratio/fold_0", "ratio/fold_1", "ratio/efficientnet_lite0",
          "ratio/random_conv", "weights", "judge/long_hair", "arms/main/gan", "arms/main/eval",
          "report")  # fmt: skip
# What differs between two equal runs: clocks, rates, and what is compared in another way.
CLOCKS = ("time", "images_per_second", "data_wait")


def get_config() -> ConfigDict:
    """All stages in seconds: one arm at 8 px, several checkpoints in each stage that trains."""
    config = defaults()
    config.name = "small"
    tiny(config)
    config.data.update(resolution=8, n_biased=240, n_ratio_test=40, n_judge_fit=60,
                       n_judge_test=40, n_metric_reference=40)  # fmt: skip
    config.ratio.update(width=2, batch=16, evaluations=4)
    config.judge.update(width=2, batch=16, evaluations=4)
    config.gan.update(kimg=2.4, channel_max=4, path_length_weight=0.0, log_every_kimg=0.08,
                      save_every_kimg=0.4, sample_every_kimg=1.2)  # fmt: skip
    config.eval.update(every_kimg=1.2, samples_during=50, samples=100, features="none",
                       judge_features=True)  # fmt: skip
    return config


def command(workdir: Path | None, *args: str) -> list[str]:
    """The command line; without a workdir the run chooses one under runs/."""
    where = [] if workdir is None else [f"--workdir={workdir}"]
    given = () if any(a.startswith("--config=") for a in args) else (CONFIG,)
    return [sys.executable, str(ROOT / "launch/train.py"), *given, *where, *args]


def same_programs(config: ConfigDict) -> list[str]:
    """Overrides that give another config the networks of this one: they are compiled already."""
    return [
        f"--config.{stage}.{key}={value}"
        for stage in ("ratio", "judge", "gan")
        for key, value in config[stage].items()
        if key != "attribute_sets"
    ]


def environment(cache: Path | None = None) -> dict[str, str]:
    """One CPU device, programs compiled in haste (steps are few, and all runs are compiled alike),
    and a compilation cache that keeps even what compiles in no time.

    `cache` replaces the user cache, so that images are drawn anew; the compiled programs stay.
    """
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    changed = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags.strip(),
        "JAX_NUMPY_RANK_PROMOTION": "allow",  # a user's own setting, whatever the tests have
        "PYTHONPATH": str(ROOT),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if cache is not None:
        old = Path(os.environ.get("FAIRJAX_CACHE", platformdirs.user_cache_path("fairjax"))) / "xla"
        old.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "xla").exists():
            (cache / "xla").symlink_to(old)
        changed["FAIRJAX_CACHE"] = str(cache)
    return os.environ | changed


def run(
    workdir: Path | None, *args: str, cwd: Path = ROOT, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs to the end; returns output and exit code."""
    return subprocess.run(
        command(workdir, *args), cwd=cwd, env=environment(cache), capture_output=True, text=True,
        timeout=1800, check=False,
    )  # fmt: skip


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """What a run that must succeed wrote to stderr."""
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def stop_when(
    workdir: Path,
    ready: Callable[[], bool],
    sent: signal.Signals,
    *args: str,
    delay: float = 0.0,
    cache: Path | None = None,
) -> tuple[int, str]:
    """Starts the command, waits for `ready` and `delay` seconds more, and sends a signal.

    SIGKILL goes to the whole process group, as when a machine is taken away.

    Returns:
      Exit code (negative = killed by that signal) and what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command(workdir, *args), cwd=ROOT, env=environment(cache), stdout=subprocess.DEVNULL,
            stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None and not ready():
                time.sleep(0.01)
            time.sleep(delay)
            if process.poll() is None:
                if sent == signal.SIGKILL:
                    os.killpg(process.pid, sent)
                else:
                    process.send_signal(sent)
            code = process.wait(600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        said.seek(0)
        return code, said.read()


def begun(workdir: Path, stage: str) -> Callable[[], bool]:
    """Whether a stage has begun."""
    return lambda: (workdir / stage / "STARTED").exists()


def saved(workdir: Path, stage: str) -> Callable[[], bool]:
    """Whether a stage that trains has saved its first checkpoint."""
    folder = workdir / stage / "checkpoints"
    return lambda: folder.is_dir() and any(f.name.isdigit() for f in folder.iterdir())


def seconds(workdir: Path, stage: str) -> float:
    """How long a finished stage took."""
    return json.loads((workdir / stage / "DONE").read_text())["seconds"]


def finished(workdir: Path) -> dict[str, int]:
    """Stage -> time at which it was finished; equal numbers = not repeated."""
    return {
        str(path.parent.relative_to(workdir)): path.stat().st_mtime_ns
        for path in workdir.rglob("DONE")
    }


def results(workdir: Path) -> dict[str, object]:
    """Everything a run computed, as comparable values: parameters, weights, figures, records."""
    found: dict[str, object] = {}
    for path in sorted(workdir.rglob("*")):
        name = str(path.relative_to(workdir))
        if "checkpoints" in path.parts or name.startswith("report/"):
            continue
        if path.suffix == ".safetensors":
            found[name] = {k: v.tobytes() for k, v in load_file(path).items()}
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {k: arrays[k].tobytes() for k in arrays}
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in x.items() if k not in CLOCKS} for x in lines]
        elif path.name in ("summary.json", "metrics.json", "manifest.json", "generator.json"):
            found[name] = json.loads(path.read_text())
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                found[name] = (picture.size, picture.mode, picture.tobytes())
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Names of what two runs computed differently; [] = the same bits."""
    a, b = results(one), results(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def main() -> None:
    """The experiment of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    base = Path(tempfile.mkdtemp(prefix="fairjax-kills-"))
    straight, killed = base / "straight", base / "killed"
    try:
        done = run(straight)
        if done.returncode:
            sys.exit(done.stderr)
        took = {stage: seconds(straight, stage) for stage in STAGES}
        print("uninterrupted:", ", ".join(f"{s} {t} s" for s, t in took.items()))
        targets = [STAGES[i % (len(STAGES) - 1)] for i in range(given.kills)]
        for stage in sorted(targets, key=STAGES.index):
            delay = rng.uniform(0, max(took[stage], 0.2))
            code, _ = stop_when(killed, begun(killed, stage), signal.SIGKILL, delay=delay,
                                cache=base / "cache")  # fmt: skip
            print(f"killed {delay:.2f} s into {stage}: exit {code}; finished so far: "
                  f"{', '.join(sorted(finished(killed), key=STAGES.index)) or 'none'}")  # fmt: skip
        before = finished(killed)
        last = run(killed, cache=base / "cache")
        after = finished(killed)
        print(f"rerun: exit {last.returncode}; repeated finished stages: "
              f"{[s for s, t in before.items() if after[s] != t]}")  # fmt: skip
        print(
            "\n".join(x for x in last.stderr.splitlines() if "done before" in x or "resumed" in x)
        )
        print("differences to the uninterrupted run:", differences(straight, killed) or "none")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
