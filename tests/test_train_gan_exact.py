"""One step of each phase of the real StyleGAN2, against float64 derivations of its numbers.

Losses, penalties and the gradients that reach Adam are compared with the NumPy derivation of the
networks (tests/oracles_models.py) by complex steps: f(x + i h v) has the exact slope along v in its
imaginary part. Slopes of penalties, which are slopes already, are central differences of those.
`python tests/test_train_gan_exact.py` rewrites the stored numbers, from the derivation alone.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import oracles_models as oracle
import pytest
from jax.flatten_util import ravel_pytree
from quick import quick_jit

from fairjax.config import defaults
from fairjax.train.gan import Gan
from fairjax.train.gan_state import reals

STORED = Path(__file__).with_name("stylegan2_numbers.json")
SIZE, BATCH, LAYERS, W_DIM, Z_DIM = 8, 4, 4, 5, 6
H = 1e-30  # of a complex step: nothing is subtracted, so it can be as small as this
EPS = 1e-6
KEY = jax.random.key(5)
INDEX = np.array([2, 0, 5, 3], np.int32)


def values(shapes, seed):
    """Numbers for every parameter, by NumPy: the same on every machine and version of JAX."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def moved(tree, direction, step):
    return jax.tree.map(lambda a, v: a + step * v, tree, direction)


def inner(a, b):
    return sum(np.sum(np.asarray(x, np.float64) * y) for x, y in
               zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))  # fmt: skip


def directions(tree, n, seed=11):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda a: rng.normal(size=np.shape(a)), tree) for _ in range(n)]


# The phases' losses in float64; every function takes complex parameters.


def d_logits(d, images):
    return oracle.discriminator(d, images, 2, strided=False)


def hinge(x):
    return np.where(np.real(x) > 0, x, 0)


def d_loss(d, x, w, fakes):
    return (w * hinge(1 - d_logits(d, x))).mean() + hinge(1 + d_logits(d, fakes)).mean()


def image_slopes(d, x):
    """d sum(D(x)) / dx, [n, 8, 8, 3]: one copy of the batch per pixel, each moved in one pixel of
    one image; minibatch statistics are taken within a copy, as groups are neighbours."""
    pixels = x[0].size
    out = np.zeros(x.shape)
    for i in range(len(x)):
        copies = np.repeat(x[None].astype(complex), pixels, 0)
        copies.reshape(pixels, len(x), pixels)[np.arange(pixels), i, np.arange(pixels)] += 1j * H
        logits = d_logits(d, copies.reshape(-1, *x.shape[1:])).reshape(pixels, len(x))
        out[i] = (logits.sum(1).imag / H).reshape(x.shape[1:])
    return out


def r1(d, x, gamma, w):
    return gamma / 2 * (w * (image_slopes(d, x) ** 2).sum((1, 2, 3))).mean()


def styles(g, z, z2, cut):
    """ws with a change of latents at layer `cut`."""
    ws = np.repeat(oracle.mapping(g["mapping"], z)[:, None], LAYERS, 1)
    ws[:, cut:] = oracle.mapping(g["mapping"], z2)[:, None]
    return ws


def g_images(g, noise, ws):
    return oracle.synthesis(g["synthesis"], noise, ws)


def path_lengths(g, noise, ws, y):
    """|J^T y| per sample: each style number is moved in all samples at once."""
    squares = np.zeros(len(ws))
    for layer in range(LAYERS):
        for k in range(W_DIM):
            there = ws.astype(complex)
            there[:, layer, k] += 1j * H
            projected = (g_images(g, noise, there) * y).sum((1, 2, 3))
            squares += (projected.imag / H) ** 2
    return np.sqrt(squares / LAYERS + 1e-12)


def path_penalty(g, noise, latents, y, pl_mean, weight):
    lengths = path_lengths(g, noise, styles(g, *latents), y)
    mean = pl_mean + 0.01 * (lengths.mean() - pl_mean)
    return weight * ((lengths - mean) ** 2).mean(), mean


# What a phase draws, by its documented keys.


def drawn_latents(key, n):
    """(z, z of the second latents, first layer that has them) of a batch."""
    k_z, k_mix, k_cut, k_use = jax.random.split(key, 4)
    cut = int(jax.random.randint(k_cut, (), 1, LAYERS))
    mixes = bool(jax.random.bernoulli(k_use, 0.9))
    z = [float64(jax.random.normal(k, (n, Z_DIM))) for k in (k_z, k_mix)]
    return *z, cut if mixes else LAYERS


def drawn_noise(key, n):
    """Noise images of the three layers, as the derivation takes them."""
    shapes = {("b4", "conv1"): 4, ("b8", "conv0"): 8, ("b8", "conv1"): 8}
    found = {"b4": {}, "b8": {}}
    for layer, ((block, name), size) in enumerate(shapes.items()):
        noise = jax.random.normal(jax.random.fold_in(key, layer), (n, size, size, 1))
        found[block][name] = {"noise_const": float64(noise)}
    return found


