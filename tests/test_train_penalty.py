"""Penalties in the generator's step: exact on networks in closed form."""

from functools import cache
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import oracles_penalty as oracle
import pytest
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict
from toy_gan import LAYERS, PIXELS, SHAPE, W_DIM, toy_gan

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.experiments import dry_run, penalty_stage
from fairjax.train.checkpoints import Checkpoints
from fairjax.train.devices import replicated
from fairjax.train.gan_state import reals
from fairjax.train.penalty import Adversary, Multiplier, Running, Worst, frozen_judge

K, BATCH, H = 3, 8, 1e-30
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.3, (PIXELS, K)).astype(np.float32)
BIAS = np.array([0.5, -0.5, 0.0], np.float32)
TARGET = np.array([0.2, 0.5, 0.3])
LATELY = np.array([0.4, 0.5, 0.1])
KEY = jax.random.key(5)
KINDS = {
    "marginals": {"penalty_weight": 3.0},
    "unbiased": {"penalty": "marginals", "penalty_weight": 3.0, "penalty_unbiased": True},
    "running": {"penalty": "marginals", "penalty_weight": 3.0, "penalty_momentum": 0.9},
    "constraint": {"penalty_slack": 0.05, "penalty_rate": 2.0},
    "adversary": {"penalty_weight": 3.0, "adversary_width": 8},
    "quality": {"penalty_weight": 0.8, "penalty_rate": 0.5},
}


