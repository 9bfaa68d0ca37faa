"""The main experiment: biased and reference images in, a fair generator and its evidence out."""

import json
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.config import with_arm
from fairjax.data import prepare as data
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.experiments import gan_stage, judge_stage, ratio_stage
from fairjax.experiments.stages import Stages
from fairjax.experiments.yardstick import Yardstick
from fairjax.report.build import build

log = logging.getLogger("fairjax")


def plan(config: ConfigDict) -> dict[str, Any]:
    """Stage name -> the part of the config that it reads; the order is the order of the run."""
    c = config.to_dict()
    seed = {"seed": c["seed"]}
    sets = {"attribute_sets": c["judge"].pop("attribute_sets")}
    stages: dict[str, Any] = {"data": seed | {"data": c["data"], "judge": sets}}
    if not config.weights.true_ratio:
        for k in range(config.ratio.folds):
            stages[f"ratio/fold_{k}"] = seed | {"ratio": c["ratio"]}
    stages["weights"] = {"weights": c["weights"]}
    for names in config.judge.attribute_sets:
        stages[f"judge/{'+'.join(names)}"] = seed | {"judge": c["judge"]}
    during = {k: c["eval"][k] for k in ("every_kimg", "samples_during", "batch")}
    for name in config.arms:
        gan = with_arm(config, name).gan.to_dict()
        stages[f"arms/{name}/gan"] = seed | {"gan": gan, "eval": during}
        stages[f"arms/{name}/eval"] = seed | {"eval": c["eval"]}
    stages["report"] = {}
    return stages


def check(config: ConfigDict, workdir: Path, only: str | None = None) -> None:
    """Raises InputError where the workdir was begun under another config; writes nothing."""
    Stages(workdir, plan(config), only)


def run(config: ConfigDict, workdir: Path, only: str | None = None) -> Path:
    """Runs all stages that are not done (or those named `only`).

    Returns:
      workdir/report/index.html (there once the report stage has run).

    Raises:
      InputError: input that cannot be used. Interrupted, Diverged: see `fairjax.train.stopping`.
    """
    stages = Stages(workdir, plan(config), only)
    shared = _Shared(workdir, config)

    stages.run("data", [], shared.prepare)
    ratios = [name for name in plan(config) if name.startswith("ratio/")]
    for k, name in enumerate(ratios):
        stages.run(name, ["data"], lambda folder, k=k: ratio_stage.train_fold(
            config, shared.dataset, shared.ratio_programs, k, folder))  # fmt: skip
    stages.run("weights", ["data", *ratios], lambda folder: ratio_stage.make_weights(
        workdir, config, shared.dataset, folder))  # fmt: skip
    judges = []
    for names in map(tuple, config.judge.attribute_sets):
        judges.append(f"judge/{'+'.join(names)}")
        stages.run(judges[-1], ["data"], lambda folder, names=names: judge_stage.train_judge(
            config, shared.dataset, names, folder))  # fmt: skip
    evals = []
    for arm in config.arms:
        gan, evals = f"arms/{arm}/gan", [*evals, f"arms/{arm}/eval"]
        stages.run(gan, ["data", "weights", *judges], lambda folder, arm=arm: gan_stage.train_arm(
            workdir, config, shared.dataset, arm, shared.yardstick, folder))  # fmt: skip
        stages.run(evals[-1], ["data", "weights", *judges, gan],
                   lambda folder, arm=arm: gan_stage.measure_arm(
                       workdir, config, shared.dataset, arm, shared.yardstick, folder))  # fmt: skip
    stages.run("report", evals, lambda folder: _report(workdir))
    return workdir / "report/index.html"


def _report(workdir: Path) -> None:
    page = build(workdir)
    found = json.loads((page.parent / "metrics.json").read_text())
    log.info("report: %s", found["answer"]["headline"])
    for sentence in found["answer"]["sentences"]:
        log.info("report: %s", sentence)
    # Where fairness is lost: data, weighted data, generators.
    for link in (found["weights"] or {}).get("chain", []):
        log.info("chain, %s: %s: %.3f", link["attribute"], link["name"], link["value"])
    for arm, results in found["arms"].items():
        for words, figures in (
            ("generator", results["figures"]),
            ("generator, mean of the last four evaluations", results["last_four"] or {}),
        ):
            for name, figure in figures.items():
                kind, _, rest = name.partition("/")
                if kind == "fairness_discrepancy" and rest.endswith("hard/corrected/reference"):
                    log.info("chain, %s: %s %s: %s", rest.split("/")[0], words, arm,
                             "insufficient evidence" if figure["value"] is None
                             else f"{figure['value']:.3f}")  # fmt: skip


class _Shared:
    """What several stages use, loaded from the files of finished stages when first needed."""

    def __init__(self, workdir: Path, config: ConfigDict):
        self._workdir, self._config = workdir, config

    def prepare(self, folder: Path) -> dict[str, Any]:
        dataset = data.prepare(self._config, folder, log.info)
        examples = {}
        for name in ("biased", "reference"):
            positions = dataset.roles[f"train_{name}"][:64]
            examples[name] = dataset.images[positions]
        np.savez(folder / "examples.npz", **examples)
        return {"manifest": dataset.manifest["hash"]}

    @cached_property
    def dataset(self) -> Dataset:
        folder = self._workdir / "data"
        try:
            return data.load(folder)
        except InputError as error:  # the cache belongs to the user, who may have cleaned it
            log.info("%s; preparing it again", error)
            return data.prepare(self._config, folder, log.info)

    @cached_property
    def ratio_programs(self) -> tuple[Any, int]:
        return ratio_stage.classifier(self._config, self.dataset)

    @cached_property
    def yardstick(self) -> Yardstick:
        return Yardstick(self._workdir, self._config, self.dataset)
