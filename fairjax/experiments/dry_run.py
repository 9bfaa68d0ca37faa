"""`--dry_run`: what a run would do and need, from shapes alone; nothing is computed or written."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fairjax.config import arm_order, taken_from, with_arm
from fairjax.experiments import fair_generation, gan_stage, judge_stage, penalty_stage
from fairjax.train.classifier import Classifier
from fairjax.train.conditions import Conditions, label_table, of_numbers
from fairjax.train.devices import batch_sharding, replicated
from fairjax.train.gan import Gan
from fairjax.train.gan_state import Reals
from fairjax.train.penalty import FrozenJudge
from fairjax.train.progress import clock

# Sustained rates assumed for the time estimate, in GFLOP/s per device; not measured here.
ASSUMED_RATE = {"cpu": 60.0, "gpu": 20_000.0, "tpu": 30_000.0}


def size(tree: Any) -> tuple[int, int]:
    """(numbers, bytes) of a tree of arrays or shapes."""
    leaves = jax.tree.leaves(tree)
    count = sum(int(np.prod(x.shape)) for x in leaves)
    return count, sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves)


def assumed_labels(config: ConfigDict, images: int) -> Conditions | None:
    """Labels of the config's attributes with two values each; only the data would tell more."""
    if not config.gan.condition:
        return None
    if config.gan.condition_form == "numbers":
        values = np.zeros((images, len(config.gan.condition)))
        values[::2] = 1.0
        return of_numbers(tuple(config.gan.condition), values, np.ones(images, bool))
    labels = label_table(config.gan.condition_form, [2] * len(config.gan.condition))
    k = len(labels)
    names = tuple(map(str, range(k)))
    prior, classes = np.full(k, 1 / k), np.zeros(images, np.int32)
    return Conditions(tuple(config.gan.condition), names, labels, prior, classes)


def assumed_judge(config: ConfigDict, key: jax.Array) -> FrozenJudge | None:
    """An untrained judge for the penalty, if there is one; two values for each attribute."""
    one = penalty_stage.asked(config)
    if one is None:
        return None
    k = one.groups or 2 ** len(one.attributes)
    network = judge_stage.programs(config, k)
    members = jax.tree.map(lambda x: jnp.stack([x] * one.members), network.init(key).best)
    return FrozenJudge(members, jnp.full(k, 1 / k), network.model)


def abstract_judge(config: ConfigDict) -> FrozenJudge | None:
    """The shapes of `assumed_judge`."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    judge: FrozenJudge | None = jax.eval_shape(partial(assumed_judge, config), key)
    return judge


def abstract_gan(config: ConfigDict, groups: int = 2, images: int = 1000) -> tuple[Gan, Any]:
    """The programs of a config and the shapes of (state, batch, reals, key)."""
    labels = assumed_labels(config, images)
    gan = gan_stage.programs(config, labels)
    key = jax.eval_shape(lambda: jax.random.key(0))
    vector: Any = jax.ShapeDtypeStruct((groups,), jnp.float32)
    per_image: Any = jax.ShapeDtypeStruct((images,), jnp.float32)
    group: Any = jax.ShapeDtypeStruct((images,), jnp.int32)
    judge = abstract_judge(config)
    k = 0 if judge is None else len(judge.target)
    state = jax.eval_shape(lambda key, q: gan.init(key, q, k), key, vector)
    data = config.data
    shape = (gan.reals_per_step, data.resolution, data.resolution, data.channels)
    batch = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "index": jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    }
    classes = None if labels is None else group
    reals = Reals(weight=per_image, group=group, q=vector, adjustment=vector, classes=classes)
    # Laid out as in training.
    batch = _placed(batch, batch_sharding())
    state, reals, key = (_placed(tree, replicated()) for tree in (state, reals, key))
    return gan, (state, batch, reals, key)


def _placed(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def lower(config: ConfigDict, used_only: bool = False) -> dict[str, Any]:
    """Lowers the four step programs of an arm abstractly: name -> jax.stages.Lowered.

    `used_only` leaves out those that the config never runs (no R1, no path length).
    """
    gan, (state, batch, reals, key) = abstract_gan(config)
    judge = abstract_judge(config)
    path, r1 = gan.path_length or not used_only, gan.r1 or not used_only
    lowered = {
        "g": gan.g_step.lower(state, key, path_length=False, judge=judge),
        "d": gan.d_step.lower(state, batch, reals, key, r1=False),
    }
    if path:
        lowered["g + path length"] = gan.g_step.lower(state, key, path_length=True, judge=judge)
    if r1:
        lowered["d + r1"] = gan.d_step.lower(state, batch, reals, key, r1=True)
    return lowered


def flops_per_iteration(config: ConfigDict) -> float:
    """Mean floating-point operations of an iteration, by XLA's count before optimisation."""
    of = {name: _flops(lowered) for name, lowered in lower(config, used_only=True).items()}
    return of_mean_iteration(of, config)


