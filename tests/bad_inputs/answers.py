"""What the tests of bad inputs share: the smallest run, and looking at an answer."""

from pathlib import Path

import pipeline

from fairjax.experiments import fair_generation
from fairjax.experiments.config_line import parse
from fairjax.experiments.stages import Stages

QUICKSTART = "--config=configs/quickstart.py:tiny"
SMALL = (
    pipeline.CONFIG, "--config.weights.true_ratio=True", "--config.data.n_biased=40",
    "--config.data.n_judge_fit=16",
)  # fmt: skip


def says(line: str, *words: str) -> None:
    """Asserts that a line holds all the words."""
    assert all(word in line for word in words), line


def pretend(workdir: Path, *names: str, args: tuple[str, ...] = SMALL) -> None:
    """Writes DONE of stages that did nothing."""
    config = parse(["launch/train.py", *args]).config
    plan = fair_generation.plan(config)
    for name in names:
        needs = ["data"]
        if name == "weights":
            needs += [n for n in plan if n.startswith("ratio/")]
        if name.startswith("arms/"):
            needs += ["weights", *(n for n in plan if n.startswith("judge/"))]
        Stages(workdir, plan, name).run(name, needs, lambda folder: None)
