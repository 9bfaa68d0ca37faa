"""The default configuration tree of `fair_generation` and its variants.

A file in `configs/` calls `defaults()`, changes what differs, returns `variant(config, arg, ...)`.
All code reads `config.a.b`; a default that is not in this file does not exist.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from fairjax.errors import InputError
from fairjax.presets import Change, presets, published_gamma


def defaults() -> ConfigDict:
    """Returns the full tree; every field that a config file or an override may set."""
    return ConfigDict(
        {
            "experiment": "fair_generation",
            "name": "fair_generation",
            "seed": 0,
            "bad_numbers": "stop",  # where one is not finite: stop | skip (the step) | rollback
            "data": _data(),
            "ratio": _ratio(),
            "weights": {
                "alpha": 1.0,  # flattening exponent: 0 = equal weights, 1 = the full ratio
                "clip": 0.0,  # ratios above it are cut, before weights are normalised; 0 = none
                "clip_quantile": 1.0,  # weights above this quantile are cut down to it; 1 = none
                "normalise": True,  # mean weight on the biased set becomes 1
                # The known ratio of the groups' shares instead of the estimate: uses labels.
                "true_ratio": False,
            },
            "judge": _judge(),
            "gan": _gan(),
            # Each arm is one GAN run on the shared stages: {name: {dotted key below gan: value}}.
            "arms": {"main": {}},
            "eval": _eval(),
        }
    )


def _data() -> dict[str, Any]:
    return {
        "source": "avatars",  # avatars | folder | celeba | shapes3d | tfds:<name>
        "resolution": 32,  # pixels; power of two
        "channels": 3,  # 1 = gray, 3, 4 = RGBA (folder only)
        "crop": "center",  # center | celeba140 | none (the images are square)
        "group_attributes": ("long_hair",),  # the attributes whose shares differ between the sets
        "split": "proportions",  # proportions | paper (CelebA only)
        "paper_setting": "90_10",  # 90_10 | 80_20 | multi
        "perc": 0.5,  # |reference set| / |biased set|
        "bias": 0.9,  # share of class 0 in the biased set, the rest evenly
        "biased_proportions": (),  # one share per class; overrides bias
        "reference_proportions": (),  # one share per class; () = uniform
        "n_biased": 10000,
        "n_ratio_test": 1000,  # half from each set
        "n_judge_fit": 3000,
        "n_judge_test": 2000,
        "n_metric_reference": 2000,
        "skip_bad_files": False,
        "folder": {
            "biased": (),  # folders or StyleGAN zips
            "reference": (),
            "judge": (),  # labelled images for the judge only
            "attributes": "",  # CSV or Parquet, for judging only
            "holdout": 0.1,  # share of each set held out as ratio_test
            "metric_share": 0.2,  # share of the reference images held out as metric_reference
            "judge_test_share": 0.4,  # share of the judge images that test it
        },
        "celeba": {"dir": ""},  # img_align_celeba(.zip), list_attr_celeba.txt, list_eval_partition
        "shapes3d": {
            "file": "",  # the official 3dshapes.h5
            "keep": (),  # only images with these values: ("red floor", "blue floor"); () = all
        },
        "tfds": {
            "name": "",
            "data_dir": "",
            "split": "train",
            "image": "image",
            "attributes": (),  # feature names, "attributes/Male" for nested ones
        },
    }


def _ratio() -> dict[str, Any]:
    return {
        # What rates an image; several are stacked: resnet (trained here from scratch), and linear
        # heads, which need few images, on all levels of an ImageNet network (efficientnet_lite0)
        # and on an untrained one (random_conv).
        "networks": ("resnet", "efficientnet_lite0", "random_conv"),
        "feature_resolution": 128,  # pixels at which efficientnet_lite0 sees an image
        "clusters": 8,  # of the ImageNet features, for gan.groups=clusters
        "folds": 5,  # cross-fitting: every image gets its ratio from networks that never saw it
        "width": 64,  # channels of the first stage of the ResNet-18
        "stem": "imagenet",  # imagenet | stride2 | small
        "batch": 128,  # half reference, half biased
        "epochs": 10.0,  # passes over the larger set
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "flip": True,  # random horizontal flips
        "validation_share": 0.1,  # of each fold's training images, for choosing the checkpoint
        "calibration": "platt",  # platt | temperature | none
        "evaluations": 10,  # how often the held-out log-loss is looked at
    }


def _judge() -> dict[str, Any]:
    return {
        # One network per set; the classes of a set are all combinations of its values.
        "attribute_sets": (("long_hair",),),
        "width": 64,
        "stem": "imagenet",
        "batch": 64,
        "epochs": 10.0,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "flip": True,
        # Networks of different seeds, whose probabilities are averaged: judges that are equally
        # right on real images read a generator's samples differently.
        "members": 5,
        "augment_p": 0.8,  # chance of noise and of filtered bands in a training image; 0 = none
        "validation_share": 0.1,  # of judge_fit, for choosing the checkpoint
        "evaluations": 10,
    }


def _gan() -> dict[str, Any]:
    return {
        "batch": 32,  # global
        "kimg": 25000.0,  # thousand real images seen by the discriminator
        # Networks.
        "z_dim": 512,
        "w_dim": 512,
        "mapping_layers": 8,
        "channel_base": 16384,
        "channel_max": 512,
        "d_width": 1.0,  # the discriminator's channels, as a multiple of the generator's
        "g_architecture": "skip",  # skip | resnet | orig
        "d_architecture": "resnet",  # resnet | skip | orig
        "half_resolutions": 0,  # how many of the highest resolutions compute in bfloat16
        "mbstd_group": 4,  # images per minibatch-stddev group; 0 = off
        "mbstd_features": 1,  # statistics per group
        "mbstd_mode": "contiguous",  # contiguous | strided (the published grouping)
        "mbstd_weighted": False,  # with reweight=loss: statistics of the weighted real batch
        "conv_clamp": 0.0,  # 0 = off
        "remat": False,  # recompute each block in the backward pass: less memory, more time
        # Labels. Attribute names; then labels are used for training, not for judging only. Or
        # ("reference_set",): from which of the two sets an image is, which needs no label.
        "condition": (),
        # classes (one-hot of combinations) | attributes (multi-hot) | numbers (folder: raw columns)
        "condition_form": "classes",
        "fake_labels": "reference",  # reference | data (repeats the bias) | uniform
        "sample_labels": "",  # those of samples, if other than in training: one of the same words
        "d_mapping_layers": 8,  # dense layers behind the discriminator's label; 0 = embedding only
        # Start from trained networks: "", an official .pkl, a .safetensors file with its .json, the
        # folder of a `gan` stage, or arm:NAME, another arm of the same run.
        "init_from": "",
        "init_d": "file",  # file | fresh
        "init_grow": False,  # take the blocks of a file of a lower resolution, add fresh ones
        "freeze_d": 0,  # how many blocks of D, from the highest resolution, are not trained
        # none | frozen (that of init_from, as it was) | reference (one for the reference set alone)
        "second_d": "none",
        "second_from": "",  # frozen: take it from another file or arm:NAME; "" = that of init_from
        "second_share": 0.4,  # of the generator's loss that the second discriminator gives
        "second_batch": 8,  # reference: its reals of a step, beside those of the first
        "lecam": 0.05,  # reference: weight of its LeCam penalty
        # Objective.
        "loss": "hinge",  # hinge | logistic
        # none | loss (w on the real term) | resample (reals drawn by w) | hybrid (both in part)
        "reweight": "resample",
        "resample_share": 0.5,  # hybrid: reals drawn by w ** share, the loss has w ** (1 - share)
        "draws": "independent",  # independent | stratified (one of each batch-th part, by ratio)
        "self_normalise": False,  # loss, hybrid: weights are divided by their mean over the batch
        "alpha_ramp": 0.0,  # loss, hybrid: share of the training in which w ** a rises from a = 0
        "train_on": "union",  # union | reference | biased: the images that D sees at all
        # Feedback loop: arm:NAME, whose samples replace a share of the training images; "" = none
        "own_from": "",
        "own_share": 1.0,
        "r1_gamma": 1.0,  # with r1_target where it starts: it stays within a factor of 10^4 of it
        # Hinge: gamma follows the share of reals with D(x) < 1, which is to be this; 0 = fixed. A
        # second discriminator has the same gamma; an arm that starts from another starts its own.
        "r1_target": 0.0,
        "r1_kimg": 10.0,  # thousand images in which gamma can change tenfold
        "r1_every": 16,
        "r1_weighted": False,  # with reweight=loss: w on the penalty too
        "path_length_weight": 2.0,
        "path_length_every": 4,
        "style_mixing": 0.9,
        "dro": False,  # group DRO over groups of reals
        "groups": "ratio_bins",  # dataset | ratio_bins | clusters | attributes
        "dro_bins": 2,  # with groups=ratio_bins: quantile bins of the ratio
        "dro_eta": 0.01,
        "dro_c": 0.0,  # generalisation adjustment C / sqrt(n_g)
        "dro_momentum": 0.0,  # decay of the running losses that q follows; 0 = this step's
        "dro_start": "shares",  # shares | uniform
        "dro_absent": "skip",  # skip | zero (the published classifier code)
        # Fairness penalties. They train on a judge of their own (stage penalty_judge), of labels or
        # of groups that are found in the ratios, and can game it; the figures come from the
        # ordinary judge.
        # none | marginals (the fakes' shares) | constraint (on them, by a multiplier) | adversary |
        # quality (min-max over the judged classes of the generator's loss)
        "penalty": "none",
        "penalty_groups": "attributes",  # attributes (uses labels in training) | ratio (no label)
        "penalty_attributes": (),  # attributes: one of judge.attribute_sets; () = the first
        "penalty_count": 2,  # ratio: how many groups the log ratios are divided into
        "penalty_members": 1,  # networks of that judge; each step asks the next
        "penalty_target": "reference",  # reference (its shares as judged) | uniform
        "penalty_weight": 1.0,  # marginals, adversary, quality: factor in the generator's loss
        "penalty_unbiased": False,  # marginals, constraint: without the part that chance adds
        "penalty_momentum": 0.0,  # marginals: decay of the running shares; 0 = this step's
        "penalty_slack": 0.02,  # constraint: largest squared L2 distance of the shares
        # constraint: step of the multiplier per unit of violation; quality: step of group DRO
        "penalty_rate": 0.1,
        "adversary_width": 64,  # units of its two hidden layers
        "adversary_learning_rate": 1e-3,
        # Augmentation of what the discriminator sees.
        "augment": "none",  # none | ada (p follows overfitting) | fixed (one p) | diffaugment
        # blit, geom, color, filter, noise, cutout, unions bg .. bgcfnc, single transforms, each
        # with a factor: "bg,color*0.5". Without colour: it would move skin tones and hair colours.
        "augment_categories": "bg",
        "augment_p": 0.0,  # fixed: the probability; ada: where it starts
        "ada_target": 0.6,  # of the mean sign of D on reals
        "ada_kimg": 500.0,  # thousand images in which p can rise by 1
        "ada_p_max": 0.8,  # above it augmentations leak into the samples (Karras et al., 2020c)
        "ada_weighted": False,  # with reweight=loss: w in that mean too
        "diffaugment_policy": "translation,cutout",  # color | translation | cutout
        # Optimiser and average.
        "learning_rate_g": 0.0025,
        "learning_rate_d": 0.0025,
        "learning_rate_mapping": 1.0,  # factor for the mapping network; 0 = not trained
        "decay_from": 1.0,  # share of the training after which the rates fall linearly to 0
        "beta1": 0.0,
        "beta2": 0.99,
        "ema_kimg": 10.0,  # half-life
        "ema_rampup": 0.05,  # at most this share of the images seen; 0, or with init_from: no ramp
        # Rhythm, in kimg.
        "log_every_kimg": 1.0,
        "save_every_kimg": 100.0,
        "sample_every_kimg": 100.0,
    }


def _eval() -> dict[str, Any]:
    return {
        "every_kimg": 200.0,  # fairness and quality beside the losses
        "samples_during": 2000,
        "features_during": False,  # beside the losses: KID in trained features, too
        "samples": 10000,  # for the final figures; none is kept, so memory does not depend on it
        "psis": (0.5, 0.7),  # truncations at which `samples_during` samples are measured as well
        "features": "efficientnet_lite0",  # none | efficientnet_lite0; the final KID and Frechet
        "feature_resolution": 128,  # pixels at which the feature network sees an image
        # pt_inception-2015-12-05-6726825d.pth of pytorch-fid: FID and the like in its features, too
        "inception": "",
        "onnx": "",  # a network of yours: distances in the rows of its first output, too
        "onnx_scale": "imagenet",  # how it wants pixels: imagenet | symmetric | unit | bytes
        "judge_features": False,  # distances in the judges' last layers, too
        "feature_samples": 5000,  # images per set that go through the feature network
        "batch": 100,
    }


def variant(config: ConfigDict, arg: str | None, variants: Mapping[str, Change]) -> ConfigDict:
    """Applies the variants after the colon in `--config=file.py:128+auto`, from left to right."""
    for name in arg.split("+") if arg else ():
        if name not in variants:
            raise InputError(
                f"variant '{name}' does not exist",
                f"config {config.name}",
                f"Choose one of {', '.join(':' + v for v in variants)}, or several joined by +",
            )
        variants[name](config)
        config.name = f"{config.name}_{name}"
    return config


def tiny(config: ConfigDict) -> None:
    """Shrinks any config so that all its stages end in about a minute on a laptop."""
    config.data.resolution = 16
    config.data.split = "proportions"
    config.data.update(
        n_biased=240, n_ratio_test=80, n_judge_fit=200, n_judge_test=120, n_metric_reference=120
    )
    config.ratio.update(folds=2, width=4, stem="stride2", batch=32, epochs=2.0, evaluations=2)
    config.ratio.learning_rate = 1e-3
    config.ratio.feature_resolution = 32
    config.judge.update(width=4, stem="stride2", batch=32, epochs=3.0, evaluations=2, members=2)
    config.gan.update(
        batch=8,
        kimg=0.32,
        z_dim=16,
        w_dim=16,
        mapping_layers=2,
        channel_base=128,
        channel_max=8,
        mbstd_group=min(config.gan.mbstd_group, 4),
        log_every_kimg=0.08,
        save_every_kimg=0.16,
        sample_every_kimg=0.16,
    )
    config.eval.update(
        every_kimg=0.16, samples_during=100, samples=200, feature_samples=60, batch=50
    )
    config.eval.feature_resolution = 32


def size(resolution: int) -> Change:
    """The change of a full-size config to another resolution.

    The published gamma is for the logistic loss, whose logits grow until R1 holds them. Those of
    the hinge need not pass 1 and -1, where so small a gamma holds nothing: at 64 px and batch 32 a
    gamma of 2 left 2 % of the reals inside the margin, and generators made one kind of image. So it
    starts high and follows that share.
    """

    def change(config: ConfigDict) -> None:
        config.data.resolution = resolution
        if config.gan.loss == "hinge":
            config.gan.update(r1_gamma=0.01 * resolution**2, r1_target=0.6)
        else:
            config.gan.r1_gamma = published_gamma(resolution, config.gan.batch)

    return change


def variants() -> dict[str, Change]:
    """The variants that every full-size config has: sizes and published configurations."""
    return {"tiny": tiny, "128": size(128), "256": size(256)} | presets()


# Of the methods that need no label the one that came nearest to the reference in the paper's grid
# (README, The grid): reals drawn by their weight, and two groups of the ratios held at the shares
# that they have in the reference set.
STEERED = {"reweight": "resample", "penalty": "marginals", "penalty_groups": "ratio",
           "penalty_weight": 2.0, "penalty_momentum": 0.99}  # fmt: skip
ARMS = {"equi": {"reweight": "none"}, "weighted": STEERED}


def celeba() -> ConfigDict:
    """What the CelebA configs share: the paper's crop and splits, and two arms at 64 px."""
    config = defaults()
    config.data.update(source="celeba", resolution=64, crop="celeba140", split="paper", perc=0.5)
    config.data.group_attributes = ("Male",)
    config.judge.attribute_sets = (("Male",),)
    config.gan.mapping_layers = 2
    config.gan.style_mixing = 0.9
    size(64)(config)
    config.eval.features_during = True
    config.arms = ConfigDict(ARMS)
    return config


