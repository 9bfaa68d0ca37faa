import os
import signal
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from PIL import Image
from toy_gan import SHAPE, toy_gan

from fairjax.objectives import draw
from fairjax.train import stopping, streams
from fairjax.train.gan_state import reals
from fairjax.train.loop import Rhythm, Task, run

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(0, 256, (30, *SHAPE)).astype(np.uint8)


class Killed(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def feed(at=None, act=None):
    """Batches by (seed, step); before the batch of step `at` (counted from 1), `act` is called."""

    def batches(start, stop):
        for step in range(start, stop):
            if step + 1 == at:
                act()
            index = draw.draw(0, step, draw.uniform(np.arange(30), 8))
            yield {"image": IMAGES[index], "index": index}

    return batches


def kill():
    raise Killed


# A task of one vector, that shows everything the loop promises.


class Walk(struct.PyTreeNode):
    step: jax.Array
    x: jax.Array
    best: jax.Array


@jax.jit
def walk(state, batch, key):
    noise = jax.random.normal(jax.random.fold_in(key, state.step), (3,))
    x = 0.9 * state.x + 0.1 * batch["image"].mean() / 255 + 0.01 * noise
    return state.replace(step=state.step + 1, x=x), {"loss/x": x[0]}


def walk_task(step=None, sample=None):
    def default_step(state, batch, key, i):
        state, metrics = walk(state, batch, key)
        if i % 3 == 0:
            metrics["loss/rare"] = jnp.asarray(float(i))
        metrics["sometimes"] = (jnp.asarray(2.0 * (i % 2)), jnp.asarray(i % 2))
        metrics["never"] = (jnp.zeros(()), jnp.zeros(()))
        return state, metrics

    def evaluate(state, i):
        return state.replace(best=jnp.maximum(state.best, state.x)), {"figure": float(i)}

    def init(key):
        return Walk(jnp.zeros((), int), jax.random.normal(key, (3,)), jnp.full(3, -9.0))

    return Task("walk", init, step or default_step, evaluate, sample)


RHYTHM = Rhythm(total=12, images_per_step=8, log=2, save=7, evaluate=3, sample=6)


def record(folder):
    lines = streams.read(folder / "metrics.jsonl")
    for line in lines:
        line.pop("time")
        line.pop("images_per_second", None)
        line.pop("data_wait", None)
    return lines


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return run(walk_task(), feed(), KEY, RHYTHM, folder), record(folder)


def test_record_of_a_run(straight):
    state, lines = straight
    assert state.step == 12
    losses = [line for line in lines if "loss/x" in line]
    figures = [line for line in lines if "figure" in line]
    assert [line["step"] for line in losses] == [2, 3, 4, 6, 7, 8, 9, 10, 12]
    assert [line["step"] for line in figures] == [3, 6, 9, 12]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert losses[0]["kimg"] == 0.016


def test_the_record_says_how_long_it_waited_for_data(tmp_path):
    def slowly(start, stop):
        for batch in feed()(start, stop):
            time.sleep(0.02)
            yield batch

    run(walk_task(), slowly, KEY, RHYTHM, tmp_path)
    shares = [line["data_wait"] for line in streams.read(tmp_path / "metrics.jsonl")
              if "loss/x" in line]  # fmt: skip
    assert max(shares) > 0.1
    assert all(0 < share < 1 for share in shares)


def test_metrics_are_averaged_over_the_steps_that_report_them(straight):
    by_step = {line["step"]: line for line in straight[1] if "loss/x" in line}
    assert by_step[2]["sometimes"] == 2.0  # of step 2 only: sum 2, count 1
    assert "sometimes" not in by_step[3]
    assert by_step[2]["loss/rare"] == 0.0
    assert by_step[4]["loss/rare"] == 3.0
    assert "loss/rare" not in by_step[6]
    assert all("never" not in line for line in straight[1])


@pytest.mark.parametrize("at", [2, 7, 8, 10, 12])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, straight, at):
    with pytest.raises(Killed):
        run(walk_task(), feed(at, kill), KEY, RHYTHM, tmp_path)
    state = run(walk_task(), feed(), KEY, RHYTHM, tmp_path)
    assert_same(state, straight[0])
    assert record(tmp_path) == straight[1]


