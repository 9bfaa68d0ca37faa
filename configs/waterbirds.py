"""Waterbirds: water or land bird, where 95 % of the training birds are in their own habitat.

Command: python launch/train.py --config=configs/waterbirds.py --config.data.waterbirds.dir=DIR
Laptop: python launch/train.py --config=configs/waterbirds.py:tiny --config.data.waterbirds.dir=DIR
Rows of papers: python launch/train.py --config=configs/waterbirds.py:list
Arms: the regimes of Sagawa et al., 2020 (appendix C.2): l2, learning rate, epochs, C, eta = 0.01,
SGD with momentum 0.9, batch 128, the balanced sampler for group DRO. Expected figures and time:
not run. The paper's, worst group in %: erm 60.0, dro 76.9, erm_l2 21.3, dro_l2 84.6, dro_l2_c 90.5;
they are of a ResNet-50 with ImageNet weights, here it is a ResNet-18 from scratch; those of the
papers' ResNet-50 are variants, which replace the arms.
"""

from ml_collections import ConfigDict

from fairjax import classifier_presets
from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

DRO = {"sampler": "balanced", "objective": "group_dro"}
STRONG = {"weight_decay": 1.0, "learning_rate": 1e-5}


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "waterbirds"
    config.data.update(source="waterbirds", split="official", resolution=128,
                       group_attributes=("waterbird", "water"))  # fmt: skip
    config.fit.update(
        model="resnet18", width=64, stem="imagenet", learning_rate=1e-3, weight_decay=1e-4,
        epochs=300.0, evaluations=300, select="average",
    )  # fmt: skip
    worst = {"select": "worst_group"}
    config.arms = ConfigDict(
        {
            "erm": {},
            "dro": DRO | worst,
            "erm_l2": STRONG,
            "dro_l2": DRO | STRONG | worst,
            "dro_l2_c": DRO | STRONG | worst | {"dro_c": (2.0,)},
        }
    )
    return variant(config, arg, {"tiny": tiny} | classifier_presets.variants("waterbirds"))
