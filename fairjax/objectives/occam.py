"""The losses of an OccamNet (Shrestha et al., 2022, section 3.2), for its exits j = 0 to 3.

    sum_j (w_j / max w_j + 0.1) l(logits_j, y)    output prediction loss, per example
    + suppression * sum_j S_j                     class activation maps away from the object
    + sum_j G_j                                   exit decision loss of the gates

with the constants of the published code. The memory is of constant size: what a step changes is
returned, and a restart continues from it.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

Memory = dict[str, jax.Array]
OFFSET = 0.1  # least weight in the output prediction loss
BALANCE = 0.5  # exponent of the balance between images that should leave and those that should not
TINY = 1e-5


def memory(examples: int, exits: int, classes: int) -> Memory:
    """Nothing known yet.

    Returns:
      {"correct": int8 [examples, exits], whether an exit was right about a training image when its
      targets were last refreshed (-1 = not seen); of the present epoch "largest": [exits], the
      largest weight, and "right": [exits, classes], "seen": [classes], counts}.
    """
    return {
        "correct": jnp.full((examples, exits), -1, jnp.int8),
        "largest": jnp.zeros(exits),
        "right": jnp.zeros((exits, classes)),
        "seen": jnp.zeros(classes),
    }


def new_epoch(kept: Memory, begins: jax.Array) -> Memory:
    """The memory with the counts of the epoch at 0 where one begins (bool)."""
    return {
        name: value if name == "correct" else jnp.where(begins, 0, value)
        for name, value in kept.items()
    }


def difficulty(
    logits: jax.Array, gates: jax.Array, target: jax.Array, gamma0: float, gamma: float
) -> jax.Array:
    """Weights w [b, exits] of the output prediction loss, without a gradient.

    At exit 0 p(y)^gamma0, which amplifies what is learnt easily; at exit j (1 - g_{j-1})^gamma:
    what the gate before keeps counts more.

    Args:
      logits: [b, exits, c]. gates: [b, exits], logits. target: int [b].
    """
    p = jnp.take_along_axis(jax.nn.softmax(logits[:, 0]), target[:, None], 1)
    kept = 1 - jax.nn.sigmoid(gates[:, :-1])
    return jax.lax.stop_gradient(jnp.concatenate([p**gamma0, kept**gamma], 1))


def suppression(cam: jax.Array, target: jax.Array) -> jax.Array:
    """KL(uniform || softmax over the classes) of each cell of a map [b, h, w, c] whose activation
    for the true class is at most the image's mean (0 for the others), as a mean over all cells."""
    b, _, _, c = cam.shape
    cells = cam.reshape(b, -1, c)
    true = jnp.take_along_axis(cells, target[:, None, None], 2)[..., 0]
    outside = true <= true.mean(1, keepdims=True)
    divergence = -jnp.log(c) - jax.nn.log_softmax(cells).mean(-1)
    return (outside * divergence).mean()


def gate_loss(gates: jax.Array, leaves: jax.Array) -> jax.Array:
    """Binary cross-entropy of one exit's gate, in which the rarer kind of image counts more.

    Args:
      gates: [b], logits. leaves: [b], 1 where the image should leave, else 0.
    """
    counts = jnp.stack([(1 - leaves).sum(), leaves.sum()])
    balance = (counts / counts.max() + TINY) ** -BALANCE
    weight = jnp.where(leaves > 0, balance[1], balance[0])
    return (weight * optax.sigmoid_binary_cross_entropy(gates, leaves)).mean()


def losses(
    logits: jax.Array,
    gates: jax.Array,
    maps: Sequence[jax.Array],
    target: jax.Array,
    index: jax.Array,
    kept: Memory,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    first: jax.Array,
    gamma0: float,
    gamma: float,
    factor: float,
    thresholds: Sequence[float],
) -> tuple[jax.Array, jax.Array, Memory, dict[str, jax.Array]]:
    """All losses of a batch.

    A gate learns whether its exit is right. Its targets follow the exit as long as the mean over
    classes of its accuracy in this epoch is at most a threshold, and in the first epoch; then they
    stay as they were last, so that what the exit learns by heart later does not open it.

    Args:
      logits: [b, exits, c]. gates: [b, exits], logits. maps: of each exit, [b, h, w, c].
      target: int [b]. index: int [b], of the examples in the memory.
      kept: the memory, see `memory` and `new_epoch`.
      loss: (logits [b, c], target [b]) -> [b].
      first: bool, whether this is the first epoch.
      gamma0, gamma: see `difficulty`. factor: of the suppression. thresholds: of each exit.

    Returns:
      (output prediction loss [b], sum of the other losses, the memory after the batch, logs).
    """
    exits = range(logits.shape[1])
    weight = difficulty(logits, gates, target, gamma0, gamma)
    largest = jnp.maximum(kept["largest"], weight.max(0))
    each = jnp.stack([loss(logits[:, j], target) for j in exits], 1)
    each = ((weight / (largest[None] + TINY) + OFFSET) * each).sum(1)

    right = (logits.argmax(-1) == target[:, None]).astype(jnp.float32)  # [b, exits]
    of_class = jax.nn.one_hot(target, logits.shape[-1])
    seen = kept["seen"] + of_class.sum(0)
    hits = kept["right"] + right.T @ of_class
    accuracy = (hits / jnp.maximum(seen, 1)[None]).sum(1) / (seen > 0).sum()  # mean over classes
    follows = first | (accuracy <= jnp.asarray(thresholds))
    before = kept["correct"][index]
    leaves = jnp.where(follows[None] | (before < 0), right, before)
    correct = kept["correct"].at[index].set(leaves.astype(jnp.int8))

    outside = sum((suppression(cam, target) for cam in maps), jnp.zeros(()))
    gating = sum((gate_loss(gates[:, j], leaves[:, j]) for j in exits), jnp.zeros(()))
    logs = {"loss/suppression": outside, "loss/gates": gating}
    for j in exits:
        logs[f"exit_accuracy/{j}"] = right[:, j].mean()
        logs[f"exit_gate/{j}"] = jax.nn.sigmoid(gates[:, j]).mean()
    after = {"correct": correct, "largest": largest, "right": hits, "seen": seen}
    return each, factor * outside + gating, jax.lax.stop_gradient(after), logs
