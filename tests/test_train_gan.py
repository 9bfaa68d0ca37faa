from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.flatten_util import ravel_pytree
from quick import quick_jit
from toy_gan import PIXELS, SHAPE, W_DIM, QuadraticDiscriminator, toy_gan

from fairjax.config import defaults
from fairjax.evaluate.smoothness import path_length_figure
from fairjax.train.gan import Gan, grid
from fairjax.train.gan_state import reals

N, BATCH, K = 40, 8, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
INDEX = np.array([3, 1, 4, 15, 9, 2, 6, 35], np.int32)
WEIGHT = RNG.exponential(size=N)
GROUP = np.arange(N) % K
Q = np.array([0.5, 0.3, 0.2])
KEY = jax.random.key(5)


def batch(images=IMAGES, index=INDEX):
    return {"image": jnp.asarray(images), "index": jnp.asarray(index)}


def of_reals(weight=None, group=GROUP, adjustment=None):
    return reals(
        np.ones(N) if weight is None else weight,
        group,
        Q,
        np.zeros(K) if adjustment is None else adjustment,
    )


@cache
def first_state():
    return jax.device_get(quick_jit(toy_gan().init)(jax.random.key(0), Q))


def fresh():
    """A first state in arrays of its own (a step donates them); the same for all toy programs."""
    return jax.device_put(first_state())


def float64(x):
    return np.asarray(x, np.float64)


def flat64(params):
    return float64(ravel_pytree(params)[0])


def d_oracle(params):
    return oracles.QuadraticDiscriminator(params["a"], params["s"])


def flat_images(images=IMAGES):
    return images.reshape(len(images), -1) / 127.5 - 1


def fakes_of(gan, state, k):
    """What the discriminator step sees as fakes, by the documented key of the phase."""
    key = jax.random.fold_in(KEY, 2 * state.step + 1)
    images, _ = quick_jit(gan._fakes, static_argnums=2)(state.g, key, k)
    return float64(images).reshape(k, -1)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def changed(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


# The discriminator's step, against derivatives by hand in float64.


@pytest.fixture(scope="module")
def plain():
    return toy_gan(r1_gamma=2.0, r1_every=4, path_length_every=3)


@pytest.fixture(scope="module")
def weighted_r1():
    return toy_gan(r1_gamma=2.0, r1_every=4, r1_weighted=True)


@pytest.mark.parametrize("r1", [False, True])
@pytest.mark.parametrize("kind", ["plain", "weighted_r1"])
def test_discriminator_step_matches_the_oracle(request, kind, r1):
    gan = request.getfixturevalue(kind)
    state = fresh()
    x, w = flat_images(), WEIGHT[INDEX]
    adam = oracles.LazyAdam(flat64(state.d), gan.gan.learning_rate_d, 0.0, 0.99, every=4)
    fakes, d = fakes_of(gan, state, BATCH), d_oracle(state.d)
    on_real, on_fake = oracles.weighted_hinge(d(x), d(fakes), w)
    theta = adam.update(d.hinge_gradient(x, fakes, w))
    inside = d(x) < 1
    if r1:  # a second update, at the parameters of the first, with the loss times the interval
        middle = oracles.QuadraticDiscriminator(theta[:-1], theta[-1])
        penalty, slope = middle.r1(x, 2.0, w if kind == "weighted_r1" else np.ones(BATCH))
        theta = adam.update(4 * slope)
    new, metrics = gan.d_step(state, batch(), of_reals(WEIGHT), KEY, r1=r1)
    np.testing.assert_allclose(flat64(new.d), theta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/d_real"], on_real, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/d_fake"], on_fake, rtol=1e-5)
    np.testing.assert_allclose(metrics["real_inside_margin"], inside.mean(), rtol=1e-6)
    share = (inside * w).sum() / w.sum()
    np.testing.assert_allclose(metrics["weight_inside_margin"], share, rtol=1e-5)
    assert ("loss/r1" in metrics) == r1
    if r1:
        np.testing.assert_allclose(metrics["loss/r1"], penalty, rtol=1e-4)
        assert jax.tree.leaves(new.d_optimiser)[0] == 2  # updates of Adam
    assert new.step == 1


