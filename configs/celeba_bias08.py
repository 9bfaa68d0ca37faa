"""CelebA, gender 80/20, the paper's splits and counts, StyleGAN2 at 64 px (variants :128, :256).

Command: python launch/train.py --config=configs/celeba_bias08.py --config.data.celeba.dir=DIR
Laptop: python launch/train.py --config=configs/celeba_bias08.py:tiny --config.data.celeba.dir=DIR
Expected figures and time at full size: not run.
"""

from ml_collections import ConfigDict

from fairjax.config import celeba, variant, variants


def get_config(arg: str | None = None) -> ConfigDict:
    config = celeba()
    config.name = "celeba_bias08"
    config.data.paper_setting = "80_20"
    config.data.bias = 0.8  # for :tiny, which cuts its own proportions
    return variant(config, arg, variants())