def with_arm(config: ConfigDict, name: str, tree: str = "gan") -> ConfigDict:
    """Returns a copy whose `tree` carries the overrides of one arm."""
    merged = ConfigDict(config.to_dict())
    for key, value in config.arms[name].items():
        merged[tree][key] = value
    return merged


def sound_arms(
    config: ConfigDict, tree: str, problems: list[str]
) -> Iterator[tuple[str, ConfigDict]]:
    """(name, config with the arm applied) of the arms that can be; `problems` gets the others'."""
    for name, overrides in config.arms.items():
        unknown = [key for key in overrides if key not in config[tree]]
        for key in unknown:
            near = nearest(f"{tree}.{key}", paths(config[tree], tree))
            problems.append(f"arms.{name}.{key} is no key of {tree}. {near}")
        if not all(c.isalnum() or c in "_-" for c in name):
            problems.append(f"arms: the name '{name}' may have letters, digits, _ and - only")
        if unknown:
            continue
        try:
            arm = with_arm(config, name, tree)
        except TypeError as error:
            problems.append(f"arms.{name}: {error}")
            continue
        yield name, arm


def named_arm(networks: str) -> str:
    """The arm that `gan.init_from` or its like names as arm:NAME; "" for a file."""
    return networks[4:] if networks.startswith("arm:") else ""


