"""The controller of R1: gamma follows the share of reals inside the hinge's margin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_gan import SHAPE, toy_gan

from fairjax.config import defaults
from fairjax.train import margin
from fairjax.train.checkpoints import Checkpoints
from fairjax.train.devices import replicated
from fairjax.train.gan_state import reals

BATCH = 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, *SHAPE)).astype(np.uint8)
KEY = jax.random.key(5)
KEYS = {"batch": BATCH, "r1_every": 1, "path_length_weight": 0.0, "learning_rate_d": 0.01}
OF_REALS = reals(np.ones(64), np.zeros(64, int), np.ones(1), np.zeros(1))


def fresh(programs):
    return jax.device_put(programs.init(jax.random.key(0), np.ones(1)), replicated())


def batch_of(step):
    index = np.random.default_rng(step).integers(64, size=BATCH).astype(np.int32)
    return {"image": jnp.asarray(IMAGES[index]), "index": jnp.asarray(index)}


def trained(programs, steps):
    """(state, [share inside the margin, gamma or None] of each step) of the discriminator."""
    state, rows = fresh(programs), []
    for step in range(steps):
        state, found = programs.d_step(state, batch_of(step), OF_REALS, KEY, r1=True)
        rows.append((float(found["real_inside_margin"]), found.get("r1/gamma")))
    return state, rows


def test_gamma_changes_tenfold_in_r1_kimg_towards_the_target():
    gan = defaults().gan
    gan.update(batch=50, r1_gamma=3.0, r1_target=0.5, r1_kimg=2.0)
    shares = np.repeat([0.25, 0.75, 0.5, 0.25], [40, 80, 8, 4])  # 40 steps x 50 = 2 kimg
    follower, found = margin.start(gan), []
    for step, share in enumerate(shares):
        inside = jnp.asarray(np.arange(4) < 4 * share, float)
        follower, metrics = margin.observe(follower, gan, inside, jnp.asarray(step))
        found.append(float(metrics["r1/gamma"]))
    assert found[:3] == [3.0, 3.0, 3.0]  # it moves after every fourth step
    assert found[3] == pytest.approx(3 * 10**0.1)
    assert found[39] == pytest.approx(30, rel=1e-5)
    assert found[119] == pytest.approx(0.3, rel=1e-5)
    assert found[127] == found[119]  # at the target it stays
    assert found[131] > found[127]


def test_gamma_stays_within_four_powers_of_ten():
    gan = defaults().gan
    gan.update(batch=1000, r1_gamma=2.0, r1_target=0.5, r1_kimg=1.0)
    for inside, end in ((0.0, 2e4), (1.0, 2e-4)):
        follower = margin.start(gan)
        for step in range(24):
            follower, _ = margin.observe(follower, gan, jnp.full(4, inside), jnp.asarray(step))
        assert float(follower.gamma) == pytest.approx(end, rel=1e-5)


def test_r1_of_a_step_has_the_gamma_of_the_state():
    fixed, following = toy_gan(**KEYS, r1_gamma=2.0), toy_gan(**KEYS, r1_gamma=2.0, r1_target=0.5)
    _, plain = fixed.d_step(fresh(fixed), batch_of(0), OF_REALS, KEY, r1=True)
    assert fresh(fixed).margin is None
    assert "r1/gamma" not in plain
    state = fresh(following)
    _, same = following.d_step(fresh(following), batch_of(0), OF_REALS, KEY, r1=True)
    state = state.replace(margin=state.margin.replace(gamma=jnp.asarray(14.0)))
    _, seven = following.d_step(state, batch_of(0), OF_REALS, KEY, r1=True)
    assert float(same["loss/r1"]) == pytest.approx(float(plain["loss/r1"]), rel=1e-6)
    assert float(seven["loss/r1"]) == pytest.approx(7 * float(plain["loss/r1"]), rel=1e-5)


def test_reals_stay_inside_the_margin_where_a_fixed_gamma_lets_them_leave():
    """Reals and fakes that are told apart at once: the case in which weights wear off."""
    weak = {"r1_gamma": 1e-3, **KEYS}
    _, fixed = trained(toy_gan(**weak), 400)
    _, following = trained(toy_gan(**weak, r1_target=0.6, r1_kimg=0.6), 400)
    last = [np.mean([share for share, _ in rows[200:]]) for rows in (fixed, following)]
    assert last[0] < 0.1
    assert last[1] == pytest.approx(0.6, abs=0.1)
    assert float(following[-1][1]) > 1e-2


def test_a_run_restarts_exactly_in_the_middle_of_an_interval(tmp_path):
    programs = toy_gan(**KEYS, r1_target=0.5, r1_kimg=0.1)
    state = fresh(programs)
    for step in range(10):
        if step == 6:
            with Checkpoints(tmp_path) as checkpoints:
                checkpoints.save(step, state)
        state, _ = programs.d_step(state, batch_of(step), OF_REALS, KEY, r1=True)
    shape = jax.eval_shape(lambda: programs.init(jax.random.key(0), np.ones(1)))
    with Checkpoints(tmp_path) as checkpoints:
        again = checkpoints.restore(shape)
    assert again.margin.count == 2 * BATCH
    for step in range(6, 10):
        again, _ = programs.d_step(again, batch_of(step), OF_REALS, KEY, r1=True)
    jax.tree.map(np.testing.assert_array_equal, state, again)
