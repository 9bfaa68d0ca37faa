import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest
from quick import quick_jit

from fairjax.models.initialize import initialize
from fairjax.models.resnet import Conv3x3, ResNet


@pytest.mark.parametrize("stem", ["imagenet", "small", "stride2"])
@pytest.mark.parametrize("size", [16, 32, 64, 256])
def test_shapes(size, stem):
    net = ResNet(8, 3, stem)
    x = jnp.zeros((2, size, size, 3))
    (logits, features), variables = jax.eval_shape(
        lambda key, x: (
            (
                (a := net.init_with_output(key, x, True))[0],
                net.apply(a[1], x, False, features=True),
            ),
            a[1],
        ),
        jax.random.key(0),
        x,
    )
    assert (logits.shape, features.shape) == ((2, 3), (2, 64))
    assert set(variables) == {"params", "batch_stats"}


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution(size, stride):
    x = np.random.default_rng(0).normal(size=(2, *size, 3))
    conv = Conv3x3(4, stride)
    found, variables = conv.init_with_output(jax.random.key(0), jnp.asarray(x, jnp.float32))
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    expected = oracle.correlate(x, kernel, ((1, 1), (1, 1)), stride)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_it_learns_and_updates_the_running_statistics():
    net = ResNet(4, 2, "stride2")
    labels = jnp.arange(32) % 2
    x = jax.random.normal(jax.random.key(0), (32, 16, 16, 3)) + labels[:, None, None, None]
    variables = initialize(net, jax.random.key(1), x, True)

    @quick_jit
    def step(variables):
        def loss(params):
            logits, new = net.apply(
                {**variables, "params": params}, x, True, mutable=["batch_stats"]
            )
            chosen = jax.nn.log_softmax(logits)[jnp.arange(32), labels]
            return -jnp.mean(chosen), new

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.05 * g, variables["params"], gradient)
        return value, {"params": params, **new}

    first, after = step(variables)
    mean = after["batch_stats"]["stem_norm"]["mean"]
    assert not np.allclose(mean, variables["batch_stats"]["stem_norm"]["mean"])
    for _ in range(15):
        last, after = step(after)
    assert float(last) < 0.3 * float(first)
    test = quick_jit(lambda x: net.apply(after, x, False))
    mixed = x.at[1:].multiply(5)  # with running statistics no other image of the batch counts
    np.testing.assert_allclose(test(mixed)[0], test(x)[0], rtol=1e-5, atol=1e-5)


def test_an_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="tiny"):
        ResNet(8, 2, "tiny").init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), False)