def taken_from(gan: ConfigDict) -> list[str]:
    """The arms whose networks an arm (applied) takes."""
    return [arm for name in (gan.init_from, gan.second_from) if (arm := named_arm(name))]


def earlier_arms(gan: ConfigDict) -> list[str]:
    """The arms that run before an arm (applied), as it takes their networks or their samples."""
    return [*taken_from(gan), *([own] if (own := named_arm(gan.own_from)) else [])]


def d_widths(gan: ConfigDict) -> tuple[int, int]:
    """`channel_base` and `channel_max` of the discriminator."""
    return int(gan.channel_base * gan.d_width), int(gan.channel_max * gan.d_width)


def arm_order(config: ConfigDict) -> list[str]:
    """The arms in the order of a run: as they stand (a ConfigDict sorts them by name), but each
    after those from which it takes networks or samples; arms in a circle are left out."""
    waits = {name: earlier_arms(with_arm(config, name).gan) for name in config.arms}
    order: list[str] = []
    while ready := [n for n in waits if n not in order and all(s in order for s in waits[n])]:
        order.append(ready[0])
    return order


def digest(tree: Any) -> str:
    """Hash of any JSON-able tree or ConfigDict; equal trees have equal hashes."""
    if isinstance(tree, ConfigDict):
        tree = tree.to_dict()
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=list).encode()).hexdigest()[:16]


def nearest(name: str, names: list[str]) -> str:
    """Words for an error message: the real names closest to a mistyped one."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not close:  # the last part may still be right: config.ganz.kimg
        close = [n for n in names if n.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:3]
    return f"Did you mean {' or '.join(close)}?" if close else f"Known names: {', '.join(names)}"


def value_at(config: ConfigDict, name: str) -> Any:
    """The value of a dotted name, such as `data.resolution`."""
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def paths(config: ConfigDict, prefix: str = "config") -> list[str]:
    """All dotted names of a tree, as they are typed on the command line."""
    names = []
    for key, value in config.items():
        names.append(f"{prefix}.{key}")
        if isinstance(value, ConfigDict):
            names.extend(paths(value, f"{prefix}.{key}"))
    return names