def test_unit_weights_change_no_bit(plain):
    # reweight=loss with w = 1 runs the same program on the same numbers as reweight=none.
    a, of_a = plain.d_step(fresh(), batch(), of_reals(), KEY, r1=True)
    b, of_b = plain.d_step(fresh(), batch(), of_reals(np.ones(N)), KEY, r1=True)
    assert_same((a, of_a), (b, of_b))
    c, _ = plain.d_step(fresh(), batch(), of_reals(WEIGHT), KEY, r1=True)
    assert changed(a.d, c.d)


def test_an_image_of_weight_zero_has_no_influence(plain):
    weight = WEIGHT.copy()
    weight[INDEX[2]] = 0
    other = IMAGES.copy()
    other[2] = 255 - other[2]
    a, _ = plain.d_step(fresh(), batch(), of_reals(weight), KEY, r1=False)
    b, _ = plain.d_step(fresh(), batch(other), of_reals(weight), KEY, r1=False)
    assert_same((a.d, a.d_optimiser), (b.d, b.d_optimiser))
    c, _ = plain.d_step(fresh(), batch(other), of_reals(WEIGHT), KEY, r1=False)
    assert changed(a.d, c.d)


def test_order_of_the_batch_is_irrelevant(plain):
    order = np.array([4, 2, 7, 0, 1, 6, 3, 5])
    a, of_a = plain.d_step(fresh(), batch(), of_reals(WEIGHT), KEY, r1=True)
    b, of_b = plain.d_step(
        fresh(), batch(IMAGES[order], INDEX[order]), of_reals(WEIGHT), KEY, r1=True
    )
    np.testing.assert_allclose(flat64(a.d), flat64(b.d), atol=1e-5)
    for name in of_a:
        np.testing.assert_allclose(of_a[name], of_b[name], rtol=1e-4, err_msg=name)


def of_mean(w, table=1.0):
    """Weights of a batch whose table has the mean of WEIGHT."""
    return w * WEIGHT.mean() / np.mean(table)


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        ({"self_normalise": True}, 0, lambda w: w / w.mean()),
        ({"alpha_ramp": 0.5, "kimg": 0.16}, 0, lambda w: of_mean(w**0)),  # half = 10 steps of 8
        ({"alpha_ramp": 0.5, "kimg": 0.16}, 3, lambda w: of_mean(w**0.3, WEIGHT**0.3)),
        ({"alpha_ramp": 0.5, "kimg": 0.16}, 15, lambda w: w),
        ({"alpha_ramp": 0.5, "kimg": 0.16, "self_normalise": True}, 5,
         lambda w: np.sqrt(w) / np.sqrt(w).mean()),
        # Weights w ** 0.75 of an image that is drawn by w ** 0.25, here 0.75 = a and 1/3 of it.
        ({"alpha_ramp": 0.5, "kimg": 0.16, "reweight": "hybrid", "resample_share": 0.25}, 5,
         lambda w: np.sqrt(w) * (WEIGHT ** (1 / 3) * WEIGHT).sum()
         / (WEIGHT ** (1 / 3) * np.sqrt(WEIGHT)).sum()),
    ],
)  # fmt: skip
def test_weights_are_ramped_and_normalised_in_the_step(settings, step, expected):
    gan = toy_gan(r1_gamma=0.0, **settings)
    state = fresh().replace(step=jnp.asarray(step, jnp.int32))
    x, w = flat_images(), expected(WEIGHT[INDEX])
    on_real, _ = oracles.weighted_hinge(d_oracle(state.d)(x), np.zeros(1), w)
    _, metrics = gan.d_step(state, batch(), of_reals(WEIGHT), KEY, r1=False)
    np.testing.assert_allclose(metrics["loss/d_real"], on_real, rtol=1e-5)


def test_an_image_of_weight_zero_stays_out_at_the_start_of_the_ramp():
    gan = toy_gan(r1_gamma=0.0, alpha_ramp=0.5)
    weight = WEIGHT.copy()
    weight[INDEX[2]] = 0
    other = IMAGES.copy()
    other[2] = 255 - other[2]
    a, _ = gan.d_step(fresh(), batch(), of_reals(weight), KEY, r1=False)
    b, _ = gan.d_step(fresh(), batch(other), of_reals(weight), KEY, r1=False)
    assert_same((a.d, a.d_optimiser), (b.d, b.d_optimiser))