def test_the_state_that_an_evaluation_returns_is_saved(tmp_path, straight):
    assert (straight[0].best > -9).all()
    with pytest.raises(Killed):
        run(walk_task(), feed(8, kill), KEY, RHYTHM, tmp_path)
    only_restored = run(walk_task(), feed(), KEY, Rhythm(7, 8, 2, 7, 0), tmp_path)
    assert only_restored.step == 7
    assert (only_restored.best > -9).all()


def test_a_finished_run_is_not_run_again(tmp_path, straight):
    run(walk_task(), feed(), KEY, RHYTHM, tmp_path)

    def nothing(start, stop):
        raise AssertionError("no batch is needed")

    assert_same(run(walk_task(), nothing, KEY, RHYTHM, tmp_path), straight[0])


def test_the_seed_decides(tmp_path, straight):
    assert not np.array_equal(
        run(walk_task(), feed(), jax.random.key(4), RHYTHM, tmp_path).x, straight[0].x
    )


def test_samples_are_written(tmp_path):
    task = walk_task(sample=lambda state: np.full((4, 6, 3), int(state.step), np.uint8))
    run(task, feed(), KEY, RHYTHM, tmp_path)
    found = {p.name: np.asarray(Image.open(p))[0, 0, 0] for p in (tmp_path / "samples").iterdir()}
    assert found == {"000000.05kimg.png": 6, "000000.10kimg.png": 12}


def test_a_damaged_sample_is_removed_by_name_when_the_run_goes_on(tmp_path, caplog):
    task = walk_task(sample=lambda state: np.full((4, 6, 3), int(state.step), np.uint8))
    with pytest.raises(Killed):
        run(task, feed(8, kill), KEY, RHYTHM, tmp_path)
    (sample,) = (tmp_path / "samples").iterdir()
    sample.write_bytes(sample.read_bytes()[:50])
    run(task, feed(), KEY, RHYTHM, tmp_path)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["000000.10kimg.png"]
    assert any(f"{sample} is damaged" in r.message for r in caplog.records)


def test_the_feed_is_closed(tmp_path):
    closed = []

    def batches(start, stop):
        try:
            yield from feed()(start, stop)
        finally:
            closed.append(True)

    def step(state, batch, key, i):
        raise Killed

    with pytest.raises(Killed):
        run(walk_task(step), batches, KEY, RHYTHM, tmp_path)
    assert closed


# Signals.


@pytest.fixture
def handlers():
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    stopping.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("at", [1, 5, 12])
def test_a_signal_saves_and_the_rerun_goes_on(tmp_path, straight, at):
    with pytest.raises(stopping.Interrupted, match="SIGTERM"):
        run(walk_task(), feed(at, terminate), KEY, RHYTHM, tmp_path)
    started = []

    def watched(start, stop):
        started.append(start)
        return feed()(start, stop)

    state = run(walk_task(), watched, KEY, RHYTHM, tmp_path)
    assert started == ([at] if at < 12 else [])  # no step is repeated
    assert_same(state, straight[0])
    # The interval in which the signal came is split; the rest of the record is the same.
    steps = [line["step"] for line in record(tmp_path)]
    assert set(steps) == {line["step"] for line in straight[1]} | {at}


@pytest.mark.usefixtures("handlers")
def test_a_signal_during_the_last_save_is_not_lost(tmp_path, straight):
    def sample(state):
        if state.step == 12:
            terminate()
        return np.zeros((1, 1, 3), np.uint8)

    with pytest.raises(stopping.Interrupted):
        run(walk_task(sample=sample), feed(), KEY, RHYTHM, tmp_path)
    assert_same(run(walk_task(), feed(), KEY, RHYTHM, tmp_path), straight[0])


# Numbers that are not finite.


def poisoned(at, *, in_state=True, in_metrics=True):
    def step(state, batch, key, i):
        state, metrics = walk(state, batch, key)
        if i + 1 >= at:
            if in_state:
                state = state.replace(x=state.x * jnp.nan)
            if in_metrics:
                metrics["loss/bad"] = jnp.asarray(jnp.inf)
        return state, metrics

    return walk_task(step)


