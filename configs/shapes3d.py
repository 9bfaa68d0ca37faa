"""3D Shapes (Burgess and Kim, 2018), red floors 90/10 over blue ones, StyleGAN2 at 64 px.

Command: python launch/train.py --config=configs/shapes3d.py --config.data.shapes3d.file=3dshapes.h5
Laptop: python launch/train.py --config=configs/shapes3d.py:tiny
  --config.data.shapes3d.file=3dshapes.h5
Needs pip install -e ".[shapes3d]". Expected figures and time at full size: not run.

Choi et al. (ICML 2020) say that their supplement has results on this data set; which factor they
bias, how much, and how many images they take is not in the paper. So the floor, its two hues and
all counts are our choice; 90 % and perc=0.5 are those of our CelebA configs. The pictures have 64
px: no variant enlarges them.
"""

from ml_collections import ConfigDict

from fairjax.config import ARMS, defaults, size, variant, variants

ENLARGED = ("128", "256", "paper256", "paper512", "paper1024")


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "shapes3d"
    # 48,000 images of each of the two floors are in the file, 44,800 of the red ones are used.
    config.data.update(
        source="shapes3d", resolution=64, crop="none", group_attributes=("floor_hue",), bias=0.9,
        perc=0.5, n_biased=30_000, n_ratio_test=4000, n_judge_fit=6000, n_judge_test=4000,
        n_metric_reference=5000,
    )  # fmt: skip
    config.data.shapes3d.keep = ("red floor", "blue floor")
    config.judge.attribute_sets = (("floor_hue",),)
    config.gan.mapping_layers = 2
    size(64)(config)
    config.arms = ConfigDict(ARMS)
    offered = {name: change for name, change in variants().items() if name not in ENLARGED}
    return variant(config, arg, offered)
