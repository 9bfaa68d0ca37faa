import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fairjax.config import defaults
from fairjax.train.gan_state import lazy_adam, networks


@pytest.mark.parametrize("every", [4, 16, None])
@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_lazy_adam_is_adam_with_corrected_constants(every, beta1):
    gan = defaults().gan
    gan.beta1 = beta1
    rng = np.random.default_rng(0)
    theta = rng.normal(size=5)
    oracle = oracles.LazyAdam(theta, 0.01, beta1, gan.beta2, every)
    adam = lazy_adam(gan, 0.01, every or 7, regularised=every is not None)
    params = jnp.asarray(theta, jnp.float32)
    state = adam.init(params)
    for _ in range(20):
        gradient = rng.normal(size=5)
        updates, state = adam.update(jnp.asarray(gradient, jnp.float32), state)
        params = params + updates
        np.testing.assert_allclose(params, oracle.update(gradient), rtol=1e-4, atol=1e-6)


def test_the_rate_falls_to_zero_at_the_end_of_the_training():
    gan = defaults().gan
    gan.update(batch=8, kimg=0.8, decay_from=0.6, beta2=0.0)  # 100 iterations, 125 updates
    adam = lazy_adam(gan, 0.01, 4, regularised=True)
    state, sizes = adam.init(jnp.zeros(1)), []
    step = jax.jit(adam.update)
    for _ in range(125):
        updates, state = step(jnp.ones(1), state)  # with both betas 0 an update is the rate
        sizes.append(-float(updates[0]))
    rate = 0.01 * 4 / 5
    np.testing.assert_allclose(sizes[:76], rate, rtol=1e-5)
    np.testing.assert_allclose(sizes[75:], rate * (1 - np.arange(50) / 50), atol=1e-7)


def test_networks_take_the_shape_of_the_config():
    gan = defaults().gan
    gan.update(z_dim=7, w_dim=9, mapping_layers=3, channel_base=64, channel_max=5, mbstd_group=2)
    g, d = networks(gan, 16, 1)
    assert (g.z_dim, g.w_dim, g.mapping_layers) == (7, 9, 3)
    assert d.mbstd_group == 2
    for network in (g, d):
        assert (network.resolution, network.image_channels) == (16, 1)
        assert (network.channel_base, network.channel_max) == (64, 5)
        assert network.conv_clamp is None
    gan.conv_clamp = 256.0
    assert [network.conv_clamp for network in networks(gan, 16, 1)] == [256.0, 256.0]
