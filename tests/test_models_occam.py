"""Exits of an OccamNet: one in float64, which of them images leave by, where gradients stop."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import oracles_occam
from quick import quick_jit

from fairjax.models import occam
from fairjax.models.initialize import initialize


def test_an_exit_is_two_convolutions_a_map_and_a_gate_without_a_gradient():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 4, 8))
    made = occam.Exit(2)
    zeros = jnp.zeros(x.shape)
    shapes = jax.eval_shape(lambda key: made.init(key, zeros, False), jax.random.key(0))
    draw = lambda shape: rng.uniform(0.2, 1, shape) * rng.choice([1, -1], shape)
    v = jax.tree.map(lambda leaf: draw(leaf.shape), shapes)
    v["batch_stats"] = jax.tree.map(np.abs, v["batch_stats"])
    p = v["params"]

    def norm(name, y):
        mean, var = (v["batch_stats"][name][part] for part in ("mean", "var"))
        return (y - mean) / np.sqrt(var + 1e-5) * p[name]["scale"] + p[name]["bias"]

    dense = lambda name, y: y @ p[name]["kernel"] + p[name]["bias"]
    relu = lambda y: np.maximum(y, 0)
    y = relu(norm("norm", oracle.correlate(x, p["conv0"]["kernel"])))
    y = relu(oracle.correlate(y, p["conv1"]["kernel"]) + p["bias"])
    assert p["conv0"]["kernel"].shape == (3, 3, 8, 2)  # a quarter of the width
    gate = dense("gate1", relu(norm("gate_norm", dense("gate0", y.mean((1, 2))))))[:, 0]

    @quick_jit
    def found(v, x):
        one = lambda part: jax.grad(lambda x: made.apply(v, x, False)[part].sum())(x)
        return made.apply(v, x, False), one(0), one(1)

    cast = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)
    (cam, logit), of_map, of_gate = found(cast(v), cast(x))
    np.testing.assert_allclose(cam, dense("map", y), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logit, gate, rtol=1e-3, atol=1e-3)
    assert bool((of_map != 0).any())
    assert not bool((of_gate != 0).any())


def test_images_leave_by_the_first_open_gate_but_not_by_the_first_exit():
    gates = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    gates[0] = [5, -1, -1, -1]  # an open gate at the first exit counts for nothing
    gates[1, 1] = 0  # a half is open
    logits = np.random.default_rng(1).normal(size=(60, 4, 3)).astype(np.float32)
    expected = oracles_occam.leaves_by(gates)
    assert expected[:2] == [3, 1]
    assert set(expected) == {1, 2, 3}
    np.testing.assert_array_equal(occam.left_by(jnp.asarray(gates)), expected)
    out = occam.decided(occam.Exits(jnp.asarray(logits), jnp.asarray(gates), ()))
    np.testing.assert_array_equal(out, [logits[i, j] for i, j in enumerate(expected)])


def test_the_first_exit_does_not_move_the_trunk(monkeypatch):
    """Shown by a trunk that hands its input on."""
    monkeypatch.setattr(occam, "trunk", lambda width, stem, depth, x, train: [x] * 4)
    net = occam.OccamResNet(2, 3, "small")
    x = jax.random.normal(jax.random.key(1), (2, 3, 3, 4))
    variables = initialize(net, jax.random.key(0), x, False)
    slope = quick_jit(jax.grad(lambda x, j: net.apply(variables, x, False).logits[:, j].sum()))
    for j in range(4):
        assert bool((slope(x, j) != 0).any()) is (j > 0)


def test_at_the_published_width_it_is_as_large_as_a_resnet18():
    """Within a tenth: 11,689,512 numbers for 1,000 classes."""
    large = jax.eval_shape(
        lambda key: occam.OccamResNet(58, 1000).init(key, jnp.zeros((1, 32, 32, 3)), False),
        jax.random.key(0),
    )
    size = sum(a.size for a in jax.tree.leaves(large["params"]))
    assert 0.9 < size / 11_689_512 < 1.1, size
