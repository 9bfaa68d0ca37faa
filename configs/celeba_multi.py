"""CelebA, black hair x gender (four groups), the paper's splits, StyleGAN2 at 64 px.

Command: python launch/train.py --config=configs/celeba_multi.py --config.data.celeba.dir=DIR
Laptop: python launch/train.py --config=configs/celeba_multi.py:tiny --config.data.celeba.dir=DIR
Expected figures and time at full size: not run.
"""

from ml_collections import ConfigDict

from fairjax.config import celeba, variant, variants


def get_config(arg: str | None = None) -> ConfigDict:
    config = celeba()
    config.name = "celeba_multi"
    config.data.paper_setting = "multi"
    config.data.group_attributes = ("Black_Hair", "Male")
    config.data.biased_proportions = (0.437, 0.415, 0.063, 0.085)  # for :tiny
    config.judge.attribute_sets = (("Black_Hair", "Male"),)
    return variant(config, arg, variants())
