"""All architectures of both networks, with labels and clamps, beside the float64 derivation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest
from flax.traverse_util import flatten_dict
from quick import quick_jit

from fairjax.models.discriminator import Discriminator
from fairjax.models.stylegan2 import Generator, compute_dtype, num_ws, truncate

SMALL = dict(channel_base=64, channel_max=6)
SHAPES = [("skip", 0, None), ("skip", 3, 0.7), ("resnet", 0, 0.7), ("resnet", 3, None),
          ("orig", 0, None), ("orig", 3, 0.7)]  # fmt: skip


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), shapes)


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def labels(n, c_dim):
    """One-hot, two ones, any numbers: all are labels."""
    c = np.random.default_rng(4).normal(size=(n, c_dim))
    c[0], c[1] = np.eye(c_dim)[0], 1.0
    return c


def generator(architecture, c_dim, clamp, **more):
    net = Generator(16, z_dim=6, w_dim=5, c_dim=c_dim, mapping_layers=2, conv_clamp=clamp,
                    architecture=architecture, **SMALL, **more)  # fmt: skip
    c = jnp.zeros((1, c_dim)) if c_dim else None
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 6)), c=c)
    return net, drawn(variables, 7)


def discriminator(architecture, c_dim, clamp, layers=2):
    net = Discriminator(16, c_dim=c_dim, mapping_layers=layers, architecture=architecture,
                        conv_clamp=clamp, mbstd_group=2, mbstd_mode="strided", **SMALL)  # fmt: skip
    c = jnp.zeros((4, c_dim)) if c_dim else None
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((4, 16, 16, 3)), c)
    return net, drawn(variables, 8)


@pytest.mark.parametrize(("architecture", "c_dim", "clamp"), SHAPES)
def test_generator(architecture, c_dim, clamp):
    net, variables = generator(architecture, c_dim, clamp)
    rng = np.random.default_rng(1)
    z, c = rng.normal(size=(3, 6)), labels(3, c_dim) if c_dim else None
    found = quick_jit(lambda z, c: net.apply(variables, z, noise="const", c=c))(z, c)
    v = float64(variables)
    w = oracle.mapping(v["params"]["mapping"], z, c)
    ws = np.repeat(w[:, None], num_ws(16), 1)
    noise = v["buffers"]["synthesis"]
    expected = oracle.synthesis(v["params"]["synthesis"], noise, ws, architecture, clamp)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_every_layer_has_a_style_of_its_own(architecture):
    """With different styles per layer a wrong order of the styles would show."""
    net, variables = generator(architecture, 0, None)
    ws = np.random.default_rng(2).normal(size=(2, num_ws(16), 5))
    run = quick_jit(lambda ws: net.apply(variables, ws, noise="const", method="synthesis"))
    v = float64(variables)
    noise = v["buffers"]["synthesis"]
    expected = oracle.synthesis(v["params"]["synthesis"], noise, ws, architecture)
    np.testing.assert_allclose(
        run(jnp.asarray(ws, jnp.float32)), expected, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(("architecture", "c_dim", "clamp"), SHAPES)
def test_discriminator_and_its_penalty(architecture, c_dim, clamp):
    net, variables = discriminator(architecture, c_dim, clamp)
    image = np.random.default_rng(2).uniform(-1, 1, size=(4, 16, 16, 3))
    c = labels(4, c_dim) if c_dim else None
    run = partial(net.apply, variables)
    params = float64(variables["params"])
    expected = oracle.discriminator(params, image, 2, architecture, c, clamp)
    found = quick_jit(run)(jnp.asarray(image, jnp.float32), c)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(np.abs(expected).max(), 1))
    # The slope in one direction, as R1 squares it, beside a central difference of the derivation.
    direction = np.random.default_rng(3).normal(size=image.shape)
    slopes = quick_jit(jax.grad(lambda x: run(x, c).sum()))(jnp.asarray(image, jnp.float32))
    ends = [
        oracle.discriminator(params, image + e * direction, 2, architecture, c, clamp).sum()
        for e in (1e-6, -1e-6)
    ]
    slope = (ends[0] - ends[1]) / 2e-6
    assert np.sum(np.asarray(slopes, np.float64) * direction) == pytest.approx(slope, rel=1e-3)


def test_a_label_may_be_embedded_without_layers():
    """As in the official CIFAR-10 networks."""
    net, variables = discriminator("orig", 3, None, layers=0)
    assert set(variables["params"]["mapping"]) == {"embed"}
    image, c = np.random.default_rng(2).uniform(-1, 1, size=(4, 16, 16, 3)), labels(4, 3)
    found = quick_jit(net.apply)(variables, jnp.asarray(image, jnp.float32), c)
    expected = oracle.discriminator(float64(variables["params"]), image, 2, "orig", c)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_names(architecture):
    """The names and shapes of the published weights."""
    _, g = generator(architecture, 3, None)
    shapes = {k: v.shape for k, v in flatten_dict(g["params"], sep="/").items()}
    wide = {4: 6, 8: 6, 16: 4}
    expected = {"mapping/embed/weight": (3, 5), "mapping/embed/bias": (5,),
                "synthesis/b4/const": (4, 4, 6)}  # fmt: skip
    for i, size in enumerate((6 + 5, 5)):
        expected |= {f"mapping/fc{i}/weight": (size, 5), f"mapping/fc{i}/bias": (5,)}
    for r, out in wide.items():
        into = wide.get(r // 2, 6)
        for name, i in (("conv0", into), ("conv1", out)):
            if r > 4 or name == "conv1":
                base = f"synthesis/b{r}/{name}"
                expected |= {f"{base}/weight": (3, 3, i, out), f"{base}/bias": (out,),
                             f"{base}/noise_strength": (), f"{base}/affine/weight": (5, i),
                             f"{base}/affine/bias": (i,)}  # fmt: skip
        if architecture == "skip" or r == 16:
            base = f"synthesis/b{r}/torgb"
            expected |= {f"{base}/weight": (1, 1, out, 3), f"{base}/bias": (3,)}
            expected |= {f"{base}/affine/weight": (5, out), f"{base}/affine/bias": (out,)}
        if architecture == "resnet" and r > 4:
            expected |= {f"synthesis/b{r}/skip/weight": (1, 1, into, out)}
    assert shapes == expected
    _, d = discriminator(architecture, 3, None)
    shapes = {k: v.shape for k, v in flatten_dict(d["params"], sep="/").items()}
    expected = {"mapping/embed/weight": (3, 6), "mapping/embed/bias": (6,)}
    for i in range(2):
        expected |= {f"mapping/fc{i}/weight": (6, 6), f"mapping/fc{i}/bias": (6,)}
    for r in (16, 8):
        here, out = wide[r], wide[r // 2]
        expected |= {f"b{r}/conv0/weight": (3, 3, here, here), f"b{r}/conv0/bias": (here,)}
        expected |= {f"b{r}/conv1/weight": (3, 3, here, out), f"b{r}/conv1/bias": (out,)}
        if architecture == "resnet":
            expected |= {f"b{r}/skip/weight": (1, 1, here, out)}
    for r in (16, 8, 4) if architecture == "skip" else (16,):
        expected |= {f"b{r}/fromrgb/weight": (1, 1, 3, wide[r]), f"b{r}/fromrgb/bias": (wide[r],)}
    expected |= {"b4/conv/weight": (3, 3, 7, 6), "b4/conv/bias": (6,), "b4/fc/weight": (96, 6),
                 "b4/fc/bias": (6,), "b4/out/weight": (6, 6), "b4/out/bias": (6,)}  # fmt: skip
    assert shapes == expected


def test_bfloat16_is_used_above_and_float32_below():
    sizes = {n: [compute_dtype(s, 64, n) == jnp.bfloat16 for s in (4, 8, 16, 32, 64)]
             for n in (0, 1, 2, 9)}  # fmt: skip
    assert sizes == {
        0: [False] * 5, 1: [False] * 4 + [True], 2: [False] * 3 + [True] * 2,
        9: [False] + [True] * 4,
    }  # fmt: skip
    net, variables = generator("skip", 0, None)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6)), jnp.float32)

    def image(n):
        run = quick_jit(lambda z: net.clone(half_resolutions=n).apply(variables, z, noise="const"))
        return np.asarray(run(z))

    whole, half = image(0), image(2)
    assert half.dtype == np.float32
    error = np.abs(half - whole).max() / np.abs(whole).max()
    assert 1e-4 < error < 0.05  # bfloat16 has 8 bits


def test_truncation():
    rng = np.random.default_rng(0)
    ws, centre = jnp.asarray(rng.normal(size=(3, 6, 4))), jnp.asarray(rng.normal(size=4))
    np.testing.assert_array_equal(truncate(ws, centre, 1.0, 6), ws)
    half = truncate(ws, centre, 0.5)
    np.testing.assert_allclose(half, (ws + centre) / 2, rtol=1e-6)
    cut = truncate(ws, centre, 0.5, 2)
    np.testing.assert_array_equal(cut[:, :2], half[:, :2])
    np.testing.assert_array_equal(cut[:, 2:], ws[:, 2:])
    own = jnp.asarray(rng.normal(size=(3, 4)))  # a centre for each sample: its group's
    np.testing.assert_allclose(
        truncate(ws, own, 0.0), jnp.broadcast_to(own[:, None], ws.shape), rtol=1e-6
    )


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="must be one of"):
        generator("rsnet", 0, None)
    with pytest.raises(ValueError, match="must be one of"):
        discriminator("rsnet", 0, None)
    net, variables = generator("skip", 3, None)
    with pytest.raises(ValueError, match="labels have none numbers, the network takes 3"):
        net.apply(variables, jnp.zeros((1, 6)))
