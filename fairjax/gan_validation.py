"""Every problem of the `gan` tree of an arm, before anything is computed."""

from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from fairjax import augmentations
from fairjax.config import d_widths, named_arm
from fairjax.errors import InputError

Need = Callable[[bool, str, str], None]  # (it is right, key of `gan`, the rule)
AIMED = ("marginals", "constraint")  # the penalties that have a target

# Keys of `gan` that are one of some words.
WORDS = {
    "mbstd_mode": ("contiguous", "strided"),
    "draws": ("independent", "stratified"),
    "train_on": ("union", "reference", "biased"),
    "condition_form": ("classes", "attributes", "numbers"),
    "fake_labels": ("reference", "data", "uniform"),
    "sample_labels": ("", "reference", "data", "uniform"),
    "g_architecture": ("skip", "resnet", "orig"),
    "d_architecture": ("skip", "resnet", "orig"),
    "loss": ("hinge", "logistic"),
    "reweight": ("none", "loss", "resample", "hybrid"),
    "groups": ("dataset", "ratio_bins", "clusters", "attributes"),
    "dro_start": ("shares", "uniform"),
    "dro_absent": ("skip", "zero"),
    "init_d": ("file", "fresh"),
    "second_d": ("none", "frozen", "reference"),
    "penalty": ("none", "marginals", "constraint", "adversary", "quality"),
    "penalty_target": ("reference", "uniform"),
    "penalty_groups": ("attributes", "ratio"),
    "augment": augmentations.KINDS,
}


def arm_problems(config: ConfigDict, arm: str, devices: int, problems: list[str]) -> None:
    """Adds the problems of an arm, which is applied to the config, to the list."""
    gan = config.gan

    def need(ok: bool, key: str, rule: str) -> None:
        if not ok:
            problem = f"gan.{key} (={gan[key]!r}) must be {rule}"
            problem += f" (arm {arm})" if key in config.arms[arm] else ""
            if problem not in problems:
                problems.append(problem)

    for key, words in WORDS.items():
        need(gan[key] in words, key, either(words))
    _shapes(config, devices, need)
    _weights(config, need)
    _labels(config, need)
    _starts(config, devices, need)
    _optimiser(gan, need)
    _penalty(config, need)
    _own_samples(gan, need)
    _augmentation(gan, need)


def either(words: Sequence[str]) -> str:
    """The rule that a value is one of these words."""
    named = [word or "empty" for word in words]
    if len(named) > 3:
        return f"one of {', '.join(named)}"
    return f"{', '.join(named[:-1])} or {named[-1]}"


