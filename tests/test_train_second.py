"""The second discriminator, arms that start from arms, and running losses of group DRO."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pipeline
import pytest
from jax.flatten_util import ravel_pytree
from quick import quick_jit
from safetensors.numpy import load_file
from toy_gan import SHAPE, toy_gan

from fairjax.config import arm_order, defaults
from fairjax.errors import InputError
from fairjax.experiments.fair_generation import plan
from fairjax.objectives import draw
from fairjax.objectives.reduce import group_dro, running_losses
from fairjax.train import loop, second
from fairjax.train.gan_state import reals
from fairjax.validation import validate

BATCH, MORE, SHARE, LECAM = 8, 4, 0.9, 0.3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH + MORE, *SHAPE)).astype(np.uint8)
KEY = jax.random.key(5)
EXAMPLES = reals(np.ones(40), np.zeros(40, int), np.ones(1), np.zeros(1))


def batch(images=IMAGES):
    return {"image": jnp.asarray(images), "index": jnp.arange(len(images), dtype=jnp.int32)}


def flat64(params):
    return np.asarray(ravel_pytree(params)[0], np.float64)


def flat(images):
    return images.reshape(len(images), -1) / 127.5 - 1


def critic(params):
    return oracles.QuadraticDiscriminator(params["a"], params["s"])


@pytest.fixture(scope="module")
def rival():
    return toy_gan(second_d="reference", second_share=SHARE, second_batch=MORE, lecam=LECAM,
                   r1_gamma=2.0, r1_every=4)  # fmt: skip


def first(gan, step=0, means=(0.0, 0.0)):
    """A first state in arrays of its own, at a step, with these running means."""
    state = quick_jit(gan.init)(jax.random.key(0), np.ones(1))
    return state.replace(
        step=jnp.asarray(step, jnp.int32), second=state.second.replace(means=jnp.asarray(means))
    )


def slope_of_lecam(d, x, fakes, means):
    """d LeCam / d (a, s) of D(x) = a.x + s |x|^2 / 2, by hand in float64."""
    features = lambda x: np.concatenate([x, (x**2).sum(1, keepdims=True) / 2], 1)
    of_real, of_fake = means
    above = np.maximum(d(x) - of_fake, 0)
    below = np.maximum(of_real - d(fakes), 0)
    slope = 2 * (above[:, None] * features(x)).mean(0)
    return slope - 2 * (below[:, None] * features(fakes)).mean(0), (above**2).mean() + (
        below**2
    ).mean()


@pytest.mark.parametrize("r1", [False, True])
@pytest.mark.parametrize("step", [0, second.LECAM_FROM])
def test_the_second_step_matches_the_oracle(rival, step, r1):
    state = first(rival, step, (0.4, -0.2))
    x, d = flat(IMAGES)[BATCH:], critic(state.second.d)
    images, _ = quick_jit(rival._fakes, static_argnums=2)(
        state.g, jax.random.fold_in(KEY, 2 * step + 1), BATCH
    )
    fakes = np.asarray(images, np.float64).reshape(BATCH, -1)[:MORE]
    on_real, on_fake = oracles.weighted_hinge(d(x), d(fakes), np.ones(MORE))
    held_slope, held = slope_of_lecam(d, x, fakes, (0.4, -0.2))
    slope = SHARE * d.hinge_gradient(x, fakes, np.ones(MORE))
    slope = slope + (LECAM * held_slope if step else 0)
    adam = oracles.LazyAdam(flat64(state.second.d), rival.gan.learning_rate_d, 0.0, 0.99, every=4)
    theta = adam.update(slope)
    if r1:
        middle = oracles.QuadraticDiscriminator(theta[:-1], theta[-1])
        theta = adam.update(SHARE * 4 * middle.r1(x, 2.0, np.ones(MORE))[1])
    means = 0.9 * np.array([0.4, -0.2]) + 0.1 * np.array([d(x).mean(), d(fakes).mean()])
    new, metrics = rival.d_step(state, batch(), EXAMPLES, KEY, r1=r1)
    np.testing.assert_allclose(flat64(new.second.d), theta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.second.means, means, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss/second"], on_real + on_fake, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/lecam"], held, rtol=1e-4)


def test_each_discriminator_sees_its_own_reals(rival):
    def after(changed):
        images = IMAGES.copy()
        images[changed] = 255 - images[changed]
        new, _ = rival.d_step(first(rival), batch(images), EXAMPLES, KEY, r1=True)
        return flat64(new.d), flat64(new.second.d)

    plain, of_first, of_second = after([]), after([BATCH - 1]), after([BATCH])
    assert not np.array_equal(plain[0], of_first[0])
    np.testing.assert_array_equal(plain[1], of_first[1])
    np.testing.assert_array_equal(plain[0], of_second[0])
    assert not np.array_equal(plain[1], of_second[1])


@pytest.mark.parametrize("kind", ["frozen", "reference"])
def test_the_generator_hears_both_by_their_shares(kind):
    gan = toy_gan(second_d=kind, second_share=0.25, second_batch=MORE)
    state = first(gan)
    other = jax.tree.map(lambda a: a + 0.05, state.second.d)
    state = state.replace(second=state.second.replace(d=other))
    kept, d = jax.device_get((state.second, state.d))
    k_main = jax.random.split(jax.random.fold_in(KEY, 0), 3)[0]
    images, _ = quick_jit(gan._fakes, static_argnums=2)(state.g, k_main, BATCH)
    x = np.asarray(images, np.float64).reshape(BATCH, -1)
    expected = -0.75 * critic(d)(x).mean() - 0.25 * critic(kept.d)(x).mean()
    new, metrics = gan.g_step(state, KEY, path_length=False)
    np.testing.assert_allclose(metrics["loss/g"], expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(new.second), kept)


def test_a_frozen_one_rests_while_the_first_learns():
    gan = toy_gan(second_d="frozen")
    assert gan.reals_per_step == BATCH
    state = first(gan)
    kept, before = jax.device_get((state.second.d, state.d))
    jax.tree.map(np.testing.assert_array_equal, kept, before)  # that of the start
    new, metrics = gan.d_step(state, batch(IMAGES[:BATCH]), EXAMPLES, KEY, r1=True)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(new.second.d), kept)
    assert not np.array_equal(flat64(new.d), flat64(before))
    assert "loss/second" not in metrics


def test_batches_hold_the_reals_of_the_first_then_of_the_second():
    images = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    biased, reference = np.arange(12), np.arange(12, 20)
    feed = loop.drawn(images, np.arange(20), draw.uniform(biased, 8), seed=1, batch=12,
                      then=(2, draw.uniform(reference, 4)))  # fmt: skip
    found = [b["index"] for b in feed(0, 6)]
    assert all(len(b) == 12 for b in found)
    assert {*np.concatenate([b[:8] for b in found])} <= {*biased}
    assert {*np.concatenate([b[8:] for b in found])} <= {*reference}
    plain = loop.drawn(images, np.arange(20), draw.uniform(biased, 8), seed=1, batch=8)
    for a, b in zip(found, plain(0, 6), strict=True):
        np.testing.assert_array_equal(a[:8], b["index"])


# Group DRO on running losses.


def test_running_losses():
    means, present = jnp.array([1.0, 0.0, 4.0]), jnp.array([True, False, True])
    found = running_losses(means, present, jnp.array([3.0, 2.0, -1.0]), 0.75)
    np.testing.assert_allclose(found, [2.5, 2.0, 4.0])  # moved, absent, first seen


def test_noise_of_the_losses_moves_q_less_with_momentum():
    """Equal losses in the mean: what q does is noise, and a difference still gets through."""
    rng = np.random.default_rng(0)
    present, start = jnp.ones(2, bool), jnp.array([0.5, 0.5])

    def run(momentum, gap):
        q, running, path = start, -jnp.ones(2), []
        for noise in rng.normal(size=(400, 2)):
            means = jnp.asarray(1 + np.array([gap, 0]) + noise * 0.5)
            running = running_losses(means, present, running, momentum)
            _, q = group_dro(means, present, q, eta=0.05, scores=running)
            path.append(float(q[0]))
        return np.array(path)

    steps = {m: np.abs(np.diff(run(m, 0.0))).mean() for m in (0.0, 0.9)}
    assert steps[0.9] < 0.5 * steps[0.0]
    assert run(0.9, 0.3)[-1] > 0.9


def test_momentum_in_the_step():
    gan = toy_gan(dro=True, dro_eta=0.5, dro_momentum=0.5, r1_gamma=0.0)
    group = np.arange(40) % 2
    examples = reals(np.ones(40), group, np.full(2, 0.5), np.zeros(2))
    state = quick_jit(gan.init)(jax.random.key(0), np.full(2, 0.5))
    np.testing.assert_array_equal(state.group_losses, [-1, -1])
    losses = np.maximum(0, 1 - critic(state.d)(flat(IMAGES[:BATCH])))
    means = oracles.group_losses(losses, np.ones(BATCH), group[:BATCH], 2)
    state = state.replace(group_losses=jnp.array([3.0, -1.0]))
    followed = np.array([(3.0 + means[0]) / 2, means[1]])
    _, q = oracles.group_dro_skip(followed, np.full(2, 0.5), 0.5, np.zeros(2))
    new, metrics = gan.d_step(state, batch(IMAGES[:BATCH]), examples, KEY, r1=False)
    np.testing.assert_allclose(new.group_losses, followed, rtol=1e-5)
    np.testing.assert_allclose(new.q, q, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/d_real"], np.dot(q, means), rtol=1e-5)


# Arms that start from arms.


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"a": {"init_from": "arm:a"}}, "must name another arm (there is none)"),
        ({"a": {}, "b": {"init_from": "arm:c"}}, "must name another arm (a)"),
        ({"a": {"init_from": "arm:b"}, "b": {"init_from": "arm:a"}, "c": {}}, "arms a, b wait"),
        ({"a": {"z_dim": 8}, "b": {"init_from": "arm:a"}}, "z_dim"),
        ({"a": {"mbstd_group": 0}, "b": {"init_from": "arm:a"}}, "mbstd_group"),
        ({"a": {"second_d": "frozen"}}, "second_d"),
        ({"a": {"second_d": "half"}}, "second_d"),
        ({"a": {"second_d": "reference", "second_batch": 6}}, "second_batch"),
        ({"a": {"second_from": "x"}}, "second_from"),
        (
            {"a": {}, "b": {"init_from": "arm:a", "second_d": "frozen", "second_from": "arm:b"}},
            "must name another arm (a)",
        ),
        ({"a": {"second_share": 1.0}}, "second_share"),
        ({"a": {"lecam": -1.0}}, "lecam"),
        ({"a": {"dro_momentum": 1.0}}, "dro_momentum"),
    ],
)
def test_chains_that_cannot_be_are_refused(arms, words):
    config = defaults()
    config.arms = arms
    with pytest.raises(InputError) as error:
        validate(config)
    assert "1 problem(s)" in str(error.value)
    assert words in str(error.value)


def test_arms_run_after_those_they_start_from():
    config = defaults()
    config.arms = {
        "a": {"init_from": "arm:c", "second_d": "frozen", "second_from": "arm:d"},
        "b": {}, "c": {"init_from": "arm:d"}, "d": {},
    }  # fmt: skip
    validate(config)
    assert arm_order(config) == ["b", "d", "c", "a"]
    stages = [name for name in plan(config) if name.endswith("/gan")]
    assert stages == [f"arms/{arm}/gan" for arm in "bdca"]


@pytest.mark.slow
def test_rivals_through_all_stages(tmp_path):
    """fairTL starts from an arm of the same run, which is its second discriminator, too; the method
    of two discriminators starts from nothing."""
    workdir = tmp_path / "run"
    base = {"reweight": "none", "train_on": "biased"}
    arms = {
        "the_first": base,
        "fairtl": {"reweight": "none", "train_on": "reference", "init_from": "arm:the_first",
                   "second_d": "frozen", "second_from": "arm:the_first", "freeze_d": 1},
        "lecam": base | {"second_d": "reference", "second_batch": 4},
    }  # fmt: skip
    config = tmp_path / "rivals.py"
    config.write_text(f"""import sys