def saved_steps(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def test_divergence_names_step_term_and_checkpoint(tmp_path):
    rhythm = Rhythm(total=20, images_per_step=8, log=4, save=3, evaluate=0)
    with pytest.raises(stopping.Diverged) as error:
        run(poisoned(8, in_state=False), feed(), KEY, rhythm, tmp_path)
    assert "walk: not finite at step 8: loss/bad. Last good checkpoint: step 6" in str(error.value)
    assert saved_steps(tmp_path) == [3, 6]


def test_divergence_before_the_first_checkpoint(tmp_path):
    with pytest.raises(stopping.Diverged, match="not finite at step 1: loss/bad.*none yet"):
        run(poisoned(1), feed(), KEY, RHYTHM, tmp_path)
    assert saved_steps(tmp_path) == []


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    rhythm = Rhythm(total=20, images_per_step=8, log=4, save=4, evaluate=0)
    with pytest.raises(stopping.Diverged, match="step 8: the state.*step 4"):
        run(poisoned(8, in_metrics=False), feed(), KEY, rhythm, tmp_path)
    assert saved_steps(tmp_path) == [4]


def test_a_state_that_is_not_finite_is_never_measured(tmp_path):
    def evaluate(state, i):
        assert i < 8, "measured"
        return state, {"figure": float(i)}

    task = replace(poisoned(8, in_metrics=False), evaluate=evaluate)
    rhythm = Rhythm(total=20, images_per_step=8, log=4, save=4, evaluate=4)
    with pytest.raises(stopping.Diverged, match="step 8: the state.*step 4"):
        run(task, feed(), KEY, rhythm, tmp_path)


@pytest.mark.usefixtures("handlers")
def test_a_signal_does_not_save_a_broken_state(tmp_path):
    with pytest.raises(stopping.Diverged):
        run(poisoned(2, in_metrics=False), feed(3, terminate), KEY, RHYTHM, tmp_path)
    assert saved_steps(tmp_path) == []


# The GAN in the loop.


def gan_run(gan, folder, batches):
    n, k = len(IMAGES), 3
    examples = reals(np.linspace(0.5, 1.5, n), np.arange(n) % k, np.full(k, 1 / k), np.zeros(k))
    task = gan.task("gan toy", examples, lambda ema, i: {"kid/toy": float(i)}, KEY)
    rhythm = Rhythm(total=12, images_per_step=8, log=4, save=7, evaluate=6)
    state = run(task, batches, KEY, rhythm, folder)
    return state, record(folder)


def test_gan_resumes_with_the_same_bits_and_without_compiling_again(tmp_path):
    gan = toy_gan(dro=True, dro_eta=0.1, r1_every=4, path_length_every=3)
    straight = gan_run(gan, tmp_path / "straight", feed())
    # Two programs for each network, for the first state as for a later one.
    assert gan.g_step._cache_size() == gan.d_step._cache_size() == 2
    with pytest.raises(Killed):
        gan_run(gan, tmp_path / "killed", feed(10, kill))
    resumed = gan_run(gan, tmp_path / "killed", feed())
    assert_same(resumed[0], straight[0])
    assert resumed[1] == straight[1]
    assert gan.g_step._cache_size() == gan.d_step._cache_size() == 2
    names = set().union(*straight[1])
    assert names >= {
        "loss/g", "loss/d_real", "loss/d_fake", "loss/r1", "loss/path_length", "group_loss/0",
        "real_inside_margin", "q/0", "q/2", "kid/toy",
    }  # fmt: skip
    q = [[line[f"q/{g}"] for g in range(3)] for line in straight[1] if "q/0" in line]
    np.testing.assert_allclose(np.sum(q, 1), 1, rtol=1e-5)
    assert len(np.unique(q, axis=0)) == len(q)  # q moves from line to line
    np.testing.assert_allclose(np.sum(straight[0].q), 1, rtol=1e-5)


def test_the_last_time_is_the_end_and_none_falls_shortly_before():
    rhythm = Rhythm(total=23, images_per_step=8, log=5, save=7, evaluate=0)
    due = {every: [s for s in range(1, 24) if rhythm.due(every, s)] for every in (0, 5, 7, 11, 30)}
    assert due == {0: [], 5: [5, 10, 15, 20, 23], 7: [7, 14, 23], 11: [11, 23], 30: [23]}