def _shapes(config: ConfigDict, devices: int, need: Need) -> None:
    gan, size = config.gan, config.data.resolution
    group = max(int(gan.mbstd_group), 1)
    need(gan.batch >= 1 and gan.batch % devices == 0, "batch", f"a multiple of {devices} devices")
    need(gan.mbstd_group >= 0 and (gan.batch // devices) % group == 0, "mbstd_group",
         f"0 or a divisor of the {gan.batch // max(devices, 1)} images per device")  # fmt: skip
    usable = {key: 0 < gan[key] < float("inf") for key in (
        "z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "d_width")}  # fmt: skip
    for key, ok in usable.items():
        need(ok, key, "positive and finite")
    if size < 1 or not all(usable.values()):
        return  # the rest cannot be reckoned
    d_base, d_max = d_widths(gan)
    last = min(d_base // 4, d_max)
    need(gan.mbstd_features >= 1 and last % max(gan.mbstd_features, 1) == 0, "mbstd_features",
         f"a divisor of the {last} channels at 4 x 4 pixels")  # fmt: skip
    need(gan.half_resolutions >= 0, "half_resolutions", "0 or more")
    need(min(d_base // size, d_max) >= 1, "d_width", "so large that each block has a channel")
    need(gan.channel_base >= size, "channel_base", f"at least data.resolution ({size})")
    need(gan.conv_clamp >= 0, "conv_clamp", "0 or more")


def _weights(config: ConfigDict, need: Need) -> None:
    """How weights and groups of reals come in."""
    gan = config.gan
    in_loss = gan.reweight in ("loss", "hybrid")
    need(not gan.mbstd_weighted or in_loss, "mbstd_weighted", "False unless gan.reweight is loss "
         "or hybrid: else the batch is drawn as it is meant")  # fmt: skip
    need(0 <= gan.alpha_ramp <= 1, "alpha_ramp", "in [0, 1]")
    need(in_loss or not gan.alpha_ramp, "alpha_ramp", "0 unless gan.reweight is loss or hybrid")
    for key in ("self_normalise", "r1_weighted", "ada_weighted"):
        need(in_loss or not gan[key], key, "False unless gan.reweight is loss or hybrid")
    need(not gan.self_normalise or not gan.dro, "self_normalise",
         "False with gan.dro, as losses of groups are divided by their weights anyway")  # fmt: skip
    need(not gan.r1_weighted or gan.r1_gamma > 0, "r1_weighted", "False without R1 (r1_gamma=0)")
    need(not gan.mbstd_weighted or gan.mbstd_group > 0, "mbstd_weighted",
         "False without minibatch statistics (mbstd_group=0)")  # fmt: skip
    need(not gan.ada_weighted or gan.augment == "ada", "ada_weighted", "False unless augment=ada")
    need(not gan.dro or gan.groups != "dataset" or gan.train_on == "union", "groups",
         f"another with gan.dro, as D sees the {gan.train_on} set only: one group")  # fmt: skip
    need(0 < gan.resample_share < 1, "resample_share", "between 0 and 1")
    featured = "efficientnet_lite0" in config.ratio.networks and not config.weights.true_ratio
    need(gan.groups != "clusters" or featured, "groups", "another, as there are clusters only with "
         "efficientnet_lite0 in ratio.networks and an estimated ratio")  # fmt: skip
    need(gan.groups != "attributes" or len(config.data.group_attributes) > 0, "groups",
         "dataset or ratio_bins, as data.group_attributes is empty")  # fmt: skip
    need(gan.dro_bins >= 2, "dro_bins", "at least 2")
    need(0 <= gan.dro_momentum < 1, "dro_momentum", "in [0, 1)")
    for key in ("dro_eta", "dro_c"):
        need(gan[key] >= 0, key, "0 or more")


def _labels(config: ConfigDict, need: Need) -> None:
    gan = config.gan
    numbers = bool(gan.condition) and gan.condition_form == "numbers"
    need(not numbers or (config.data.source == "folder" and bool(config.data.folder.attributes)),
         "condition_form", "classes or attributes, unless data.source is folder and "
         "data.folder.attributes a table with these columns")  # fmt: skip
    need(not numbers or gan.fake_labels != "uniform", "fake_labels",
         "reference or data: condition_form=numbers has no uniform distribution")  # fmt: skip
    need(not numbers or not gan.sample_labels, "sample_labels",
         "empty with condition_form=numbers")  # fmt: skip
    by_set = tuple(gan.condition) == ("reference_set",)
    both = gan.train_on == "union" and gan.second_d != "reference"
    need(not by_set or both, "condition", "another, unless each discriminator sees both sets "
         "(gan.train_on=union, gan.second_d not reference)")  # fmt: skip
    need(by_set or "reference_set" not in gan.condition, "condition",
         "reference_set alone, or attributes")  # fmt: skip
    # Labelled "reference" only, fakes would never be compared with the biased set.
    need(not by_set or gan.fake_labels == "data", "fake_labels",
         "data with gan.condition=('reference_set',); gan.sample_labels=reference then shows "
         "what follows the reference")  # fmt: skip
    need(len(set(gan.condition)) == len(gan.condition), "condition", "different attribute names")
    need(gan.d_mapping_layers >= 0, "d_mapping_layers", "0 or more")


def _starts(config: ConfigDict, devices: int, need: Need) -> None:
    """Networks to start from, and a second discriminator."""
    gan = config.gan
    given_d = bool(gan.init_from) and gan.init_d == "file"
    need(not gan.init_grow or bool(gan.init_from), "init_grow", "False without gan.init_from")
    blocks = max(int(config.data.resolution).bit_length() - 3, 0)  # from 8 px up
    need(0 <= gan.freeze_d <= blocks, "freeze_d", f"from 0 to {blocks}, one for each block from "
         f"{config.data.resolution} down to 8 px")  # fmt: skip
    need(not gan.freeze_d or given_d, "freeze_d", "0 unless gan.init_from gives a discriminator")
    # The blocks that growing adds are not trained yet.
    need(not gan.freeze_d or not gan.init_grow, "freeze_d", "0 with gan.init_grow")
    need(gan.second_d != "frozen" or not gan.init_grow or bool(gan.second_from), "second_d",
         "none or reference with gan.init_grow, unless gan.second_from is given")  # fmt: skip
    need(gan.second_d != "frozen" or given_d, "second_d",
         "none or reference unless gan.init_from gives a discriminator")  # fmt: skip
    need(not gan.second_from or gan.second_d == "frozen", "second_from",
         "empty unless gan.second_d is frozen")  # fmt: skip
    need(0 < gan.second_share < 1, "second_share", "between 0 and 1")
    if gan.second_d == "reference":
        group = max(int(gan.mbstd_group), 1)
        per = devices * min(group, max(int(gan.second_batch) // devices, 1))
        need(gan.second_batch >= 1 and gan.second_batch % per == 0, "second_batch",
             f"a multiple of {per} (devices x images of a minibatch-stddev group)")  # fmt: skip
        need(gan.second_batch <= gan.batch, "second_batch", f"at most gan.batch ({gan.batch})")
    need(gan.lecam >= 0, "lecam", "0 or more")


def _optimiser(gan: ConfigDict, need: Need) -> None:
    need(0 <= gan.learning_rate_mapping < float("inf"), "learning_rate_mapping", "0 or more")
    need(0 <= gan.style_mixing <= 1, "style_mixing", "in [0, 1]")
    need(0 <= gan.decay_from <= 1, "decay_from", "in [0, 1]")
    need(0 <= gan.beta1 < 1, "beta1", "in [0, 1)")
    need(0 <= gan.beta2 < 1, "beta2", "in [0, 1)")
    for key in ("kimg", "learning_rate_g", "learning_rate_d", "ema_kimg", "log_every_kimg",
                "save_every_kimg", "sample_every_kimg", "r1_every",
                "path_length_every"):  # fmt: skip
        need(0 < gan[key] < float("inf"), key, "positive and finite")
    for key in ("r1_gamma", "path_length_weight", "ema_rampup"):
        need(gan[key] >= 0, key, "0 or more")
    need(0 <= gan.r1_target < 1, "r1_target", "from 0 to below 1, as a share of the reals")
    need(not gan.r1_target or gan.loss == "hinge", "r1_target", "0 unless gan.loss is hinge")
    need(not gan.r1_target or gan.r1_gamma > 0, "r1_gamma", "above 0, where gan.r1_target starts")
    need(0 < gan.r1_kimg < float("inf"), "r1_kimg", "positive and finite")


def _penalty(config: ConfigDict, need: Need) -> None:
    gan, sets = config.gan, [tuple(names) for names in config.judge.attribute_sets]
    by_ratio = gan.penalty_groups == "ratio"
    need(gan.penalty == "none" or by_ratio or bool(sets), "penalty",
         "none, or penalty_groups ratio, as judge.attribute_sets is empty")  # fmt: skip
    need(not by_ratio or gan.penalty_target == "reference", "penalty_target",
         "reference with penalty_groups=ratio")  # fmt: skip
    need(not by_ratio or not gan.penalty_attributes, "penalty_attributes",
         "empty with penalty_groups=ratio")  # fmt: skip
    need(gan.penalty_count >= 2, "penalty_count", "2 or more")
    need(gan.penalty_members >= 1, "penalty_members", "1 or more")
    need(0 <= gan.penalty_momentum < 1, "penalty_momentum", "from 0 to below 1")
    running = gan.penalty == "none" or (gan.penalty == "marginals" and not gan.penalty_unbiased)
    need(not gan.penalty_momentum or running, "penalty_momentum",
         "0 unless penalty is marginals, without penalty_unbiased")  # fmt: skip
    need(not gan.penalty_attributes or tuple(gan.penalty_attributes) in sets, "penalty_attributes",
         f"empty or one of judge.attribute_sets ({', '.join(map(str, sets))})")  # fmt: skip
    for key in ("penalty_weight", "penalty_slack"):
        need(0 <= gan[key] < float("inf"), key, "0 or more, and finite")
    for key in ("penalty_rate", "adversary_learning_rate", "adversary_width"):
        need(0 < gan[key] < float("inf"), key, "positive and finite")
    aimed = gan.penalty in ("none", *AIMED)
    need(aimed or not gan.penalty_unbiased, "penalty_unbiased",
         "False unless penalty is marginals or constraint")  # fmt: skip
    need(aimed or gan.penalty_target == "reference", "penalty_target",
         "reference unless penalty is marginals or constraint")  # fmt: skip
    need(gan.penalty == "none" or not gan.penalty_unbiased or gan.batch >= 2, "penalty_unbiased",
         "False with a batch of one")  # fmt: skip


def _own_samples(gan: ConfigDict, need: Need) -> None:
    need(not gan.own_from or bool(named_arm(gan.own_from)), "own_from", "empty or arm:NAME")
    need(0 < gan.own_share <= 1, "own_share", "above 0 and at most 1")
    if not named_arm(gan.own_from):
        return
    lacks = "with gan.own_from, as a generated image has no"
    need(gan.reweight == "none", "reweight", f"none {lacks} weight")
    need(gan.draws == "independent", "draws", f"independent {lacks} density ratio")
    need(not gan.dro, "dro", f"False {lacks} group")
    need(not gan.condition, "condition", f"empty {lacks} label")
    need(gan.train_on == "union", "train_on", f"union {lacks} set it is from")
    need(gan.second_d != "reference", "second_d", f"none or frozen {lacks} set it is from")


def _augmentation(gan: ConfigDict, need: Need) -> None:
    for read, key in ((augmentations.multipliers, "augment_categories"),
                      (augmentations.policies, "diffaugment_policy")):  # fmt: skip
        try:
            read(gan[key])
        except InputError as error:
            need(False, key, f"made of known names: {error.found}. {error.mend}")
    need(gan.augment != "fixed" or 0 < gan.augment_p < 1, "augment_p",
         "above 0 and below 1 with augment=fixed; at 1 no image is left as it is")  # fmt: skip
    need(0 < gan.ada_p_max < 1, "ada_p_max", "above 0 and below 1; at 1 no image is left as it is")
    need(gan.augment != "ada" or 0 <= gan.augment_p <= gan.ada_p_max, "augment_p",
         "from 0 to ada_p_max with augment=ada")  # fmt: skip
    need(-1 <= gan.ada_target <= 1, "ada_target", "in [-1, 1], as a mean of signs")
    need(0 < gan.ada_kimg < float("inf"), "ada_kimg", "positive and finite")