class WeightReader(QuadraticDiscriminator):
    """Shows in its logits which weights its minibatch statistics are given."""

    @nn.compact
    def __call__(self, image, weights=None):
        logits = super().__call__(image)
        return logits if weights is None else logits + weights


@pytest.mark.parametrize("weighted", [False, True])
def test_the_minibatch_statistics_of_the_reals_alone_know_the_weights(weighted):
    gan = toy_gan(r1_gamma=2.0, reweight="loss", mbstd_weighted=weighted)
    gan.d = WeightReader()
    state, d, w = fresh(), d_oracle(fresh().d), WEIGHT[INDEX]
    fakes = fakes_of(gan, state, BATCH)
    _, metrics = gan.d_step(state, batch(), of_reals(WEIGHT), KEY, r1=True)
    expected = d(flat_images()) + weighted * w
    np.testing.assert_allclose(metrics["logit/real"], expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["logit/fake"], d(fakes).mean(), rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_controller_of_the_augmentation_is_told_the_weights(weighted):
    gan = toy_gan(r1_gamma=0.0, reweight="loss", augment="ada", ada_weighted=weighted)
    weight, on_real = WEIGHT.copy(), d_oracle(fresh().d)(flat_images())
    assert 0 < (on_real > 0).sum() < BATCH
    weight[INDEX] = np.where(on_real > 0, 9.0, 1.0)
    state = quick_jit(gan.init)(jax.random.key(0), Q).replace(d=fresh().d)
    _, metrics = gan.d_step(state, batch(), of_reals(weight), KEY, r1=False)
    w = weight[INDEX] if weighted else np.ones(BATCH)
    total, count = metrics["ada/r_t"]
    np.testing.assert_allclose(total / count, (np.sign(on_real) @ w) / w.sum(), rtol=1e-5)


# Group DRO in the step.


def test_group_dro_step_matches_the_oracle():
    gan = toy_gan(dro=True, dro_eta=0.5, r1_gamma=0.0)
    state, examples = fresh(), of_reals(WEIGHT, adjustment=np.array([0.1, 0.5, 0.2]))
    x, w = flat_images(), WEIGHT[INDEX]
    losses = np.maximum(0, 1 - d_oracle(state.d)(x))
    means = oracles.group_losses(losses, w, GROUP[INDEX], K)
    loss, q = oracles.group_dro_skip(means, Q, 0.5, [0.1, 0.5, 0.2])
    new, metrics = gan.d_step(state, batch(), examples, KEY, r1=False)
    np.testing.assert_allclose(new.q, q, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/d_real"], loss, rtol=1e-5)
    for g in range(K):
        total, count = metrics[f"group_loss/{g}"]
        np.testing.assert_allclose(total / count, means[g], rtol=1e-5)
        assert metrics[f"q/{g}"] == new.q[g]
    again, _ = gan.d_step(new, batch(), examples, KEY, r1=False)
    assert changed(again.q, q)


def test_an_absent_group_is_counted_as_absent_in_the_metrics(plain):
    group = np.where(GROUP == 1, -1, GROUP)
    state, metrics = plain.d_step(fresh(), batch(), of_reals(group=group), KEY, r1=False)
    assert metrics["group_loss/1"] == (0, 0)
    assert metrics["group_loss/0"][1] == 1
    np.testing.assert_array_equal(state.q, np.float32(Q))  # without group DRO q rests


# The generator's step.


def test_generator_step_is_adam_on_the_gradient_of_the_loss(plain):
    state = fresh()
    k_main = jax.random.split(jax.random.fold_in(KEY, 2 * state.step), 3)[0]
    g, unflatten = ravel_pytree(state.g)

    def loss(flat):
        images, _ = plain._fakes(unflatten(flat), k_main, BATCH)
        x = images.reshape(BATCH, -1)
        return -(x @ state.d["a"] + state.d["s"] * jnp.square(x).sum(1) / 2).mean()

    value, slope = jax.value_and_grad(loss)(g)
    adam = oracles.LazyAdam(g, plain.gan.learning_rate_g, 0.0, 0.99, every=3)
    expected = adam.update(float64(slope))
    before = jax.tree.map(np.asarray, state.d)
    new, metrics = plain.g_step(state, KEY, path_length=False)
    # |update| is about the learning rate wherever the gradient is not rounding error
    clear = np.abs(float64(slope)) > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_allclose(flat64(new.g)[clear], expected[clear], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["loss/g"], value, rtol=1e-5)
    assert_same(new.d, before)


def test_path_lengths_of_a_linear_generator(plain):
    state = fresh()
    k_style, k_directions = jax.random.split(KEY)
    y = float64(jax.random.normal(k_directions, (5, *SHAPE))).reshape(5, PIXELS) / SHAPE[0]
    expected = oracles.path_length_linear(float64(state.g["matrix"]), y)
    found = plain._path_lengths(state.g, k_style, k_directions, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_path_length_phase_updates_twice_and_moves_its_mean(plain):
    start = fresh()
    matrix = float64(start.g["matrix"])
    without, _ = plain.g_step(fresh(), KEY, path_length=False)
    new, metrics = plain.g_step(start, KEY, path_length=True)
    assert jax.tree.leaves(new.g_optimiser)[0] == 2
    assert changed(new.g, without.g)
    assert without.pl_mean == 0
    # E |J^T y|^2 = |matrix|^2 / (layers * pixels per side^2); the mean moves by 1 % of it
    typical = np.sqrt((matrix**2).sum() / 4) / SHAPE[0]
    assert new.pl_mean == pytest.approx(0.01 * typical, rel=0.3)
    weight, lengths = plain.gan.path_length_weight, new.pl_mean * 100
    assert metrics["loss/path_length"] == pytest.approx(
        float(weight * (lengths * 0.99) ** 2), rel=0.3
    )


def test_moving_averages(plain):
    half_life, ramp = 12.5 * BATCH, 0.5
    gan = toy_gan(ema_kimg=half_life / 1000, ema_rampup=ramp, r1_gamma=0.0, path_length_weight=0.0)
    state = fresh()
    start, w_avg, seen = flat64(state.g), np.zeros(W_DIM), []
    for _ in range(40):  # the ramp ends at 25 steps
        scale = float64(state.g["scale"])
        k_g = jax.random.split(jax.random.fold_in(KEY, 2 * state.step), 3)[0]
        means = []
        for key in (k_g, jax.random.fold_in(KEY, 2 * state.step + 1)):
            k_z = jax.random.split(jax.random.split(key)[0], 4)[0]
            means.append(float64(jax.random.normal(k_z, (BATCH, W_DIM))).mean(0))
        w_avg = 0.995 * w_avg + 0.005 * means[0] * scale
        state, _ = gan.g_step(state, KEY, path_length=False)
        w_avg = 0.995 * w_avg + 0.005 * means[1] * float64(state.g["scale"])
        seen.append(flat64(state.g))
        state, _ = gan.d_step(state, batch(), of_reals(), KEY, r1=False)
    expected = oracles.moving_average(start, seen, BATCH, half_life, ramp)
    np.testing.assert_allclose(flat64(state.ema), expected[-1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(state.w_avg, w_avg, rtol=1e-3, atol=1e-5)


def test_first_average_is_the_generator_itself_only_with_a_ramp(plain):
    new, _ = plain.g_step(fresh(), KEY, path_length=False)
    np.testing.assert_allclose(flat64(new.ema), flat64(new.g), rtol=1e-6)
    # half-life = one batch; networks that are started from bring their average
    for changes in ({"ema_rampup": 0.0}, {"init_from": "arm:other"}):
        gan = toy_gan(ema_kimg=0.008, **changes)
        state = fresh()
        start = flat64(state.g)
        new, _ = gan.g_step(state, KEY, path_length=False)
        mean = (start + flat64(new.g)) / 2
        np.testing.assert_allclose(flat64(new.ema), mean, rtol=1e-4, atol=1e-6)


def test_style_mixing():
    never, always = toy_gan(style_mixing=0.0), toy_gan(style_mixing=1.0)
    g = fresh().g
    one, w = never._styles(g, KEY, 6)
    np.testing.assert_array_equal(one, jnp.repeat(one[:, :1], one.shape[1], 1))
    np.testing.assert_array_equal(w, one[:, 0])
    cuts = set()
    styles = quick_jit(partial(always._styles, g, n=6))
    for seed in range(40):
        ws, w = styles(jax.random.key(seed))
        switches = np.flatnonzero(np.any(np.diff(ws, axis=1) != 0, axis=(0, 2))) + 1
        assert len(switches) == 1  # one cut for the whole batch, never at the ends
        cuts.add(int(switches[0]))
        np.testing.assert_array_equal(w, ws[:, 0])  # of the unmixed latents
    assert cuts == {1, 2, 3}
    half = toy_gan(style_mixing=0.5)
    styles = quick_jit(partial(half._styles, g, n=2))
    mixed = [bool(np.diff(styles(jax.random.key(s))[0], axis=1).any()) for s in range(100)]
    assert 30 < sum(mixed) < 70


def test_phases_and_steps_have_latents_of_their_own(plain):
    state = fresh()
    later = state.replace(step=state.step + 1)
    a, b = fakes_of(plain, state, 4), fakes_of(plain, later, 4)
    images, _ = plain._fakes(state.g, jax.random.split(jax.random.fold_in(KEY, 0), 3)[0], 4)
    assert not np.allclose(a, b)
    assert not np.allclose(a, float64(images).reshape(4, -1))


# What the rest of the program uses.


def test_samples_depend_on_the_key_only(plain):
    ema = fresh().ema
    a = plain.sample(ema, jax.random.key(1), 10, 4)
    assert a.shape == (10, *SHAPE)
    assert a.dtype == np.uint8
    np.testing.assert_array_equal(a, plain.sample(ema, jax.random.key(1), 10, 4))
    assert not np.array_equal(a, plain.sample(ema, jax.random.key(2), 10, 4))
    assert len(np.unique(a.reshape(10, -1), axis=0)) == 10  # no batch is repeated


def test_truncated_samples_lie_between_the_centre_and_the_whole_ones(plain):
    """The toy generator is linear in w, so its images are mixed as the styles are."""
    ema = fresh().ema
    centre = np.array([0.3, -0.2, 0.5, 0.1], np.float32)
    whole, at_centre, half = (
        plain.sample(ema, KEY, 6, 4, centre, psi).astype(np.float64) for psi in (1.0, 0.0, 0.5)
    )
    np.testing.assert_array_equal(whole, plain.sample(ema, KEY, 6, 4))
    assert np.ptp(at_centre, axis=0).max() == 0
    inside = (whole > 0) & (whole < 255)  # not clipped; what remains is rounding
    assert inside.mean() > 0.8
    np.testing.assert_allclose(half[inside], ((whole + at_centre) / 2)[inside], atol=1.01)
    assert np.abs(half - whole).max() > 5


def test_path_length_is_that_of_the_closed_form(plain):
    """In the pixels of a linear generator a step has the length of the whole way, |A (w' - w)|^2,
    whose mean over w, w' ~ N(0, S^2) is 2 |A S|^2, on the scale of bytes."""
    ema = fresh().ema
    ends = [plain.step_ends(ema, jax.random.key(i), 250, 0.5) for i in range(8)]
    figure = path_length_figure("pixels", lambda x: float64(x).reshape(len(x), -1), ends, 0.5)
    matrix = float64(ema["matrix"]).sum(0) * float64(ema["scale"])
    expected = 2 * 127.5**2 * np.square(matrix).sum()
    steps = np.concatenate([np.square((a - b) / 0.5).sum((1, 2, 3)) for a, b in ends])
    assert steps.mean() == pytest.approx(expected, rel=0.07)
    assert figure.value == pytest.approx(np.sort(steps)[20:-20].mean(), rel=1e-3)
    assert figure.low < figure.value < figure.high < 1.1 * figure.value
    assert figure.n == 2000


def test_samples_become_bytes_by_rounding_and_clipping(plain):
    ema = jax.tree.map(jnp.zeros_like, fresh().ema)
    ema["bias"] = jnp.linspace(-1.5, 1.5, PIXELS)
    image = plain.sample(ema, KEY, 1, 1)[0].ravel()
    expected = np.clip(np.round(float64(ema["bias"]) * 127.5 + 127.5), 0, 255)
    np.testing.assert_array_equal(image, expected)


def test_grid_is_filled_row_by_row():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    picture = grid(images, columns=3)
    assert picture.shape == (4, 9, 1)
    np.testing.assert_array_equal(picture[::2, ::3, 0], [[0, 1, 2], [3, 4, 5]])


def test_task_runs_the_lazy_phases_when_they_are_due(plain):
    task = plain.task("gan toy", of_reals(), lambda ema, i: {"figure": float(i)}, KEY)
    state, names = task.init(jax.random.key(0)), []
    for i in range(7):
        state, metrics = task.step(state, batch(), KEY, i)
        names.append({n for n in ("loss/path_length", "loss/r1") if n in metrics})
        assert {"loss/g", "loss/d_real", "loss/d_fake", "real_inside_margin"} <= set(metrics)
        assert {"group_loss/0", "group_loss/2"} <= set(metrics)
    assert [i for i, due in enumerate(names) if "loss/path_length" in due] == [0, 3, 6]
    assert [i for i, due in enumerate(names) if "loss/r1" in due] == [0, 4]
    assert state.step == 7
    assert task.evaluate is not None
    assert task.evaluate(state, 7) == (state, {"figure": 7.0})
    assert task.sample is not None
    assert task.sample(state).shape == (64, 64, 3)


def test_regularisers_of_weight_zero_are_never_run():
    gan = toy_gan(r1_gamma=0.0, path_length_weight=0.0)
    task = gan.task("gan toy", of_reals(), lambda ema, i: {}, KEY)
    _, metrics = task.step(task.init(jax.random.key(0)), batch(), KEY, 0)
    assert "loss/r1" not in metrics
    assert "loss/path_length" not in metrics


# The real networks.


def stylegan():
    """StyleGAN2 at 8 px with minibatch statistics, and its first state."""
    config = defaults().gan
    config.update(batch=4, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=4,
                  mbstd_group=2, r1_gamma=3.0)  # fmt: skip
    gan = Gan(config, resolution=8, channels=3)
    return gan, quick_jit(gan.init)(jax.random.key(0), Q)


def test_stylegan_penalty_is_the_norm_of_the_jacobian():
    gan, state = stylegan()
    # A logit depends on its own image and, by minibatch statistics, on its neighbour: the penalty
    # is defined on the gradient of the sum of all logits.
    x = jnp.asarray(flat_images()[:4], jnp.float32).reshape(4, *SHAPE)
    jacobian = quick_jit(jax.jacrev(lambda x: gan._logits(state.d, x)))(x)
    expected = 0.5 * gan.gan.r1_gamma * np.square(float64(jacobian).sum(0)).sum((1, 2, 3)).mean()
    gan.d_adam = optax.set_to_zero()  # the penalty is taken after the main update
    step = quick_jit(gan._d_step, static_argnames="r1")
    four = {"image": jnp.asarray(IMAGES[:4]), "index": jnp.asarray(INDEX[:4])}
    _, metrics = step(state, four, of_reals(), KEY, r1=True)
    np.testing.assert_allclose(metrics["loss/r1"], expected, rtol=1e-4)


def test_stylegan_trains_every_parameter():
    gan, state = stylegan()
    gan.g_step = quick_jit(gan._g_step, static_argnames="path_length")
    gan.d_step = quick_jit(gan._d_step, static_argnames="r1")
    start = state
    four = {"image": jnp.asarray(IMAGES[:4]), "index": jnp.asarray(INDEX[:4])}
    # With unit weights the last bias would rest: its hinge gradients -1 and +1 cancel.
    task = gan.task("gan", of_reals(WEIGHT), lambda ema, i: {}, KEY)
    state, metrics = task.step(state, four, KEY, 0)  # with both regularisers
    for name, value in metrics.items():
        assert np.isfinite(value).all(), name
    for before, after in ((start.g, state.g), (start.d, state.d)):
        still = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
        names = [jax.tree_util.keystr(p) for p, same in jax.tree.leaves_with_path(still) if same]
        assert names == []
    assert state.pl_mean > 0
