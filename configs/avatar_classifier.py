"""Avatars: has the face a beard, where in training 98 % of the beards come with short hair?

Command: python launch/train.py --config=configs/avatar_classifier.py
Others: --config.data.group_attributes="('glasses','long_hair')" with a share for each combination,
the last attribute running fastest, in --config.data.biased_proportions.
Expected figures and time: not run at full size.
"""

from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "avatar_classifier"
    config.data.update(
        source="avatars", resolution=32, group_attributes=("beard", "long_hair"), n_biased=4000,
        perc=0.1, n_judge_test=2000,
        biased_proportions=(0.01, 0.49, 0.49, 0.01),  # no beard: short, long hair; a beard
    )  # fmt: skip
    config.arms = ConfigDict(
        {
            "erm": {},
            "balanced": {"sampler": "balanced"},
            "dro": {"sampler": "balanced", "objective": "group_dro", "weight_decay": 0.01},
            "dfr": {"head": "dfr"},
        }
    )
    return variant(config, arg, {"tiny": tiny})
