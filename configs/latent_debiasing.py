"""De-biasing through a generator's latents: does an avatar wear glasses, where in training 96 % of
those with glasses have long hair? Group DRO and strong l2, each with and without generated pairs.

Command: python launch/train.py --config=configs/latent_debiasing.py
It takes the generator of the quickstart: run that first, with --workdir=runs/quickstart.
Another generator: --config.latent.generator=RUN/arms/ARM/gan, or an official .pkl

Arms: the four of "DRO vs Fairness" (plain training or group DRO, weak or strong l2), on the real
images and on these and pairs; `erm_samples` gets plain samples of the generator instead of pairs.
"""

from typing import Any

from ml_collections import ConfigDict

from fairjax.classifier_config import defaults, tiny
from fairjax.config import variant

SWEEPS = {"avatars": ("avatars",)}
SEEDS = (0, 1, 2)

DRO: dict[str, Any] = {"sampler": "balanced", "objective": "group_dro"}
STRONG: dict[str, Any] = {"weight_decay": 0.01}
METHODS = {"erm": dict[str, Any](), "erm_l2": STRONG, "dro": DRO, "dro_l2": DRO | STRONG}


def small(config: ConfigDict) -> None:
    tiny(config)
    config.data.resolution = 32  # that of the generator


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "latent_debiasing"
    config.data.update(
        source="avatars", resolution=32, group_attributes=("glasses", "long_hair"), n_biased=2000,
        perc=0.25, n_judge_test=2000,
        biased_proportions=(0.48, 0.02, 0.02, 0.48),  # no glasses: short, long hair; glasses
    )  # fmt: skip
    config.fit.update(width=8, epochs=10.0, evaluations=4)
    config.latent.update(generator="runs/quickstart/arms/equi/gan", epochs=10.0, fit=2000,
                         pairs=1000)  # fmt: skip
    with_pairs = {
        f"{name}_pairs": dict(words, synthetic="pairs") for name, words in METHODS.items()
    }
    config.arms = ConfigDict({**METHODS, **with_pairs, "erm_samples": {"synthetic": "samples"}})
    return variant(config, arg, {"avatars": lambda config: None, "tiny": small})
