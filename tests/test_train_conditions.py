"""Labels: their table, the prior of fakes, the mean w per class, and training with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick_jit

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.train.conditions import (
    Conditions,
    Numbers,
    draw_classes,
    label_table,
    moved_mean,
    of_numbers,
)
from fairjax.train.gan import Gan
from fairjax.train.gan_state import reals


def test_label_tables():
    np.testing.assert_array_equal(label_table("classes", [2, 3]), np.eye(6))
    np.testing.assert_array_equal(
        label_table("attributes", [2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]
    )
    wide = label_table("attributes", [2, 3])  # a third value is no number: one-hot
    np.testing.assert_array_equal(wide[[0, 5]], [[0, 1, 0, 0], [1, 0, 0, 1]])


def test_classes_are_drawn_from_the_prior():
    drawn = np.asarray(draw_classes(np.array([0.7, 0.0, 0.3]), jax.random.key(0), 20000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20000, [0.7, 0, 0.3], atol=0.02)


def test_a_drawn_class_is_never_one_of_probability_zero():
    rng = np.random.default_rng(0)
    prior = rng.exponential(size=5000) * (rng.random(5000) < 0.5)
    drawn = np.asarray(draw_classes(prior / prior.sum(), jax.random.key(1), 50000))
    assert (prior[drawn] > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < 5000


VALUES = np.array([[20.0, 1.5], [40.0, 1.5], [20.0, 1.5], [80.0, 2.5]])


def test_labels_that_are_numbers_are_standardised_and_end_in_one():
    found = of_numbers(("age", "size"), VALUES, np.array([True, True, True, False]))
    assert found.names == ("age 20, size 1.5", "age 40, size 1.5", "age 80, size 2.5")
    expected = (VALUES - VALUES.mean(0)) / VALUES.std(0)
    np.testing.assert_allclose(found.labels[found.classes][:, :2], expected, rtol=1e-6)
    assert (found.labels[:, 2] == 1).all()
    np.testing.assert_allclose(found.prior, [2 / 3, 1 / 3, 0])
    assert found.of_fakes() == "mean age: 26.67, mean size: 1.5"
    record = found.record()["numbers"]
    assert (record["low"], record["high"]) == ([20, 1.5], [80, 2.5])
    np.testing.assert_array_equal(Numbers.of_record(record), found.numbers)
    for column, words in ((np.full(4, 7.0), "from 7 to 7"), (VALUES[:, 0] * 1e306, "deviation")):
        with pytest.raises(InputError, match=f"'age' is .*{words}"):
            of_numbers(("age",), column[:, None], np.ones(4, bool))


def test_networks_tell_numbers_of_one_sign_apart_from_the_start():
    """A lone number would be scaled to its sign: 0.5 and 2 would be one label."""
    config = defaults().gan
    config.update(batch=4, z_dim=8, w_dim=8, mapping_layers=1, d_mapping_layers=1, mbstd_group=2,
                  channel_base=32, channel_max=4)  # fmt: skip
    of_age = of_numbers(("age",), np.array([[0.0], [2.0], [4.0], [8.0]]), np.ones(4, bool))
    gan = Gan(config, resolution=8, channels=3, conditions=of_age)
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    assert state.w_avg.shape == (8,)
    w = quick_jit(lambda c: gan._styles(state.g, jax.random.key(2), 1, c)[1])
    logit = quick_jit(lambda c: gan._logits(state.d, jnp.ones((1, 8, 8, 3)), c))
    for low, high in ((0, 1), (2, 3)):  # both below, both above the mean
        assert np.abs(w(jnp.array([low])) - w(jnp.array([high]))).max() > 0.01
        assert np.abs(logit(jnp.array([low])) - logit(jnp.array([high]))).max() > 0.001
    mean = moved_mean(state.w_avg, jnp.ones((2, 8)), jnp.array([0, 3]), 0.9)
    np.testing.assert_allclose(mean, np.full(8, 0.1), rtol=1e-5)


def test_a_class_that_is_absent_keeps_its_mean():
    """With one mean per batch for all classes, a rare class would decay to zero."""
    rng = np.random.default_rng(0)
    expected, mean = np.ones((3, 4)), jnp.ones((3, 4))
    for step in range(30):
        classes = rng.integers(0, 2, 8) if step else np.array([2, 0, 1, 1, 1, 1, 1, 0])
        w = rng.normal(size=(8, 4)) + 5 * classes[:, None]
        for k in set(classes.tolist()):
            expected[k] = 0.9 * expected[k] + 0.1 * w[classes == k].mean(0)
        mean = moved_mean(mean, jnp.asarray(w, jnp.float32), jnp.asarray(classes), 0.9)
        if step == 0:
            rare = np.asarray(mean[2])
    np.testing.assert_allclose(mean, expected, rtol=1e-4)
    np.testing.assert_array_equal(mean[2], rare)  # not one bit in 29 batches without it


LABELS = Conditions(
    ("hair",), ("short", "long"), np.eye(2, dtype=np.float32), np.array([0.25, 0.75]),
    np.array([0, 1, 1, 0, 1, 1]),
)  # fmt: skip
INDEX = np.array([5, 0, 3, 1], np.int32)


@pytest.fixture(scope="module")
def gan():
    config = defaults().gan
    config.update(batch=4, z_dim=8, w_dim=8, mapping_layers=1, d_mapping_layers=1, mbstd_group=2,
                  channel_base=32, channel_max=4)  # fmt: skip
    gan = Gan(config, resolution=8, channels=3, conditions=LABELS)
    gan.g_step = quick_jit(gan._g_step, static_argnames="path_length")
    gan.d_step = quick_jit(gan._d_step, static_argnames="r1")
    return gan


@pytest.mark.slow
def test_training_with_labels(gan):
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    assert state.w_avg.shape == (2, 8)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    batch = {"image": jnp.asarray(images), "index": jnp.asarray(INDEX)}
    of_reals = lambda classes: reals(
        rng.exponential(size=6), np.zeros(6), np.ones(1), np.zeros(1), classes
    )
    examples, key = of_reals(LABELS.classes), jax.random.key(1)
    task = gan.task("gan", examples, lambda ema, i: {}, key)
    new, metrics = task.step(state, batch, key, 0)
    assert all(np.isfinite(v).all() for v in metrics.values())
    for before, after in ((state.g, new.g), (state.d, new.d)):
        still = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
        assert [jax.tree_util.keystr(p) for p, s in jax.tree.leaves_with_path(still) if s] == []
    # The label of a real image is looked up by its index: other labels, another discriminator.
    swapped, _ = gan.d_step(state, batch, examples, key, r1=False)
    flipped = examples.replace(classes=1 - examples.classes)
    other, _ = gan.d_step(state, batch, flipped, key, r1=False)
    assert not np.allclose(swapped.d["b4"]["fc"]["weight"], other.d["b4"]["fc"]["weight"])


@pytest.mark.slow
def test_the_networks_get_the_labels_of_the_prior(gan):
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    classes = np.asarray(gan._fake_classes(jax.random.key(4), 4000))
    assert classes.mean() == pytest.approx(0.75, abs=0.03)
    # The same latents with each label: other styles; _styles hands the label to both latents.
    styles = quick_jit(lambda c: gan._styles(state.g, jax.random.key(2), 4, c)[0])
    short, long = styles(jnp.zeros(4, int)), styles(jnp.ones(4, int))
    assert (np.abs(short - long).max(-1) > 0).all()
    parts = zip(*gan.drawn(state.ema, jax.random.key(3), 6, 4), strict=True)
    images, w = map(np.concatenate, parts)
    assert (images.shape, w.shape) == ((6, 8, 8, 3), (6, 8))
    drawn = np.asarray(gan._fake_classes(jax.random.fold_in(jax.random.key(3), 0), 4))
    k_z = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))[0]
    z = jax.random.normal(k_z, (4, 8))
    expected = gan.g.apply({"params": state.ema}, z, c=LABELS.labels[drawn], method="mapping")
    np.testing.assert_allclose(w[:4], expected, atol=1e-5)


def test_samples_have_labels_of_their_own_prior(gan):
    """Trained on one prior, shown by another: only the second decides what is sampled."""
    labels = LABELS._replace(prior=np.array([0.0, 1.0]), in_training=np.array([0.75, 0.25]))
    other = Gan(gan.gan, resolution=8, channels=3, conditions=labels)
    classes = np.asarray(other._fake_classes(jax.random.key(4), 4000))
    assert classes.mean() == pytest.approx(0.25, abs=0.03)
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    ((_, w),) = other.drawn(state.ema, jax.random.key(3), 4, 4)
    k_z = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))[0]
    z = jax.random.normal(k_z, (4, 8))
    expected = gan.g.apply({"params": state.ema}, z, c=LABELS.labels[[1] * 4], method="mapping")
    np.testing.assert_allclose(w, expected, atol=1e-5)


def test_fixed_noise_differs_from_layer_to_layer(gan):
    noise = gan.fixed_noise(jax.random.key(0))["synthesis"]
    a, b = (np.asarray(noise["b8"][layer]["noise_const"]) for layer in ("conv0", "conv1"))
    assert a.shape == b.shape == (8, 8)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.4
    again = gan.fixed_noise(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, again["synthesis"], noise)
