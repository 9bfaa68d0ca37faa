"""Coloured digits: strengths of balanced training and group DRO, searched by the validation images.

Command: python launch/sweep.py --config=configs/sweeps/digits_search.py[:NAME], a NAME of SEARCHES
One run: python launch/train.py --config=configs/sweeps/digits_search.py --config.KEY=VALUE ..
Tables:  python launch/compare.py configs/sweeps/digits_search.jsonl

`worst` looks for the best worst group, `front` for the exchange between it and the average. A trial
has 30 epochs, a third of `configs/coloured_digits.py`. `pip install -e ".[digits,tools]"`.
"""

from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

WORST, AVERAGE = "'worst_group_accuracy/validation'", "'average_accuracy/validation'"
KEYS = {
    "fit.objective": ("choice", ("mean", "group_dro")),
    "fit.weight_decay": ("log", 1e-4, 0.2),
    "fit.learning_rate": ("log", 3e-3, 0.1),
    "fit.dro_c": ("choice", ((0.0,), (2.0,), (4.0,))),
}
SEARCHES = {
    "worst": {"keys": KEYS, "maximise": WORST, "trials": 24, "pruner": "median"},
    "front": {"keys": KEYS, "maximise": (WORST, AVERAGE), "trials": 24},
}


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "digits_search"
    config.data.resolution = 16
    config.fit.update(sampler="balanced", epochs=30.0, evaluations=10)
    return variant(config, arg, {"tiny": tiny})