class LinearJudge(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.Dense(K, name="out")(x.reshape(len(x), -1))


def judge(kernel=KERNEL, target=TARGET):
    return frozen_judge(
        LinearJudge(), [{"params": {"out": {"kernel": kernel, "bias": BIAS}}}], target
    )


def kept(optimiser):
    """The optimiser, whose state holds the last gradient too."""

    def update(gradient, state, params=None):
        updates, inside = optimiser.update(gradient, state[0], params)
        return updates, (inside, gradient)

    zeros = lambda params: jax.tree.map(jnp.zeros_like, params)
    return optax.GradientTransformation(lambda p: (optimiser.init(p), zeros(p)), update)


@cache
def programs(kind):
    gan = toy_gan(**({"penalty": kind} | KINDS.get(kind, {})), batch=BATCH, r1_gamma=0.0,
                  path_length_weight=0.0)  # fmt: skip
    gan.g_adam = kept(gan.g_adam)
    return gan


def fresh(gan):
    state = jax.jit(lambda key: gan.init(key, np.ones(1), K))(jax.random.key(0))
    if isinstance(state.penalty, Multiplier):
        state = state.replace(penalty=Multiplier(jnp.float32(0.7)))
    if isinstance(state.penalty, Running):
        state = state.replace(penalty=Running(jnp.asarray(LATELY, jnp.float32)))
    if isinstance(state.penalty, Worst):
        state = state.replace(penalty=Worst(jnp.asarray(LATELY, jnp.float32)))
    g = state.g | {"strength": jnp.float32(0.1), "matrix": 3 * state.g["matrix"]}
    return jax.device_put(state.replace(g=g), replicated())


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def drawn():
    """(z, z2, cut, noise) of the generator's phase at step 0, by its documented keys."""
    k_style, k_noise = jax.random.split(jax.random.split(jax.random.fold_in(KEY, 0), 3)[0])
    k_z, k_mix, k_cut, k_use = jax.random.split(k_style, 4)
    z, z2 = (float64(jax.random.normal(k, (BATCH, W_DIM))) for k in (k_z, k_mix))
    mixes = bool(jax.random.bernoulli(k_use, 0.9))
    cut = int(jax.random.randint(k_cut, (), 1, LAYERS)) if mixes else LAYERS
    return z, z2, cut, float64(jax.random.normal(k_noise, (BATCH, PIXELS)))


def seen(g, latents):
    """(images, probabilities, style) in the derivation."""
    images, ws = oracle.linear_generator(g, *latents)
    return images, oracle.linear_judge(KERNEL.astype(float), BIAS.astype(float), images), ws.mean(1)


def loss(kind, g, d, latents, params=None, mu=0.7):
    """The generator's loss with its penalty, term by term as the papers have it."""
    images, p, w = seen(g, latents)
    losses = -(images @ d["a"] + d["s"] * (images**2).sum(1) / 2)
    total = losses.mean()
    if kind == "quality":
        q, _, means = worst(losses, p)
        return total + 0.8 * (sum(q[u] * means[u] for u in means) - total)
    if kind == "adversary":
        return total - 3 * oracle.cross_entropy(oracle.adversary(params, w), p)
    if kind == "running":  # sum of 3 d|m - target|^2/dm at the running m times the mean of p
        return total + 3 * sum(2 * (LATELY[u] - TARGET[u]) * p[:, u].mean() for u in range(K))
    distance = oracle.squared_distance(p, TARGET, kind == "unbiased")
    return total + (mu * (distance - 0.05) if kind == "constraint" else 3 * distance)


def worst(losses, p):
    """(q after the step, the largest change, mean loss of each class that is there)."""
    of = np.real(p).argmax(1)
    means = {u: losses[of == u].mean() for u in range(K) if (of == u).any()}
    there = list(means)
    raised = LATELY[there] * np.exp(0.5 * np.real([means[u] for u in there]))
    q = LATELY.copy()
    q[there] = raised / raised.sum() * LATELY[there].sum()
    return q, np.abs(q - LATELY).max(), means


@pytest.mark.parametrize("kind", KINDS)
def test_generator_gradient_is_that_of_the_written_loss(kind):
    gan = programs(kind)
    state = fresh(gan)
    g, d, before = float64(state.g), float64(state.d), state.penalty
    params = float64(before.params) if kind == "adversary" else None
    latents = drawn()
    images, p, w = seen(g, latents)
    assert (np.abs(images) > 1).any()  # what the judge does not see is in the test
    new, metrics = gan.g_step(state, KEY, path_length=False, judge=judge())
    gradient = new.g_optimiser[1]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        v = jax.tree.map(lambda a, rng=rng: rng.normal(size=a.shape), g)
        there = jax.tree.map(lambda a, b: a + 1j * H * b, g, v)
        slope = loss(kind, there, d, latents, params).imag / H
        found = sum(np.sum(float64(gradient)[name] * v[name]) for name in v)
        assert found == pytest.approx(slope, rel=2e-4)
    adversarial = -(images @ d["a"] + d["s"] * (images**2).sum(1) / 2).mean()
    np.testing.assert_allclose(metrics["loss/g"], adversarial, rtol=1e-5)  # without the penalty
    distance = oracle.squared_distance(p, TARGET, kind == "unbiased")
    np.testing.assert_allclose(metrics["penalty/distance"], distance, rtol=1e-4)
    shares = [metrics[f"penalty/share/{u}"] for u in range(K)]
    np.testing.assert_allclose(shares, p.mean(0), rtol=1e-5)


def test_running_shares_move_after_the_generator():
    gan = programs("running")
    first = jax.jit(lambda key: gan.init(key, np.ones(1), K))(jax.random.key(0)).penalty
    np.testing.assert_allclose(first.shares, 1 / 3, rtol=1e-6)
    new, metrics = gan.g_step(fresh(gan), KEY, path_length=False, judge=judge())
    now = np.array([metrics[f"penalty/share/{u}"] for u in range(K)])
    np.testing.assert_allclose(new.penalty.shares, 0.9 * LATELY + 0.1 * now, rtol=1e-5)
    logged = [metrics[f"penalty/running/{u}"] for u in range(K)]
    np.testing.assert_array_equal(logged, new.penalty.shares)


def test_classes_that_are_taken_for_fake_get_more_weight():
    gan = programs("quality")
    first = jax.jit(lambda key: gan.init(key, np.ones(1), K))(jax.random.key(0)).penalty
    np.testing.assert_allclose(first.q, 1 / 3, rtol=1e-6)
    state = fresh(gan)
    g, d = float64(state.g), float64(state.d)
    images, p, _ = seen(g, drawn())
    q, change, means = worst(-(images @ d["a"] + d["s"] * (images**2).sum(1) / 2), p)
    assert len(means) > 1
    assert change > 0.01
    new, metrics = gan.g_step(state, KEY, path_length=False, judge=judge())
    np.testing.assert_allclose(new.penalty.q, q, rtol=1e-4)
    for u in range(K):
        assert metrics[f"quality/q/{u}"] == new.penalty.q[u]
        mean, there = metrics[f"quality/loss/{u}"]
        np.testing.assert_allclose(mean, means.get(u, 0.0), rtol=1e-4)
        assert there == (u in means)


def test_multiplier_moves_after_the_generator():
    gan = programs("constraint")
    new, metrics = gan.g_step(fresh(gan), KEY, path_length=False, judge=judge())
    expected = oracle.multiplier(0.7, [float(metrics["penalty/distance"])], 0.05, 2.0)[0]
    np.testing.assert_allclose(new.penalty.mu, expected, rtol=1e-6)
    assert metrics["penalty/mu"] == new.penalty.mu


def test_generator_climbs_where_the_adversary_descends():
    """Of one cross-entropy: the adversary goes down its slope, the generator up."""
    gan, none = programs("adversary"), programs("none")
    state = fresh(gan)
    start, latents = state.penalty.params, drawn()
    g, params = float64(state.g), float64(start)
    _, p, w = seen(g, latents)
    flat, _ = ravel_pytree(start)
    gradient = np.zeros(len(flat))
    for i in range(len(flat)):
        there = np.asarray(flat, np.complex128)
        there[i] += 1j * H
        tree = unflattened(start, there)
        gradient[i] = oracle.cross_entropy(oracle.adversary(tree, w), p).imag / H
    adam = oracles.LazyAdam(flat, gan.gan.adversary_learning_rate, 0.0, 0.99)
    new, metrics = gan.g_step(state, KEY, path_length=False, judge=judge())
    clear = np.abs(gradient) > 1e-5
    assert clear.mean() > 0.5
    moved = np.asarray(ravel_pytree(new.penalty.params)[0], np.float64)
    np.testing.assert_allclose(moved[clear], adam.update(gradient)[clear], rtol=1e-4, atol=1e-6)
    expected = oracle.cross_entropy(oracle.adversary(params, w), p)
    np.testing.assert_allclose(metrics["adversary/loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["adversary/chance"], oracle.entropy(p.mean(0)), rtol=1e-5)
    plain, _ = none.g_step(fresh(none), KEY, path_length=False, judge=None)
    added = jax.tree.map(lambda a, b: float64(a - b), new.g_optimiser[1], plain.g_optimiser[1])
    v = {name: RNG.normal(size=a.shape) for name, a in g.items()}
    there = {name: g[name] + 1j * H * v[name] for name in g}
    _, p_there, w_there = seen(there, latents)
    slope = oracle.cross_entropy(oracle.adversary(params, w_there), p_there).imag / H
    assert sum(np.sum(added[n] * v[n]) for n in v) == pytest.approx(-3 * slope, rel=1e-3)
    # Part of that slope is of the labels, which the generator changes too.
    held = oracle.cross_entropy(oracle.adversary(params, w_there), p).imag / H
    assert held != pytest.approx(slope, rel=0.05)


def unflattened(like, flat):
    """The vector as a tree of the shapes of `like`; JAX's own would cut it down to float32."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(flat, ends)
    return jax.tree.unflatten(
        structure, [x.reshape(leaf.shape) for x, leaf in zip(parts, leaves, strict=True)]
    )


def of_reals():
    return reals(np.ones(4), np.zeros(4), np.ones(1), np.zeros(1))


def batch():
    images = np.random.default_rng(1).integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
    return {"image": jnp.asarray(images), "index": jnp.zeros(BATCH, jnp.int32)}


def task_of(gan, asked):
    return gan.task("toy", of_reals(), lambda ema, i: {}, KEY, asked)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constraint", "adversary"])
def test_a_run_restarts_exactly_and_compiles_once(kind, tmp_path):
    gan = programs(kind)
    task = task_of(gan, judge())
    state = jax.jit(task.init, out_shardings=replicated())(jax.random.key(0))
    compiled = gan.g_step._cache_size()
    for step in range(6):
        if step == 3:
            with Checkpoints(tmp_path) as checkpoints:
                checkpoints.save(step, state)
        state, _ = task.step(state, batch(), KEY, step)
    assert gan.g_step._cache_size() <= compiled + 1
    with Checkpoints(tmp_path) as checkpoints:
        again = checkpoints.restore(jax.eval_shape(task.init, jax.random.key(0)))
    assert isinstance(again.penalty, {"constraint": Multiplier, "adversary": Adversary}[kind])
    for step in range(3, 6):
        again, _ = task.step(again, batch(), KEY, step)
    jax.tree.map(np.testing.assert_array_equal, state, again)
    compiled = gan.g_step._cache_size()
    other = task_of(gan, judge(2 * KERNEL, np.full(K, 1 / K)))  # another judge is only data
    other.step(state, batch(), KEY, 6)
    assert gan.g_step._cache_size() == compiled


def test_networks_start_as_without_a_penalty():
    states = [jax.device_get(fresh(programs(kind))) for kind in ("none", *KINDS)]
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, (state.g, state.d), (states[0].g, states[0].d))
    assert [type(s.penalty) for s in states] == [
        type(None), type(None), type(None), Running, Multiplier, Adversary, Worst]  # fmt: skip


def test_a_penalty_and_its_judge_come_together():
    with pytest.raises(ValueError, match="gan.penalty=marginals without a judge"):
        task_of(programs("marginals"), None)
    with pytest.raises(ValueError, match="gan.penalty=none with a judge"):
        task_of(programs("none"), judge())


@pytest.mark.parametrize("kind", ["marginals", "running", "constraint", "adversary"])
def test_the_step_of_stylegan_keeps_the_shapes_of_its_state(kind):
    config = defaults()
    config.gan.update({"penalty": kind} | KINDS[kind])
    config.gan.update(batch=4, channel_base=64, channel_max=8, z_dim=8, w_dim=8)
    config.judge.update(width=4, stem="stride2")
    config.data.resolution = 16
    gan, (state, _, _, key) = dry_run.abstract_gan(config)
    asked = jax.eval_shape(lambda key: dry_run.assumed_judge(config, key), key)
    out, metrics = jax.eval_shape(
        lambda s, k, j: gan._g_step(s, k, path_length=True, judge=j), state, key, asked
    )
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert shapes(out) == shapes(state)
    assert {"penalty/share/0", "penalty/share/1"} <= set(metrics)
    assert (state.penalty is None) == (kind == "marginals")


def test_dry_run_names_the_penalty_and_its_stage():
    config = defaults()
    config.data.resolution = 8
    config.gan.update(batch=4, kimg=1.0, channel_base=64, channel_max=8, z_dim=8, w_dim=8,
                      mapping_layers=1, r1_gamma=0.0, path_length_weight=0.0)  # fmt: skip
    config.judge.update(width=4, stem="stride2")
    config.ratio.width = 4
    config.arms = ConfigDict({"plain": {}, "fair": {"penalty": "adversary"}})
    text = dry_run.report_plan(config)
    assert "  penalty_judge/long_hair\n" in text
    assert text.count("labels are used in training") == 1
    assert "adversary by a judge of long_hair" in text
    config.arms.fair = {"penalty": "constraint", "penalty_groups": "ratio", "penalty_count": 3}
    text = dry_run.report_plan(config)
    assert "  penalty_judge/ratio_3\n" in text
    assert "constraint by a judge of 3 groups of the ratios" in text
    assert "labels are used" not in text


def test_groups_of_the_ratios_are_those_that_the_bias_has():
    """Three groups of known log ratio, estimated with noise; by rising ratio, always the same."""
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], (700, 100, 200)))
    log_ratio = np.array([-0.6, 0.7, 1.6])[truth] + rng.normal(0, 0.15, 1000)
    reference = rng.random(1000) < 0.5
    found = penalty_stage.ratio_groups(log_ratio, 3, reference)
    assert (found == truth).mean() > 0.98
    np.testing.assert_array_equal(penalty_stage.ratio_groups(log_ratio, 3, reference), found)
    two = penalty_stage.ratio_groups(np.log([2.0, 0.5, 2.0, 0.5]), 2, np.ones(4, bool))
    np.testing.assert_array_equal(two, [1, 0, 1, 0])
    with pytest.raises(InputError, match="penalty_count=3.*have 2 different ratios.*to 2 or"):
        penalty_stage.ratio_groups(np.log([2.0, 0.5, 2.0]), 3, np.ones(3, bool))


@pytest.mark.parametrize(("odd", "at"), [(0, 0.0), (40, -10.0), (80, -7.0), (240, -5.0)])
def test_a_few_images_of_one_set_are_no_group_of_their_own(odd, at):
    """8,000 biased images, 20 % rare, and 800 of which a half is rare; `odd` biased ones that every
    network recognises."""
    rng = np.random.default_rng(0)
    reference = np.arange(8800) >= 8000
    rare = np.where(reference, np.arange(8800) < 8400, np.arange(8800) < 1600)
    log_ratio = np.where(rare, np.log(2.5), np.log(0.625)) + rng.normal(0, 0.3, 8800)
    log_ratio[rng.permutation(8000)[:odd]] = at
    found = penalty_stage.ratio_groups(log_ratio, 2, reference)
    shown = np.ones(8800, bool) if not odd else log_ratio > at
    assert (found == rare)[shown].mean() > 0.97


def test_a_group_that_the_reference_set_lacks_stays_one_and_is_told(caplog):
    log_ratio = np.repeat([-4.0, 0.5], (300, 700)) + np.random.default_rng(0).normal(0, 0.1, 1000)
    with caplog.at_level("WARNING", "fairjax"):
        found = penalty_stage.ratio_groups(log_ratio, 2, np.arange(1000) >= 900)
    np.testing.assert_array_equal(found, np.repeat([0, 1], (300, 700)))
    assert "0.0, 100.0 % are in each" in caplog.text


def test_a_group_of_the_ratios_with_too_few_images_is_refused(monkeypatch, tmp_path):
    """An image of an extreme ratio is a group of its own, which no network learns to tell."""
    log_ratio = np.append(np.zeros(500), 9.0)
    monkeypatch.setattr(penalty_stage, "load_weights", lambda workdir, dataset: (None, log_ratio))
    data = SimpleNamespace(domain=np.arange(501) % 2, training=np.arange(501))
    with pytest.raises(InputError, match=r"1 training images of ratio about 8\.1e\+03, 10 needed"):
        penalty_stage.train(tmp_path, defaults(), data, penalty_stage.Asked((), 2), tmp_path)


def test_each_step_asks_the_next_network_of_a_judge():
    kernels = [KERNEL, 2 * KERNEL, -KERNEL]
    several = frozen_judge(
        LinearJudge(), [{"params": {"out": {"kernel": k, "bias": BIAS}}} for k in kernels], TARGET
    )
    images = jax.random.uniform(jax.random.key(2), (5, *SHAPE), minval=-1)
    for step in range(5):
        expected = oracle.linear_judge(
            kernels[step % 3].astype(float), BIAS.astype(float), float64(images).reshape(5, -1)
        )
        np.testing.assert_allclose(several(images, jnp.asarray(step)), expected, rtol=1e-5)
