"""The classifier experiment: biased images in; classifiers, their accuracy by group, a page out."""

import json
import logging
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fairjax.classifier_config import (
    SYNTHETIC,
    by_density_ratio,
    defaults,
    fit_steps,
    source_config,
    with_arm,
)
from fairjax.data.cache import file_sha256
from fairjax.data.prepare import Dataset
from fairjax.experiments import (
    data_stage,
    fit_stage,
    latent_debiasing,
    ratio_stage,
    weights_stage,
)
from fairjax.experiments.stages import Stages
from fairjax.models import pretrained
from fairjax.report.classifiers import build
from fairjax.train.classifier import Classifier
from fairjax.train.devices import is_lead

log = logging.getLogger("fairjax")

# The part of `fit` that only the stages before and after the fit read.
FIRST = ("jtt_epochs", "jtt_factor")
HEAD = ("head", "head_balance", "head_smote", "head_smote_kind")


def plan(config: ConfigDict) -> dict[str, Any]:
    """Stage name -> the part of the config that it reads; the order is the order of the run."""
    c = config.to_dict()
    seed = {"seed": c["seed"]}
    known = {"protected_known": c["data"].pop("protected_known")}
    stages: dict[str, Any] = {"data": seed | {"data": c["data"]}}
    if by_density_ratio(config):
        stages |= ratio_stage.plan(config)
    for name in _scored(config):
        own = latent_debiasing.scorer_config(config, name)
        fit = {k: v for k, v in own.fit.to_dict().items() if k not in (*SYNTHETIC, *FIRST, *HEAD)}
        stages[f"scorers/{name}"] = seed | {"fit": fit}
    if config.latent.generator:
        latent = {k: v for k, v in c["latent"].items() if k not in ("sampler", "epochs")}
        stages["pairs"] = seed | {"latent": latent}
    trees = {arm: with_arm(config, arm).fit.to_dict() for arm in config.arms}
    # Their content, wherever they lie.
    digests = {file: file_sha256(Path(file)) for file in {t["pretrained"] for t in trees.values()}
               if file}  # fmt: skip
    for arm, tree in trees.items():
        if tree["synthetic"] == "none":
            tree = {key: value for key, value in tree.items() if key not in SYNTHETIC}
        last = {key: tree.pop(key) for key in HEAD}
        early = {key: tree.pop(key) for key in FIRST}
        if tree["pretrained"]:
            tree["pretrained"] = f"sha256 {digests[tree['pretrained']]}"
        if tree["first"] != "none":
            stages[f"arms/{arm}/first"] = seed | known | {"fit": tree | early}
        stages[f"arms/{arm}/fit"] = seed | known | {"fit": tree}
        if last["head"] != "none":
            stages[f"arms/{arm}/head"] = seed | known | {"fit": last | {"groups": tree["groups"]}}
        stages[f"arms/{arm}/eval"] = {"of": "test and training images"}
    if config.latent.generator:
        stages["changes"] = {}
    stages["report"] = {}
    return stages


def _scored(config: ConfigDict) -> tuple[str, ...]:
    """The attributes that generated images are labelled with."""
    return tuple(config.data.group_attributes) if config.latent.generator else ()


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
    pending = stages.pending()
    if "pairs" in pending:
        latent_debiasing.generator(config)  # a wrong one is refused before anything is computed
    elif config.latent.generator and any(name.startswith("arms/") for name in pending):
        latent_debiasing.refuse_other_generator(config, workdir / "pairs")
    make = _Bodies(workdir, config)
    trees = {arm: with_arm(config, arm).fit for arm in config.arms}
    files = {(tree.pretrained, tree.model) for arm, tree in trees.items()
             if tree.pretrained and not stages.done(f"arms/{arm}/fit")}  # fmt: skip
    for file, model in sorted(files):  # a wrong one is refused before anything is computed
        pretrained.read(Path(file), model)
    stages.run("data", [], make.data)
    if by_density_ratio(config):
        ratios = ratio_stage.stage_names(config)
        for name in ratios:
            stages.run(name, ["data"], partial(make.ratio, name))
        stages.run("weights", ["data", *ratios], make.weights)
    scorers = [f"scorers/{name}" for name in _scored(config)]
    for name, stage in zip(_scored(config), scorers, strict=True):
        stages.run(stage, ["data"], partial(make.scorer, name))
    if scorers:
        stages.run("pairs", ["data", *scorers], make.pairs)
    for arm in config.arms:
        tree, here = with_arm(config, arm).fit, f"arms/{arm}"
        images = ["data"] if tree.synthetic == "none" else ["data", "pairs"]
        before, last = images, f"{here}/fit"
        if tree.first != "none":
            stages.run(f"{here}/first", images, partial(make.arm, fit_stage.first, arm))
            before = [*images, f"{here}/first"]
        if tree.weights == "density_ratio":
            before = [*before, "weights"]
        stages.run(f"{here}/fit", before, partial(make.arm, fit_stage.fit, arm))
        if tree.head != "none":
            last = f"{here}/head"
            stages.run(last, [*images, f"{here}/fit"], partial(make.arm, fit_stage.head, arm))
        stages.run(f"{here}/eval", ["data", last], partial(make.arm, fit_stage.measure, arm))
    measured = [f"arms/{arm}/eval" for arm in config.arms]
    if scorers:
        stages.run("changes", ["data", *measured], make.changes)
        measured += [*scorers, "pairs", "changes"]
    stages.run("report", measured, make.report)
    return workdir / "report/index.html"


