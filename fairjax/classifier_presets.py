"""Published rows of classifiers as arms: `configs/waterbirds.py:gdro_table1_erm+gdro_table1_dro`.

`launch/train.py --config=configs/waterbirds.py:list` lists them with the published figures. All are
of a ResNet-50 that starts from ImageNet weights: give torchvision's file by
--config.fit.pretrained=FILE. Pictures are cropped to a square at once, where the papers' Waterbirds
are enlarged to 256 and cropped to 224 pixels. None was run by this project.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fairjax.errors import InputError


class Row(NamedTuple):
    """A row of a paper: which it is, its words of `fit`, and the accuracies that it reports (%)."""

    source: str
    words: dict[str, Any]
    average: str  # of Waterbirds weighted as in training; "" = not in our documents
    worst: str
    note: str = ""  # how this differs from what was published
    resolution: int = 224
    run: str = "not run"  # by this project


RESNET = {"model": "resnet50", "width": 64, "stem": "imagenet"}
SGD = RESNET | {"optimiser": "sgd", "momentum": 0.9, "batch": 128}
UPWEIGHT = {"sampler": "balanced"}
# As in the published code: groups that a batch lacks count with a loss of 0.
DRO = UPWEIGHT | {"objective": "group_dro", "dro_eta": 0.01, "dro_absent": "zero"}
WATERBIRDS = SGD | {"epochs": 300.0, "evaluations": 300, "select": "last"}
WATERBIRDS_L2 = WATERBIRDS | {"weight_decay": 1.0, "learning_rate": 1e-5}
CELEBA = SGD | {"epochs": 50.0, "evaluations": 50, "select": "last"}
CELEBA_L2 = CELEBA | {"weight_decay": 0.1, "learning_rate": 1e-5}
EARLY = {"epochs": 1.0, "evaluations": 1}
WORST = {"select": "worst_group"}
CHOSEN = "l2, rate and C as later work took them over"

# Yang et al. 2023 draw 16 configurations from ranges; these are the middles of their ranges, and
# fairjax's defaults where the range is not known to us. JTT's first fit is shorter, as one of half
# the length makes no errors. Figures as later papers print them.
SUBPOP = RESNET | WORST | {"optimiser": "sgd", "momentum": 0.9, "batch": 84, "learning_rate": 1e-3,
                           "weight_decay": 3.2e-5}  # fmt: skip
# Method -> its words, and the worst group of Waterbirds and of CelebA. LDAM, BSoftmax, CORAL and
# the other forms of CRT have no words here.
SUBPOP_METHODS: dict[str, tuple[dict[str, Any], str, str]] = {
    "erm": ({}, "69.1 +- 4.7", "62.6 +- 1.5"),
    "mixup": ({"transform": "mixup"}, "78.2 +- 0.4", "57.8 +- 0.8"),
    "groupdro": ({"objective": "group_dro", "dro_eta": 0.01}, "78.6 +- 1.0", "89.0 +- 0.7"),
    "irm": ({"irm": 100.0}, "74.5 +- 1.5", "63.0 +- 2.5"),
    "cvardro": ({"objective": "cvar", "cvar_alpha": 0.1}, "75.5 +- 2.2", "64.1 +- 2.8"),
    "jtt": ({"first": "jtt", "jtt_epochs": 3.0, "jtt_factor": 17.8}, "72.0 +- 0.3",
            "70.0 +- 10.2"),
    "lff": ({"weights": "lff", "lff_q": 0.5}, "75.2 +- 0.7", "53.0 +- 4.3"),
    "lisa": ({"transform": "lisa"}, "88.7 +- 0.6", "86.5 +- 1.2"),
    "mmd": ({"mmd": 1.0}, "83.9 +- 1.4", "24.4 +- 2.0"),
    "resample": ({"sampler": "balanced"}, "77.7 +- 1.2", "87.4 +- 0.8"),
    "reweight": ({"weights": "inverse"}, "86.9 +- 0.7", "89.7 +- 0.2"),
    "sqrtreweight": ({"weights": "sqrt"}, "78.6 +- 0.1", "82.4 +- 0.5"),
    "cbloss": ({"weights": "effective"}, "86.2 +- 0.3", "89.4 +- 0.7"),
    "focal": ({"loss": "focal"}, "71.6 +- 0.8", "59.1 +- 2.0"),
    "dfr": ({"head": "dfr"}, "91.0 +- 0.3", "90.4 +- 0.1"),
    "crt": ({"head": "crt", "head_balance": "groups"}, "79.7 +- 0.3", "87.2 +- 0.3"),
}  # fmt: skip


def _subpop(worst: int, epochs: float, evaluations: int) -> dict[str, Row]:
    length = {"epochs": epochs, "evaluations": evaluations}
    return {
        f"subpop_{name}": Row(
            "Yang et al. 2023 (SubpopBench)", SUBPOP | length | found[0], "",
            str(found[worst]), "the middle of its ranges, where it takes the best of 16",
        )
        for name, found in SUBPOP_METHODS.items()
    }  # fmt: skip


def _group_dro(
    base: dict[str, Any], rate: float, strong: dict[str, Any], adjusted: dict[str, Any],
    l2: float, figures: Sequence[tuple[str, str]], of_table2: str = "",
) -> dict[str, Row]:  # fmt: skip
    """The rows of Sagawa et al. 2020 on a data set.

    Args:
      base: what its rows share. rate: of the standard regime. strong: with strong l2.
      adjusted: the group adjustment. l2: of plain training in table 3.
      figures: (average, worst group) of each row. of_table2: a note on that row.
    """
    standard = base | {"weight_decay": 1e-4, "learning_rate": rate}
    tuned = {"weight_decay": l2, "learning_rate": 1e-4, "select": "average"}
    rows = {
        "table1_erm": ("1, standard", standard, ""),
        "table1_dro": ("1, standard", standard | DRO, ""),
        "table1_erm_l2": ("1, strong l2", strong, ""),
        "table1_dro_l2": ("1, strong l2", strong | DRO, ""),
        "table1_erm_early": ("1, early stopping", standard | EARLY, ""),
        "table1_dro_early": ("1, early stopping", standard | EARLY | DRO, ""),
        "table2_dro_c": ("2, adjusted", strong | DRO | adjusted, of_table2),
        "table3_erm": ("3", base | tuned, CHOSEN),
        "table3_upweight": ("3", strong | UPWEIGHT | WORST, CHOSEN),
        "table3_dro": ("3", strong | DRO | WORST | adjusted, CHOSEN),
    }
    return {
        f"gdro_{name}": Row(f"Sagawa et al. 2020, table {table}", words, *found, note)
        for (name, (table, words, note)), found in zip(rows.items(), figures, strict=True)
    }


# The experiments of the slides "DRO vs Fairness", which give neither rate nor momentum. Their split
# for DRO has no validation part to choose by.
SOURCE_ADAM = RESNET | {"optimiser": "adam", "learning_rate": 1e-4, "weight_decay": 0.0,
                        "batch": 32, "epochs": 20.0, "evaluations": 20, "dropout": 0.5,
                        "select": "average"}  # fmt: skip
SOURCE_SGD = RESNET | {"optimiser": "sgd", "learning_rate": 1e-3, "batch": 4, "epochs": 20.0,
                       "evaluations": 20, "weight_decay": 1e-4, "select": "last"}  # fmt: skip
SOURCE_DRO = {"objective": "group_dro", "dro_absent": "zero"}
SOURCE_NOTE = "theirs: 10,000 random images, 49 of the worst group in the test"

PRESETS: dict[str, dict[str, Row]] = {
    "waterbirds": {
        **_group_dro(
            WATERBIRDS, 1e-3, WATERBIRDS_L2, {"dro_c": (2.0,)}, 0.1,
            (("97.3", "60.0"), ("97.4", "76.9"), ("95.7", "21.3"), ("96.6", "84.6"),
             ("93.8", "6.7"), ("93.2", "86.0"), ("93.7", "90.5"),
             ("97.0", "63.7 +- 1.9"), ("95.1", "88.0 +- 1.3"), ("93.5", "91.4 +- 1.1"))),
        "dfr": Row(
            "Kirichenko et al. 2023", SGD | {
                "batch": 32, "learning_rate": 1e-3, "weight_decay": 1e-3, "epochs": 100.0,
                "evaluations": 10, "select": "last", "head": "dfr"}, "94.2", "92.9 +- 0.2",
            "without their random crops and flips"),
        **_subpop(1, epochs=87.6, evaluations=17),
    },
    "celeba": {
        **_group_dro(
            CELEBA, 1e-4, CELEBA_L2, {"dro_c": (3.0,)}, 0.01,
            (("94.8", "41.1"), ("94.7", "41.1"), ("95.8", "37.8"), ("93.5", "86.7"),
             ("94.6", "25.0"), ("91.8", "88.3"), ("93.4", "87.8"),
             ("94.9", "47.8 +- 3.7"), ("92.9", "83.3 +- 2.8"), ("92.9", "88.9 +- 2.3")),
            of_table2="C: that of table 3"),
        "sd_table2": Row(
            "Pezeshki et al. 2021, table 2", RESNET | {
                "optimiser": "adam", "learning_rate": 1e-5, "weight_decay": 0.0, "batch": 128,
                "epochs": 3.0, "evaluations": 3, "select": "average", "spectral": 0.2,
                "spectral_gamma": (0.44, 2.5)}, "", "",
            "their one output is the difference of the two here"),
        "sd_table2_erm": Row(
            "Pezeshki et al. 2021, table 2", SGD | {
                "learning_rate": 1e-5, "weight_decay": 0.0, "epochs": 3.0, "evaluations": 3,
                "select": "average"}, "", ""),
        "source_adam": Row(
            "the slides' classifier of GAN-debiasing, original data", SOURCE_ADAM, "90.9", "",
            "rate and dropout: those of the code of GAN-debiasing", 128),
        "source_sgd_erm": Row("the slides' DRO experiment", SOURCE_SGD, "79.3", "6.1",
                              SOURCE_NOTE, 128),
        "source_sgd_erm_l2": Row(
            "the slides' DRO experiment", SOURCE_SGD | {"weight_decay": 1e-2}, "82.2", "4.1",
            SOURCE_NOTE, 128),
        "source_sgd_dro": Row("the slides' DRO experiment", SOURCE_SGD | SOURCE_DRO, "76.9", "12.2",
                              SOURCE_NOTE, 128),
        "source_sgd_dro_l2": Row(
            "the slides' DRO experiment", SOURCE_SGD | SOURCE_DRO | {"weight_decay": 1e-2}, "86.0",
            "0.0", SOURCE_NOTE + "; says 'not blond' of every image", 128),
        **_subpop(2, epochs=15.5, evaluations=30),
    },
}  # fmt: skip


def variants(data: str) -> dict[str, Callable[[ConfigDict], None]]:
    """The presets of a data set as variants of its config; several make an arm each."""

    def change(name: str, row: Row) -> Callable[[ConfigDict], None]:
        def apply(config: ConfigDict) -> None:
            if not any(arm in PRESETS[data] for arm in config.arms):
                config.arms = ConfigDict()
                config.data.resolution = row.resolution
            if config.data.resolution != row.resolution:
                raise InputError(
                    f"variant '{name}' is of {row.resolution} pixels, those before it of "
                    f"{config.data.resolution}", f"config {config.name}", "Run them apart",
                )  # fmt: skip
            config.arms[name] = row.words

        return apply

    return {name: change(name, row) for name, row in PRESETS[data].items()}


def listing(data: str) -> str:
    """The presets of a data set as text: name, published figures, source, whether they were run.

    Raises:
      InputError: there are none.
    """
    if data not in PRESETS:
        raise InputError(f"no published rows of data.source={data}", "--config=FILE:list",
                         f"There are rows of {', '.join(PRESETS)}")  # fmt: skip
    lines = [["variant", "average %", "worst group %", "here", "source"]]
    for name, row in PRESETS[data].items():
        said = f"{row.source} ({row.note})" if row.note else row.source
        lines.append([f":{name}", row.average or "-", row.worst or "-", row.run, said])
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    text = [" ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]])
            for line in lines]  # fmt: skip
    last = "Published by others, ResNet-50 with ImageNet weights (--config.fit.pretrained=FILE)."
    return "\n".join([*text, last])
