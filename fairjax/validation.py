"""`validate(config)`: every problem of a config at once, before anything is computed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from fairjax import augmentations, classifier_validation, gan_validation
from fairjax.classifier_config import TREES, by_density_ratio
from fairjax.config import arm_order, named_arm, sound_arms, value_at, with_arm
from fairjax.errors import InputError

SOURCES = ("avatars", "folder", "celeba", "shapes3d", "tfds")
PAPER_SETTINGS = ("90_10", "80_20", "multi")
# Keys of `gan` that decide the networks' shapes; the last two those of the discriminator alone.
SHAPES = ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "g_architecture",
          "condition", "condition_form", "d_width", "d_architecture")  # fmt: skip


def validate(config: ConfigDict, devices: int = 1) -> None:
    """Raises one `InputError` that lists every problem of the config; computes nothing."""
    problems: list[str] = []

    def need(ok: bool, key: str, rule: str) -> None:
        if not ok:
            problems.append(f"{key} (={value_at(config, key)!r}) must be {rule}")

    need(config.experiment in TREES, "experiment", f"one of {', '.join(TREES)}")
    if config.experiment == "robust_classification":
        _validate_images(config, need, (*SOURCES, "digits", "waterbirds"))
        classifier_validation.data_problems(config, need)
        classifier_validation.latent_problems(config, need)
        problems += classifier_validation.arm_problems(config, devices)
        if not problems and by_density_ratio(config):
            _validate_ratio(config, devices, need)
        classifier_validation.refuse(config, problems)
        return
    _validate_data(config, need)
    _validate_training(config, "judge", devices, need)
    need(config.judge.members >= 1, "judge.members", "at least 1")
    need(0 <= config.judge.augment_p <= 1, "judge.augment_p", "in [0, 1]")
    _validate_ratio(config, devices, need)
    sets = [frozenset(names) for names in config.judge.attribute_sets]
    need(len(sets) == len({*sets}), "judge.attribute_sets", "different sets")
    need(config.eval.features in ("none", "efficientnet_lite0"), "eval.features",
         "none or efficientnet_lite0")  # fmt: skip
    for key in ("samples_during", "samples", "feature_samples", "batch"):
        need(config.eval[key] >= 1, f"eval.{key}", "at least 1")
    need(config.eval.every_kimg > 0, "eval.every_kimg", "positive")
    need(config.eval.onnx_scale in ("imagenet", "symmetric", "unit", "bytes"), "eval.onnx_scale",
         "imagenet, symmetric, unit or bytes")  # fmt: skip
    need(all(0 <= psi < 1 for psi in config.eval.psis), "eval.psis", "numbers from 0 to below 1")
    need(len(config.arms) > 0, "arms", "at least one arm")
    for key, words in gan_validation.WORDS.items():  # even where each arm has its own
        need(config.gan[key] in words, f"gan.{key}", gan_validation.either(words))
    for name, arm in sound_arms(config, "gan", problems):
        gan_validation.arm_problems(arm, name, devices, problems)
        _validate_chain(config, name, problems)
    said = "; ".join(problems)
    problems += [f"{name} (={value!r}) must be a finite number" for name, value in _numbers(config)
                 if not math.isfinite(value) and f"{name} (=" not in said]  # fmt: skip
    if not problems and (circle := [n for n in config.arms if n not in arm_order(config)]):
        problems.append(f"arms {', '.join(circle)} wait for each other (init_from, second_from, "
                        "own_from)")  # fmt: skip
    if problems:
        raise InputError(
            f"{len(problems)} problem(s): " + "; ".join(problems),
            f"config {config.name}",
            "Change these keys in the config file or by --config.<key>=<value>",
        )


def _validate_training(
    config: ConfigDict, stage: str, devices: int, need: Callable[[bool, str, str], None]
) -> None:
    """What the classifiers of the stages `ratio` and `judge` have in common."""
    need(config[stage].width >= 1, f"{stage}.width", "at least 1")
    need(config[stage].stem in ("imagenet", "stride2", "small"), f"{stage}.stem",
         "imagenet, stride2 or small")  # fmt: skip
    need(config[stage].batch >= 2 and config[stage].batch % (2 * devices) == 0,
         f"{stage}.batch", f"a multiple of 2 x {devices} devices")  # fmt: skip
    need(config[stage].epochs > 0, f"{stage}.epochs", "positive")
    need(config[stage].learning_rate > 0, f"{stage}.learning_rate", "positive")
    need(config[stage].evaluations >= 1, f"{stage}.evaluations", "at least 1")
    need(0 < config[stage].validation_share < 0.5, f"{stage}.validation_share",
         "between 0 and 0.5")  # fmt: skip


def _validate_ratio(
    config: ConfigDict, devices: int, need: Callable[[bool, str, str], None]
) -> None:
    """`ratio` and `weights`, of either experiment."""
    _validate_training(config, "ratio", devices, need)
    need(config.ratio.folds >= 2, "ratio.folds", "at least 2 (cross-fitting)")
    networks = tuple(config.ratio.networks)
    known = {"resnet", "efficientnet_lite0", "random_conv"}
    need(0 < len(networks) == len({*networks}) and {*networks} <= known,
         "ratio.networks", "one or more of resnet, efficientnet_lite0, random_conv")  # fmt: skip
    need(config.ratio.clusters >= 2, "ratio.clusters", "at least 2")
    need(config.ratio.feature_resolution >= 32, "ratio.feature_resolution", "32 or more")
    need(config.ratio.calibration in ("platt", "temperature", "none"), "ratio.calibration",
         "platt, temperature or none")  # fmt: skip
    need(config.weights.alpha >= 0, "weights.alpha", "0 or more")
    need(config.weights.clip == 0 or config.weights.clip >= 1, "weights.clip",
         "0 (off) or at least 1")  # fmt: skip
    need(0 < config.weights.clip_quantile <= 1, "weights.clip_quantile", "above 0, at most 1")
    source = config.data.source.partition(":")[0]
    cut = ("avatars", "digits", "celeba", "shapes3d", "tfds")
    need(not config.weights.true_ratio or source in cut, "weights.true_ratio",
         f"False unless data.source is one of {', '.join(cut)}, where the groups' shares are "
         "known")  # fmt: skip


def _numbers(tree: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """(dotted name, value) of every floating point number, those in lists and of arms too."""
    if isinstance(tree, float):
        yield name, tree
    elif isinstance(tree, ConfigDict):
        for key, value in tree.items():
            yield from _numbers(value, f"{name}.{key}" if name else key)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from _numbers(value, name)


def _validate_chain(config: ConfigDict, name: str, problems: list[str]) -> None:
    """What an arm takes from other arms: they are there, and networks to start from fit."""
    arm = with_arm(config, name).gan
    others = [other for other in config.arms if other != name]
    for key in ("init_from", "second_from", "own_from"):
        source = named_arm(arm[key])
        if not source:
            continue
        if source not in others:
            problems.append(f"arms.{name}.{key} (={arm[key]!r}) must name another arm "
                            f"({', '.join(others) or 'there is none'})")  # fmt: skip
            continue
        if key == "own_from":  # samples fit, whatever the networks
            continue
        other = with_arm(config, source).gan
        with_d = key == "second_from" or arm.init_d == "file"
        different = [k for k in (SHAPES if with_d else SHAPES[:-2]) if arm[k] != other[k]]
        if with_d and bool(arm.mbstd_group) != bool(other.mbstd_group):
            different.append("mbstd_group")
        if with_d and arm.mbstd_group and arm.mbstd_features != other.mbstd_features:
            different.append("mbstd_features")
        if with_d and arm.condition and arm.d_mapping_layers != other.d_mapping_layers:
            different.append("d_mapping_layers")
        if different:
            problems.append(f"arm {name} takes networks of {source}, so these keys of gan must be "
                            f"equal in both: {', '.join(different)}")  # fmt: skip


def cautions(config: ConfigDict) -> list[str]:
    """Sentences on settings of a valid config that are allowed and may harm what is measured."""
    if config.experiment == "robust_classification":
        return [*classifier_validation.cautions(config)]
    told = ["weights.true_ratio makes the weights of the training images' labels"]
    return [*_coloured(config), *_penalised(config), *(told if config.weights.true_ratio else [])]


def _penalised(config: ConfigDict) -> Iterator[str]:
    trees = {arm: with_arm(config, arm).gan for arm in config.arms}
    arms = [arm for arm, gan in trees.items() if gan.penalty != "none"]
    if labelled := [arm for arm in arms if trees[arm].penalty_groups == "attributes"]:
        yield (f"arm {', '.join(labelled)} trains with a penalty: labels are used in training, and "
               "the penalty may game its own judge; the figures come from another "
               "judge")  # fmt: skip
    if by_ratio := [arm for arm in arms if trees[arm].penalty_groups == "ratio"]:
        yield (f"arm {', '.join(by_ratio)} trains with a penalty on groups of the ratios, which "
               "may game its own judge; the figures come from another judge")  # fmt: skip
    for arm, gan in trees.items():
        chance = 0.5 / gan.batch  # two classes; with more it is up to twice as much
        if gan.penalty == "constraint" and not gan.penalty_unbiased and gan.penalty_slack < chance:
            yield (f"arm {arm}: a batch of {gan.batch} fakes is by chance at a squared distance of "
                   f"up to {chance:.2g} from its own mean, more than gan.penalty_slack="
                   f"{gan.penalty_slack:g}: the multiplier may never stop rising. Raise the slack "
                   "or the batch, or set gan.penalty_unbiased=True")  # fmt: skip


def _coloured(config: ConfigDict) -> list[str]:
    names = [*config.data.group_attributes, *(n for s in config.judge.attribute_sets for n in s)]
    coloured = augmentations.of_colour(names)
    arms = [n for n in config.arms if augmentations.changes_colour(with_arm(config, n).gan)]
    if not coloured or not arms:
        return []
    return [f"arm {', '.join(arms)} augments colours, and {', '.join(coloured)} depends on "
            "colour: the discriminator sees other skin tones and hair colours than those of the "
            "images, and what leaks changes the measured shares. Leave out color "
            "(gan.augment_categories=bg, gan.diffaugment_policy=translation,cutout)"]  # fmt: skip


def _validate_images(
    config: ConfigDict, need: Callable[[bool, str, str], None], sources: tuple[str, ...]
) -> None:
    """What every experiment asks of its images."""
    data = config.data
    need(0 <= config.seed < 2**32, "seed", "0 or more and below 2**32")  # what a JAX key keeps
    need(config.bad_numbers in ("stop", "skip", "rollback"), "bad_numbers",
         "stop, skip or rollback")  # fmt: skip
    need(all(c.isalnum() or c in "_-." for c in config.name) and config.name.strip(".") != "",
         "name", "letters, digits, _, - and . (it names a folder)")  # fmt: skip
    source, _, name = data.source.partition(":")
    need(source in sources and (not name or source == "tfds"), "data.source",
         f"one of {', '.join(sources)}, or tfds:<name>")  # fmt: skip
    classifiers = config.experiment == "robust_classification"  # 224 is usual for a ResNet
    sizes = (8, 16, 32, 64, 128, 256, 512, 1024, *((224,) if classifiers else ()))
    need(data.resolution in sizes, "data.resolution",
         f"a power of two from 8 to 1024{', or 224' if classifiers else ''}")  # fmt: skip
    need(data.channels in ((1, 3, 4) if source == "folder" else (1, 3)), "data.channels",
         "1 (gray) or 3, or 4 (RGBA) if data.source is folder")  # fmt: skip
    need(data.crop in ("center", "celeba140", "none"), "data.crop", "center, celeba140 or none")
    need(0 < data.perc <= 1, "data.perc", "above 0 and at most 1")
    for key in ("biased_proportions", "reference_proportions"):
        shares = tuple(data[key])
        need(not shares or (min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6), f"data.{key}",
             "shares of 0 or more that sum to 1")  # fmt: skip
    need(data.n_biased >= 0, "data.n_biased", "0 or more")
    if data.source == "folder":
        need(bool(data.folder.biased), "data.folder.biased", "at least one folder")
        need(bool(data.folder.reference), "data.folder.reference", "at least one folder")
        for key in ("holdout", "metric_share", "judge_test_share"):
            need(0 <= data.folder[key] < 1, f"data.folder.{key}", "in [0, 1)")
    need(data.source != "celeba" or bool(data.celeba.dir), "data.celeba.dir",
         "the folder with img_align_celeba(.zip) and the list files")  # fmt: skip
    need(source != "shapes3d" or bool(data.shapes3d.file), "data.shapes3d.file",
         "the path of 3dshapes.h5")  # fmt: skip
    need(source != "tfds" or bool(name or data.tfds.name), "data.tfds.name", "a dataset name")


def _validate_data(config: ConfigDict, need: Callable[[bool, str, str], None]) -> None:
    _validate_images(config, need, SOURCES)
    data, source = config.data, config.data.source.partition(":")[0]
    need(data.split in ("proportions", "paper"), "data.split", "proportions or paper")
    need(data.split != "paper" or data.source == "celeba", "data.split",
         "proportions unless data.source is celeba")  # fmt: skip
    need(data.paper_setting in PAPER_SETTINGS, "data.paper_setting",
         f"one of {', '.join(PAPER_SETTINGS)}")  # fmt: skip
    need(0 < data.bias < 1, "data.bias", "between 0 and 1")
    for key in ("n_ratio_test", "n_judge_fit", "n_judge_test", "n_metric_reference"):
        need(data[key] >= 0, f"data.{key}", "0 or more")
    judged = [name for names in config.judge.attribute_sets for name in names]
    for stage, named in (("ratio", data.group_attributes), ("judge", judged)):
        turned = source == "shapes3d" and "orientation" in named
        need(not (turned and config[stage].flip), f"{stage}.flip",
             "False where it is about orientation: a flipped image has another one")  # fmt: skip
