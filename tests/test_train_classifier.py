import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from quick import quick_jit
from toy_gan import quick_step

from fairjax.config import defaults
from fairjax.evaluate import features
from fairjax.objectives import draw, ratio
from fairjax.train import stopping
from fairjax.train.classifier import Classifier, probabilities
from fairjax.train.devices import put_batch, replicated
from fairjax.train.loop import Rhythm, run

BIASED, REFERENCE = (0.9, 0.1), (0.5, 0.5)
STEPS = 60
KEY = jax.random.key(0)


def classifier(steps=STEPS, **overrides):
    config = defaults().ratio
    config.update(width=2, stem="stride2", batch=64, flip=False, learning_rate=0.01)
    with config.unlocked():  # a judge's settings, too
        config.update(overrides)
    network = Classifier(config, resolution=8, channels=1, classes=2, steps=steps)
    network._program = quick_step(network._step)
    network._predict = quick_jit(network._logits)
    network.features = quick_jit(network._features)
    return network


@pytest.fixture(scope="module")
def network():
    return classifier()


def sets(n, seed):
    """n biased and n reference images [2 n, 8, 8, 1]: group 1 is bright below, 0 above; labels."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([rng.choice(2, n, p=p) for p in (BIASED, REFERENCE)])
    images = rng.integers(0, 100, (2 * n, 8, 8, 1))
    images[groups == 0, :4] += 120
    images[groups == 1, 4:] += 120
    return images.astype(np.uint8), np.repeat([0, 1], n), groups


@pytest.fixture(scope="module")
def first_state(network):
    """A function that gives a first state, laid out as in the loop (a step donates it)."""
    start = jax.device_get(quick_jit(network.init)(KEY))
    return lambda: jax.device_put(start, replicated())


def test_features_are_what_the_last_layer_sees(network, first_state):
    images = sets(20, 7)[0]
    variables = first_state().best
    found = np.asarray(network.features(variables, images))
    assert found.shape == (40, network.width)
    last = variables["params"]["out"]
    logits = found @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    np.testing.assert_allclose(logits, network.predict(variables, images), atol=1e-5)


def test_distances_in_a_judges_features_take_gray_images_as_they_are(network, first_state):
    images = sets(20, 7)[0]
    assert images.shape[-1] == 1
    variables = first_state().best
    judge = features.judge("colour", "digest", network.width, variables, network.features)
    np.testing.assert_allclose(
        features.extract(judge, images), network.features(variables, images), atol=1e-5
    )


def task_and_feed(network, images, labels, held):
    mass = np.full(len(held[1]), 1 / len(held[1]))
    table = draw.balanced([np.flatnonzero(labels == side) for side in (0, 1)], 64)

    def batches(start, stop):
        for step in range(start, stop):
            index = draw.draw(1, step, table)
            yield {"image": images[index], "index": index}

    return network.task("ratio", labels, lambda: (*held, mass)), batches


@pytest.fixture(scope="module")
def trained(network, tmp_path_factory):
    images, labels, _ = sets(1500, 0)
    held = sets(500, 1)[:2]
    task, batches = task_and_feed(network, images, labels, held)
    figures = []

    def evaluate(state, i):
        state, figure = task.evaluate(state, i)
        figures.append(figure["loss/held_out"])
        return state, figure

    watched = type(task)(task.name, task.init, task.step, evaluate)
    rhythm = Rhythm(STEPS, 64, log=20, save=20, evaluate=6)
    state = run(watched, batches, KEY, rhythm, tmp_path_factory.mktemp("ratio"))
    return state, figures, held


def test_learns_a_planted_density_ratio(network, trained):
    images, labels, groups = sets(1000, 2)
    two = network.predict(trained[0].best, images)
    logits = two[:, 1] - two[:, 0]
    value, error = ratio.balanced_log_loss(logits, labels == 1)
    bayes = oracles.bayes_log_loss(BIASED, REFERENCE)
    assert bayes - 4 * error < value < bayes + 0.03 < np.log(2)
    for group in (0, 1):
        true = np.log(REFERENCE[group] / BIASED[group])
        assert np.mean(logits[groups == group]) == pytest.approx(true, abs=0.4)


def test_the_best_held_out_parameters_are_kept(network, trained):
    state, figures, held = trained
    assert len(figures) == 10
    assert float(state.best_loss) == pytest.approx(min(figures))
    p = probabilities(network.predict(state.best, held[0]))
    loss = -np.log(p[np.arange(len(p)), held[1]]).mean()
    assert loss == pytest.approx(min(figures), rel=1e-4)


def test_a_worse_evaluation_changes_nothing(network, trained):
    state, _, held = trained
    task, _ = task_and_feed(network, *held, held)
    better = state.replace(best_loss=jnp.zeros(()))
    kept, _ = task.evaluate(better, 0)
    jax.tree.map(np.testing.assert_array_equal, kept.best, state.best)
    assert kept.best_loss == 0


def test_held_out_mass_weighs_the_images(network, trained):
    state, _, held = trained
    mass = np.zeros(len(held[1]))
    mass[[3, 800]] = [0.25, 0.75]
    task = network.task("ratio", held[1], lambda: (*held, mass))
    _, figures = task.evaluate(state, 0)
    now = {"params": state.params, "batch_stats": state.batch_stats}
    p = probabilities(network.predict(now, held[0][[3, 800]]))
    expected = -0.25 * np.log(p[0, held[1][3]]) - 0.75 * np.log(p[1, held[1][800]])
    assert figures["loss/held_out"] == pytest.approx(expected, rel=1e-4)


def test_predictions_do_not_depend_on_the_batch(network, trained):
    images = sets(5, 3)[0]
    whole = network.predict(trained[0].best, images, batch=10)
    assert whole.shape == (10, 2)
    np.testing.assert_allclose(network.predict(trained[0].best, images, batch=4), whole, atol=1e-5)
    assert network.predict(trained[0].best, images[:0]).shape == (0, 2)


def test_labels_are_looked_up_by_index(network, first_state):
    images, labels, _ = sets(32, 4)
    batch = put_batch({"image": images, "index": np.arange(64, dtype=np.int32)})
    accuracies = []
    for truth in (labels, 1 - labels, np.roll(labels, 32)):
        # As many labels as in the training above: the same program.
        task = network.task("ratio", np.resize(truth, 3000), lambda: None)
        accuracies.append(float(task.step(first_state(), batch, KEY, 0)[1]["accuracy/train"]))
    assert accuracies[0] == pytest.approx(1 - accuracies[1])
    assert accuracies[0] == pytest.approx(1 - accuracies[2])


def reached(first_state, **settings):
    """The images of two steps as they reach the network; all are bright on the left before."""
    seen = []

    class Recorder:
        def apply(self, variables, x, **kwargs):
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
            logits = x.mean((1, 2)) * variables["params"]["w"]
            return jnp.concatenate([logits, -logits], 1), {"batch_stats": {}}

    network = classifier(**settings)
    network.model = Recorder()
    image = np.zeros((64, 8, 8, 1), np.uint8)
    image[:, :, :4] = 255
    params = {"w": jnp.ones(())}
    state = first_state().replace(
        params=params, batch_stats={}, optimiser=network._optimiser.init(params), best={}
    )
    task = network.task("judge", np.zeros(64, int), lambda: None)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(64)}
    for i in range(2):
        state, _ = task.step(state, batch, KEY, i)
    jax.effects_barrier()
    return seen


def test_flips_are_drawn_anew_and_half_of_them(first_state):
    seen = reached(first_state, flip=True)
    turned = [x[:, 0, 0, 0] < 0 for x in seen]
    assert all(set(np.unique(x)) == {-1.0, 1.0} for x in seen)
    assert all(15 < t.sum() < 49 for t in turned)
    assert not np.array_equal(*turned)


def test_noise_and_filters_are_drawn_anew_for_as_many_images_as_asked(first_state):
    clean = reached(first_state, flip=False)[0]
    assert np.array_equal(reached(first_state, flip=False, augment_p=0.0)[0], clean)
    seen = reached(first_state, flip=False, augment_p=0.1)  # noise, and four bands
    changed = [(x != clean).any((1, 2, 3)) for x in seen]
    assert all(0.2 < c.mean() < 0.6 for c in changed)  # 1 - 0.9 ** 5 = 0.41 of 64
    assert not np.array_equal(*changed)
    assert all((x != clean).any((1, 2, 3)).all() for x in reached(first_state, augment_p=1.0))


def test_a_signal_before_the_first_evaluation_saves(network, tmp_path):
    handler = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stopping.install()
    images, labels, _ = sets(1500, 5)
    task, batches = task_and_feed(network, images, labels, (images[:64], labels[:64]))

    def terminated(start, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(start, stop)

    rhythm = Rhythm(4, 64, log=2, save=4, evaluate=4)
    try:
        with pytest.raises(stopping.Interrupted):
            run(task, terminated, KEY, rhythm, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, handler[0])
        signal.signal(signal.SIGINT, handler[1])
    assert run(task, batches, KEY, rhythm, tmp_path).step == 4


def test_probabilities_are_a_stable_softmax():
    p = probabilities(np.array([[1000.0, 1000.0, 0.0], [0.0, np.log(3), -1e5]], np.float32))
    np.testing.assert_allclose(p, [[0.5, 0.5, 0], [0.25, 0.75, 0]], rtol=1e-6)
    assert p.dtype == np.float64
