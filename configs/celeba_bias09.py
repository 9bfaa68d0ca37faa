"""CelebA, gender 90/10, the paper's splits and counts, StyleGAN2 at 64 px (variants :128, :256).

Command: python launch/train.py --config=configs/celeba_bias09.py --config.data.celeba.dir=DIR
DIR holds img_align_celeba.zip (or the folder), list_attr_celeba.txt and list_eval_partition.txt.
Laptop: python launch/train.py --config=configs/celeba_bias09.py:tiny --config.data.celeba.dir=DIR
Expected figures and time at full size: not run.
"""

from ml_collections import ConfigDict

from fairjax.config import celeba, variant, variants


def get_config(arg: str | None = None) -> ConfigDict:
    config = celeba()
    config.name = "celeba_bias09"
    config.data.paper_setting = "90_10"
    config.data.bias = 0.9  # for :tiny, which cuts its own proportions
    return variant(config, arg, variants())
