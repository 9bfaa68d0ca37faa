import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fairjax.objectives.losses import ADVERSARIAL, HINGE, LOGISTIC, cross_entropy
from fairjax.objectives.reduce import weighted_mean

LOGITS = np.array([-3.0, -1.0, -0.2, 0.0, 0.7, 1.0, 4.0])


def test_hinge_is_the_published_weighted_loss():
    rng = np.random.default_rng(0)
    real, fake, w = rng.normal(0, 2, 9), rng.normal(0, 2, 9), rng.exponential(size=9)
    on_real, on_fake = oracles.weighted_hinge(real, fake, w)
    found = weighted_mean(HINGE.real(jnp.asarray(real)), jnp.asarray(w))
    np.testing.assert_allclose(found, on_real, rtol=1e-6)
    np.testing.assert_allclose(HINGE.fake(jnp.asarray(fake)).mean(), on_fake, rtol=1e-6)
    np.testing.assert_allclose(HINGE.generator(jnp.asarray(fake)).mean(), -fake.mean(), rtol=1e-6)


def test_logistic_is_the_log_likelihood():
    p = 1 / (1 + np.exp(-LOGITS))
    x = jnp.asarray(LOGITS)
    np.testing.assert_allclose(LOGISTIC.real(x), -np.log(p), rtol=1e-5)
    np.testing.assert_allclose(LOGISTIC.fake(x), -np.log1p(-p), rtol=1e-5)
    np.testing.assert_allclose(LOGISTIC.generator(x), -np.log(p), rtol=1e-5)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_each_side_is_pushed_its_own_way(name):
    loss = ADVERSARIAL[name]
    slope = lambda term: float(jax.grad(lambda v: term(v))(0.1))
    assert slope(loss.real) < 0 < slope(loss.fake)
    assert slope(loss.generator) < 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_losses_stay_one_per_example(name):
    for term in ADVERSARIAL[name]:
        assert term(jnp.asarray(LOGITS)).shape == LOGITS.shape


def test_cross_entropy_matches_the_definition():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(6, 3)), np.array([0, 1, 2, 2, 1, 0])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(found, -np.log(p[np.arange(6), labels]), rtol=1e-5)
    assert cross_entropy(jnp.asarray(logits, jnp.bfloat16), jnp.asarray(labels)).dtype == "float32"
