"""The losses of an OccamNet against a derivation of its own, over batches of several epochs."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_occam
from quick import quick_jit

from fairjax.objectives import losses, occam

N, B, C, PER = 24, 8, 3, 3
THRESHOLDS = (0.2, 0.45, 0.6, 1.0)  # passed at once, now and then, and never
WORDS = {"loss": losses.cross_entropy, "gamma0": 3.0, "gamma": 2.0, "factor": 0.3,
         "thresholds": THRESHOLDS}  # fmt: skip


def batches(steps):
    """(logits, gates, maps, target, index) whose logits lean to the truth more and more."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, C, N)
    for step in range(steps):
        if step % PER == 0:
            order = rng.permutation(N)
        index = order[B * (step % PER) : B * (step % PER + 1)]
        target = classes[index]
        maps = tuple(rng.normal(size=(B, size, size, C)) for size in (4, 3, 2, 1))
        for j, cam in enumerate(maps):
            cam[np.arange(B), :, :, target] += 0.1 * j * step
        logits = np.stack([cam.mean((1, 2)) for cam in maps], 1)
        yield logits, rng.normal(size=(B, 4)), maps, target, index


@quick_jit
def found(logits, gates, maps, target, index, kept, step):
    kept = occam.new_epoch(kept, step % PER == 0)
    return occam.losses(logits, gates, maps, target, index, kept, first=step < PER, **WORDS)


def arrays(*values):
    return [jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), v) for v in values]


def test_all_losses_and_the_memory_are_those_of_the_words():
    oracle = oracles_occam.Losses(C, THRESHOLDS, gamma=2.0, factor=0.3)
    kept, frozen = occam.memory(N, 4, C), 0
    sizes = jax.tree.map(lambda x: (x.shape, x.dtype), kept)
    for step, (logits, gates, maps, target, index) in enumerate(batches(12)):
        each, others, kept, logs = found(*arrays(logits, gates, maps), target, index, kept, step)
        right, _, rest = oracle(logits, gates, maps, target, index, step // PER)
        np.testing.assert_allclose(each, right, rtol=1e-4)
        np.testing.assert_allclose(others, rest, rtol=1e-4)
        for j in range(4):
            remembered = [oracle.remembered[j].get(i, -1) for i in range(N)]
            np.testing.assert_array_equal(kept["correct"][:, j], np.array(remembered, int))
        now = (logits.argmax(-1) == target[:, None])[:, 1]
        frozen += (np.asarray(kept["correct"][index, 1]) != now).sum()
        assert float(logs["exit_accuracy/1"]) == np.float32(now.mean())
    assert frozen > 0  # the memory, not the present, was the target somewhere
    assert jax.tree.map(lambda x: (x.shape, x.dtype), kept) == sizes


def test_weights_and_targets_have_no_gradient():
    """The slope of everything along a direction is that of the oracle with its weights held."""
    logits, gates, maps, target, index = next(iter(batches(1)))
    kept = occam.memory(N, 4, C)
    along = np.random.default_rng(1)
    move = along.normal(size=logits.shape), along.normal(size=gates.shape)

    def ours(t):
        x, g, m = arrays(logits + t * move[0], gates + t * move[1], maps)
        each, others, *_ = occam.losses(
            x, g, m, target, index, kept, first=jnp.asarray(True), **WORDS
        )
        return each.sum() + others

    def theirs(t):
        x, g = logits + t * move[0], gates + t * move[1]
        _, weights, _ = oracles_occam.Losses(C, THRESHOLDS, gamma=2.0)(
            logits, gates, maps, target, index, 0
        )
        entropy = [[-np.log(oracles_occam.softmax(x[i, j])[target[i]]) for j in range(4)]
                   for i in range(B)]  # fmt: skip
        _, _, others = oracles_occam.Losses(C, THRESHOLDS, gamma=2.0, factor=0.3)(
            x, g, maps, target, index, 0
        )
        return (weights * entropy).sum() + others

    slope = (theirs(1e-4) - theirs(-1e-4)) / 2e-4
    np.testing.assert_allclose(quick_jit(jax.grad(ours))(0.0), slope, rtol=1e-3)
