"""Your own images: folders of biased images, a folder of reference images, no labels needed.

Command: python launch/train.py --config=configs/folder.py
  --config.data.folder.biased="('DIR_A','DIR_B')" --config.data.folder.reference="('DIR_C',)"
With labels, for judging only: --config.data.folder.attributes=labels.csv
  --config.data.folder.judge="('DIR_D',)" --config.judge.attribute_sets="(('gender',),)"
Laptop: the same with configs/folder.py:tiny (16 px, a smoke test) or :small (64 px, narrow
networks, a few thousand steps).
"""

from ml_collections import ConfigDict

from fairjax.config import ARMS, defaults, size, variant, variants


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "folder"
    config.data.source = "folder"
    config.data.group_attributes = ()
    config.judge.attribute_sets = ()
    config.ratio.update(width=32, stem="small", folds=5, learning_rate=1e-3)
    config.judge.update(width=32, stem="small")
    config.gan.update(kimg=2000.0, mapping_layers=2)
    size(64)(config)
    config.arms = ConfigDict(ARMS)
    return variant(config, arg, variants() | {"small": small})


def small(config: ConfigDict) -> None:
    """64 px on two CPU cores: a few thousand steps of narrow networks, some ten minutes an arm."""
    config.ratio.update(width=8, stem="stride2", folds=2, batch=32, epochs=10.0, evaluations=10)
    config.judge.update(width=8, stem="stride2", batch=32, epochs=20.0)
    config.gan.update(
        batch=8, kimg=24.0, z_dim=64, w_dim=64, channel_base=1024, channel_max=32,
        path_length_weight=0.0, style_mixing=0.0, ema_kimg=2.0, log_every_kimg=0.4,
        save_every_kimg=4.0, sample_every_kimg=4.0,
    )  # fmt: skip
    config.eval.update(every_kimg=4.0, samples_during=500, samples=1000, feature_samples=300)
    config.eval.feature_resolution = 96