class _Bodies:
    """The bodies of the stages, with the data that they load once."""

    def __init__(self, workdir: Path, config: ConfigDict):
        self._workdir, self._config = workdir, config

    @cached_property
    def _dataset(self) -> Dataset:
        dataset = data_stage.loaded(source_config(self._config), self._workdir / "data")
        self._refuse_misfits(dataset)  # arms may have changed since the stage data
        return dataset

    @cached_property
    def _with_generated(self) -> Dataset:
        folder = self._workdir / "pairs"
        return latent_debiasing.with_generated(self._config, self._dataset, folder)

    def data(self, folder: Path) -> dict[str, Any]:
        dataset = data_stage.prepared(source_config(self._config), folder)
        if self._config.latent.generator:
            latent_debiasing.refuse_many_values(self._config, dataset)
        self._refuse_misfits(dataset)  # before anything is trained
        return {"manifest": dataset.manifest["hash"]}

    def _refuse_misfits(self, dataset: Dataset) -> None:
        for arm in self._config.arms:
            fit_stage.refuse_misfits(with_arm(self._config, arm), dataset, arm)

    @cached_property
    def _ratio_programs(self) -> tuple[Classifier, int]:
        return ratio_stage.classifier(self._config, self._dataset)

    def ratio(self, name: str, folder: Path) -> None:
        ratio_stage.rate(name, self._config, self._dataset, lambda: self._ratio_programs, folder)

    def weights(self, folder: Path) -> None:
        config = source_config(self._config)
        weights_stage.make_weights(self._workdir, config, self._dataset, folder)

    def scorer(self, name: str, folder: Path) -> None:
        latent_debiasing.fit_scorer(self._config, self._dataset, name, folder)

    def pairs(self, folder: Path) -> dict[str, Any]:
        return latent_debiasing.make_pairs(self._config, self._dataset, folder)

    def arm(self, body: Any, arm: str, folder: Path) -> dict[str, Any] | None:
        config = with_arm(self._config, arm)
        dataset = self._dataset if config.fit.synthetic == "none" else self._with_generated
        output: dict[str, Any] | None = body(config, dataset, arm, folder)
        return output

    def changes(self, folder: Path) -> None:
        latent_debiasing.compare(self._config, self._dataset, folder)

    def report(self, folder: Path) -> None:
        if not is_lead():
            return
        page = build(self._workdir)
        found = json.loads((page.parent / "metrics.json").read_text())
        log.info("report: %s", found["answer"])


def describe(config: ConfigDict) -> str:
    """The text that `--dry_run` prints."""
    lines = ["config:", json.dumps(config.to_dict(), indent=1, default=list), "", "stages:"]
    lines += [f"  {name}" for name in plan(config)]
    for arm in config.arms:
        steps, fit = fit_steps(config, arm), with_arm(config, arm).fit
        own = json.dumps(config.arms[arm].to_dict(), default=list)
        length = f"about {steps:,} steps" if steps else f"{fit.epochs:g} epochs, in steps"
        count = "" if steps else "; how many is known once the data stage has counted them"
        lines.append(f"arm {arm}: {own}; {length} of {fit.batch} images{count}")
    return "\n".join(lines)
