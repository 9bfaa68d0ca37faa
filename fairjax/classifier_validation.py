"""Every problem of a config of `robust_classification` at once, before anything is computed."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from fairjax.classifier_config import BY_SIZE, OFFICIAL, OVER_GROUPS, defaults, needs, with_arm
from fairjax.config import sound_arms
from fairjax.errors import InputError

WORDS = {
    "model": ("cnn", "resnet18", "resnet50", "occam_resnet18", "mlp", "linear"),
    "stem": ("imagenet", "stride2", "small"),
    "optimiser": ("sgd", "adam"),
    "select": ("last", "average", "worst_group", "worst_class", "group_mean", "class_mean",
               "precision", "f1", "auroc", "loss", "worst_group_loss", "class_difference"),
    "groups": ("both", "target", "protected"),
    "sampler": ("uniform", "epoch", "balanced", "epoch_balanced", "over", "under", "stratified",
                "weighted"),
    "mine_by": ("highest", "proportional"),
    "weights": ("none", "inverse", "sqrt", "effective", "reweighing", "density_ratio",
                "lff"),
    "weights_normalise": ("set", "batch"),
    "loss": ("cross_entropy", "binary", "focal", "hinge"),
    "objective": ("mean", "group_mean", "group_dro", "max", "cvar", "cvar_groups", "top_k"),
    "dro_absent": ("skip", "zero"),
    "dro_start": ("uniform", "shares"),
    "gap": ("none", "parity", "opportunity", "odds"),
    "gap_form": ("penalty", "constraint"),
    "irm_environments": ("protected", "groups"),
    "adversary_on": ("features", "logits"),
    "adversary_given": ("none", "target"),
    "transform": ("none", "mixup", "lisa", "fgsm", "pgd"),
    "first": ("none", "jtt"),
    "head": ("none", "dfr", "crt"),
    "head_balance": ("target", "groups"),
    "head_smote_kind": ("smote", "borderline", "svm", "adasyn"),
    "synthetic": ("none", "samples", "pairs"),
}  # fmt: skip
POSITIVE = ("width", "learning_rate", "batch", "epochs", "evaluations", "top_k", "adversary_width",
            "adversary_learning_rate", "mix_alpha", "attack_eps", "attack_steps", "jtt_epochs",
            "jtt_factor", "gap_rate", "lff_q", "synthetic_weight")  # fmt: skip
NOT_NEGATIVE = ("weight_decay", "patience", "mine", "focal_gamma", "dro_eta", "spectral", "l1",
                "gap_weight", "gap_slack", "irm", "mmd", "adversary", "head_smote", "occam_gamma0",
                "occam_gamma", "occam_suppression")  # fmt: skip
SHARES = ("momentum", "dropout", "effective_beta", "lff_q", "lff_momentum", "spectral_start",
          "irm_start", "lisa_within_class")  # fmt: skip
# Slots that look at one head on one vector of features, which an OccamNet does not have.
NOT_OCCAM = ("mine", "spectral", "gap", "irm", "mmd", "adversary", "transform", "head", "dropout")
MIXED = ("mixup", "lisa")  # each image is made of two
EVEN = ("balanced", "epoch_balanced", "over", "under")  # samplers of as much of each group
HIDDEN = {"both": (), "validation": ("training",), "none": ("training", "validation")}
RESNETS = ("resnet18", "resnet50")  # whose weights a file can give
Need = Callable[[bool, str, str], None]


def data_problems(config: ConfigDict, need: Need) -> None:
    """What the shared checks of `data` do not know of.

    Args:
      need: called with (whether it is so, dotted key, the rule in words).
    """
    data = config.data
    names = tuple(data.group_attributes)
    need(len(names) >= 1 and len({*names}) == len(names), "data.group_attributes",
         "the target and then the protected attributes, each once")  # fmt: skip
    need(data.split in ("proportions", "official"), "data.split", "proportions or official")
    need(data.split != "official" or data.source in OFFICIAL, "data.split",
         f"proportions unless data.source is {' or '.join(OFFICIAL)}")  # fmt: skip
    need(data.source != "waterbirds" or (bool(data.waterbirds.dir) and data.split == "official"),
         "data.waterbirds.dir", "the official folder, with data.split=official")  # fmt: skip
    need(data.protected_known in HIDDEN, "data.protected_known", f"one of {', '.join(HIDDEN)}")
    need(data.n_judge_test >= 4, "data.n_judge_test", "at least 4")
    for key in ("correlation", "minority_share"):
        need(0 < data.digits[key] < 1, f"data.digits.{key}", "between 0 and 1")
    need(0 <= data.digits.label_noise <= 0.5, "data.digits.label_noise", "from 0 to 0.5")


def latent_problems(config: ConfigDict, need: Need) -> None:
    """What is wrong in `latent`; nothing where no generator is given.

    Args:
      need: as of `data_problems`.
    """
    latent, names = config.latent, tuple(config.data.group_attributes)
    if not latent.generator:
        return
    need(len(names) > 1, "data.group_attributes", "the target and the protected attributes, as "
         "latent.generator is given")  # fmt: skip
    need(config.data.protected_known == "both", "data.protected_known", "both, as the classifiers "
         "that label generated images learn the protected attribute")  # fmt: skip
    need(latent.sampler in WORDS["sampler"] and latent.sampler != "weighted", "latent.sampler",
         f"one of {', '.join(w for w in WORDS['sampler'] if w != 'weighted')}")  # fmt: skip
    need(0 < latent.epochs < float("inf"), "latent.epochs", "positive and finite")
    need(latent.space in ("w", "z"), "latent.space", "w or z")
    need(0 <= latent.margin < float("inf"), "latent.margin", "0 or more, and finite")
    need(latent.fit >= 100, "latent.fit", "at least 100")
    need(latent.pairs >= 1, "latent.pairs", "at least 1")
    need(latent.labels in ("judged", "assumed"), "latent.labels", "judged or assumed")
    need({*latent.flip} < {*names}, "latent.flip", "some of data.group_attributes, not all")


def arm_problems(config: ConfigDict, devices: int) -> list[str]:
    """Problems of `arms` and of `fit` with each arm applied."""
    problems = [] if len(config.arms) else ["arms must be at least one arm"]
    for name, arm in sound_arms(config, "fit", problems):
        for problem in _fit_problems(arm, devices):
            said = f"{problem} (arm {name})"
            if not any(p.startswith(problem) for p in problems):
                problems.append(said)
    return problems


def _fit_problems(config: ConfigDict, devices: int) -> list[str]:
    fit, plain, problems = config.fit, defaults().fit, []

    def need(ok: bool, key: str, rule: str) -> None:
        if not ok:
            problems.append(f"fit.{key} (={fit[key]!r}) must be {rule}")

    for key, words in WORDS.items():
        need(fit[key] in words, key, f"one of {', '.join(words)}")
    for key in POSITIVE:
        need(0 < fit[key] < float("inf"), key, "positive and finite")
    for key in NOT_NEGATIVE:
        need(0 <= fit[key] < float("inf"), key, "0 or more, and finite")
    for key in SHARES:
        need(0 <= fit[key] <= 1, key, "from 0 to 1")
    need(0 < fit.cvar_alpha <= 1, "cvar_alpha", "above 0 and at most 1")
    need(fit.effective_beta < 1, "effective_beta", "below 1")
    need(fit.lff_momentum < 1, "lff_momentum", "below 1")
    need(fit.weights_clip == 0 or 1 <= fit.weights_clip < float("inf"), "weights_clip",
         "0 (none), or 1 and more, as the mean weight is 1")  # fmt: skip
    need(fit.batch % max(devices, 1) == 0, "batch", f"a multiple of {devices} devices")
    need(fit.mine <= fit.batch, "mine", f"at most fit.batch ({fit.batch})")
    need(fit.top_k <= (fit.mine or fit.batch) or fit.objective != "top_k", "top_k",
         f"at most the {fit.mine or fit.batch} images of a step")  # fmt: skip
    for key in ("dro_c", "spectral_gamma"):
        numbers = isinstance(fit[key], tuple | list) and len(fit[key]) > 0
        need(numbers and all(isinstance(x, int | float) for x in fit[key]), key,
             "one or more numbers, such as (2.0,)")  # fmt: skip
    need(fit.dropout < 1, "dropout", "from 0 to below 1")
    if fit.model == "occam_resnet18":
        for key in NOT_OCCAM:
            need(fit[key] == plain[key], key, f"{plain[key]!r} with fit.model=occam_resnet18")
        need(fit.weights != "lff", "weights", "another with fit.model=occam_resnet18")
        need(len(fit.occam_thresholds) == 4 and all(
             isinstance(x, int | float) for x in fit.occam_thresholds), "occam_thresholds",
             "four numbers, one for each exit")  # fmt: skip
    need(not fit.pretrained or fit.model in RESNETS, "pretrained",
         f"'' unless fit.model is {' or '.join(RESNETS)}")  # fmt: skip
    if fit.pretrained and fit.model in RESNETS:
        need(fit.width == 64, "width", "64, that of the networks of fit.pretrained")
        need(fit.stem == "imagenet", "stem", "imagenet, that of the networks of fit.pretrained")
        need(config.data.channels == 3, "pretrained", "'' unless data.channels is 3")
        need(Path(fit.pretrained).is_file(), "pretrained", "a file that is there")
    need(fit.sampler != "weighted" or fit.weights not in ("none", "lff") or fit.first != "none",
         "sampler", "another, unless fit.weights (or fit.first) gives weights to draw by, which "
         "are there before the training")  # fmt: skip
    need(fit.first == "none" or fit.weights == "none", "weights",
         "none with fit.first=jtt, which makes the weights")  # fmt: skip
    need(not fit.head_smote or fit.head == "crt", "head_smote", "0 unless fit.head is crt")
    need(fit.head_balance == "target" or fit.groups != "protected", "head_balance",
         "target with fit.groups=protected, whose groups are not of one class")  # fmt: skip
    need(not fit.patience or fit.select != "last", "patience", "0 with fit.select=last")
    need(fit.synthetic == "none" or bool(config.latent.generator), "synthetic",
         "none unless latent.generator names a generator")  # fmt: skip
    need(fit.synthetic == "none" or fit.weights != "density_ratio", "synthetic",
         "none with fit.weights=density_ratio, which rates real images only")  # fmt: skip
    need(fit.real or fit.synthetic != "none", "real", "True with fit.synthetic=none")
    need(fit.loss != "hinge" or fit.head == "none", "loss",
         "another, as the heads are logistic regressions")  # fmt: skip
    need(fit.transform not in MIXED or not _by_own_labels(fit), "transform",
         f"another with {', '.join(_by_own_labels(fit))}, which hold each image against labels of "
         "its own, as a mixture of two has none")  # fmt: skip
    _validate_weights(fit, need)
    by_labels = fit.weights == "density_ratio" and config.weights.true_ratio
    need(not by_labels or config.data.protected_known == "both", "weights",
         "another with weights.true_ratio=True, which makes the weights of the labels of training "
         "and validation images, unless data.protected_known is both")  # fmt: skip
    several = len(config.data.group_attributes) > 1
    for where, key in needs(fit).items():
        hidden = where in HIDDEN.get(config.data.protected_known, ())
        why = "data.protected_known hides it" if several else "data.group_attributes names none"
        need(several and not hidden, key, "another, as it needs the protected attribute of "
             f"{where} images, and {why}. fit.groups=target makes groups of classes")  # fmt: skip
    return problems


def _validate_weights(fit: ConfigDict, need: Need) -> None:
    """Weights, and words about them, that would change nothing."""
    shared = fit.weights in BY_SIZE or (fit.weights == "reweighing" and fit.groups == "both")
    need(not shared or fit.objective not in OVER_GROUPS or fit.sampler == "weighted", "weights",
         f"none with fit.objective={fit.objective}, as a weight that all images of a group share "
         "leaves its mean loss as it is; fit.sampler=weighted draws by it")  # fmt: skip
    need(fit.weights_clip == 0 or fit.weights != "lff", "weights_clip",
         "0 with fit.weights=lff, whose weights of each step are not cut")  # fmt: skip
    need(fit.weights_normalise == "set" or fit.sampler != "weighted", "weights_normalise",
         "set with fit.sampler=weighted, as weights are drawn by and not in the loss")  # fmt: skip


def _by_own_labels(fit: ConfigDict) -> list[str]:
    """The words of an arm, beside the loss, that read labels of each image."""
    gamma = fit.spectral_gamma
    read = {
        "gap": fit.gap != "none",
        "irm": fit.irm > 0,
        "mmd": fit.mmd > 0,
        "adversary": fit.adversary > 0,
        "spectral_gamma": fit.spectral > 0 and isinstance(gamma, tuple | list) and len(gamma) > 1,
        "weights": fit.weights == "lff",
    }
    return [f"fit.{key}={fit[key]}" for key, reads in read.items() if reads]


def cautions(config: ConfigDict) -> Iterator[str]:
    """Sentences on what is allowed in a valid config and may harm what is measured."""
    trees = {name: with_arm(config, name).fit for name in config.arms}
    rated = [name for name, fit in trees.items() if fit.weights == "density_ratio"]
    if rated and config.weights.true_ratio:
        yield (f"arm {', '.join(rated)}: weights.true_ratio makes the weights of the labels of "
               "training and validation images; nothing is estimated")  # fmt: skip
    for name, fit in trees.items():
        if fit.sampler in EVEN and fit.weights in BY_SIZE:
            yield (f"arm {name} draws as much of each group (fit.sampler={fit.sampler}) and weighs "
                   f"small ones more on top (fit.weights={fit.weights}): their sizes are made up "
                   "for twice")  # fmt: skip


def refuse(config: ConfigDict, problems: list[str]) -> None:
    """Raises one `InputError` for all problems, if there are any."""
    if problems:
        raise InputError(
            f"{len(problems)} problem(s): " + "; ".join(problems),
            f"config {config.name}",
            "Change these keys in the config file or by --config.<key>=<value>",
        )
