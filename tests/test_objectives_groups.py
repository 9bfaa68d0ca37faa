"""Losses, objectives, penalties, weights and draws of the classifiers against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_groups as oracles
import pytest
from quick import quick_jit

from fairjax.models.adversary import reverse_gradient
from fairjax.objectives import draw, group_penalties, reduce, weights
from fairjax.objectives.losses import generalised_cross_entropy, of_examples

SEEDS = range(3)


def batch(seed, classes=3, n=14):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - (seed == 0), n)  # a class may be absent
    return rng.normal(0, 2, (n, classes)), labels, rng.integers(-1, 3, n), rng


@pytest.mark.parametrize("seed", SEEDS)
def test_losses(seed):
    logits, labels, _, _ = batch(seed)
    for name, expected in (
        ("cross_entropy", oracles.cross_entropy(logits, labels)),
        ("binary", oracles.binary(logits, labels)),
        ("focal", oracles.focal(logits, labels, 1.5)),
        ("hinge", oracles.hinge(logits, labels)),
    ):
        found = of_examples(name, 1.5)(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_focal_loss_has_a_slope_where_nothing_is_left_to_learn(gamma):
    """At a margin of 20 the cross-entropy is 0 in float32."""
    loss = lambda margin: of_examples("focal", gamma)(jnp.stack([margin, 0 * margin], 1), y)
    margins, y = jnp.asarray([20.0, 1.0, -20.0]), jnp.zeros(3, int)
    slope = jax.grad(lambda margin: loss(margin).sum())(margins)
    m = np.asarray(margins, np.float64)
    miss, each = 1 / (1 + np.exp(m)), np.log1p(np.exp(-m))
    by_hand = -(miss**gamma) * (miss + gamma * (1 - miss) * each)
    np.testing.assert_allclose(loss(margins), miss**gamma * each, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(slope, by_hand, rtol=1e-4, atol=1e-7)


def test_the_generalised_cross_entropy_and_its_gradient():
    logits, labels, _, _ = batch(1)
    given = jnp.asarray(logits, jnp.float32), jnp.asarray(labels)
    found = generalised_cross_entropy(*given, 0.7)
    expected = oracles.generalised_cross_entropy(logits, labels, 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    slope = jax.grad(lambda x: generalised_cross_entropy(x, given[1], 0.7).sum())(given[0])
    p = oracles.softmax(logits)
    true = p[np.arange(len(labels)), labels]
    by_hand = true[:, None] ** 0.7 * (p - np.eye(3)[labels])  # small where the network is unsure
    np.testing.assert_allclose(slope, by_hand, atol=1e-5)


def irm_of(loss, logits, labels, environments):
    return oracles.invariance(
        [lambda w, r=rows: loss(w * logits[r], labels[r]).mean() for rows in environments]
    )


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "hinge"])
def test_the_penalty_of_irm_is_the_squared_slope_of_the_risk_in_each_environment(kind):
    """Also against its closed form for the cross-entropy: mean of sum_k p_k f_k - f_y."""
    by_name = {"cross_entropy": oracles.cross_entropy, "hinge": oracles.hinge,
               "focal": lambda f, y: oracles.focal(f, y, 1.5)}[kind]  # fmt: skip
    penalty = quick_jit(lambda *of: group_penalties.invariance(*of, 4, of_examples(kind, 1.5)))
    for seed in SEEDS:
        logits, labels, environment, _ = batch(seed)
        present = [np.flatnonzero(environment == e) for e in (0, 1, 2) if e in environment]
        expected = irm_of(by_name, logits, labels, present)
        given = jnp.asarray(logits, jnp.float32), jnp.asarray(labels), jnp.asarray(environment)
        assert penalty(*given) == pytest.approx(expected, rel=1e-3)
        if kind == "cross_entropy":
            g = (oracles.softmax(logits) * logits).sum(1) - logits[np.arange(len(labels)), labels]
            closed = np.mean([g[rows].mean() ** 2 for rows in present])
            assert penalty(*given) == pytest.approx(closed, rel=1e-4)
    assert penalty(*given[:2], jnp.full(len(labels), -1)) == 0
    slope = jax.grad(
        lambda f: group_penalties.invariance(f, *given[1:], 4, of_examples(kind, 1.5))
    )(given[0])
    step = np.zeros_like(logits)
    step[2, 1] = 1e-3
    up, down = (irm_of(by_name, logits + s * step, labels, present) for s in (1, -1))
    assert float(slope[2, 1]) == pytest.approx((up - down) / 2e-3, abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_objectives(seed):
    rng = np.random.default_rng(seed)
    losses, mass = rng.exponential(size=12), rng.exponential(size=12)
    put = lambda x: jnp.asarray(x, jnp.float32)
    for alpha in (0.03, 0.3, 1.0):
        found = reduce.cvar(put(losses), put(mass), alpha)
        assert found == pytest.approx(oracles.cvar(losses, mass, alpha), rel=1e-5)
    assert reduce.cvar(put(losses), put(mass), 1e-6) == pytest.approx(losses.max(), rel=1e-5)
    assert reduce.top_k(put(losses), put(np.ones(12)), 3) == pytest.approx(
        np.sort(losses)[-3:].mean(), rel=1e-5)  # fmt: skip
    shares, scores = rng.dirichlet(np.ones(4)), rng.normal(size=4)
    means = [None, *rng.exponential(size=3)]
    filled = put([m or 0 for m in means])
    there = jnp.asarray([False, True, True, True])
    for alpha in (0.2, 0.6):
        found = reduce.cvar_groups(filled, there, put(shares), put(scores), alpha)
        expected = oracles.cvar_groups(means, shares, scores, alpha)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert reduce.present_mean(filled, there) == pytest.approx(np.mean(means[1:]), rel=1e-5)
    assert reduce.present_mean(filled, jnp.zeros(4, bool)) == 0


gap = quick_jit(group_penalties.gap, static_argnums=(3, 4))
mmd = quick_jit(group_penalties.mmd, static_argnums=(3, 4))


@pytest.mark.parametrize("classes", [2, 3])
def test_gaps_and_mmd(classes):
    for seed in SEEDS:
        logits, labels, attribute, rng = batch(seed, classes)
        given = (jnp.asarray(logits, jnp.float32), jnp.asarray(labels), jnp.asarray(attribute))
        for kind in ("parity", "opportunity", "odds"):
            expected = oracles.gap(logits, labels, attribute, 3, kind)
            assert gap(*given, 3, kind) == pytest.approx(expected, abs=1e-5), kind
        features = rng.normal(size=(len(labels), 4))
        found = mmd(jnp.asarray(features, jnp.float32), *given[1:], classes, 3)
        expected = oracles.mmd(features, labels, attribute, classes, 3)
        assert found == pytest.approx(expected, abs=1e-5)
    nobody = jnp.full(len(labels), -1)
    for kind in ("parity", "odds"):
        slope = quick_jit(
            jax.grad(lambda x, k=kind: group_penalties.gap(x, given[1], nobody, 3, k))
        )
        assert not jnp.abs(slope(given[0])).sum() > 0  # also not NaN


def test_spectral_decoupling_and_l1():
    logits, labels = jnp.asarray([[1.0, -2.0], [3.0, 0.5]]), jnp.asarray([1, 0])
    by_hand = ((1 - 0.5) ** 2 + (-2 - 0.5) ** 2 + (3 - 0.5) ** 2 + 0) / 4 / 2
    assert group_penalties.spectral(logits, labels, jnp.asarray([0.5])) == pytest.approx(by_hand)
    assert group_penalties.l1({"a": jnp.asarray([-1.0, 2.0]), "b": jnp.asarray(3.0)}) == 6


def test_spectral_decoupling_with_a_gamma_per_class_is_of_the_margin():
    """Table 2 of Pezeshki et al.: lambda (mean over y = 1 of (f - 2.5)^2 + mean over y = 0 of
    (f - 0.44)^2), here with lambda 1/2."""
    logits, labels, _, _ = batch(1, classes=2, n=9)
    f = logits[:, 1] - logits[:, 0]
    of_class = lambda y, gamma: np.square(f[labels == y] - gamma).mean()
    given, gamma = jnp.asarray(logits, jnp.float32), jnp.asarray([0.44, 2.5])
    expected = (of_class(1, 2.5) + of_class(0, 0.44)) / 2
    assert group_penalties.spectral(given, jnp.asarray(labels), gamma) == pytest.approx(expected)
    ones = group_penalties.spectral(given, jnp.ones(9, int), gamma)  # class 0 is absent
    assert ones == pytest.approx(np.square(f - 2.5).mean() / 2)
    # So pulled, the decision is where gamma puts it.
    slope = jax.grad(lambda x: group_penalties.spectral(x, jnp.asarray(labels), gamma))
    for _ in range(200):
        given = given - slope(given)
    np.testing.assert_allclose(given[:, 1] - given[:, 0], np.where(labels, 2.5, 0.44), atol=1e-3)


def test_the_reversed_gradient_is_minus_factor_times_the_plain_one():
    x = jnp.asarray([0.3, -1.2])
    assert (reverse_gradient(x, 0.7) == x).all()
    plain = jax.grad(lambda x: jnp.sin(x).sum())(x)
    found = jax.grad(lambda x: jnp.sin(reverse_gradient(x, 0.7)).sum())(x)
    np.testing.assert_allclose(found, -0.7 * plain, rtol=1e-6)


def test_weights():
    groups = np.array([0] * 6 + [1] * 3 + [2])
    of = lambda kind, beta=0.9: weights.by_group(groups, kind, beta)[[0, 6, 9]]
    for kind in ("inverse", "sqrt", "effective"):
        assert weights.by_group(groups, kind).mean() == pytest.approx(1)
    np.testing.assert_allclose(of("inverse") / of("inverse")[2], [1 / 6, 1 / 3, 1])
    np.testing.assert_allclose(of("sqrt") / of("sqrt")[2], [6**-0.5, 3**-0.5, 1])
    effective = [1 / sum(0.9**i for i in range(n)) for n in (6, 3, 1)]  # Cui's geometric series
    np.testing.assert_allclose(of("effective") / of("effective")[2], effective)
    np.testing.assert_allclose(of("effective", 0.0), 1)
    y, a = np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 1, 0])
    w = weights.reweighing(y, a)
    for value in (0, 1):  # so weighted, y and a are independent
        assert w[(y == 1) & (a == value)].sum() / w.sum() == pytest.approx(
            w[y == 1].sum() * w[a == value].sum() / w.sum() ** 2)  # fmt: skip
    cut = weights.clipped(weights.by_group(groups, "inverse"), 1.5)[[0, 6, 9]]
    np.testing.assert_allclose(cut / cut[0], [1, 2, 2.7], rtol=1e-12)  # 10/18, 10/9, 10/3 -> 1.5
    raised = weights.upweighted(np.array([True, False, False]), 4.0)
    np.testing.assert_allclose(raised, [2, 0.5, 0.5])


def test_epochs_take_each_position_once_and_are_functions_of_seed_and_step():
    sets = [np.arange(10), np.arange(10, 13)]
    step_of = lambda step: draw.epochs(3, step, sets, 4)
    walk = lambda epoch: np.concatenate([step_of(3 * epoch + part) for part in range(3)])
    one, two = walk(0), walk(1)
    assert len(np.unique(one)) == len(np.unique(two)) == 12  # one of 13 is left out
    assert not np.array_equal(one, two)
    assert np.array_equal(one, walk(0))
    small = [draw.epochs(3, step, sets, 6, each=3) for step in range(40)]
    assert all((chosen >= 10).sum() == 3 and len(np.unique(chosen)) == 6 for chosen in small)
    assert len(np.unique(small)) == 13  # another subset of the large set in each epoch
    assert len(draw.epochs(3, 0, [np.arange(3)], 8)) == 8
    with pytest.raises(ValueError, match="empty"):
        draw.epochs(0, 0, [np.zeros(0, int)], 4)