def of_mean_iteration(of: dict[str, float], config: ConfigDict) -> float:
    """Mean over iterations of what each step program has: operations, bytes, ..."""
    path = (of.get("g + path length", of["g"]) - of["g"]) / config.gan.path_length_every
    r1 = (of.get("d + r1", of["d"]) - of["d"]) / config.gan.r1_every
    return of["g"] + path + of["d"] + r1


def _flops(lowered: Any) -> float:
    costs = lowered.cost_analysis() or {}
    return float((costs[0] if isinstance(costs, list) else costs).get("flops", 0.0))


def _own_samples(gan: ConfigDict) -> list[str]:
    """The line on the share of the training images that is generated, if there is one."""
    if not gan.own_from:
        return []
    return [f"  own samples   {100 * gan.own_share:g} % of the training images, of {gan.own_from}"]


def _penalty(config: ConfigDict) -> list[str]:
    judge, one = abstract_judge(config), penalty_stage.asked(config)
    if judge is None or one is None:
        return []
    held = f"{size(judge)[1] / 1e6:,.1f} MB on every device"
    if not one.attributes:
        return [f"  penalty       {config.gan.penalty} by a judge of {one.groups} groups of the "
                f"ratios ({held})"]  # fmt: skip
    return [f"  penalty       {config.gan.penalty} by a judge of {one.label} of its own ({held}, "
            "with two values for each attribute); labels are used in training"]  # fmt: skip


def report_plan(
    base: ConfigDict,
    devices: Sequence[jax.Device] = (),
    facts: Callable[[ConfigDict, float], list[str]] | None = None,
) -> str:
    """The text that `--dry_run` prints.

    Args:
      base: the experiment's config.
      devices: on which it is to run, those that there are unless given.
      facts: adds lines to those of an arm, by its config and the operations of an iteration.
    """
    devices = devices or jax.devices()
    lines = ["config:", json.dumps(base.to_dict(), indent=1, default=list), "", "stages:"]
    lines += [f"  {name}" for name in fair_generation.plan(base)]
    kind = devices[0].platform
    rate = ASSUMED_RATE.get(kind, ASSUMED_RATE["gpu"]) * 1e9 * len(devices)
    data = base.data
    for stage in ("ratio", "judge"):
        network = Classifier(base[stage], resolution=data.resolution, channels=data.channels,
                             classes=2, steps=1)  # fmt: skip
        state = jax.eval_shape(network.init, jax.eval_shape(lambda: jax.random.key(0)))
        lines += [
            "",
            f"{stage} network",
            f"  ResNet-18     {size(state.params)[0]:>12,} parameters (with two classes); "
            f"state {size(state)[1] / 1e6:,.1f} MB",
        ]
    total = 0.0
    flops_of: dict[Gan, float] = {}  # arms that differ in data only share their programs
    facts_of: dict[Gan, list[str]] = {}
    for arm in arm_order(base):
        config = with_arm(base, arm)
        gan, (state, batch, _, _) = abstract_gan(config)
        earlier = bool(taken_from(config.gan))
        start = None if earlier else gan_stage.start_of(config, labels=gan.conditions)
        rhythm = gan_stage.rhythm(config)
        if gan not in flops_of:
            flops_of[gan] = flops_per_iteration(config)
            facts_of[gan] = facts(config, flops_of[gan]) if facts is not None else []
        flops = flops_of[gan]
        seconds = flops * rhythm.total / rate
        total += seconds
        lines += [
            "",
            f"arm {arm}: {json.dumps(base.arms[arm].to_dict(), default=list)}",
            *(["  labels of two values for each attribute are assumed"] * bool(gan.conditions)),
            *([f"  starts from   {start.record['file']}"] if start else []),
            *([f"  starts from   {config.gan.init_from}"] if earlier else []),
            *_own_samples(config.gan),
            *_penalty(config),
            f"  generator     {size(state.g)[0]:>12,} parameters",
            f"  discriminator {size(state.d)[0]:>12,} parameters",
            f"  state         {size(state)[1] / 1e6:>12,.1f} MB on every device; "
            f"batch {size(batch)[1] / 1e6:,.1f} MB over {len(devices)} device(s); "
            "activations come on top",
            f"  steps         {rhythm.total:>12,} ({config.gan.kimg:g} kimg, batch "
            f"{config.gan.batch}); log every {rhythm.log}, save every {rhythm.save}, evaluate "
            f"every {rhythm.evaluate} steps",
            f"  work          {flops / config.gan.batch / 1e9:>12,.2f} GFLOP per image; about "
            f"{clock(seconds)} at an assumed {rate / 1e9:,.0f} GFLOP/s ({kind})",
            *facts_of[gan],
        ]
    lines += ["", f"estimated time of all arms: {clock(total)}, without data, classifiers and "
              "evaluation (an estimate from shapes; nothing was run)"]  # fmt: skip
    return "\n".join(lines)
