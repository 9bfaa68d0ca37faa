"""Coloured digits: is a digit 5 or more, where in training 98 % have the colour of their class?

Command: python launch/train.py --config=configs/coloured_digits.py
Three seeds and a table of all: python launch/sweep.py --config=configs/sweeps/coloured_digits.py
Arms: plain training and the methods of the literature, each a few words of `fit`.
"""

from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

BALANCED = {"sampler": "balanced"}
DRO = {**BALANCED, "objective": "group_dro"}
STRONG = {"weight_decay": 0.05, "learning_rate": 0.02}


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "coloured_digits"
    config.data.resolution = 16
    config.arms = ConfigDict(
        {
            "erm": {},
            "erm_l2": STRONG,
            "balanced": BALANCED,
            "balanced_l2": BALANCED | STRONG,
            "dro": DRO,
            "dro_l2": DRO | STRONG,
            "dro_l2_c": DRO | STRONG | {"dro_c": (1.0,)},
            "spectral": {"spectral": 0.1},
            "jtt": {"first": "jtt"},
            "dfr": {"head": "dfr"},
            "dann": {"adversary": 1.0},
            "gap": {"gap": "odds", "sampler": "balanced"},
            "cvar": {"objective": "cvar"},
        }
    )
    return variant(config, arg, {"tiny": tiny})
