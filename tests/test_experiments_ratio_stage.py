"""Cross-fitting: who rates whom."""

from types import SimpleNamespace

import numpy as np
import pytest

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.experiments import ratio_stage
from fairjax.objectives import draw


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


def test_a_network_learns_from_the_other_folds_only_and_rates_its_own(monkeypatch, tmp_path):
    """No image is rated by a network that saw it, be it to learn or to choose the checkpoint."""
    config = defaults()
    config.ratio.update(folds=3, batch=20, validation_share=0.2)
    data = dataset()
    data.images = np.arange(150)  # an image is its position
    data.roles = {"ratio_test": np.arange(120, 150)}
    learnt, chosen = set(), set()

    def drawn(images, positions, table, seed, batch):
        steps = np.array([draw.draw(seed, step, table) for step in range(400)])
        assert ((data.domain[steps] == 1).sum(1) == 10).all()  # half of each batch
        learnt.update(positions[steps].ravel().tolist())

    class Network:
        def task(self, name, labels, held):
            images, truth, mass = held()
            assert mass.sum() == pytest.approx(1)
            assert mass[truth == 1].sum() == pytest.approx(0.5)
            chosen.update(images.tolist())

        def predict(self, best, images):
            return np.stack([np.zeros(len(images)), images], 1)

    monkeypatch.setattr(ratio_stage.loop, "drawn", drawn)
    monkeypatch.setattr(ratio_stage.loop, "run", lambda *_: SimpleNamespace(best={}))
    monkeypatch.setattr(ratio_stage, "save_tree", lambda *_: None)
    rated = []
    for k in range(3):
        learnt.clear()
        chosen.clear()
        folder = tmp_path / str(k)
        folder.mkdir()
        ratio_stage.train_fold(config, data, (Network(), 100), k, folder)
        saved = np.load(folder / "logits.npz")
        own = saved["index"].tolist()
        assert saved["logits"].tolist() == own
        assert saved["test_logits"].tolist() == list(range(120, 150))
        assert not chosen & learnt
        assert learnt | chosen == set(range(120)) - set(own)
        rated += own
    assert sorted(rated) == list(range(120))


def test_one_image_of_a_set_is_refused():
    with pytest.raises(InputError, match="1 training image of the reference set"):
        ratio_stage.folds(dataset(n_reference=1), defaults())


def test_fewer_images_than_folds_are_refused():
    config, data = defaults(), dataset(n_reference=3)
    few = np.flatnonzero(data.domain[data.training] == 0)[:3]
    data.training = np.concatenate(
        [data.training[few], data.training[data.domain[data.training] == 1]]
    )
    config.ratio.folds = 5
    with pytest.raises(InputError, match="6 training images are too few for 5 folds. Take 3"):
        ratio_stage.folds(data, config)


def test_the_stages_are_those_of_the_networks_in_the_config():
    config = defaults()
    config.ratio.folds = 2
    heads = "ratio/efficientnet_lite0"
    folds = ["ratio/fold_0", "ratio/fold_1"]
    assert ratio_stage.stage_names(config) == [*folds, heads, "ratio/random_conv"]
    config.ratio.networks = ("efficientnet_lite0",)
    assert ratio_stage.stage_names(config) == [heads]
    config.weights.true_ratio = True
    assert ratio_stage.stage_names(config) == []


@pytest.mark.parametrize("network", ratio_stage.FROZEN)
def test_heads_on_a_frozen_network_see_a_rare_colour(network, tmp_path):
    """Noise with a spot, orange in a tenth of the biased and half of the reference images."""
    config = defaults()
    config.ratio.update(folds=2, feature_resolution=32, clusters=2)
    rng = np.random.default_rng(0)
    domain = np.repeat([0, 1, 0, 1], (900, 300, 300, 300))
    orange = rng.random(len(domain)) < np.where(domain == 1, 0.5, 0.1)
    images = rng.integers(60, 200, (len(domain), 16, 16, 3), dtype=np.uint8)
    images[:, 4:12, 4:12] = np.where(orange[:, None], [230, 140, 40], [40, 140, 230])[:, None, None]
    data = dataset(900, 300)
    data.images, data.roles = images, {"ratio_test": np.arange(1200, 1800)}
    ratio_stage.fit_heads(config, data, network, tmp_path)
    saved = np.load(tmp_path / "logits.npz")
    truth = np.where(orange, np.log(5), np.log(5 / 9))
    for logits, true in ((saved["logits"], truth[:1200]), (saved["test_logits"][0], truth[1200:])):
        assert np.sqrt(np.mean((logits - true) ** 2)) < 0.5  # 0.86 where all are rated alike
    assert ("cluster" in saved) == (network == "efficientnet_lite0")
