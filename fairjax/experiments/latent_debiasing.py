"""Stages of `robust_classification` that repair its data through the latents of a generator.

    scorers/<attribute>   a classifier of each attribute, trained on the real images
    pairs                 generated images, labelled by these; each edited along the directions that
                          they imply, so that the protected attribute changes and the target stays
    changes               after the arms: what generated images change, on the same test images

After "Fair Attribute Classification through Latent Space De-biasing" (Ramaswamy, Kim, Russakovsky
2021). Everything is keyed by the latent's number. The arms' words `real` and `synthetic` say who
trains on what; test images are always real.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.classifier_config import SYNTHETIC, flipped, with_arm
from fairjax.data.prepare import Dataset
from fairjax.data.synthetic import mounted
from fairjax.errors import InputError
from fairjax.evaluate.fairness import judge_errors
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.evaluate.groups import group_figures, label_shares
from fairjax.evaluate.paired import paired_figures
from fairjax.evaluate.rates import Groups, everybody
from fairjax.experiments import fit_stage, keys, pairs, prediction_files
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.experiments.saved_generator import Trained, fingerprint, load_generator
from fairjax.experiments.stages import read_arrays, read_json
from fairjax.train.classifier import probabilities
from fairjax.train.devices import is_lead
from fairjax.train.weight_files import load_tree

log = logging.getLogger("fairjax")


def scorer_config(config: ConfigDict, name: str) -> ConfigDict:
    """The config of the classifier of one attribute: that of the arms, with another target."""
    own = ConfigDict(config.to_dict())
    others = [other for other in config.data.group_attributes if other != name]
    own.data.group_attributes = (name, *others)
    own.fit.update(sampler=config.latent.sampler, epochs=config.latent.epochs, weights="none",
                   synthetic="none", real=True, first="none", head="none")  # fmt: skip
    return own


def generator(config: ConfigDict) -> Trained:
    """The generator of the config.

    Raises:
      InputError: no such file, damaged, or images of another size than `data`.
    """
    path = Path(config.latent.generator).expanduser()
    where = f"latent.generator={config.latent.generator}"
    if not path.exists():
        raise InputError("no such file or folder", where, "Train one first, such as that of the "
                         "quickstart with --workdir=runs/quickstart, or name another")  # fmt: skip
    saved = load_generator(path)
    size, asked = ((saved.net.resolution, saved.net.image_channels),
                   (config.data.resolution, config.data.channels))  # fmt: skip
    if size != asked:
        raise InputError(f"it draws {size[0]} pixels and {size[1]} channels, the run has "
                         f"{asked[0]} and {asked[1]}", where,
                         "Change data.resolution and data.channels, or take another")  # fmt: skip
    return saved


def refuse_other_generator(config: ConfigDict, folder: Path) -> None:
    """Raises InputError where the generator is not that of the finished stage `pairs`.

    One that is gone is fine: its images are there.
    """
    done, given = folder / "DONE", Path(config.latent.generator).expanduser()
    if not (done.exists() and given.exists()):
        return
    made = read_json(done)["output"]["generator"]
    if fingerprint(generator(config)) != made:
        raise InputError("another generator than that whose images the run has",
                         f"latent.generator={config.latent.generator}",
                         f"Delete the folder {folder} and those of the arms that train on it to "
                         "make them again, or use another --workdir")  # fmt: skip


def refuse_many_values(config: ConfigDict, dataset: Dataset) -> None:
    """Raises InputError on an attribute of more than two values: it has no opposite."""
    for name in config.data.group_attributes:
        if len(found := dataset.class_names((name,))) != 2:
            raise InputError(f"{name} has {len(found)} values: {', '.join(found)}",
                             "data.group_attributes", "With latent.generator, name attributes of "
                             "two values")  # fmt: skip


def fit_scorer(config: ConfigDict, dataset: Dataset, name: str, folder: Path) -> dict[str, Any]:
    """Trains the classifier of an attribute; writes it and its accuracies on validation images."""
    own = scorer_config(config, name)
    fit_stage.fit(own, dataset, f"scorer {name}", folder)
    held = fit_stage.part(own, dataset, "train_reference")
    logits = _network(own, dataset, folder)(dataset.images[held.positions])
    groups = fit_stage.groups_of(own, dataset, held, "both")
    figures = list(group_figures(logits.argmax(-1), held.target, groups,
                                 np.zeros(len(groups.names)), "validation"))  # fmt: skip
    if is_lead():
        write_figures(folder / "summary.json", figures)
    for figure in figures[:2]:
        log.info("scorer %s: %s", name, pairs.line(figure))
    return {}


def _network(own: ConfigDict, dataset: Dataset, folder: Path) -> Any:
    """Images uint8 [n, H, W, C] -> logits [n, 2]."""
    net, variables = fit_stage.network(own, dataset), load_tree(folder / "network.safetensors")
    return lambda images: net.predict(variables, images)[1]


def _scorer(config: ConfigDict, dataset: Dataset, name: str, folder: Path) -> SavedJudge:
    own = scorer_config(config, name)
    logits = _network(own, dataset, folder)
    score = lambda images: probabilities(logits(images))
    held = fit_stage.part(own, dataset, "train_reference")
    errors = judge_errors(score(dataset.images[held.positions]), held.target)
    return SavedJudge(name, dataset.class_names((name,)), errors, config.data.resolution,
                      config.data.channels, score)  # fmt: skip


def make_pairs(config: ConfigDict, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Draws, labels and edits images; writes them, their scores and the figures of the pairs."""
    latent, saved = config.latent, generator(config)
    flips = flipped(config)
    names = (*flips, *(n for n in config.data.group_attributes if n not in flips))
    judges = [_scorer(config, dataset, name, folder.parent / "scorers" / name) for name in names]
    seed = keys.number(config.seed, "latents")
    found, planes = pairs.make_pairs(
        saved, judges, latent.pairs, latent.fit, seed,
        flips=len(flips), space=latent.space, margin=latent.margin,
    )  # fmt: skip
    needed = latent.labels == "judged" and any(
        with_arm(config, arm).fit.synthetic == "pairs" for arm in config.arms
    )
    if needed and not found.kept.any():
        raise InputError(f"none of {latent.pairs} pairs changed in {', '.join(flips)} alone",
                         "latent", "Look at the images in the generator's folder: it may not draw "
                         "these attributes")  # fmt: skip
    if is_lead():
        about = {"seed": seed, **{key: latent[key] for key in ("space", "margin", "labels")}}
        for figure in pairs.write_record(folder, saved, judges, found, planes, about, len(flips)):
            log.info("pairs: %s", pairs.line(figure))
        np.savez(folder / "pairs.npz", allow_pickle=False, latent=found.latent,
                 before=found.before, after=found.after, kept=found.kept, away=found.away,
                 threshold=np.float64(pairs.THRESHOLD),
                 normals=np.stack([plane.normal for plane in planes]),
                 offsets=np.array([plane.offset for plane in planes]))  # fmt: skip
        np.save(folder / "images.npy", found.images)
        np.save(folder / "edited.npy", found.edited)
    return {"generator": fingerprint(saved)}


