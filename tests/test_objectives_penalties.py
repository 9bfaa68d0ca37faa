import jax
import jax.numpy as jnp
import numpy as np
import oracles_penalty as oracle
import pytest

from fairjax.objectives import penalties

RNG = np.random.default_rng(0)
TARGET = np.array([0.2, 0.5, 0.3])


def probabilities(n=6, k=3):
    return RNG.dirichlet(np.ones(k), n)


@pytest.mark.parametrize("unbiased", [False, True])
def test_distance_and_its_slope(unbiased):
    p = probabilities()
    found, slope = jax.value_and_grad(penalties.squared_distance)(
        jnp.float32(p), jnp.float32(TARGET), unbiased
    )
    assert float(found) == pytest.approx(oracle.squared_distance(p, TARGET, unbiased), rel=1e-5)
    for _ in range(3):
        v = RNG.normal(size=p.shape)
        moved = oracle.squared_distance(p + 1e-30j * v, TARGET, unbiased)
        assert np.sum(slope * v) == pytest.approx(moved.imag / 1e-30, rel=1e-4)


def test_a_step_down_the_slope_moves_the_shares_to_the_target():
    p = np.tile([0.9, 0.1], (8, 1))
    target = np.array([0.5, 0.5])
    slope = jax.grad(penalties.squared_distance)(jnp.float32(p), jnp.float32(target))
    assert (slope[:, 0] > 0).all()
    assert (slope[:, 1] < 0).all()
    at_target = np.tile(target, (8, 1))
    assert penalties.squared_distance(jnp.float32(at_target), jnp.float32(target)) == 0


def test_the_mean_over_batches_is_that_of_all_fakes_only_without_bias():
    """Of hard judgements at the target the plain distance is (1 - sum t^2) / n on average."""
    n = 8
    drawn = jnp.float32(np.eye(3)[RNG.choice(3, (20000, n), p=TARGET)])
    target = jnp.float32(TARGET)
    plain, unbiased = (
        np.asarray(jax.vmap(lambda p, u=u: penalties.squared_distance(p, target, u))(drawn))
        for u in (False, True)
    )
    chance = (1 - (TARGET**2).sum()) / n
    assert plain.mean() == pytest.approx(chance, rel=0.03)
    assert abs(unbiased.mean()) < 0.03 * chance
    assert chance <= (1 - 1 / 3) / n


def test_multiplier_is_raised_while_the_constraint_is_violated():
    distances = RNG.uniform(0, 0.1, 200)
    mu, found = jnp.zeros(()), []
    for distance in distances:
        mu = penalties.raised(mu, jnp.float32(distance), 0.06, 0.5)
        found.append(float(mu))
    np.testing.assert_allclose(found, oracle.multiplier(0.0, distances, 0.06, 0.5), atol=1e-6)
    assert min(found) == 0
    assert max(found) > 0


def test_no_gradient_flows_through_the_multiplier():
    term = lambda d: penalties.lagrangian(penalties.raised(jnp.float32(2.0), d, 0.1, 5.0), d, 0.1)
    value, slope = jax.value_and_grad(term)(jnp.float32(0.3))
    assert (float(value), float(slope)) == (pytest.approx(3 * 0.2), pytest.approx(3))


def test_cross_entropy_and_chance():
    logits, labels = RNG.normal(size=(6, 3)), probabilities()
    found = penalties.soft_cross_entropy(jnp.float32(logits), jnp.float32(labels))
    assert float(found) == pytest.approx(oracle.cross_entropy(logits, labels), rel=1e-5)
    chance = float(penalties.chance_level(jnp.float32(labels)))
    assert chance == pytest.approx(oracle.entropy(labels.mean(0)), rel=1e-5)
    constant = np.tile(np.log(labels.mean(0)), (6, 1))  # the best guess without looking
    assert chance == pytest.approx(oracle.cross_entropy(constant, labels), rel=1e-5)
    assert penalties.chance_level(jnp.float32([[1.0, 0.0]])) == 0  # one class only: no NaN


def test_wrong_shapes_are_refused():
    p = jnp.ones((4, 2)) / 2
    with pytest.raises(ValueError, match="are needed"):
        penalties.squared_distance(p, jnp.ones(1))
    with pytest.raises(ValueError, match="two or more"):
        penalties.squared_distance(p[:1], jnp.ones(2), unbiased=True)
    with pytest.raises(ValueError, match="one shape"):
        penalties.soft_cross_entropy(p, p[:, :1])
