"""The main job in small: biased avatars in, two generators and a page that compares them out.

Command: python launch/train.py --config=configs/quickstart.py
"""

from ml_collections import ConfigDict

from fairjax.config import defaults, tiny, variant


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "quickstart"
    config.data.update(
        source="avatars", resolution=32, bias=0.9, perc=0.5, n_biased=6000, n_ratio_test=1000,
        n_judge_fit=2000, n_judge_test=1000, n_metric_reference=1000,
    )  # fmt: skip
    config.ratio.update(
        folds=2, width=8, stem="stride2", epochs=6.0, learning_rate=2e-3, weight_decay=1e-4,
        evaluations=6, flip=True,
    )  # fmt: skip
    config.judge.update(width=8, stem="stride2", epochs=10.0, learning_rate=2e-3)
    config.gan.update(
        batch=16, kimg=48.0, z_dim=64, w_dim=64, mapping_layers=2, channel_base=1024,
        channel_max=64, mbstd_group=4, r1_gamma=0.1, path_length_weight=0.0, ema_kimg=2.0,
        log_every_kimg=0.8, save_every_kimg=6.0, sample_every_kimg=6.0,
    )  # fmt: skip
    config.eval.update(
        every_kimg=6.0, samples_during=1000, samples=2000, feature_samples=500,
    )  # fmt: skip
    config.eval.feature_resolution = 96
    config.arms = ConfigDict({"equi": {"reweight": "none"}, "weighted": {"reweight": "resample"}})
    return variant(config, arg, {"tiny": tiny})