sys.path.insert(0, {str(pipeline.ROOT / "tests")!r})
import pipeline

def get_config():
    config = pipeline.get_config()
    config.arms = type(config)({arms})
    return config
""")
    more = (
        f"--config={config}",
        "--config.gan.kimg=0.4",
        "--config.eval.every_kimg=0.4",
        "--config.gan.r1_gamma=0.0",
        "--config.weights.true_ratio=True",
    )
    planned = pipeline.run(workdir, *more, "--dry_run")
    assert "starts from   arm:the_first" in planned.stdout, planned.stderr
    said = pipeline.ok(pipeline.run(workdir, *more))
    assert f"start from {workdir}/arms/the_first/gan" in said
    done = json.loads((workdir / "arms/fairtl/gan/DONE").read_text())
    assert done["output"]["start"]["discriminator"]["fresh"] == []
    of_first, of_fairtl = (
        load_file(workdir / f"arms/{arm}/gan/discriminator.safetensors")
        for arm in ("the_first", "fairtl")
    )
    rested = {name for name, array in of_first.items() if np.array_equal(array, of_fairtl[name])}
    assert {name for name in of_first if "/b8/" in f"/{name}"} <= rested  # freeze_d=1
    assert not {name for name in of_first if name.endswith("b4/conv/weight")} & rested
    start = json.loads((workdir / "arms/fairtl/gan/start.json").read_text())
    assert start["second"]["file"] == str(workdir / "arms/the_first/gan")
    logged = (workdir / "arms/lecam/gan/metrics.jsonl").read_text()
    assert "loss/lecam" in logged
    page = (workdir / "report/index.html").read_text()
    assert "started from arm the_first" in page
    assert "a second discriminator" in page
