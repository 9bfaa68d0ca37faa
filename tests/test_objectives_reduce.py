import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairjax.objectives.reduce import (
    group_dro,
    group_means,
    ramped,
    self_normalised,
    weighted_mean,
)

K = 4
step = jax.jit(group_dro, static_argnames=("eta", "absent"))


def batch(seed, n=12):
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=n).astype(np.float32)
    weights = rng.exponential(size=n).astype(np.float32)
    groups = rng.integers(-1, K - 1, n)  # some belong to no group, group K - 1 is absent
    weights[groups == 0] = 0  # group 0 is there, but nothing of it counts
    q = rng.dirichlet(np.ones(K)).astype(np.float32)
    return losses, weights, groups, q


def test_unit_weights_are_the_plain_mean():
    losses = jnp.asarray(batch(0)[0])
    assert weighted_mean(losses, jnp.ones_like(losses)) == losses.mean()


@given(st.floats(0.01, 100), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_scaling_the_weights_scales_the_loss(c, seed):
    losses, weights, _, _ = map(jnp.asarray, batch(seed))
    scaled = weighted_mean(losses, c * weights)
    np.testing.assert_allclose(scaled, c * weighted_mean(losses, weights), rtol=1e-5)


@given(st.permutations(range(12)), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_order_of_the_batch_is_irrelevant(order, seed):
    losses, weights, groups, _ = map(jnp.asarray, batch(seed))
    order = jnp.asarray(order)
    np.testing.assert_allclose(
        weighted_mean(losses[order], weights[order]), weighted_mean(losses, weights), rtol=1e-5
    )
    means, present = group_means(losses, weights, groups, K)
    again, there = group_means(losses[order], weights[order], groups[order], K)
    np.testing.assert_allclose(again, means, rtol=1e-5)
    np.testing.assert_array_equal(there, present)


def test_self_normalised_weights_have_mean_one_unless_all_are_zero():
    weights = jnp.asarray(batch(1)[1])
    found = self_normalised(weights)
    np.testing.assert_allclose(found, weights / weights.mean(), rtol=1e-6)
    np.testing.assert_allclose(self_normalised(7 * weights), found, rtol=1e-5)
    np.testing.assert_array_equal(self_normalised(jnp.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(self_normalised(jnp.ones(5)), np.ones(5))  # not a bit


def test_the_ramp_goes_from_equal_weights_to_the_full_ones_and_zero_stays_zero():
    weights = jnp.asarray([0.0, 0.25, 1.0, 9.0])
    np.testing.assert_allclose(ramped(weights, jnp.asarray(0.0)), [0, 1, 1, 1])
    np.testing.assert_allclose(ramped(weights, jnp.asarray(0.5)), [0, 0.5, 1, 3])
    np.testing.assert_allclose(ramped(weights, jnp.asarray(1.0)), weights)
    assert np.isfinite(jax.grad(lambda w: ramped(w, 0.5).sum())(weights)).all()


def test_a_zero_weight_stops_the_gradient():
    losses, weights, groups, _ = map(jnp.asarray, batch(3))
    weights = weights.at[2].set(0)
    assert jax.grad(weighted_mean)(losses, weights)[2] == 0
    of_groups = jax.grad(lambda l: group_means(l, weights, groups, K)[0].sum())(losses)
    assert of_groups[2] == 0
    assert jnp.abs(of_groups).sum() > 0


@pytest.mark.parametrize("seed", range(5))
def test_group_means_match_the_oracle(seed):
    losses, weights, groups, _ = batch(seed)
    expected = oracles.group_losses(losses.astype(float), weights.astype(float), groups, K)
    means, present = group_means(*map(jnp.asarray, (losses, weights, groups)), K)
    np.testing.assert_array_equal(present, [mean is not None for mean in expected])
    np.testing.assert_allclose(means, [mean or 0 for mean in expected], rtol=1e-5)
    assert not present[0]
    assert not present[K - 1]


@pytest.mark.parametrize("absent", ["skip", "zero"])
@pytest.mark.parametrize("seed", range(5))
def test_group_dro_matches_the_oracle(seed, absent):
    losses, weights, groups, q = batch(seed)
    adjustment = np.random.default_rng(seed).exponential(size=K).astype(np.float32)
    of_groups = oracles.group_losses(losses.astype(float), weights.astype(float), groups, K)
    oracle = oracles.group_dro_skip if absent == "skip" else oracles.group_dro_zero
    loss, new = oracle(of_groups, q.astype(float), 0.7, adjustment.astype(float))
    means, present = group_means(*map(jnp.asarray, (losses, weights, groups)), K)
    found, found_q = step(means, present, q, eta=0.7, adjustment=adjustment, absent=absent)
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    np.testing.assert_allclose(found_q, new, rtol=1e-5)


@given(
    st.lists(st.floats(0.01, 1), min_size=K, max_size=K),
    st.lists(st.booleans(), min_size=K, max_size=K),
    st.floats(-1000, 1000, width=32),
)
@settings(max_examples=50, deadline=None)
def test_equal_losses_leave_q_exactly(q, present, level):
    q = np.float32(q) / np.float32(np.sum(q))
    _, new = step(jnp.full(K, level), jnp.asarray(present), q, eta=5.0)
    np.testing.assert_array_equal(new, q)


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_a_constant_on_all_losses_leaves_the_update_alone(absent):
    q = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    means = jnp.asarray([0.5, 1.0, 2.0, 0.25])  # exact in float32, also with 8 added
    _, new = step(means, jnp.ones(K, bool), q, eta=0.3, absent=absent)
    _, shifted = step(means + 8, jnp.ones(K, bool), q, eta=0.3, absent=absent)
    np.testing.assert_array_equal(new, shifted)
    assert new[2] > q[2]


def test_an_absent_group_keeps_its_q():
    q = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    present = jnp.asarray([True, False, True, False])
    loss, new = step(jnp.asarray([1.0, 9.0, 2.0, 9.0]), present, q, eta=0.5)
    np.testing.assert_array_equal(new[1::2], q[1::2])
    np.testing.assert_allclose(new.sum(), 1, rtol=1e-6)
    assert new[0] < q[0]
    assert new[2] > q[2]
    np.testing.assert_allclose(loss, new[0] * 1 + new[2] * 2, rtol=1e-6)
    np.testing.assert_array_equal(step(jnp.ones(K), jnp.zeros(K, bool), q, eta=0.5)[1], q)


def test_q_stays_a_distribution_over_many_steps():
    rng = np.random.default_rng(0)
    q = jnp.full(K, 1 / K)
    for _ in range(2000):
        present = jnp.asarray(rng.random(K) < 0.7)
        losses = jnp.asarray(rng.normal([0, 0, 0.01, 0], 1), jnp.float32)
        _, q = step(losses, present, q, eta=0.01)
    np.testing.assert_allclose(q.sum(), 1, atol=1e-5)
    assert (q > 0).all()


def test_a_group_that_was_easy_for_long_can_become_the_hard_one():
    """In float32 q would be 0 by then and stay there; one that starts at 0 does stay."""
    everyone, q = jnp.ones(3, bool), jnp.asarray([0.5, 0.5, 0.0])
    easy = jax.jit(lambda q: step(jnp.asarray([0.2, 0.5, 0.9]), everyone, q, eta=1.0)[1])
    for _ in range(500):
        q = easy(q)
    np.testing.assert_allclose(q, [1e-9, 1, 0], rtol=1e-3)
    for _ in range(100):
        _, q = step(jnp.asarray([0.9, 0.5, 0.9]), everyone, q, eta=1.0)
    np.testing.assert_allclose(q, [1, 0, 0], atol=1e-5)


@pytest.mark.parametrize("q", [[0.5, 0.5, 0, 0], [1, 0, 0, 0]])
def test_extreme_losses_give_finite_numbers(q):
    losses = jnp.asarray([0.0, -1e4, 1e6, 3.0])
    _, new = step(losses, jnp.ones(K, bool), jnp.asarray(q, jnp.float32), eta=10.0)
    assert jnp.isfinite(new).all()
    np.testing.assert_allclose(new.sum(), 1, rtol=1e-6)


def test_no_gradient_flows_through_q():
    q = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    means = jnp.asarray([1.0, 2.0, 3.0, 4.0])
    present = jnp.ones(K, bool)
    slope = jax.grad(lambda m: group_dro(m, present, q, eta=0.5)[0])(means)
    np.testing.assert_allclose(slope, group_dro(means, present, q, eta=0.5)[1], rtol=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    flat, column = jnp.ones(3), jnp.ones((3, 1))
    groups = jnp.zeros(3, int)
    with pytest.raises(ValueError, match=r"losses \(3,\), weights \(3, 1\)"):
        weighted_mean(flat, column)
    with pytest.raises(ValueError, match="vectors of one length"):
        weighted_mean(column, column)
    for losses, weights, of in [(column, flat, groups), (flat, flat, groups[:, None])]:
        with pytest.raises(ValueError, match="vectors of one length"):
            group_means(losses, weights, of, 2)
    with pytest.raises(ValueError, match="vectors of one length"):
        group_dro(flat, flat > 0, column, eta=0.1)
