"""The command line of `launch/bench.py`: how fast an arm trains here, and beside PyTorch.

The step programs are timed in alternation over several rounds, in blocks; figures are medians over
the rounds with the quartiles. A regulariser is the difference of two programs. One JSON line goes
to stdout (and to --out), a table and the progress to stderr.
"""

import datetime
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from fairjax.config import nearest, with_arm
from fairjax.data.storage import local
from fairjax.errors import InputError
from fairjax.experiments.bench_peer import Peer
from fairjax.experiments.config_line import parse, split_config
from fairjax.experiments.program import read_flags, run_program
from fairjax.validation import validate

log = logging.getLogger("fairjax")

WIDTH = 150  # of the table where there is no terminal


def bench_flags() -> flags.FlagValues:
    """The flags of the program, those of the config apart."""
    values = flags.FlagValues()
    flags.DEFINE_string("arm", None, "Arm of the config; default: the first.", flag_values=values)
    flags.DEFINE_float("seconds", 60.0, "About how long the steps of each side are timed.", 0.1,
                       flag_values=values)  # fmt: skip
    flags.DEFINE_enum("against", None, ["pytorch", "torch-fidelity"], "Time an equal iteration on "
                      "the networks of the official PyTorch code, round by round with ours; with "
                      "--features the network and distances of torch-fidelity, with --input the "
                      "DataLoader of PyTorch.", flag_values=values)  # fmt: skip
    flags.DEFINE_bool("features", False, "Instead of a config's steps: the features of "
                      "Inception-v3 (random weights), Fréchet distance and KID.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_bool("input", False, "Instead of a config's steps: images/s of a core from its "
                      "CelebA files (zip, folder, prepared), beside a plain loop with Pillow.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_string("baseline", "erm", "Of classifiers: the arm beside which --arm is timed, "
                        "in alternating windows.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("peer_path", "", "Your checkout of stylegan2-ada-pytorch.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("peer_python", "", "Interpreter that has torch; default: this one.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_bool("start", False, "Also time from the start of a process to its first training "
                      "step, with an empty and a filled compilation cache (minutes).",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_bool("forms", False, "Also time each form of the resampled convolutions.",
                      flag_values=values)  # fmt: skip
    flags.DEFINE_string("profile", None, "Folder for a trace of each step program; the longest "
                        "operations are shown.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("out", None, "File to which the JSON line is added.", flag_values=values)
    return values


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; exit code 2 where the input cannot be used."""
    run_program(
        argv,
        _run,
        bench_flags,
        about=": times the training steps of a config, its --input, or --features.\n\n"
        "  --config=FILE[:variant], --config.<key>=<value>: as in launch/train.py",
        example="python launch/bench.py --config=configs/quickstart.py",
    )


def _values(argv: list[str]) -> flags.FlagValues:
    """The flags that are not about the config."""
    values = bench_flags()
    read_flags(values, split_config(argv)[1], elsewhere=("config",))
    if values.out and local(values.out, "--out").is_dir():
        raise InputError("it is a folder", f"--out={values.out}", "Give a file")
    if values.against and values.features != (values.against == "torch-fidelity"):
        raise InputError("torch-fidelity is timed with --features, pytorch without",
                         f"--against={values.against}", "Take the other")  # fmt: skip
    if values.features and values.input:
        raise InputError("it is timed without --features", "--input", "Give one of them")
    return values


def _parsed(argv: list[str]) -> tuple[flags.FlagValues, ConfigDict]:
    """Command line -> (flags, config with the arm applied)."""
    values = _values(argv)
    base = parse(split_config(argv)[0]).config
    validate(base)
    names = list(base.arms)
    arm = values.arm or names[0]
    if arm not in names:
        raise InputError(f"no arm {arm!r}", "--arm", nearest(arm, names))
    values.arm = arm
    if base.experiment == "robust_classification":
        if values.baseline not in names:
            raise InputError(f"no arm {values.baseline!r}", "--baseline",
                             nearest(values.baseline, names))  # fmt: skip
        config = base
    else:
        config = with_arm(base, arm)
    return values, config


def _refuse_for_classifiers(values: flags.FlagValues, names: Sequence[str]) -> None:
    for name in ("against", "profile", "start", "forms"):
        if values[name].value:
            raise InputError("it is of generators", f"--{name}", "Leave it out for a classifier")
    if values.arm == values.baseline:
        others = [name for name in names if name != values.baseline]
        raise InputError(f"{values.arm!r} is the --baseline as well", "--arm",
                         f"Give one of {', '.join(others)}")  # fmt: skip


def _refuse_without_like(gan: ConfigDict) -> None:
    """What the peer's iteration does not have: a ratio would be one of different work."""
    for key in ("augment", "penalty", "second_d", "condition"):
        if gan[key] not in ("none", ()):
            raise InputError("the iteration of PyTorch is without it", f"gan.{key} (={gan[key]!r})",
                             "Leave it out, or give another --arm, for --against=pytorch"
                             )  # fmt: skip


def _peer_device(backend: str, config: ConfigDict) -> str:
    """Where PyTorch runs beside us."""
    if backend not in ("cpu", "gpu"):
        raise InputError(f"no comparison on a {backend}", "--against", "Set JAX_PLATFORMS=cpu")
    if backend == "cpu" and config.gan.half_resolutions:
        raise InputError(
            "PyTorch computes in float32 on a CPU",
            "gan.half_resolutions",
            "Set it to 0 for --against=pytorch",
        )
    return "cpu" if backend == "cpu" else "cuda"


def _run(argv: list[str]) -> None:
    values = _values(argv)
    if values.features:
        _features(argv, values)
    elif values.input:
        _input(argv, *_parsed(argv))
    else:
        _steps(argv, *_parsed(argv))


def _features(argv: list[str], values: flags.FlagValues) -> None:
    from fairjax.experiments import bench_features, workdir
    from fairjax.experiments.bench_peer import fidelity
    from fairjax.experiments.bench_report import cores

    workdir.log_to(None)
    if values.against:
        with fidelity(values.peer_python, bench_features.SHAPE, cores()) as peer:
            report = bench_features.measure(values.seconds, peer)
    else:
        report = bench_features.measure(values.seconds, None)
    _say(argv, values, {}, report, [bench_features.table(report)])


def _input(argv: list[str], values: flags.FlagValues, config: ConfigDict) -> None:
    from fairjax.experiments import bench_input, workdir
    from fairjax.experiments.bench_peer import loader

    workdir.log_to(None)
    with bench_input.files(config) as files:
        with loader(values.peer_python, files) if values.against else nullcontext() as peer:
            report = bench_input.measure(files, values.seconds, peer)
    about = {"config": config.name}
    _say(argv, values, about, report, [bench_input.table(report)])


def _steps(argv: list[str], values: flags.FlagValues, config: ConfigDict) -> None:
    if config.experiment == "robust_classification":
        _refuse_for_classifiers(values, list(config.arms))
    elif values.against:
        _refuse_without_like(config.gan)
    if values.against:  # two programs share a card: none takes all of its memory at once
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    from fairjax.experiments import bench_classifier, bench_forms, bench_profile, workdir
    from fairjax.experiments.bench_report import cores, measure, table

    workdir.log_to(None)
    validate(config, jax.device_count())
    if values.against and jax.device_count() > 1:
        raise InputError(f"PyTorch is timed on one device, ours has {jax.device_count()}",
                         "--against", "Show one, e.g. with CUDA_VISIBLE_DEVICES=0")  # fmt: skip
    show: Any = table
    if config.experiment == "robust_classification":
        report = bench_classifier.measure(config, values.arm, values.baseline, values.seconds)
        show = bench_classifier.table
    elif not values.against:
        report = measure(config, values.seconds, None, values.profile)
    else:
        device = _peer_device(jax.default_backend(), config)
        with Peer(values.peer_path, values.peer_python, config, cores(), device) as peer:
            report = measure(config, values.seconds, peer, values.profile)
    if values.forms:
        report["forms_ms"] = bench_forms.measure(config)
    if values.start:
        report["start_seconds"] = start_seconds(argv)
    found = report.pop("profile", None)
    tables = [bench_profile.table(found)] if found else []
    tables += [bench_forms.table(report["forms_ms"])] if values.forms else []
    about = {"config": config.name, "arm": values.arm}
    _say(argv, values, about, report, [*tables, show(report)])


def _say(
    argv: list[str], values: flags.FlagValues, about: dict[str, str], report: dict[str, Any],
    tables: list[Any],
) -> None:  # fmt: skip
    """The tables to stderr, the JSON line to stdout and to --out."""
    facts = {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "command": shlex.join(["python", *argv]),
    }
    line = json.dumps(facts | about | report)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    for shown in tables:
        console.print(shown)
    print(line, flush=True)
    if values.out:
        Path(values.out).parent.mkdir(parents=True, exist_ok=True)
        with Path(values.out).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def first_step() -> None:
    """Builds an arm and takes the first step of a training: the program that `--start` times."""
    argv = sys.argv
    _, config = _parsed(argv)
    import jax

    from fairjax.experiments import bench_phases as phases

    with phases.pool(config) as images:
        steps = phases.Steps(config, images)
        # The first iteration runs the long programs.
        for kind in ("g", "d"):
            steps([n for n in phases.used_programs(config) if n.startswith(kind)][-1], 1)
    jax.block_until_ready(steps.state)


def start_seconds(argv: list[str]) -> dict[str, float]:
    """Seconds of a process that ends after its first iteration: {"cold", "warm"} by its cache."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="fairjax-bench-") as cache:
        code = "from fairjax.experiments.bench import first_step; first_step()"
        changed = {"JAX_COMPILATION_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        for name in ("cold", "warm"):
            log.info("bench: a process up to its first step, with a %s cache", name)
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code, *argv[1:]], check=True,
                           env=os.environ | changed)  # fmt: skip
            found[name] = time.perf_counter() - start
    return found