def recorded(adam):
    """The same optimiser, whose state keeps the gradients of the last two updates."""

    def update(gradient, state, params=None):
        inside, (_, last) = state
        updates, inside = adam.update(gradient, inside, params)
        return updates, (inside, (last, gradient))

    zeros = lambda params: jax.tree.map(jnp.zeros_like, params)
    return optax.GradientTransformation(lambda p: (adam.init(p), (zeros(p), zeros(p))), update)


@pytest.fixture(scope="module")
def run():
    """The programs, the first state, and the batch of reals."""
    gan = defaults().gan
    gan.update(batch=BATCH, z_dim=Z_DIM, w_dim=W_DIM, mapping_layers=2, channel_base=32,
               channel_max=4, mbstd_group=2, r1_gamma=3.0, r1_weighted=True, reweight="loss",
               ema_kimg=0.008, ema_rampup=0.0)  # fmt: skip
    gan = Gan(gan, resolution=SIZE, channels=3)
    gan.g_adam, gan.d_adam = recorded(gan.g_adam), recorded(gan.d_adam)
    gan.g_step = quick_jit(gan._g_step, static_argnames="path_length")
    gan.d_step = quick_jit(gan._d_step, static_argnames="r1")
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    g, d = values(state.g, 5), values(state.d, 6)
    g["mapping"] = jax.tree.map(lambda a: a * np.float32(20), g["mapping"])  # by its rate of 0.01
    state = state.replace(
        g=jax.tree.map(jnp.asarray, g), d=jax.tree.map(jnp.asarray, d),
        ema=jax.tree.map(lambda a: jnp.asarray(a) * 0.5, g), pl_mean=jnp.float32(0.3),
        w_avg=jnp.ones(W_DIM),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype(np.uint8)
    weight = rng.exponential(size=6)
    examples = reals(weight, np.zeros(6), np.ones(1), np.zeros(1))
    batch = {"image": jnp.asarray(images), "index": jnp.asarray(INDEX)}
    return gan, state, batch, examples, float64(weight.astype(np.float32))[INDEX]


def check_slopes(gradient, loss, tree, rtol, complex_step):
    """The gradient along three random directions, beside the slopes of a loss in float64."""
    for v in directions(tree, 3):
        if complex_step:
            slope = loss(moved(tree, v, 1j * H)).imag / H
        else:
            slope = (loss(moved(tree, v, EPS)) - loss(moved(tree, v, -EPS))) / (2 * EPS)
        assert inner(gradient, v) == pytest.approx(slope, rel=rtol)


def check_adam(before, after, gradients, rate, every):
    """Adam by hand on the gradients that the step used."""
    flat = lambda tree: np.asarray(ravel_pytree(tree)[0], np.float64)
    adam = oracles.LazyAdam(flat(before), rate, 0.0, 0.99, every)
    for gradient in gradients:
        theta = adam.update(flat(gradient))
    np.testing.assert_allclose(flat(after), theta, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_generator_phases(run):
    gan, state, *_ = run
    g, d = float64(state.g), float64(state.d)
    k_main, k_path, k_directions = jax.random.split(jax.random.fold_in(KEY, 0), 3)
    k_style, k_noise = jax.random.split(k_main)
    latents, noise = drawn_latents(k_style, BATCH), drawn_noise(k_noise, BATCH)
    loss = lambda g: -d_logits(d, g_images(g, noise, styles(g, *latents))).mean()
    middle, metrics = gan.g_step(state, KEY, path_length=False)
    adam, (_, gradient) = middle.g_optimiser
    np.testing.assert_allclose(metrics["loss/g"], loss(g), rtol=1e-5)
    check_slopes(gradient, loss, g, 1e-5, complex_step=True)
    check_adam(state.g, middle.g, [gradient], gan.gan.learning_rate_g, 4)

    # The second update, at the parameters of the first: path length on half a batch.
    new, metrics = gan.g_step(state, KEY, path_length=True)
    _, (first, second) = new.g_optimiser
    g = float64(middle.g)
    k_ws, k_noise = jax.random.split(k_path)
    latents, noise = drawn_latents(k_ws, BATCH // 2), drawn_noise(k_noise, BATCH // 2)
    y = float64(jax.random.normal(k_directions, (BATCH // 2, SIZE, SIZE, 3))) / SIZE
    penalty = lambda g: path_penalty(g, noise, latents, y, 0.3, 2.0)
    value, mean = penalty(g)
    np.testing.assert_allclose(metrics["loss/path_length"], value, rtol=1e-5)
    np.testing.assert_allclose(new.pl_mean, mean, rtol=1e-5)
    check_slopes(second, lambda g: 4 * penalty(g)[0], g, 1e-5, complex_step=False)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), first, gradient)
    check_adam(state.g, new.g, [first, second], gan.gan.learning_rate_g, 4)

    # Averages: half-life 8 images = two batches; w of the first latents of the main phase.
    beta = 0.5 ** (BATCH / 8)
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a, beta * b + (1 - beta) * c, rtol=1e-5,
                                                   atol=1e-6),
        float64(new.ema), float64(state.ema), float64(new.g),
    )  # fmt: skip
    w = oracle.mapping(float64(state.g)["mapping"], drawn_latents(k_style, BATCH)[0])
    np.testing.assert_allclose(new.w_avg, 0.995 + 0.005 * w.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_discriminator_phases(run):
    gan, state, batch, examples, w = run
    g, d = float64(state.g), float64(state.d)
    key = jax.random.fold_in(KEY, 1)
    k_style, k_noise = jax.random.split(key)
    latents = drawn_latents(k_style, BATCH)
    fakes = g_images(g, drawn_noise(k_noise, BATCH), styles(g, *latents))
    x = np.asarray(batch["image"], np.float64) / 127.5 - 1
    loss = lambda d: d_loss(d, x, w, fakes)
    middle, metrics = gan.d_step(state, batch, examples, KEY, r1=False)
    _, (_, gradient) = middle.d_optimiser
    total = metrics["loss/d_real"] + metrics["loss/d_fake"]
    np.testing.assert_allclose(total, loss(d), rtol=1e-5)
    check_slopes(gradient, loss, d, 1e-5, complex_step=True)
    check_adam(state.d, middle.d, [gradient], gan.gan.learning_rate_d, 16)
    mean = oracle.mapping(g["mapping"], latents[0]).mean(0)
    np.testing.assert_allclose(middle.w_avg, 0.995 + 0.005 * mean, rtol=1e-5)

    new, metrics = gan.d_step(state, batch, examples, KEY, r1=True)
    _, (first, second) = new.d_optimiser
    d = float64(middle.d)
    np.testing.assert_allclose(metrics["loss/r1"], r1(d, x, 3.0, w), rtol=1e-5)
    check_slopes(second, lambda d: 16 * r1(d, x, 3.0, w), d, 1e-5, complex_step=False)
    check_adam(state.d, new.d, [first, second], gan.gan.learning_rate_d, 16)


# Stored numbers: a change of the package and of the derivation alike would show.


def shapes():
    gan = defaults().gan
    gan.update(batch=BATCH, z_dim=Z_DIM, w_dim=W_DIM, mapping_layers=2, channel_base=32,
               channel_max=4, mbstd_group=2)  # fmt: skip
    gan = Gan(gan, resolution=SIZE, channels=3)
    state = jax.eval_shape(gan.init, jax.random.key(0), jnp.ones(1))
    return gan, values(state.g, 1), values(state.d, 2)


def inputs():
    rng = np.random.default_rng(3)
    noise = {"b4": {"conv1": 4}, "b8": {"conv0": 8, "conv1": 8}}
    noise = jax.tree.map(lambda n: {"noise_const": rng.normal(size=(n, n))}, noise)
    ws, y = rng.normal(size=(2, LAYERS, W_DIM)), rng.normal(size=(2, SIZE, SIZE, 3))
    return noise, rng.normal(size=(2, Z_DIM)), ws, y, rng.uniform(-1, 1, (BATCH, SIZE, SIZE, 3))


def computed():
    """The numbers, from the derivation."""
    _, g, d = shapes()
    g, d = float64(g), float64(d)
    noise, z, ws, y, x = inputs()
    return {
        "w": oracle.mapping(g["mapping"], z)[0].tolist(),
        "pixels": g_images(g, noise, ws)[:, ::3, ::3].ravel().tolist(),
        "path_lengths": path_lengths(g, noise, ws, y).tolist(),
        "logits": d_logits(d, x).tolist(),
        "r1": r1(d, x, 2.0, np.ones(BATCH)),
    }


@pytest.mark.slow
def test_stored_numbers():
    stored = json.loads(STORED.read_text())
    for name, value in computed().items():
        np.testing.assert_allclose(value, stored[name], rtol=1e-9, err_msg=name)
    gan, g, d = shapes()
    noise, z, ws, y, x = (jax.tree.map(jnp.float32, a) for a in inputs())
    variables = {"params": g, "buffers": {"synthesis": noise}}
    image = lambda ws: gan.g.apply(variables, ws, noise="const", method="synthesis")
    make = quick_jit(image)
    slopes = quick_jit(jax.grad(lambda ws: jnp.sum(image(ws) * y)))(ws)
    on_image = quick_jit(jax.grad(lambda x: gan._logits(d, x).sum()))(x)
    found = {
        "w": gan.g.apply(variables, z, method="mapping")[0],
        "pixels": make(ws)[:, ::3, ::3].ravel(),
        "path_lengths": np.sqrt(np.square(slopes).sum(2).mean(1)),
        "logits": gan._logits(d, x),
        "r1": float(jnp.square(on_image).sum((1, 2, 3)).mean()),
    }
    assert found.keys() == stored.keys()
    for name, value in found.items():
        scale = np.abs(stored[name]).max()
        np.testing.assert_allclose(value, stored[name], rtol=1e-5, atol=1e-5 * scale, err_msg=name)


if __name__ == "__main__":
    STORED.write_text(json.dumps(computed(), indent=1) + "\n")
