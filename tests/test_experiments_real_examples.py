"""What the discriminator is told of the training images: weights, groups and how they are drawn."""

from types import SimpleNamespace

import jax
import numpy as np
import pipeline
import pytest
from ml_collections import ConfigDict

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.experiments import fair_generation, gan_stage, keys, ratio_stage
from fairjax.experiments.real_examples import conditions, generated, groups, real_examples
from fairjax.objectives import draw
from fairjax.train.streams import Streams
from fairjax.train.weight_files import save_tree

WEIGHT = np.array([0.5, 0.5, 0.5, 2.5, 1.0, 1.0])
LOG_RATIO = np.log([0.5, 0.5, 0.5, 2.5, 0.6, 2.6])


def dataset(classes=(0, 0, 0, 1, 0, 1), cardinality=2):
    labels = np.array(classes)
    return SimpleNamespace(
        training=np.arange(6),
        domain=np.array([0, 0, 0, 0, 1, 1]),
        classes=lambda names, positions: labels[positions],
        attribute_names=("age", "hair"),
        cardinalities=(5, cardinality),
        class_names=lambda names: ("short", "long", "none")[:cardinality],
    )


def config(**gan):
    tree = defaults()
    tree.gan.batch = 8
    tree.gan.update(gan)
    return tree


def shares_drawn(table):
    drawn = np.concatenate([draw.draw(1, step, table) for step in range(4000)])
    return np.bincount(drawn, minlength=6) / len(drawn)


def test_resampling_draws_by_weight_and_leaves_the_loss_alone():
    examples, table = real_examples(config(), dataset(), WEIGHT, LOG_RATIO)
    assert np.array_equal(examples.weight, np.ones(6))
    np.testing.assert_allclose(shares_drawn(table), WEIGHT / WEIGHT.sum(), atol=0.01)


def test_loss_weights_draw_uniformly_and_none_ignores_them():
    examples, table = real_examples(config(reweight="loss"), dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(examples.weight, WEIGHT)
    np.testing.assert_allclose(shares_drawn(table), np.full(6, 1 / 6), atol=0.01)
    examples, table = real_examples(config(reweight="none"), dataset(), WEIGHT, LOG_RATIO)
    assert np.array_equal(examples.weight, np.ones(6))
    np.testing.assert_allclose(shares_drawn(table), np.full(6, 1 / 6), atol=0.01)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_hybrid_draws_by_a_part_of_the_weight_and_weights_by_the_rest(share):
    settings = config(reweight="hybrid", resample_share=share)
    examples, table = real_examples(settings, dataset(), WEIGHT, LOG_RATIO)
    drawn = WEIGHT**share / (WEIGHT**share).sum()
    np.testing.assert_allclose(shares_drawn(table), drawn, atol=0.01)
    # What is expected of an image in the loss is w / n, as with reweight=loss.
    np.testing.assert_allclose(drawn * np.asarray(examples.weight), WEIGHT / 6, rtol=1e-6)


@pytest.mark.parametrize("reweight", ["loss", "hybrid"])
@pytest.mark.parametrize(
    ("train_on", "used"), [("biased", slice(0, 4)), ("reference", slice(4, 6))]
)
def test_what_counts_in_the_loss_is_the_weight_over_the_images_that_are_used(
    reweight, train_on, used
):
    settings = config(reweight=reweight, train_on=train_on, resample_share=0.25)
    examples, table = real_examples(settings, dataset(), WEIGHT, LOG_RATIO)
    w = WEIGHT[used]
    drawn = w**0.25 / (w**0.25).sum() if reweight == "hybrid" else np.full(len(w), 1 / len(w))
    in_loss = np.asarray(examples.weight)
    np.testing.assert_allclose(drawn * in_loss[used], w / len(w), rtol=1e-6)
    assert np.count_nonzero(in_loss) == len(w)


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({"train_on": "reference", "reweight": "none"}, [0, 0, 0, 0, 0.5, 0.5]),
        ({"train_on": "biased", "reweight": "none"}, [0.25, 0.25, 0.25, 0.25, 0, 0]),
        ({"train_on": "biased", "reweight": "resample"}, [0.125, 0.125, 0.125, 0.625, 0, 0]),
        ({"train_on": "biased", "reweight": "hybrid"}, [0.191, 0.191, 0.191, 0.427, 0, 0]),
    ],
)
def test_what_is_left_out_is_never_drawn(settings, shares):
    examples, table = real_examples(config(**settings), dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(shares_drawn(table), shares, atol=0.01)
    by_group = np.asarray(examples.q)
    assert by_group.sum() == pytest.approx(1)


def test_stratified_draws_go_by_the_ratio():
    settings = config(draws="stratified", batch=6)
    _, table = real_examples(settings, dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(shares_drawn(table), WEIGHT / WEIGHT.sum(), atol=0.01)
    low = LOG_RATIO < np.log(0.55)  # a quarter of the mass: 1.5 of 6 draws
    assert {int(low[draw.draw(0, step, table)].sum()) for step in range(50)} == {1, 2}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("dataset", [0, 0, 0, 0, 1, 1]),
        ("ratio_bins", [0, 0, 0, 1, 1, 1]),  # halves by the ratio; no label is read
        ("attributes", [0, 0, 0, 1, 0, 1]),
    ],
)
def test_groups(kind, expected):
    found = groups(config(groups=kind), dataset(), LOG_RATIO)
    assert found.tolist() == expected


