"""The main job in small: biased avatars in, two generators and a page that compares them out.

Command: python launch/train.py --config=configs/quickstart.py
Arms: `equi` trains on the plain union of both sets, `weighted` on reals drawn by their estimated
importance weight, with a penalty on the shares of two groups of these weights' ratios. Everything
else, the seeds included, is the same.
"""

from ml_collections import ConfigDict

from fairjax.config import ARMS, defaults, tiny, variant


def get_config(arg: str | None = None) -> ConfigDict:
    config = defaults()
    config.name = "quickstart"
    config.data.update(
        source="avatars", resolution=32, perc=0.5, n_biased=8000, n_ratio_test=2000,
        n_judge_fit=2000, n_judge_test=1000, n_metric_reference=1000,
        biased_proportions=(0.1, 0.9),  # short hair, long hair
    )  # fmt: skip
    # The two sets differ in one visible trait and the network is narrow: a short training, because
    # it soon learns the training images by heart (the held-out log-loss chooses the moment).
    config.ratio.update(
        folds=3, width=8, stem="stride2", epochs=1.5, learning_rate=2e-3, weight_decay=1e-2,
        evaluations=10, feature_resolution=96,
    )  # fmt: skip
    config.judge.update(width=8, stem="stride2", epochs=4.0, learning_rate=2e-3, evaluations=4)
    # A strong gradient penalty keeps the discriminator from telling all reals from all fakes: past
    # that point the hinge is flat and a weight has nothing left to scale.
    config.gan.update(
        batch=16, kimg=60.0, z_dim=64, w_dim=64, mapping_layers=2, channel_base=512,
        channel_max=32, mbstd_group=4, r1_gamma=4.0, path_length_weight=0.0, style_mixing=0.0,
        learning_rate_g=0.002, learning_rate_d=0.002, decay_from=0.5, ema_kimg=5.0,
        log_every_kimg=0.8, save_every_kimg=10.0, sample_every_kimg=10.0,
    )  # fmt: skip
    config.eval.update(every_kimg=5.0, samples_during=1000, samples=2000, feature_samples=500)
    config.eval.feature_resolution = 96
    config.arms = ConfigDict(ARMS)
    return variant(config, arg, {"tiny": tiny})
