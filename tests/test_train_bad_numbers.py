"""NaN and infinity in training: named with step and term, and what follows by policy."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_train_loop import KEY, RHYTHM, assert_same, feed, record, walk, walk_task

from fairjax.train import stopping
from fairjax.train.loop import run


def poisoned(at, *, always=False, state=True):
    """A step whose `at`-th call (each from there on with `always`) breaks the state or a metric."""
    calls = []

    def step(state_, batch, key, i):
        calls.append(i)
        after, metrics = walk(state_, batch, key)
        if i + 1 == at or (always and i + 1 > at):
            if state:
                return after.replace(x=after.x * jnp.inf), metrics
            return after, metrics | {"loss/x": jnp.asarray(jnp.nan)}
        return after, metrics

    return step, calls


@pytest.mark.parametrize("state", [True, False])
def test_a_skipped_step_leaves_the_state_and_counts(tmp_path, state):
    """The run ends where one ends whose step does nothing but count at that place."""
    step, _ = poisoned(5, state=state)
    end = run(walk_task(step), feed(), KEY, RHYTHM, tmp_path / "skip", "skip")

    def rests(before, batch, key, i):
        after, metrics = walk(before, batch, key)
        return (before.replace(step=before.step + 1), metrics) if i == 4 else (after, metrics)

    def again(before, batch, key, i):
        return rests(jnp_copy(before), batch, key, i)

    def jnp_copy(tree):
        return tree.replace(x=jnp.copy(tree.x), step=jnp.copy(tree.step))

    assert_same(end, run(walk_task(again), feed(), KEY, RHYTHM, tmp_path / "rests"))
    skipped = {line["step"]: line["skipped"] for line in record(tmp_path / "skip")
               if "skipped" in line}  # fmt: skip
    assert skipped[6] == 0.5  # steps 5 and 6 are one log interval
    assert sum(skipped.values()) == 0.5
    losses = [line["loss/x"] for line in record(tmp_path / "skip") if "loss/x" in line]
    assert np.isfinite(losses).all()


def test_too_many_skipped_steps_stop_the_run(tmp_path):
    step, _ = poisoned(5, always=True)
    with pytest.raises(stopping.Diverged, match="100% of the last 2 steps"):
        run(walk_task(step), feed(), KEY, RHYTHM, tmp_path, "skip")


def test_a_rollback_takes_other_random_numbers_and_survives_a_kill(tmp_path):
    """What breaks once is passed; a run killed behind it ends with the same bits."""

    def broken(folder, kill_at=None):
        def step(state, batch, key, i):
            after, metrics = walk(state, batch, key)
            first = not (folder / "rollbacks.json").exists()
            return (after.replace(x=after.x * jnp.nan) if first and i == 9 else after), metrics

        return run(walk_task(step), feed(kill_at, fail), KEY, RHYTHM, folder, "rollback")

    def fail():
        raise KeyError

    end = broken(tmp_path / "straight")
    assert json.loads((tmp_path / "straight/rollbacks.json").read_text()) == [7]
    assert np.isfinite(end.x).all()
    plain = run(
        walk_task(lambda s, b, k, i: walk(s, b, k)), feed(), KEY, RHYTHM, tmp_path / "plain"
    )
    assert not np.array_equal(end.x, plain.x)
    assert record(tmp_path / "straight")[:7] == record(tmp_path / "plain")[:7]  # up to step 7
    (tmp_path / "killed").mkdir()
    with pytest.raises(KeyError):
        broken(tmp_path / "killed", kill_at=12)
    assert_same(broken(tmp_path / "killed"), end)


def test_rollbacks_end(tmp_path):
    step, calls = poisoned(9, always=True)
    # Step 9 is measured, which shows it before the metrics of step 10 do.
    with pytest.raises(stopping.Diverged, match="step 9: the state.*checkpoint: step 7"):
        run(walk_task(step), feed(), KEY, RHYTHM, tmp_path, "rollback")
    assert json.loads((tmp_path / "rollbacks.json").read_text()) == [7, 7, 7]
    assert [i for i in calls if i == 7] == [7] * 4