def test_groups_of_which_nothing_is_drawn_start_without_a_share():
    settings = config(groups="attributes", dro=True, dro_start="uniform")
    nearly = np.array([1e-22, 1e-22, 1e-22, 1, 1, 1e-22])  # true ratios of 0
    examples, _ = real_examples(settings, dataset((0, 0, 0, 2, 1, 0), 3), nearly, LOG_RATIO)
    np.testing.assert_allclose(examples.q, [0, 0.5, 0.5])


@pytest.mark.parametrize("bins", [2, 4])
def test_few_different_ratios_are_a_bin_each(bins):
    """Where most images have the largest ratio, that is the median too."""
    tied = np.log([0.5, 0.5, 5.0, 5.0, 5.0, 5.0])
    found = groups(config(groups="ratio_bins", dro_bins=bins), dataset(), tied)
    assert found.tolist() == [0, 0, 1, 1, 1, 1]


def test_dro_over_one_group_is_refused():
    nearly = np.array([1e-22, 1e-22, 1e-22, 1e-22, 1, 1])
    settings = config(groups="dataset", dro=True)
    with pytest.raises(InputError, match="gan.groups=dataset: all training images are of 1 group"):
        real_examples(settings, dataset(), nearly, LOG_RATIO)


def test_groups_of_clusters_are_those_of_the_ratio_stage(tmp_path):
    folder = tmp_path / "ratio/efficientnet_lite0"
    folder.mkdir(parents=True)
    np.savez(folder / "logits.npz", cluster=np.array([2, 0, 0, 1, 0, 1], np.int32))
    found = ratio_stage.load_clusters(tmp_path)
    examples, _ = real_examples(
        config(groups="clusters"), dataset(), WEIGHT, LOG_RATIO, cluster=found
    )
    assert np.asarray(examples.group).tolist() == [2, 0, 0, 1, 0, 1]
    np.testing.assert_allclose(examples.q, [2 / 6, 3.5 / 6, 0.5 / 6], rtol=1e-6)


def test_groups_by_attributes_need_labels():
    with pytest.raises(InputError, match="2 training images have no label"):
        groups(config(groups="attributes"), dataset((0, -1, 0, 1, -1, 1)), LOG_RATIO)


@pytest.mark.parametrize(
    ("fake_labels", "prior"),
    [("reference", [1 / 2, 1 / 2]), ("data", [4 / 6, 2 / 6]), ("uniform", [1 / 2, 1 / 2])],
)
def test_labels_of_fakes_come_from_the_stated_prior(fake_labels, prior):
    tree = config(condition=("hair",), fake_labels=fake_labels)
    found = conditions(tree, dataset())
    np.testing.assert_allclose(found.prior, prior)
    assert found.classes.tolist() == [0, 0, 0, 1, 0, 1]
    assert found.labels.tolist() == [[1, 0], [0, 1]]
    tree.gan.condition_form = "attributes"
    assert conditions(tree, dataset()).labels.tolist() == [[0], [1]]
    examples, _ = real_examples(tree, dataset(), WEIGHT, LOG_RATIO, found.classes)
    np.testing.assert_array_equal(examples.classes, found.classes)
    assert conditions(config(), dataset()) is None


def test_the_two_sets_as_labels_need_no_attribute():
    """Fakes in training have the shares of the data; samples are those of the reference set."""
    tree = config(condition=("reference_set",), fake_labels="data", sample_labels="reference")
    found = conditions(tree, dataset((-1,) * 6))
    assert found.classes.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.names == ("biased set", "reference set")
    np.testing.assert_allclose(found.in_training, [4 / 6, 2 / 6])
    assert found.prior.tolist() == [0, 1]
    record = found.record()
    assert (record["prior"], record["prior_in_training"]) == ([0, 1], [4 / 6, 2 / 6])
    tree.gan.sample_labels = ""
    plain = conditions(tree, dataset())
    assert plain.in_training is None
    np.testing.assert_allclose(plain.prior, [4 / 6, 2 / 6])


