"""Stages of one arm of `robust_classification`: first, fit, head, eval."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fairjax.classifier_config import needs
from fairjax.data.cache import file_sha256
from fairjax.data.feed import batches
from fairjax.data.groups import Grouping, grouped
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.groups import (
    constant_class,
    exit_figures,
    fairness_figures,
    group_figures,
    label_shares,
)
from fairjax.evaluate.rates import Groups
from fairjax.experiments import keys, prediction_files
from fairjax.experiments.prediction_files import Rows
from fairjax.experiments.stages import read_arrays
from fairjax.experiments.weights_stage import load_weights
from fairjax.models import occam, pretrained
from fairjax.objectives import draw
from fairjax.objectives import weights as weighing
from fairjax.objectives.ratio import effective_sample_size
from fairjax.train import heads, loop
from fairjax.train.devices import is_lead, local_slice, put_replicated
from fairjax.train.group_classifier import Examples, FitState, GroupClassifier, started
from fairjax.train.selection import Held
from fairjax.train.weight_files import load_tree, save_tree

log = logging.getLogger("fairjax")


class Part(NamedTuple):
    """Images of one role whose target is known."""

    positions: np.ndarray  # int32 [n], into the images of the dataset
    target: np.ndarray  # int32 [n]
    protected: np.ndarray  # int32 [n], -1 = unknown or not to be looked at


def part(config: ConfigDict, dataset: Dataset, role: str) -> Part:
    """The training ("train_biased"), validation ("train_reference"), test ("judge_test") or
    generated ("samples", "pairs") images.

    Raises:
      InputError: no image has a target.
    """
    names = tuple(config.data.group_attributes)
    positions = dataset.roles[role]
    positions = positions[dataset.classes(names[:1], positions) >= 0]
    if not len(positions):
        raise InputError(f"no image of {role} has a known {names[0]}", "data.group_attributes",
                         "Name an attribute that the labels hold")  # fmt: skip
    target, protected = (dataset.classes(n, positions) for n in (names[:1], names[1:]))
    hidden = {"both": (), "validation": ("train_biased",),
              "none": ("train_biased", "train_reference")}[config.data.protected_known]  # fmt: skip
    if role in hidden or not names[1:]:
        protected = np.full_like(protected, -1)
    return Part(positions, target, protected)


def training(config: ConfigDict, dataset: Dataset) -> tuple[Part, np.ndarray]:
    """What an arm (applied) trains on, real images first, and the weight [n] of each by its tag."""
    fit = config.fit
    tags = [("train_biased", 1.0)] if fit.real else []
    if fit.synthetic != "none":
        tags.append((fit.synthetic, fit.synthetic_weight))
    parts = [part(config, dataset, tag) for tag, _ in tags]
    sizes = [len(found.target) for found in parts]
    return (Part(*(np.concatenate(columns) for columns in zip(*parts, strict=True))),
            np.repeat([weight for _, weight in tags], sizes))  # fmt: skip


def groups_of(config: ConfigDict, dataset: Dataset, of: Part, by: str) -> Grouping:
    """The groups of a part, with readable names."""
    names = tuple(config.data.group_attributes)
    titles = dataset.class_names(names[:1]), dataset.class_names(names[1:])
    return grouped(of.target, of.protected, by, *titles)


def refuse_misfits(config: ConfigDict, dataset: Dataset, arm: str) -> None:
    """Raises InputError where an arm (applied) needs protected labels that no image has, or has a
    spectral_gamma per class where there are not two classes."""
    target = tuple(config.data.group_attributes)[:1]
    classes, gammas = len(dataset.class_names(target)), len(config.fit.spectral_gamma)
    if config.fit.spectral and gammas > 1 and not gammas == classes == 2:
        raise InputError(
            f"arm {arm} has {gammas} numbers for the {classes} classes of {target[0]}",
            "fit.spectral_gamma",
            "Give one number, or where there are two classes one for each",
        )
    for where, key in needs(config.fit).items():
        role = {"training": "train_biased", "validation": "train_reference"}[where]
        if not (part(config, dataset, role).protected >= 0).any():
            raise InputError(
                f"arm {arm} needs the protected attribute of {where} images, and none is known",
                f"fit.{key} (={config.fit[key]!r})",
                "Give labels, or set fit.groups=target where the method can do with classes",
            )


def network(config: ConfigDict, dataset: Dataset, steps: int = 1) -> GroupClassifier:
    """The programs of an arm (applied)."""
    names = tuple(config.data.group_attributes)
    size = {"resolution": config.data.resolution, "channels": config.data.channels}
    values = len(dataset.class_names(names[1:])) if names[1:] else 1
    classes = len(dataset.class_names(names[:1]))
    return GroupClassifier(config.fit, classes=classes, values=values, steps=steps, **size)


def start_of(fit: ConfigDict) -> Callable[[FitState], FitState] | None:
    """Puts the network of `fit.pretrained` into a fresh state; None where there is none."""
    if not fit.pretrained:
        return None
    path = Path(fit.pretrained)

    def start(state: FitState) -> FitState:
        log.info("%s starts from %s (sha256 %s); its last layer is new", fit.model, path,
                 file_sha256(path)[:16])  # fmt: skip
        return started(state, pretrained.read(path, fit.model))

    return start


def example_weights(fit: ConfigDict, train: Part, groups: Grouping) -> np.ndarray:
    """Weight of each training image by its labels, mean 1; those of unknown attribute get 1 by
    reweighing, and all of them by LfF, whose weights come about in training."""
    if fit.weights in ("none", "lff"):
        return np.ones(len(train.target))
    if fit.weights == "reweighing":
        known = train.protected >= 0
        found = np.ones(len(known))
        found[known] = weighing.reweighing(train.target[known], train.protected[known])
        return found
    return weighing.by_group(groups.of, fit.weights, fit.effective_beta)


def ratio_weights(workdir: Path, dataset: Dataset, train: Part) -> np.ndarray:
    """Weight of each training image by the stage `weights`, mean 1: how much more often the
    validation set has such an image than the training set."""
    of = np.zeros(len(dataset.images))
    of[dataset.training] = load_weights(workdir, dataset)[0]
    found = of[train.positions]
    return found / found.mean()


def sampler(
    fit: ConfigDict, groups: Grouping, weights: np.ndarray, seed: int
) -> Callable[[int], np.ndarray]:
    """Step -> int32 [batch], positions in the training list: a pure function of (seed, step)."""
    everything, sets = np.arange(len(groups.of)), groups.sets()
    least = int(groups.sizes.min())
    if fit.sampler == "epoch":
        return lambda step: draw.epochs(seed, step, [everything], fit.batch)
    if fit.sampler == "epoch_balanced":
        return lambda step: draw.epochs(seed, step, sets, fit.batch, each=least)
    if fit.sampler == "under":
        rng = np.random.default_rng(seed)
        kept = np.concatenate([rng.choice(s, least, replace=False) for s in sets])
        return lambda step: draw.epochs(seed, step, [kept], fit.batch)
    table = {
        "uniform": lambda: draw.uniform(everything, fit.batch),
        "balanced": lambda: draw.balanced(sets, fit.batch),
        "over": lambda: draw.weighted(weighing.by_group(groups.of, "inverse"), fit.batch),
        "stratified": lambda: draw.stratified(sets, fit.batch),
        "weighted": lambda: draw.weighted(weights, fit.batch),
    }[fit.sampler]()
    return lambda step: draw.draw(seed, step, table)


def adjustment(fit: ConfigDict, groups: Grouping, arm: str) -> np.ndarray:
    """C / sqrt(n_g) of each group, [k] (Sagawa et al., 2020, section 3.3).

    Raises:
      InputError: neither one C nor one for each group.
    """
    c = np.asarray(fit.dro_c, np.float64)
    if len(c) not in (1, len(groups.names)):
        raise InputError(
            f"{len(c)} numbers for the {len(groups.names)} groups ({'; '.join(groups.names)})",
            f"fit.dro_c (arm {arm})",
            "Give one number, or one for each group",
        )
    return c / np.sqrt(groups.sizes)


def first(config: ConfigDict, dataset: Dataset, arm: str, folder: Path) -> None:
    """JTT's first classifier (Liu et al., 2021): plain and short; its errors get a weight.

    Raises:
      InputError: it makes no errors on the training images, so that nothing would be weighted.
    """
    plain = ConfigDict(config.to_dict())
    plain.fit.update(
        epochs=config.fit.jtt_epochs, sampler="epoch", weights="none", objective="mean", mine=0,
        transform="none", select="last", patience=0, spectral=0.0, l1=0.0, gap="none", irm=0.0,
        mmd=0.0, adversary=0.0, groups="target", dro_c=(0.0,), evaluations=1,
    )  # fmt: skip
    best = _train(plain, dataset, arm, "first", folder, None)
    train = training(config, dataset)[0]
    logits = network(plain, dataset).predict(best, dataset.images, train.positions)[1]
    wrong = logits.argmax(-1) != train.target
    log.info("arm %s: the first classifier errs on %d of %d training images", arm, wrong.sum(),
             len(wrong))  # fmt: skip
    if not wrong.any():
        raise InputError(
            "the error set is empty",
            f"fit.jtt_epochs (={config.fit.jtt_epochs:g}, arm {arm})",
            "Train the first classifier for less long, or with more weight_decay",
        )
    if is_lead():
        weights = weighing.upweighted(wrong, config.fit.jtt_factor)
        np.savez(folder / "weights.npz", allow_pickle=False, weights=weights, wrong=wrong)


def fit(config: ConfigDict, dataset: Dataset, arm: str, folder: Path) -> dict[str, Any]:
    """Trains an arm (applied); writes its network."""
    given = None
    if config.fit.first == "jtt":
        given = read_arrays(folder.parent / "first/weights.npz", "weights")["weights"]
    elif config.fit.weights == "density_ratio":
        train = part(config, dataset, "train_biased")
        given = ratio_weights(folder.parents[2], dataset, train)
    best = _train(config, dataset, arm, "fit", folder, given)
    if is_lead():
        save_tree(folder / "network.safetensors", best)
    return {}


def _train(
    config: ConfigDict,
    dataset: Dataset,
    arm: str,
    stage: str,
    folder: Path,
    given: np.ndarray | None,
) -> Any:
    """Trains on what `training` says; returns the chosen {"encoder", "head", "stats"}."""
    tree = config.fit
    train, by_tag = training(config, dataset)
    held = part(config, dataset, "train_reference")
    groups = groups_of(config, dataset, train, tree.groups)
    weights = by_tag * (example_weights(tree, train, groups) if given is None else given)
    weights /= by_tag.mean()
    if tree.weights_clip:
        weights = weighing.clipped(weights, tree.weights_clip)
    if np.ptp(weights):
        log.info(
            "arm %s, %s: weights from %.3g to %.3g, effective sample size %.0f of %d",
            arm,
            stage,
            weights.min(),
            weights.max(),
            effective_sample_size(weights),
            len(weights),
        )
    in_loss = np.ones(len(weights)) if tree.sampler == "weighted" else weights
    known = Examples(
        *(put_replicated(np.asarray(x, np.int32))
          for x in (train.target, train.protected, groups.of)),
        *(put_replicated(np.asarray(x, np.float32))
          for x in (in_loss, groups.sizes / groups.sizes.sum(), adjustment(tree, groups, arm))),
    )  # fmt: skip
    log.info("arm %s, %s: groups of the training images: %s", arm, stage, ", ".join(
        f"{i} = {name} ({n})" for i, (name, n) in enumerate(zip(groups.names, groups.sizes,
                                                                strict=True))))  # fmt: skip
    of_held = groups_of(config, dataset, held, tree.groups).of
    steps = max(1, round(tree.epochs * len(train.target) / tree.batch))
    shown = Held(dataset.images, held.target, of_held, held.positions)
    task = network(config, dataset, steps).task(f"{arm} {stage}", known, shown, start_of(tree))
    # All arms see the same draws and begin alike: they differ in what their words say only.
    order = sampler(tree, groups, weights, keys.number(config.seed, "fit draw"))

    def feed(start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        local = local_slice(tree.batch)
        return batches(dataset.images, order, train.positions, start, stop, local=local)

    every = max(1, steps // tree.evaluations)
    rhythm = loop.Rhythm(steps, tree.batch, log=min(50, every), save=every, evaluate=every)
    key = keys.root(config.seed, "fit")
    return loop.run(task, feed, key, rhythm, folder, config.bad_numbers).best


def head(config: ConfigDict, dataset: Dataset, arm: str, folder: Path) -> dict[str, Any]:
    """Fits the last layer anew on features of the trained network; writes the whole network."""
    tree = config.fit
    net = network(config, dataset)
    variables = load_tree(folder.parent / "fit/network.safetensors")
    seen = (part(config, dataset, "train_reference") if tree.head == "dfr"
            else training(config, dataset)[0])  # fmt: skip
    features = net.predict(variables, dataset.images, seen.positions)[0].astype(np.float64)
    classes = len(dataset.class_names(tuple(config.data.group_attributes)[:1]))
    seed = keys.number(config.seed, "head")
    output: dict[str, Any] = {}
    if tree.head == "dfr":
        of = groups_of(config, dataset, seen, tree.groups).of
        variables["head"], output["strength"] = heads.dfr(features, seen.target, of, classes, seed)
    else:
        by = tree.groups if tree.head_balance == "groups" else "target"
        of = groups_of(config, dataset, seen, by).of
        variables["head"] = heads.crt(
            features, seen.target, of, classes, tree.head_smote, seed, tree.head_smote_kind
        )
    if is_lead():
        save_tree(folder / "network.safetensors", variables)
    return output


def measure(config: ConfigDict, dataset: Dataset, arm: str, folder: Path) -> None:
    """Writes metrics.json of an arm (applied), and its predictions and features."""
    net = network(config, dataset)
    stage = "fit" if config.fit.head == "none" else "head"
    variables = load_tree(folder.parent / stage / "network.safetensors")
    names = tuple(config.data.group_attributes)
    classes = dataset.class_names(names[:1])
    roles = ("train_biased", "train_reference", "judge_test")
    train, held, test = (part(config, dataset, role) for role in roles)
    known = train._replace(protected=dataset.classes(names[1:], train.positions)
                           if names[1:] else train.protected)  # fmt: skip
    of_train, of_held, of_test = (
        groups_of(config, dataset, p, "both") for p in (known, held, test)
    )
    sizes = dict(zip(of_train.names, of_train.sizes, strict=True))
    figures: list[Figure] = []
    extra: dict[str, Any] = {"groups": list(of_test.names), "collapsed": ""}
    seen = config.data.protected_known != "none"  # of validation images
    for name, p, groups, role in (
        ("test", test, of_test, "judge_test"),
        ("validation", held, of_held, "train_reference"),
        ("train", known, of_train, ""),
    ):
        features, logits = net.predict(variables, dataset.images, p.positions)
        decided = logits.argmax(-1)
        shares = np.array([float(sizes.get(g, 0)) for g in groups.names])
        figures += group_figures(decided, p.target, groups, shares, name)
        if config.fit.model == "occam_resnet18":  # its features are its gates
            left = np.asarray(occam.left_by(jnp.asarray(features)))
            figures += exit_figures(left, occam.EXITS - 1, groups, name)
        if name == "test":
            if len(classes) == 2 and names[1:]:
                values = dataset.class_names(names[1:])
                figures += fairness_figures(
                    p.target, logits, Groups("+".join(names[1:]), values, p.protected),
                    label_shares(known.target, known.protected, len(values)),
                )  # fmt: skip
            constant = constant_class(decided)
            if constant is not None:
                extra["collapsed"] = classes[constant]
        if role and is_lead():
            written = Rows(p.positions, p.target, features, logits)
            prediction_files.write(folder, role, dataset, names, written, name == "test" or seen)
    if extra["collapsed"]:
        log.warning("arm %s is a constant predictor: it always says '%s'", arm, extra["collapsed"])
    if is_lead():
        write_figures(folder / "metrics.json", figures, extra)
    for figure in figures[:2]:
        log.info("arm %s: %s %.3f [%.3f, %.3f] %s", arm, figure.name, figure.value, figure.low,
                 figure.high, figure.note)  # fmt: skip
