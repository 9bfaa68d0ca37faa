"""CelebA: blond or not, where 94 % of the blond faces of the training part are women's.

Command: python launch/train.py --config=configs/celeba_blond.py --config.data.celeba.dir=DIR
Laptop: python launch/train.py --config=configs/celeba_blond.py:tiny --config.data.celeba.dir=DIR
Rows of papers: python launch/train.py --config=configs/celeba_blond.py:list
DIR holds img_align_celeba.zip (or the folder), list_attr_celeba.txt and list_eval_partition.txt.
Arms: the regimes of Sagawa et al., 2020 (appendix C.2), a ResNet-18 from scratch at 128 px; those
of the papers' ResNet-50 are variants, which replace the arms. Expected figures and time: not run.
"""

from ml_collections import ConfigDict

from fairjax import classifier_presets
from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

DRO = {"sampler": "balanced", "objective": "group_dro", "select": "worst_group"}
STRONG = {"weight_decay": 0.1, "learning_rate": 1e-5}


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "celeba_blond"
    config.data.update(source="celeba", split="official", resolution=128,
                       group_attributes=("Blond_Hair", "Male"))  # fmt: skip
    config.fit.update(
        model="resnet18", width=64, stem="imagenet", learning_rate=1e-4, weight_decay=1e-4,
        epochs=50.0, evaluations=50, select="average",
    )  # fmt: skip
    config.arms = ConfigDict(
        {
            "erm": {},
            "dro": DRO,
            "erm_l2": STRONG,
            "dro_l2": DRO | STRONG,
            "dro_l2_c": DRO | STRONG | {"dro_c": (3.0,)},
        }
    )
    return variant(config, arg, {"tiny": tiny} | classifier_presets.variants("celeba"))
