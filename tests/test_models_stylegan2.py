from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest
from flax.traverse_util import flatten_dict
from quick import quick_jit

from fairjax.errors import InputError
from fairjax.models import stylegan2
from fairjax.models.discriminator import Discriminator
from fairjax.models.initialize import initialize
from fairjax.models.resample import FORMS
from fairjax.models.stylegan2 import Generator

SMALL = dict(channel_base=48, channel_max=8)
G = Generator(8, z_dim=6, w_dim=5, mapping_layers=2, **SMALL)
D = Discriminator(8, mbstd_group=2, mbstd_mode="strided", **SMALL)


def drawn(shapes, seed):
    """Random values for every parameter, so that biases and noise strengths count too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes)


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


@pytest.fixture(scope="module")
def generator():
    shapes = jax.eval_shape(G.init, jax.random.key(0), jnp.zeros((1, 6)))
    return drawn(shapes, 5)


@pytest.fixture(scope="module")
def discriminator():
    return drawn(jax.eval_shape(D.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3))), 6)


def count(module, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return sum(a.size for a in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("resolution", "base", "layers", "total"),
    [
        (1024, 32768, 8, 30_370_060),
        (256, 32768, 8, 30_034_338),
        (256, 16384, 8, 24_767_458),
        (128, 16384, 2, 22_949_277),
        (64, 16384, 2, 22_243_608),
    ],
)
def test_generator_totals(resolution, base, layers, total):
    net = Generator(resolution, channel_base=base, mapping_layers=layers)
    assert count(net, jnp.zeros((1, 512))) == total


@pytest.mark.parametrize(
    ("resolution", "base", "total"),
    [
        (1024, 32768, 29_012_513),
        (256, 16384, 24_001_089),
        (128, 16384, 23_882_369),
        (64, 16384, 23_407_361),
    ],
)
def test_discriminator_totals(resolution, base, total):
    net = Discriminator(resolution, channel_base=base, mbstd_group=4)
    assert count(net, jnp.zeros((4, resolution, resolution, 3))) == total


def test_names(generator, discriminator):
    layer = ["weight", "bias", "noise_strength", "affine/weight", "affine/bias"]
    rgb = ["weight", "bias", "affine/weight", "affine/bias"]
    names = [f"mapping/fc{i}/{n}" for i in range(2) for n in ("weight", "bias")]
    names += ["synthesis/b4/const"] + [f"synthesis/b4/conv1/{n}" for n in layer]
    names += [f"synthesis/b8/{c}/{n}" for c in ("conv0", "conv1") for n in layer]
    names += [f"synthesis/b{r}/torgb/{n}" for r in (4, 8) for n in rgb]
    assert set(flatten_dict(generator["params"], sep="/")) == set(names)
    assert set(flatten_dict(generator["buffers"], sep="/")) == {
        f"synthesis/{n}/noise_const" for n in ("b4/conv1", "b8/conv0", "b8/conv1")
    }
    names = [f"b8/{c}/{n}" for c in ("fromrgb", "conv0", "conv1") for n in ("weight", "bias")]
    names += ["b8/skip/weight"]
    names += [f"b4/{c}/{n}" for c in ("conv", "fc", "out") for n in ("weight", "bias")]
    assert set(flatten_dict(discriminator["params"], sep="/")) == set(names)


def test_mapping(generator):
    z = np.random.default_rng(0).normal(size=(4, 6))
    found = G.apply(generator, jnp.asarray(z, jnp.float32), method="mapping")
    expected = oracle.mapping(float64(generator["params"]["mapping"]), z)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    scaled = G.apply(generator, jnp.asarray(7 * z, jnp.float32), method="mapping")
    np.testing.assert_allclose(scaled, found, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_synthesis(generator, form):
    ws = np.random.default_rng(1).normal(size=(3, stylegan2.num_ws(8), 5))
    net = G.clone(resample=form)
    run = quick_jit(lambda ws: net.apply(generator, ws, noise="const", method="synthesis"))
    found = run(jnp.asarray(ws, jnp.float32))
    v = float64(generator)
    expected = oracle.synthesis(v["params"]["synthesis"], v["buffers"]["synthesis"], ws)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("form", FORMS)
def test_discriminator(discriminator, form):
    image = np.random.default_rng(2).uniform(-1, 1, size=(6, 8, 8, 3))
    net = D.clone(resample=form)
    found = quick_jit(lambda image: net.apply(discriminator, image))(
        jnp.asarray(image, jnp.float32)
    )
    expected = oracle.discriminator(float64(discriminator["params"]), image, 2)
    assert found.shape == (6,)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_noise(generator):
    z = jnp.ones((2, 6))
    params = {"params": generator["params"]}
    sample = quick_jit(lambda seed: G.apply(params, z, jax.random.key(seed)))
    plain, same = (
        quick_jit(lambda key, n=noise: G.apply(params, z, key, noise=n))(jax.random.key(1))
        for noise in ("none", "random")
    )
    one = sample(1)
    np.testing.assert_array_equal(one, sample(1))
    np.testing.assert_allclose(one, same, rtol=1e-6)
    for other in (plain, sample(2), one[::-1]):
        assert not np.allclose(one, other)
    with pytest.raises(ValueError, match="random"):
        G.apply(params, z, noise="random")


def test_every_style_reaches_the_image(generator):
    ws = jax.random.normal(jax.random.key(0), (1, stylegan2.num_ws(8), 5))
    energy = lambda ws: jnp.sum(G.apply(generator, ws, method="synthesis") ** 2)
    gradient = quick_jit(jax.grad(energy))(ws)
    assert np.all(np.abs(gradient).max(-1) > 0)


def test_the_seed_changes_the_weights_and_only_the_seed():
    make = lambda seed: initialize(G, jax.random.key(seed), jnp.zeros((1, 6)))
    a, b, c = make(0), make(0), make(1)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    for name, value in flatten_dict(a, sep="/").items():
        changed = not np.array_equal(value, flatten_dict(c, sep="/")[name])
        drawn = name.endswith(("weight", "const"))
        assert changed == drawn, name


def test_gradients_are_finite_on_constant_inputs(generator, discriminator):
    g, d = generator["params"], discriminator["params"]

    def g_loss(g):
        return jnp.sum(jnp.sin(G.apply({"params": g}, jnp.zeros((2, 6)))))

    def penalty(d):
        slope = jax.grad(lambda x: jnp.sum(D.apply({"params": d}, x)))(jnp.zeros((2, 8, 8, 3)))
        return jnp.sum(jnp.square(slope))

    for gradient in (quick_jit(jax.grad(g_loss))(g), quick_jit(jax.grad(penalty))(d)):
        assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(gradient))
        assert any(np.any(a != 0) for a in jax.tree.leaves(gradient))


def test_all_forms_have_the_same_penalty_and_gradient(discriminator):
    image = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1.0)

    def penalty(params, form):
        net = D.clone(resample=form)
        slope = jax.grad(lambda x: jnp.sum(net.apply({"params": params}, x)))(image)
        return jnp.sum(jnp.square(slope))

    *others, b = (
        quick_jit(jax.value_and_grad(lambda p, f=form: penalty(p, f)))(discriminator["params"])
        for form in FORMS
    )
    scale = max(float(jnp.abs(y).max()) for y in jax.tree.leaves(b[1]))
    for a in others:
        np.testing.assert_allclose(a[0], b[0], rtol=1e-5)
        for x, y in zip(jax.tree.leaves(a[1]), jax.tree.leaves(b[1]), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-5 * scale)


def test_sizes():
    assert [stylegan2.num_ws(r) for r in (32, 64, 128, 256, 1024)] == [8, 10, 12, 14, 18]
    assert [stylegan2.channels(r, 16384, 512) for r in (4, 32, 64, 256)] == [512, 512, 256, 64]
    for resolution in (4, 48):
        with pytest.raises(InputError, match="power of two"):
            stylegan2.num_ws(resolution)
    with pytest.raises(ValueError, match="discriminator takes"):
        D.init(jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError, match="latents"):
        G.init(jax.random.key(0), jnp.zeros((2, 7)))


def test_the_clamp_bounds_the_activations(generator):
    ws = jnp.ones((1, stylegan2.num_ws(8), 5))
    clamped, free = (
        quick_jit(lambda c=clamp: G.clone(conv_clamp=c).apply(generator, ws, method="synthesis"))()
        for clamp in (0.01, None)
    )
    assert float(jnp.abs(clamped).max()) <= 0.02 + 1e-6 < float(jnp.abs(free).max())


def remat_gradients(remat):
    """Gradients of a loss through both networks, whose program is optimised as in training."""
    g, d = (net.clone(remat=remat) for net in (G, D))
    z, key = jax.random.normal(jax.random.key(0), (4, 6)), jax.random.key(1)

    def loss(params):
        images = g.apply({"params": params["g"]}, z, key)
        return jnp.sum(jnp.sin(d.apply({"params": params["d"]}, images)))

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.slow
def test_remat_gives_the_same_numbers_and_names(generator, discriminator):
    params = {"g": generator["params"], "d": discriminator["params"]}
    plain, again = (remat_gradients(remat)(params) for remat in (False, True))
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-5)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(again[1]), jax.tree.leaves(plain[1]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), err_msg=str(path))
    for net, inputs in ((G, jnp.zeros((1, 6))), (D, jnp.zeros((2, 8, 8, 3)))):
        first, second = (
            initialize(net.clone(remat=remat), jax.random.key(3), inputs) for remat in (False, True)
        )
        jax.tree.map(np.testing.assert_array_equal, first, second)


def test_remat_keeps_less_for_the_backward_pass():
    """Bytes that the forward pass hands on, before XLA, which on CPU merges both passes again."""
    image = jax.ShapeDtypeStruct((32, 16, 16, 3), jnp.float32)
    ws = jax.ShapeDtypeStruct((32, stylegan2.num_ws(16), 5), jnp.float32)
    wide = dict(channel_base=256, channel_max=16)

    def kept(net, *inputs, **more):
        params = jax.eval_shape(partial(net.init, **more), jax.random.key(0), *inputs)
        loss = lambda p, *inputs: jnp.sum(net.apply(p, *inputs, **more))
        back = jax.eval_shape(lambda p, *x: jax.vjp(lambda p: loss(p, *x), p)[1], params, *inputs)
        return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(back))

    for remat_less, remat_more in (
        [kept(Discriminator(16, architecture="orig", remat=r, **wide), image) for r in (1, 0)],
        [kept(Generator(16, z_dim=6, w_dim=5, remat=r, **wide), ws, method="synthesis")
         for r in (1, 0)],
    ):  # fmt: skip
        assert remat_less < 0.4 * remat_more
