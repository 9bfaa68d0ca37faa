"""The main experiment: biased and reference images in, a fair generator and its evidence out."""

import json
import logging
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.config import arm_order, defaults, earlier_arms, taken_from, with_arm
from fairjax.data.folder import number_columns
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.features import networks
from fairjax.evaluate.figures import is_main_figure
from fairjax.experiments import (
    data_stage,
    gan_stage,
    judge_stage,
    penalty_stage,
    ratio_stage,
    real_examples,
    weights_stage,
)
from fairjax.experiments.stages import Stages
from fairjax.experiments.yardstick import Yardstick
from fairjax.report.build import build
from fairjax.report.collapse import collapsed
from fairjax.report.workdir import read
from fairjax.train.classifier import Classifier
from fairjax.train.devices import is_lead

log = logging.getLogger("fairjax")


def plan(config: ConfigDict) -> dict[str, Any]:
    """Stage name -> the part of the config that it reads; the order is the order of the run."""
    c = config.to_dict()
    seed = {"seed": c["seed"]}
    sets = {"attribute_sets": c["judge"].pop("attribute_sets")}
    columns = {"number_columns": numbers} if (numbers := number_columns(config)) else {}
    stages: dict[str, Any] = {"data": seed | {"data": c["data"], "judge": sets} | columns}
    stages |= ratio_stage.plan(config)
    for names in config.judge.attribute_sets:
        stages[f"judge/{'+'.join(names)}"] = seed | {"judge": c["judge"]}
    for one in penalty_stage.all_asked(config):
        stages[one.stage] = seed | {"judge": c["judge"]} | one.plan
    during = {k: c["eval"][k] for k in ("every_kimg", "samples_during", "batch")}
    del c["eval"]["features_during"]  # what is logged only may change between the parts of a run
    for name in arm_order(config):
        gan = with_arm(config, name).gan.to_dict()
        stages[f"arms/{name}/gan"] = seed | {"gan": gan, "eval": during}
        stages[f"arms/{name}/eval"] = seed | {"eval": c["eval"]}
    stages["report"] = {}
    return stages


def stages_of(config: ConfigDict, workdir: Path, only: str | None = None) -> Stages:
    """Those of a run; raises InputError where one was made or begun under another config."""
    return Stages(workdir, plan(config), only, defaults().to_dict())


def run(config: ConfigDict, workdir: Path, only: str | None = None) -> Path:
    """Runs all stages that are not done (or those named `only`).

    Returns:
      workdir/report/index.html (there once the report stage has run).

    Raises:
      InputError: input that cannot be used. Interrupted, Diverged: see `fairjax.train.stopping`.
    """
    stages = stages_of(config, workdir, only)
    for arm in config.arms:  # before anything is computed
        tree = with_arm(config, arm)
        waits = f"arms/{arm}/gan" in stages.pending()
        begun = (workdir / f"arms/{arm}/gan/checkpoints").exists()
        # How many labels there are is known from the data only: such an arm is checked behind them.
        # An earlier arm is there once it has run; that the two fit is checked by `validate`.
        later = tree.gan.condition or taken_from(tree.gan)
        if waits and not begun and not later:
            gan_stage.start_of(tree)
    if any(name.endswith("/eval") for name in stages.pending()):
        # A wrong file of a feature network is refused now, not after the training.
        networks("none", 0, config.eval.inception, config.eval.onnx, config.eval.onnx_scale)
    make = _Bodies(workdir, config)
    sets = [tuple(names) for names in config.judge.attribute_sets]
    ratios = ratio_stage.stage_names(config)
    judges = [f"judge/{'+'.join(names)}" for names in sets]

    stages.run("data", [], make.data)
    for name in ratios:
        stages.run(name, ["data"], partial(make.ratio, name))
    stages.run("weights", ["data", *ratios], make.weights)
    for names, name in zip(sets, judges, strict=True):
        stages.run(name, ["data"], partial(make.judge, names))
    for one in penalty_stage.all_asked(config):
        stages.run(one.stage, one.inputs, partial(make.penalty_judge, one))
    for arm in arm_order(config):
        gan, tree = f"arms/{arm}/gan", with_arm(config, arm)
        earlier = [f"arms/{name}/gan" for name in earlier_arms(tree.gan)]
        asked = penalty_stage.asked(tree)
        own = [asked.stage] if asked else []
        stages.run(gan, ["data", "weights", *judges, *own, *earlier], partial(make.gan, arm))
        stages.run(f"arms/{arm}/eval", ["data", "weights", *judges, gan], partial(make.eval, arm))
    stages.run("report", [f"arms/{arm}/eval" for arm in config.arms], make.report)
    return workdir / "report/index.html"


