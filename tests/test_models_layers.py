import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest

from fairjax.errors import InputError
from fairjax.models import layers
from fairjax.models.resample import FORMS

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution(up, demodulate, form):
    x, weight = RNG.normal(size=(3, 4, 6, 5)), RNG.normal(size=(3, 3, 5, 7))
    styles = RNG.normal(size=(3, 5))
    found = layers.modulated_conv(
        *(jnp.asarray(a, jnp.float32) for a in (x, weight, styles)),
        up=up,
        demodulate=demodulate,
        form=form,
    )
    expected = oracle.modulated_conv(x, weight, styles, up, demodulate)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["contiguous", "strided"])
@pytest.mark.parametrize(("group", "features"), [(4, 1), (2, 3), (8, 2), (100, 1)])
def test_minibatch_stddev(mode, group, features):
    x = RNG.normal(size=(8, 3, 2, 6)) * np.arange(1, 9)[:, None, None, None]
    found = layers.minibatch_stddev(jnp.asarray(x, jnp.float32), group, features, mode)
    expected = oracle.minibatch_stddev(x, group, features, mode == "strided")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["contiguous", "strided"])
@pytest.mark.parametrize(("group", "features"), [(4, 1), (2, 3), (3, 1), (100, 2)])
def test_weighted_minibatch_stddev(mode, group, features):
    n = 6 if group == 3 else 8
    x = RNG.normal(size=(n, 3, 2, 6)) * np.arange(1, n + 1)[:, None, None, None]
    x32, weights = jnp.asarray(x, jnp.float32), RNG.exponential(size=n)
    run = lambda w: layers.minibatch_stddev(x32, group, features, mode, jnp.asarray(w, jnp.float32))
    expected = oracle.minibatch_stddev(x, group, features, mode == "strided", weights)
    np.testing.assert_allclose(run(weights), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(7 * weights), expected, rtol=1e-5, atol=1e-5)
    plain = layers.minibatch_stddev(x32, group, features, mode)
    # Of two samples the variance is a quarter of their squared distance, whatever their weights.
    assert np.allclose(run(weights), plain, rtol=1e-3) == (group == 2)
    for equal in (np.ones(n), np.full(n, 0.1), np.zeros(n)):  # equal weights change no bit
        np.testing.assert_array_equal(run(equal), plain)


def test_weights_make_the_statistics_of_the_batch_they_stand_for():
    """A sample of weight 3 counts as three samples, one of weight 0 is not there; the variance is
    3/4 of the unbiased one, as that of four equal samples is: (3/4) / (1 - 10/16) = 2 times."""
    x = jnp.asarray(RNG.normal(size=(4, 2, 2, 5)), jnp.float32)
    found = layers.minibatch_stddev(x, 4, 1, weights=jnp.array([3.0, 1.0, 0.0, 0.0]))
    whole = layers.minibatch_stddev(x[jnp.array([0, 0, 0, 1])], 4, 1)
    np.testing.assert_allclose(found[0, ..., -1], np.sqrt(2) * whole[0, ..., -1], rtol=1e-5)


def test_unequal_weights_do_not_lower_the_variance_of_one_distribution():
    """Else D could tell reals of unequal weights from fakes, which have equal ones, by it."""
    n = 40_000
    x = jnp.asarray(RNG.normal(size=(n, 1, 1, 1)), jnp.float32)
    w = jnp.asarray(np.where(RNG.random(n) < 0.14, 5.0, 0.556), jnp.float32)
    square = [float(jnp.square(layers.minibatch_stddev(x, 4, 1, weights=v)[..., -1]).mean())
              for v in (None, w)]  # fmt: skip
    np.testing.assert_allclose(square, 0.75, rtol=0.03)


def test_a_group_of_one_weighted_sample_has_no_spread():
    x = jnp.asarray(RNG.normal(size=(4, 2, 2, 5)), jnp.float32)
    found = layers.minibatch_stddev(x, 4, 1, weights=jnp.array([0.0, 1.0, 0.0, 0.0]))
    np.testing.assert_allclose(found[..., -1], 1e-4, rtol=1e-3)


def test_minibatch_stddev_refuses_a_batch_that_does_not_split():
    with pytest.raises(InputError, match="batch of 6"):
        layers.minibatch_stddev(jnp.zeros((6, 2, 2, 4)), 4, 1)


def test_equalised_dense():
    x, weight, bias = RNG.normal(size=(3, 5)), RNG.normal(size=(5, 2)), RNG.normal(size=2)
    params = {"weight": jnp.asarray(weight), "bias": jnp.asarray(bias)}
    found = layers.Dense(2, lr_mult=0.01, activation="leaky").apply({"params": params}, x)
    y = x @ (weight * 0.01 / np.sqrt(5)) + bias * 0.01
    np.testing.assert_allclose(found, np.sqrt(2) * np.maximum(y, 0.2 * y), rtol=1e-5, atol=1e-7)


def test_weights_start_so_that_activations_keep_their_size():
    x = jax.random.normal(jax.random.key(0), (64, 512))
    for lr_mult in (1.0, 0.01):
        y, _ = layers.Dense(256, lr_mult=lr_mult).init_with_output(jax.random.key(1), x)
        assert 0.9 < float(jnp.std(y)) < 1.1


def test_clamp_and_gain_of_a_convolution():
    x = jnp.full((1, 4, 4, 3), 1e4)
    conv = layers.Conv(2, 1, activation="linear", gain=0.5, clamp=3.0)
    y, _ = conv.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(jnp.abs(y), 1.5)
    y = layers.leaky(jnp.array([-100.0, -1.0, 1.0, 100.0]), gain=0.5, clamp=3.0)
    np.testing.assert_allclose(y, [-1.5, -0.1 * np.sqrt(2), 0.5 * np.sqrt(2), 1.5], rtol=1e-6)