def with_generated(config: ConfigDict, dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with the images of the finished stage `pairs`: "samples" are all unedited ones,
    labelled by the scorers; "pairs" those that are handed on with their edited forms.

    Where `latent.labels` is "assumed", all pairs are, and an edited image has the label that was
    asked for, as in the paper; else the scorers have seen that label in it.
    """
    table = read_arrays(folder / "pairs.npz", "latent", "before", "after", "kept", "threshold")
    record = read_json(folder / "pairs.json")
    names = [*record["flip"], *record["keep"]]
    before, after = (table[key] > table["threshold"] for key in ("before", "after"))
    kept, n = table["kept"], len(table["latent"])
    if config.latent.labels == "assumed":
        kept = np.ones(n, bool)
        after = before ^ (np.arange(len(names)) < len(record["flip"]))
    labels = {name: np.concatenate([before[:, i], after[:, i]]) for i, name in enumerate(names)}
    ids = [f"latent/{i}{form}" for form in ("", "/edited") for i in table["latent"]]
    rows = np.flatnonzero(kept)
    images = [np.load(folder / name, mmap_mode="r") for name in ("images.npy", "edited.npy")]
    roles = {"samples": np.arange(n), "pairs": np.concatenate([rows, n + rows])}
    return mounted(dataset, images, labels, ids, roles)


def comparisons(config: ConfigDict) -> list[tuple[str, str]]:
    """(before, after): arms whose words differ only in what they train on, fewer generated images
    first; and plain training beside each other arm."""
    trees = {arm: with_arm(config, arm).fit.to_dict() for arm in config.arms}
    own = {arm: {key: tree.pop(key) for key in SYNTHETIC} for arm, tree in trees.items()}
    order = ("none", "samples", "pairs")
    rank = {arm: order.index(words["synthetic"]) for arm, words in own.items()}
    found = [(a, b) for a in trees for b in trees if trees[a] == trees[b] and rank[a] < rank[b]]
    return found + [("erm", arm) for arm in trees if "erm" in trees and arm != "erm"
                    and ("erm", arm) not in found]  # fmt: skip


def compare(config: ConfigDict, dataset: Dataset, folder: Path) -> None:
    """Writes what changes from one arm to another on the same test images, with paired intervals.

    Figures are named `<before>/<after>/change/<figure>`.
    """
    names = tuple(config.data.group_attributes)
    train, test = (fit_stage.part(config, dataset, r) for r in ("train_biased", "judge_test"))
    decided = {arm: prediction_files.decisions(folder.parent / f"arms/{arm}/eval")
               for arm in config.arms}  # fmt: skip
    protected = Groups("+".join(names[1:]), dataset.class_names(names[1:]), test.protected)
    shares = label_shares(train.target, train.protected, len(protected.names))
    wanted = ("accuracy/all", "worst_group_accuracy/label+", "equal_opportunity_difference",
              "equalized_odds_difference", "bias_amplification")  # fmt: skip

    def figures() -> Iterator[Figure]:
        for before, after in comparisons(config):
            both = decided[before] == 1, decided[after] == 1
            for groups in (everybody(len(test.target)), protected):
                for figure in paired_figures(test.target == 1, *both, groups, shares=shares):
                    if figure.name.removeprefix("change/").startswith(wanted):
                        yield figure._replace(name=f"{before}/{after}/{figure.name}")

    if is_lead():
        write_figures(folder / "metrics.json", figures())
