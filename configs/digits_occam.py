"""Coloured digits by an OccamNet beside a ResNet-18 of about its size, trained alike.

Command: python launch/train.py --config=configs/digits_occam.py
Three seeds: python launch/sweep.py --config=configs/digits_occam.py
Their table: python launch/compare.py configs/digits_occam.jsonl

Adam, its learning rate and the l2 are those of the published code on Biased MNIST (Shrestha et al.,
2022); width and length are small enough for a CPU. Nothing was tuned. Expected figures: not run.
"""

from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

SWEEPS = {"digits": ("digits",)}
SEEDS = (0, 1, 2)


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "digits_occam"
    config.data.resolution = 16
    config.fit.update(
        model="resnet18", width=8, optimiser="adam", learning_rate=1e-3, weight_decay=5e-4,
        epochs=15.0, evaluations=3,
    )  # fmt: skip
    config.arms = ConfigDict({"erm": {}, "occam": {"model": "occam_resnet18", "width": 7}})
    return variant(config, arg, {"digits": lambda config: None, "tiny": tiny})