def test_training_with_labels_needs_them():
    tree = config(condition=("hair",))
    with pytest.raises(InputError, match="gan.condition: 2 of 6 training images have no label"):
        conditions(tree, dataset((0, -1, 0, 1, -1, 1)))
    tree.gan.fake_labels = "uniform"
    with pytest.raises(InputError, match="no image that is trained on is 'none'"):
        conditions(tree, dataset(cardinality=3))
    tree.gan.update(fake_labels="data", train_on="reference")
    with pytest.raises(InputError, match="gan.fake_labels=data: no image that is trained on is 's"):
        conditions(tree, dataset((0, 0, 0, 1, 1, 1)))
    tree.gan.train_on = "union"
    tree.gan.fake_labels = "reference"  # which has none of it, so no fake has either
    assert conditions(tree, dataset(cardinality=3)).prior[2] == 0


def test_q_starts_at_the_weighted_shares_and_rare_groups_get_more_slack():
    changes = {"groups": "dataset", "dro": True, "dro_c": 2.0}
    examples, _ = real_examples(config(**changes), dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(examples.q, [4 / 6, 2 / 6], rtol=1e-6)
    np.testing.assert_allclose(examples.adjustment, [1.0, 2 / np.sqrt(2)], rtol=1e-6)
    changes["dro_start"] = "uniform"
    examples, _ = real_examples(config(**changes), dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(examples.q, [0.5, 0.5])
    # Of the images that are trained on: one of each class in the reference set.
    changes |= {"groups": "attributes", "train_on": "reference"}
    tree = config(**changes)
    tree.data.group_attributes = ("hair",)
    examples, _ = real_examples(tree, dataset(), WEIGHT, LOG_RATIO)
    np.testing.assert_allclose(examples.adjustment, [2, 2])


def test_thousand_images_become_steps():
    tree = config(batch=16, kimg=48.0, save_every_kimg=6.0)
    tree.eval.every_kimg = 12.0
    rhythm = gan_stage.rhythm(tree)
    assert (rhythm.total, rhythm.save, rhythm.evaluate) == (3000, 375, 750)


def of_ages(ages):
    """The dataset with numbers instead of classes."""
    column = np.array(ages, float)[:, None]
    return SimpleNamespace(
        training=np.arange(6), domain=np.array([0, 0, 0, 0, 1, 1]), ids=tuple("abcdef"),
        measured=lambda names, positions: column[positions],
    )  # fmt: skip


def test_labels_that_are_numbers():
    tree = config(condition=("age",), condition_form="numbers")
    found = conditions(tree, of_ages((20, 20, 30, 40, 20, 60)))
    assert found.names == ("age 20", "age 30", "age 40", "age 60")
    np.testing.assert_allclose(found.prior, [1 / 2, 0, 0, 1 / 2])  # as in the reference images
    assert found.classes.tolist() == [0, 0, 1, 2, 0, 3]
    tree.gan.fake_labels = "data"
    found = conditions(tree, of_ages((20, 20, 30, 40, 20, 60)))
    np.testing.assert_allclose(found.prior, [3 / 6, 1 / 6, 1 / 6, 1 / 6])
    tree.data.folder.attributes = "t.csv"
    with pytest.raises(InputError) as error:
        conditions(tree, of_ages((20, 20, np.nan, 40, 20, np.nan)))
    assert "=t.csv: 2 of 6 training images" in str(error.value)
    assert "c has no 'age'" in str(error.value)


def loop_config(share):
    """Three generations at 8 px; the default is an arm of weighted reals."""
    tree = pipeline.get_config()
    own = {"reweight": "none", "own_share": share}
    tree.arms = ConfigDict({"c": own | {"own_from": "arm:a"}, "b": own | {"own_from": "arm:c"},
                            "a": {}})  # fmt: skip
    tree.eval.batch = 2
    return tree


@pytest.mark.parametrize(("share", "count"), [(1.0, 40), (0.5, 20), (0.26, 10), (1e-6, 1)])
def test_the_seed_alone_decides_which_images_are_generated(share, count):
    tree = config(own_from="arm:a", own_share=share)
    found = generated(tree, 40)
    assert found.sum() == count
    tree.gan.own_from = "arm:b"
    assert np.array_equal(generated(tree, 40), found)
    tree.seed = 1
    assert share == 1 or not np.array_equal(generated(tree, 40), found)
    assert not generated(config(own_share=share), 40).any()


def test_the_losses_of_groups_are_those_of_real_images():
    tree = config(reweight="none", own_from="arm:a", own_share=0.5, groups="dataset")
    examples, _ = real_examples(tree, dataset(), WEIGHT, LOG_RATIO)
    own = generated(tree, 6)
    expected = np.where(own, -1, [0, 0, 0, 0, 1, 1])
    assert own.sum() == 3
    assert np.asarray(examples.group).tolist() == expected.tolist()


def trainable(workdir):
    """Images of the six training examples and their weights, as the stages before leave them."""
    rng, data = np.random.default_rng(0), dataset()
    data.images = rng.integers(0, 256, (9, 8, 8, 3), np.uint8)
    data.training = np.array([8, 1, 5, 0, 3, 6])
    data.domain = np.array([0] * 5 + [1] * 4)
    data.ids, data.manifest = [str(i) for i in range(9)], {"hash": "h"}
    (workdir / "weights").mkdir()
    np.savez(workdir / "weights/weights.npz", manifest="h", weight=WEIGHT, log_ratio=LOG_RATIO,
             id=[data.ids[i] for i in data.training])  # fmt: skip
    return data


def random_generator(gan):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(gan.init, jax.eval_shape(lambda: jax.random.key(0)), np.ones(1))
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes.ema)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_an_arm_is_fed_samples_of_the_named_generator(share, tmp_path, monkeypatch):
    """Up to the first batches of the training: those images in those places, the rest as it was."""
    tree, data = loop_config(share), trainable(tmp_path)
    gan = gan_stage.programs(tree)
    params = random_generator(gan)
    for arm in "abc":
        (tmp_path / f"arms/{arm}/gan").mkdir(parents=True)
    save_tree(tmp_path / "arms/a/gan/generator.safetensors", {"generator": params})

    class Begun(Exception):
        pass

    def begun(task, feed, *_):
        raise Begun(feed)

    monkeypatch.setattr(gan_stage.loop, "run", begun)
    with pytest.raises(Begun) as stopped:
        gan_stage.train_arm(tmp_path, tree, data, "c", None, tmp_path / "arms/c/gan")
    seen = {}
    for batch in stopped.value.args[0](0, 8):
        seen |= dict(zip(batch["index"].tolist(), batch["image"], strict=True))
    replaced = np.flatnonzero(generated(gan_stage.with_arm(tree, "c"), 6))
    own = gan.sample(params, keys.root(0, "own samples", "a"), len(replaced), 2)
    assert len(np.unique(own.reshape(len(own), -1), axis=0)) == len(own) == round(6 * share)
    expected = data.images[data.training]
    expected[replaced] = own
    assert sorted(seen) == list(range(6))
    for index, image in seen.items():
        assert np.array_equal(image, expected[index]), index
    # Drawn anew, as on a resume; the arm that is named first has the real images.
    again, positions = gan_stage.training_images(tmp_path, tree, data, "c")
    assert np.array_equal(again[positions], expected)
    real, positions = gan_stage.training_images(tmp_path, tree, data, "a")
    assert np.array_equal(real[positions], data.images[data.training])
    with pytest.raises(InputError, match="arms/c/gan/generator.safetensors: not a readable"):
        gan_stage.training_images(tmp_path, tree, data, "b")


def test_a_discriminator_that_tells_everything_apart_is_named_once_while_it_trains(
    tmp_path, monkeypatch, caplog
):
    """After the second of three evaluations, in the words of the report."""
    tree, data = loop_config(1.0), trainable(tmp_path)
    told = []

    class Silent:
        """A yardstick without figures."""

        judged = fairness = quality_during = staticmethod(lambda *_, **__: ())

    def trained(task, feed, key, rhythm, folder, bad_numbers):
        state = SimpleNamespace(ema=random_generator(gan_stage.programs(tree)))
        with Streams(folder, 0) as streams:
            for step, inside in enumerate((0.9, 0.1, 0.1), 1):
                streams.write(step, float(step), {"real_inside_margin": inside})
                task.evaluate(state, step)
                told.append(len(caplog.messages))
        raise InterruptedError

    monkeypatch.setattr(gan_stage.loop, "run", trained)
    with caplog.at_level("WARNING", "fairjax"), pytest.raises(InterruptedError):
        gan_stage.train_arm(tmp_path, tree, data, "a", Silent(), tmp_path / "arms/a/gan")
    assert told == [0, 1, 1]
    assert caplog.messages[0].startswith(
        "The discriminator of a tells almost everything apart: 10% of the reals are inside"
    )


def test_an_arm_needs_the_generator_that_it_is_trained_on(tmp_path, monkeypatch):
    needs = {}

    class Stages:
        def __init__(self, *_):
            pass

        def pending(self):
            return []

        def run(self, name, needed, body):
            assert all(other in needs for other in needed)
            needs[name] = needed

    monkeypatch.setattr(fair_generation, "Stages", Stages)
    fair_generation.run(loop_config(1.0), tmp_path)
    assert "arms/a/gan" in needs["arms/c/gan"]
    assert "arms/c/gan" in needs["arms/b/gan"]
    assert "arms/a/gan" not in needs["arms/b/gan"]