def _report(workdir: Path) -> None:
    page = build(workdir)
    found = json.loads((page.parent / "metrics.json").read_text())
    log.info("report: %s", found["answer"]["headline"])
    for sentence in found["answer"]["sentences"]:
        log.info("report: %s", sentence)
    for sentence in collapsed(read(workdir)):
        log.warning("report: %s", sentence)
    # Where fairness is lost: data, weighted data, generators.
    for link in (found["weights"] or {}).get("chain", []):
        log.info("chain, %s: %s: %.3f", link["attribute"], link["name"], link["value"])
    for arm, results in found["arms"].items():
        for words, figures in (
            ("generator", results["figures"]),
            ("generator, mean of the last four evaluations", results["last_four"] or {}),
        ):
            for name, figure in figures.items():
                if is_main_figure(name):
                    log.info("chain, %s: %s %s: %s", name.split("/")[1], words, arm,
                             "insufficient evidence" if figure["value"] is None
                             else f"{figure['value']:.3f}")  # fmt: skip


class _Bodies:
    """The bodies of the stages, with what several of them load from files of finished stages."""

    def __init__(self, workdir: Path, config: ConfigDict):
        self._workdir, self._config = workdir, config

    @cached_property
    def _dataset(self) -> Dataset:
        return data_stage.loaded(self._config, self._workdir / "data")

    @cached_property
    def _ratio_programs(self) -> tuple[Classifier, int]:
        return ratio_stage.classifier(self._config, self._dataset)

    @cached_property
    def _yardstick(self) -> Yardstick:
        return Yardstick(self._workdir, self._config, self._dataset)

    def data(self, folder: Path) -> dict[str, Any]:
        dataset = data_stage.prepared(self._config, folder)
        for arm in self._config.arms:  # missing labels are refused before anything is trained
            real_examples.conditions(with_arm(self._config, arm), dataset)
        roles = dataset.roles
        if self._config.judge.attribute_sets and not (
            len(roles["metric_reference"]) or (dataset.domain[roles["ratio_test"]] == 1).any()
        ):
            raise InputError("no reference image is left to compare samples with", "data",
                             "Give more of them, or data.folder.metric_share above 0")  # fmt: skip
        shown = {
            name: dataset.images[dataset.roles[f"train_{name}"][:64]]
            for name in ("biased", "reference")
        }
        if is_lead():
            np.savez(folder / "examples.npz", allow_pickle=False, **shown)
        return {"manifest": dataset.manifest["hash"]}

    def ratio(self, name: str, folder: Path) -> None:
        ratio_stage.rate(name, self._config, self._dataset, lambda: self._ratio_programs, folder)

    def weights(self, folder: Path) -> None:
        weights_stage.make_weights(self._workdir, self._config, self._dataset, folder)

    def judge(self, names: tuple[str, ...], folder: Path) -> None:
        judge_stage.train_judge(self._config, self._dataset, names, folder)

    def penalty_judge(self, one: penalty_stage.Asked, folder: Path) -> None:
        penalty_stage.train(self._workdir, self._config, self._dataset, one, folder)

    def gan(self, arm: str, folder: Path) -> dict[str, Any]:
        return gan_stage.train_arm(
            self._workdir, self._config, self._dataset, arm, self._yardstick, folder
        )

    def eval(self, arm: str, folder: Path) -> None:
        gan_stage.measure_arm(
            self._workdir, self._config, self._dataset, arm, self._yardstick, folder
        )

    def report(self, folder: Path) -> None:
        if is_lead():
            _report(self._workdir)
