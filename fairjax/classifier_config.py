"""The default configuration tree of `robust_classification`: classifiers that do not fail groups.

Every training method is a choice in independent slots below `fit` (sampler, weights, loss,
objective, penalties, input transform, stages); an arm changes some of them. All code reads
`config.a.b`; a default that is not in this file does not exist.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fairjax import config as generation

# Keys of the other experiment's `data` tree that this one has no use for: what they would ask for
# is set by `source_config`.
UNUSED = ("n_ratio_test", "n_judge_fit", "n_metric_reference", "paper_setting")
# Shares of images for what only the other experiment does: here each image trains, validates or
# tests, whatever these keys of `data.folder` say.
ALL_IMAGES = {"holdout": 0.0, "metric_share": 0.0, "judge_test_share": 1.0}
# Images of the official training part, of the sources with data.split=official.
OFFICIAL = {"celeba": 162_770, "waterbirds": 4_795}
TARGET, PROTECTED = "target", "protected"
BY_SIZE = ("inverse", "sqrt", "effective")  # weights by the size of an image's group
OVER_GROUPS = ("group_mean", "group_dro", "max", "cvar_groups")  # objectives of groups' mean losses
SYNTHETIC = ("real", "synthetic", "synthetic_weight")  # the part of `fit` that says on what


def defaults() -> ConfigDict:
    """Returns the full tree; every field that a config file or an override may set."""
    data = generation.defaults().data.to_dict()
    for key in UNUSED:
        del data[key]
    data |= {
        # digits | avatars | folder | celeba | waterbirds | shapes3d | tfds:<name>
        "source": "digits",
        # proportions (the counts and shares below) | official (celeba, waterbirds: all images)
        "split": "proportions",
        # The target comes first; the others together are the protected attribute.
        "group_attributes": ("large", "colour"),
        "n_biased": 2400,  # training images, with `biased_proportions` over the groups
        "perc": 0.25,  # validation images per training image, with `reference_proportions`
        "n_judge_test": 4000,  # test images, as even over the groups as they are there
        "protected_known": "both",  # both | validation | none: where training may look at it
        "digits": {  # unless biased_proportions says otherwise
            "correlation": 0.98,  # share of each class that has the class's own colour
            "minority_share": 0.5,  # share of the second class
            "label_noise": 0.0,  # share of training and validation targets that are wrong
        },
        "waterbirds": {"dir": ""},  # metadata.csv and the folders beside it
    }
    return ConfigDict(
        {
            "experiment": "robust_classification",
            "name": "robust_classification",
            "seed": 0,
            "bad_numbers": "stop",  # where one is not finite: stop | skip (the step) | rollback
            "data": data,
            # Only where an arm has weights=density_ratio: of the validation images over the others.
            "ratio": generation.defaults().ratio,
            "weights": generation.defaults().weights,
            "latent": _latent(),
            "fit": _fit(),
            # Each arm is one classifier: {name: {key below fit: value}}.
            "arms": {"main": {}},
        }
    )


def _latent() -> dict[str, Any]:
    """De-biasing through a generator's latents (Ramaswamy et al., 2021); see
    `fairjax/experiments/latent_debiasing.py`."""
    return {
        # "" = off; the folder of a `gan` stage, an official .pkl, or a .safetensors file
        "generator": "",
        # The classifiers that label its images are trained by `fit`, apart from these two.
        "sampler": "balanced",
        "epochs": 20.0,
        "space": "w",  # w | z
        "fit": 5000,  # generated images from which the attributes' directions are learnt
        "pairs": 4000,  # generated images that are edited
        "flip": (),  # the attributes that change together, the others stay; () = all but the target
        # Where the score of what changes shall be, in standard deviations of the scores, on the
        # other side of what the classifiers see; 0 = at the negated score (the paper).
        "margin": 2.0,
        # judged (only pairs in which the classifiers see that just this changed) | assumed (all)
        "labels": "judged",
    }


def _fit() -> dict[str, Any]:
    return {
        # What is trained on: the real images, and which generated ones with which weight each.
        "real": True,
        "synthetic": "none",  # none | samples (plain ones) | pairs
        "synthetic_weight": 1.0,
        # Network and optimiser.
        "model": "cnn",  # cnn | resnet18 | resnet50 | occam_resnet18 | mlp | linear
        "width": 16,  # channels of the first stage; units of the mlp are 8 times as many
        "stem": "small",  # of the resnets: imagenet | stride2 | small
        # File of torchvision's network of this name (safetensors or .pth) to start from; its last
        # layer is left out, and images are normalised as ImageNet's. "" = from scratch.
        "pretrained": "",
        "dropout": 0.0,  # share of the features that the head does not see in a step
        "optimiser": "sgd",  # sgd | adam
        "learning_rate": 0.02,
        "momentum": 0.9,  # sgd
        "weight_decay": 1e-4,  # coupled: decay * theta is added to every gradient, as in torch
        "batch": 128,
        "epochs": 80.0,
        "evaluations": 20,  # how often the validation images are looked at
        # Which parameters are kept, by a figure of the validation images: last | average |
        # worst_group | worst_class | group_mean | class_mean | precision | f1 | auroc | loss |
        # worst_group_loss | class_difference (of the last three the lowest)
        "select": "last",
        "patience": 0,  # evaluations without a better one after which training ends; 0 = none
        # OccamNets: exits by depth, gates, and a loss on class activation maps.
        "occam_gamma0": 3.0,  # of the first exit, which amplifies what is easy
        "occam_gamma": 1.0,  # of the weights by the gate before
        "occam_suppression": 0.1,  # factor of the loss on the maps
        # A gate's targets follow its exit up to this accuracy on training images of an epoch.
        "occam_thresholds": (0.5, 0.6, 0.7, 0.8),
        # Groups of training images: [y], [a] or [y, a].
        "groups": "both",  # both | target | protected
        # Sampler. The draws are a function of (seed, step).
        # uniform | epoch (each image once) | balanced (each batch) | epoch_balanced (a new balanced
        # subset each epoch) | over | under (one balanced subset) | stratified | weighted (by
        # `weights`)
        "sampler": "epoch",
        "mine": 0,  # images of a batch that are trained on, by their loss; 0 = all
        "mine_by": "highest",  # highest | proportional
        # Weights in the loss; with sampler=weighted, of the draws.
        # none | inverse | sqrt | effective | reweighing | density_ratio (no labels; stages `ratio`
        # and `weights`) | lff (no labels; by a second network, as it learns)
        "weights": "none",
        "effective_beta": 0.999,
        # Weights (of mean 1) above it are cut, and their mean is made 1 again; 0 = none.
        "weights_clip": 0.0,
        "weights_normalise": "set",  # set (mean 1 over the training images) | batch
        "lff_q": 0.7,  # of the generalised cross-entropy of the biased network
        "lff_momentum": 0.7,  # of the averaged losses of each image
        # Loss per example.
        "loss": "cross_entropy",  # cross_entropy | binary | focal | hinge
        "focal_gamma": 2.0,
        # Objective.
        # mean | group_mean | group_dro | max | cvar | cvar_groups | top_k
        "objective": "mean",
        "dro_eta": 0.01,
        "dro_c": (0.0,),  # C of the adjustment C / sqrt(n_g): one number, or one per group
        "dro_absent": "skip",  # skip | zero (the published classifier code)
        "dro_start": "uniform",  # uniform | shares
        "cvar_alpha": 0.2,  # share of the examples, or mass of the groups, that counts
        "top_k": 32,
        # Penalties, each with a factor; 0 = off.
        "spectral": 0.0,  # spectral / 2 * mean((logits - spectral_gamma)^2)
        # One number; or, with two classes, one for each: where the difference of the outputs of the
        # second and the first class shall be, in the mean over each class.
        "spectral_gamma": (0.0,),
        "spectral_start": 0.0,  # share of the training after which it begins
        "l1": 0.0,
        "gap": "none",  # none | parity | opportunity | odds: spread of the mean scores over a
        "gap_weight": 1.0,
        "gap_form": "penalty",  # penalty | constraint (gap <= slack, by a multiplier)
        "gap_slack": 0.02,
        "gap_rate": 0.1,
        # Squared slope of each environment's risk in a factor of the logits (IRMv1); above 1 the
        # whole loss is divided by this factor, as published.
        "irm": 0.0,
        "irm_environments": "protected",  # protected | groups
        "irm_start": 0.0,  # share of the training after which it begins; a factor of 1 before
        "mmd": 0.0,  # between the features of the values of a, within each class
        "adversary": 0.0,  # factor of the reversed gradient
        "adversary_on": "features",  # features | logits
        "adversary_given": "none",  # none | target: what the adversary is told
        "adversary_width": 64,
        "adversary_learning_rate": 1e-3,
        # Input transform.
        "transform": "none",  # none | mixup | lisa | fgsm | pgd
        "mix_alpha": 2.0,
        "lisa_within_class": 0.5,  # share of pairs of one class; the others are of one value of a
        "attack_eps": 8.0,  # of 255
        "attack_steps": 7,  # pgd
        # Stages before and after the fit.
        "first": "none",  # none | jtt: weights for what a first, short fit gets wrong
        "jtt_epochs": 1.0,
        "jtt_factor": 20.0,
        "head": "none",  # none | dfr (on validation images) | crt (on training images)
        "head_balance": "target",  # crt: what is made equally large: target | groups
        "head_smote": 0,  # crt: neighbours of SMOTE on the features; 0 = no new examples
        "head_smote_kind": "smote",  # smote | borderline | svm | adasyn
    }


def with_arm(config: ConfigDict, name: str) -> ConfigDict:
    """Returns a copy whose `fit` tree carries the overrides of one arm."""
    return generation.with_arm(config, name, "fit")


def fit_steps(config: ConfigDict, arm: str) -> int | None:
    """Steps of the fit of an arm, as far as its images are known beforehand: where none is damaged
    and no pair of generated images is left out. None where the images of folders are not counted
    yet."""
    data, fit = config.data, with_arm(config, arm).fit
    if fit.real and data.source == "folder":
        return None
    real = OFFICIAL[data.source] if data.split == "official" else data.n_biased
    generated = {"none": 0, "samples": 1, "pairs": 2}[fit.synthetic] * config.latent.pairs
    return max(1, round(fit.epochs * (real * fit.real + generated) / fit.batch))


def source_config(config: ConfigDict) -> ConfigDict:
    """The config as the data sources read it: the roles of the other experiment.

    Training images are `train_biased`, validation images `train_reference`, test images
    `judge_test`, which is even over the groups where the images are drawn from many.
    """
    tree = config.to_dict()
    tree["data"] |= {key: 0 for key in UNUSED}
    tree["data"]["folder"] |= ALL_IMAGES
    tree["judge"] = {"attribute_sets": (tuple(config.data.group_attributes),)}
    tree["arms"] = {}  # those of the other experiment may ask for columns of numbers
    return ConfigDict(tree)


def by_density_ratio(config: ConfigDict) -> bool:
    """Whether an arm takes its weights from the density ratio."""
    return any(with_arm(config, name).fit.weights == "density_ratio" for name in config.arms)


def flipped(config: ConfigDict) -> tuple[str, ...]:
    """The attributes in which pairs differ."""
    return tuple(config.latent.flip) or tuple(config.data.group_attributes[1:])


def needs(fit: ConfigDict) -> dict[str, str]:
    """Where an arm (applied) needs labels of the protected attribute: "training" and "validation",
    each with the key of `fit` that needs them. An arm without an entry needs only the target."""
    by_group = fit.groups != TARGET
    of_groups = {
        "sampler": fit.sampler not in ("uniform", "epoch", "weighted") and by_group,
        "weights": fit.weights == "reweighing" or (fit.weights in BY_SIZE and by_group),
        "objective": fit.objective in OVER_GROUPS and by_group,
        "gap": fit.gap != "none",
        "irm": fit.irm > 0 and (by_group or fit.irm_environments == "protected"),
        "mmd": fit.mmd > 0,
        "adversary": fit.adversary > 0,
        "transform": fit.transform == "lisa",
        "head_balance": fit.head == "crt" and fit.head_balance == "groups" and by_group,
    }
    on_validation = {
        "select": fit.select in ("worst_group", "group_mean", "worst_group_loss") and by_group,
        "head": fit.head == "dfr" and by_group,
    }
    found = {}
    for where, keys in (("training", of_groups), ("validation", on_validation)):
        if first := [key for key, needed in keys.items() if needed]:
            found[where] = first[0]
    return found


def tiny(config: ConfigDict) -> None:
    """Shrinks a config so that all its stages end in about a minute on a laptop."""
    config.data.update(resolution=8, n_biased=400, n_judge_test=400)
    config.ratio.update(folds=2, width=4, stem="small", batch=32, epochs=2.0, evaluations=2)
    config.ratio.feature_resolution = 32
    small = {"width": 4, "batch": 32, "epochs": 4.0, "evaluations": 2}
    config.fit.update(small)
    for arm in config.arms.values():
        for key in [key for key in arm if key in small]:
            del arm[key]
    config.latent.update(epochs=4.0, fit=200, pairs=60)


class Tree(NamedTuple):
    """The config tree of an experiment, and the part of it that an arm changes."""

    defaults: Callable[[], ConfigDict]
    with_arm: Callable[[ConfigDict, str], ConfigDict]
    part: str


TREES = {
    "fair_generation": Tree(generation.defaults, generation.with_arm, "gan"),
    "robust_classification": Tree(defaults, with_arm, "fit"),
}
