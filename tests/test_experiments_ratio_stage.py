"""Cross-fitting: who rates whom."""

from types import SimpleNamespace

import numpy as np
import pytest

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.experiments import ratio_stage


def dataset(n_biased=90, n_reference=30):
    domain = np.concatenate([np.zeros(n_biased, int), np.ones(n_reference, int)])
    return SimpleNamespace(
        training=np.arange(len(domain)),
        domain=domain,
        manifest={"true_ratio": {"attributes": ["hair"], "ratio": [5 / 9, 5.0]}},
        classes=lambda names, positions: np.asarray(positions) % 2,
    )


def test_folds_are_even_in_both_sets_and_do_not_depend_on_order_of_calls():
    config = defaults()
    config.ratio.folds = 3
    data = dataset()
    fold = ratio_stage.folds(data, config)
    for side, size in ((0, 30), (1, 10)):
        assert np.bincount(fold[data.domain == side]).tolist() == [size] * 3
    assert np.array_equal(fold, ratio_stage.folds(data, config))
    config.seed = 1
    assert not np.array_equal(fold, ratio_stage.folds(data, config))


def test_one_image_of_a_set_is_refused():
    with pytest.raises(InputError, match="1 training image of the reference set"):
        ratio_stage.folds(dataset(n_reference=1), defaults())


def test_the_stages_are_those_of_the_networks_in_the_config():
    config = defaults()
    config.ratio.folds = 2
    heads = "ratio/efficientnet_lite0"
    assert ratio_stage.stage_names(config) == ["ratio/fold_0", "ratio/fold_1", heads]
    config.ratio.networks = ("efficientnet_lite0",)
    assert ratio_stage.stage_names(config) == [heads]
    config.weights.true_ratio = True
    assert ratio_stage.stage_names(config) == []
