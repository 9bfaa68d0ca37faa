"""The controller of p, and augmentation inside the GAN's steps."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_augment
import pytest
from jax.flatten_util import ravel_pytree
from quick import quick_jit
from toy_gan import PIXELS, SHAPE, SIZE, toy_gan

from fairjax.augmentations import multipliers
from fairjax.config import defaults
from fairjax.models import augment
from fairjax.models.augment_geometry import SYM6
from fairjax.train import ada
from fairjax.train.checkpoints import Checkpoints
from fairjax.train.devices import replicated
from fairjax.train.gan_state import reals

N, BATCH = 12, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
INDEX = np.array([3, 1, 4, 9], np.int32)
WEIGHT = RNG.exponential(size=N)
KEY = jax.random.key(5)
KEYS = {"r1_gamma": 2.0, "r1_every": 4, "batch": BATCH, "path_length_weight": 0.0}
BATCH_OF = {"image": jnp.asarray(IMAGES), "index": jnp.asarray(INDEX)}


@cache
def programs(augmentation, **changes):
    return toy_gan(**KEYS, augment=augmentation, **changes)


def of_reals(weight=None):
    q = np.ones(1)
    return reals(np.ones(N) if weight is None else weight, np.zeros(N, int), q, np.zeros(1))


def fresh(gan):
    state = gan.init(jax.random.key(0), np.ones(1))
    state = state.replace(d={"a": 0.1 + 0 * state.d["a"], "s": state.d["s"]})
    return jax.device_put(state, replicated())  # as the loop makes it


def float64(x):
    return np.asarray(x, np.float64)


# The controller.


def observed(gan, states, signs, weight, start):
    controller = start
    for step, row in enumerate(signs):
        logits = jnp.asarray(row * RNG.uniform(0.1, 2, len(row)), jnp.float32)
        controller, metrics = ada.observe(controller, gan, logits, weight, jnp.asarray(step))
        states.append((float(controller.p), metrics))
    return controller


def config(**changes):
    gan = defaults().gan
    gan.update(augment="ada", batch=50, ada_kimg=2.0, ada_target=0.25, **changes)
    return gan


@pytest.mark.parametrize("weighted", [False, True])
def test_p_follows_the_sign_of_r_t_every_fourth_step(weighted):
    gan = config(ada_weighted=weighted, augment_p=0.15)
    speed, weight = 50 * 4 / 2000, np.array([1, 1, 1, 5.0], np.float32)
    signs = RNG.choice([-1, 1], (40, 4), p=[0.4, 0.6])
    states = []
    observed(gan, states, signs, jnp.asarray(weight), ada.start(gan))
    p, w = 0.15, weight if weighted else np.ones(4)
    for step in range(40):
        if step % 4 == 3:
            r_t = (signs[step - 3 : step + 1] @ w).sum() / (4 * w.sum())
            p = min(max(p + np.sign(r_t - 0.25) * speed, 0), 0.8)
        assert states[step][0] == pytest.approx(p, abs=1e-6), step
        total, count = states[step][1]["ada/r_t"]
        assert total / count == pytest.approx((signs[step] @ w).sum() / w.sum(), abs=1e-6)
    assert len({round(value, 3) for value, _ in states}) > 2


def test_p_stays_between_0_and_its_cap():
    gan, states = config(ada_p_max=0.35), []
    ones = np.ones((24, 4))
    controller = observed(gan, states, ones, jnp.ones(4), ada.start(gan))
    np.testing.assert_allclose([p for p, _ in states[3::4]], [0.1, 0.2, 0.3, 0.35, 0.35, 0.35])
    observed(gan, states, -ones, jnp.ones(4), controller)
    np.testing.assert_allclose(
        [p for p, _ in states[27::4]], [0.25, 0.15, 0.05, 0, 0, 0], atol=1e-6
    )


def test_no_controller_without_ada():
    for kind in ("none", "fixed", "diffaugment"):
        gan = config()
        gan.augment = kind
        assert ada.start(gan) is None
        assert (ada.transform(gan) is None) == (kind == "none")


def test_keys_are_apart():
    numbers = {
        tuple(jax.random.key_data(k).tolist())
        for step in range(3)
        for k in [jax.random.fold_in(KEY, step), *(ada.key_of(KEY, step, u) for u in ada.USES)]
    }
    assert len(numbers) == 3 * (1 + len(ada.USES))


# In the steps of the GAN.


def matrices(drawn):
    """What was drawn for a batch -> (M [n, pixels, pixels], b [n, pixels])."""
    m, b = [], []
    for i in range(BATCH):
        values = {k: float64(v[i]) for k, v in drawn.items()}
        place = oracles_augment.spatial(values, SIZE, SYM6)
        colour = oracles_augment.colour(values)
        m.append(np.kron(place, colour[:3, :3]))
        b.append(np.tile(colour[:3, 3], SIZE * SIZE))
    return np.stack(m), np.stack(b)


def drawn_for(use, step, p, categories):
    key = jax.random.split(ada.key_of(KEY, step, use))[0]
    draw = quick_jit(lambda key: augment.draw(key, BATCH, p, multipliers(categories)))
    return draw(key)


@pytest.mark.slow
def test_discriminator_step_with_r1_matches_the_oracle():
    p, categories = 0.7, "bg,color"
    gan = programs("fixed", augment_p=p, augment_categories=categories)
    state = fresh(gan)
    m, b = (dict.fromkeys(ada.USES) for _ in range(2))
    for use in ada.USES[1:]:
        m[use], b[use] = matrices(drawn_for(use, 0, p, categories))
    x = IMAGES.reshape(BATCH, -1) / 127.5 - 1
    fakes, _ = quick_jit(lambda g, k: gan._fakes(g, k, BATCH))(state.g, jax.random.fold_in(KEY, 1))
    fakes = float64(fakes).reshape(BATCH, PIXELS)
    d = oracles.QuadraticDiscriminator(state.d["a"], state.d["s"])

    def seen(x, use):
        return oracles_augment.AugmentedQuadratic(d.a, d.s, m[use], b[use]).seen(x)

    real, fake = seen(x, "reals of d"), seen(fakes, "fakes of d")
    adam = oracles.LazyAdam(
        float64(ravel_pytree(state.d)[0]), gan.gan.learning_rate_d, 0.0, 0.99, every=4
    )
    on_real, on_fake = oracles.weighted_hinge(d(real), d(fake), np.ones(BATCH))
    theta = adam.update(d.hinge_gradient(real, fake, np.ones(BATCH)))
    middle = oracles_augment.AugmentedQuadratic(theta[:-1], theta[-1], m["r1"], b["r1"])
    penalty, slope = middle.r1(x, 2.0)
    theta = adam.update(4 * slope)
    new, metrics = gan.d_step(state, BATCH_OF, of_reals(), KEY, r1=True)
    np.testing.assert_allclose(metrics["loss/d_real"], on_real, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/d_fake"], on_fake, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/r1"], penalty, rtol=1e-4)
    np.testing.assert_allclose(float64(ravel_pytree(new.d)[0]), theta, rtol=1e-4, atol=1e-5)
    plain, _ = d.r1(x, 2.0, np.ones(BATCH))
    assert abs(penalty / plain - 1) > 0.05  # the augmentation is in it


def test_generator_step_sees_augmented_fakes():
    gan = programs("fixed", augment_p=0.7, augment_categories="bg,color")
    state = fresh(gan)
    m, b = matrices(drawn_for("fakes of g", 0, 0.7, "bg,color"))
    d = oracles_augment.AugmentedQuadratic(state.d["a"], state.d["s"], m, b)
    key = jax.random.split(jax.random.fold_in(KEY, 0), 3)[0]
    fakes, _ = quick_jit(lambda g, k: gan._fakes(g, k, BATCH))(state.g, key)
    y = d.seen(float64(fakes).reshape(BATCH, PIXELS))
    expected = -np.mean(y @ d.a + d.s * (y**2).sum(1) / 2)
    _, metrics = gan.g_step(state, KEY, path_length=False)
    np.testing.assert_allclose(metrics["loss/g"], expected, rtol=1e-4)


def test_a_run_with_ada_restarts_exactly_and_compiles_once(tmp_path):
    gan = programs("ada", ada_kimg=0.08, augment_categories="blit,color", ada_target=0.0)
    state, rows = fresh(gan), []
    for step in range(10):
        if step == 6:  # in the middle of an interval of the controller
            with Checkpoints(tmp_path) as checkpoints:
                checkpoints.save(step, state)
        state, metrics = gan.d_step(state, BATCH_OF, of_reals(), KEY, r1=False)
        rows.append(float(metrics["ada/p"]))
    assert rows[2] == 0
    assert rows[3] in (0, pytest.approx(0.2))
    assert gan.d_step._cache_size() == 1  # p is data
    with Checkpoints(tmp_path) as checkpoints:
        again = checkpoints.restore(jax.eval_shape(lambda: gan.init(jax.random.key(0), np.ones(1))))
    assert again.ada.weights == 2 * BATCH
    for _ in range(6, 10):
        again, _ = gan.d_step(again, BATCH_OF, of_reals(), KEY, r1=False)
    jax.tree.map(np.testing.assert_array_equal, state, again)


def test_p_matters_in_the_step():
    gan = programs("ada", ada_kimg=0.08, augment_categories="blit,color", ada_target=0.0)
    losses = []
    for p in (0.0, 0.8):
        state = fresh(gan)
        state = state.replace(ada=state.ada.replace(p=jnp.asarray(p)))
        losses.append(gan.d_step(state, BATCH_OF, of_reals(), KEY, r1=False)[1])
    for name in ("logit/real", "logit/fake"):
        assert losses[0][name] != losses[1][name]


def test_without_augmentation_and_at_p_0_the_losses_are_the_same():
    none, at_0 = programs("none"), programs("ada", augment_categories="blit,color")
    _, a = none.d_step(fresh(none), BATCH_OF, of_reals(), KEY, r1=True)
    _, b = at_0.d_step(fresh(at_0), BATCH_OF, of_reals(), KEY, r1=True)
    assert set(b) - set(a) == {"ada/p", "ada/r_t"}
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, err_msg=name)
    assert fresh(none).ada is None


def test_path_length_and_samples_are_of_unchanged_images():
    none, fixed = programs("none"), programs("fixed", augment_p=0.9, augment_categories="bg,color")
    g = fresh(none).g
    k1, k2 = jax.random.split(KEY)
    np.testing.assert_array_equal(
        none._path_lengths(g, k1, k2, 3), fixed._path_lengths(g, k1, k2, 3)
    )
    np.testing.assert_array_equal(none.sample(g, KEY, 4, 4), fixed.sample(g, KEY, 4, 4))
