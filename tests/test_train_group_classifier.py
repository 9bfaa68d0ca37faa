"""Steps of `robust_classification` against float64, and what survives a restart."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles_groups
import pytest
from quick import quick_jit

from fairjax.classifier_config import defaults
from fairjax.objectives import draw
from fairjax.train import loop, transforms
from fairjax.train.group_classifier import Examples, GroupClassifier
from fairjax.train.selection import Held

KEY = jax.random.key(0)
SIZES = np.array([60, 6, 30, 4])


def classifier(**overrides):
    fit = defaults().fit
    fit.update(model="linear", batch=8, learning_rate=0.3, weight_decay=0.01)
    fit.update(overrides)
    made = GroupClassifier(fit, resolution=4, channels=1, classes=2, values=2, steps=200)
    made.program = quick_jit(made._step, donate_argnums=0)
    made._forward = quick_jit(made.outputs)
    return made


@pytest.fixture(scope="module")
def data():
    """100 images; groups y * 2 + a of very different sizes; a brightens the left, y the top."""
    group = np.repeat(np.arange(4), SIZES)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 130, (100, 4, 4, 1))
    images[group // 2 == 1, :2] += 60
    images[group % 2 == 1, :, :2] += 120
    return images.astype(np.uint8), group


def known(group, c=0.0, a=None, weight=None):
    put = lambda x, dtype: jnp.asarray(np.asarray(x), dtype)
    return Examples(
        put(group // 2, jnp.int32), put(group % 2 if a is None else a, jnp.int32),
        put(group, jnp.int32), put(np.ones(len(group)) if weight is None else weight, jnp.float32),
        put(SIZES / SIZES.sum(), jnp.float32), put(c / np.sqrt(SIZES), jnp.float32),
    )  # fmt: skip


class Watched:
    """Images that count how many are asked for at once."""

    def __init__(self, images):
        self.images, self.shape, self.asked = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        found = self.images[rows]
        self.asked.append(len(found))
        return found


def test_images_are_predicted_and_validated_a_batch_at_a_time(data):
    """A memory map of millions of images never is in memory as a whole."""
    images, group = data
    net, rows, of = classifier(), np.arange(90, 10, -3), Watched(images)
    state = net.init(KEY, jnp.full(4, 0.25))
    found = net.predict(state.best, of, rows, batch=8)
    assert max(of.asked) == 8
    for some, whole in zip(found, net.predict(state.best, images), strict=True):
        np.testing.assert_allclose(some, whole[rows], atol=1e-6)
    target, group = group[rows] // 2, group[rows]
    few, copied = (net.task("held", known(data[1]), held).evaluate(state, 0)[1] for held in (
        Held(of, target, group, rows), Held(images[rows], target, group)))  # fmt: skip
    assert few == pytest.approx(copied)


def batch_of(images, index):
    return {"image": jnp.asarray(images[index]), "index": jnp.asarray(index, jnp.int32)}


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_200_steps_of_group_dro_are_those_of_the_formulas(absent, data):
    """Whole steps, gradient and l2 included, on batches of 8 that lack groups most of the time."""
    images, group = data
    c = np.array([2.0, 2.0, 0.0, 1.0])
    net = classifier(objective="group_dro", dro_eta=0.2, dro_absent=absent)
    state = net.init(KEY, jnp.full(4, 0.25))
    sizes = lambda state: [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    before = sizes(state)
    head = jax.device_get(state.params["head"])
    oracle = oracles_groups.GroupDro(
        head["kernel"], head["bias"], np.full(4, 0.25), SIZES, eta=0.2, c=c, absent=absent,
        rate=0.3, momentum=0.9, decay=0.01,
    )  # fmt: skip
    labels, rng, lacking = known(group, c), np.random.default_rng(1), 0
    for step in range(200):
        index = rng.choice(100, 8)
        lacking += len(np.unique(group[index])) < 4
        state, logs = net.program(state, batch_of(images, index), labels, KEY)
        x = images[index].reshape(8, -1) / 127.5 - 1
        loss = oracle.update(x, group[index] // 2, group[index])
        assert float(logs["loss/objective"]) == pytest.approx(loss, rel=2e-3, abs=1e-4), step
        np.testing.assert_allclose(state.q, oracle.q, rtol=2e-3)
        assert float(logs["q/1"]) == state.q[1]
    assert lacking > 150
    assert sizes(state) == before  # nothing grows (Sagawa's code kept gradients alive in q)
    np.testing.assert_allclose(state.params["head"]["kernel"], oracle.theta[0], atol=2e-3)
    assert np.abs(oracle.q - 0.25).max() > 0.1


def test_steps_of_lff_are_those_of_the_formulas(data):
    """Both networks, their l2 and momentum, averaged losses and weights; images occur twice."""
    images, group = data
    net = classifier(weights="lff", lff_q=0.6, lff_momentum=0.8)
    state, labels = net.init(KEY, jnp.full(4, 0.25), 100), known(group)
    rng = np.random.default_rng(2)
    heads = [jax.device_get(p["head"]) for p in (state.biased.params, state.params)]
    oracle = oracles_groups.Lff(
        *([head["kernel"], head["bias"]] for head in heads), q=0.6, memory=0.8, rate=0.3,
        momentum=0.9, decay=0.01,
    )  # fmt: skip
    assert not np.array_equal(heads[0]["kernel"], heads[1]["kernel"])
    shapes = lambda state: [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    before, twice = shapes(state), 0
    for step in range(50):
        index = rng.choice(40 if step < 25 else 100, 8)  # some are seen late, some of them never
        twice += len({*index}) < 8
        state, logs = net.program(state, batch_of(images, index), labels, KEY)
        weights = oracle.update(images[index].reshape(8, -1) / 127.5 - 1, group[index] // 2, index)
        assert float(logs["lff/weight"]) == pytest.approx(weights.mean(), rel=2e-3), step
    assert twice > 10
    assert shapes(state) == before
    for params, theta in zip((state.biased.params, state.params), oracle.theta, strict=True):
        np.testing.assert_allclose(params["head"]["kernel"], theta[0], atol=2e-3)
    for found, seen in zip(state.biased.losses, oracle.seen, strict=True):
        expected = [seen[i][0] if i in seen else -1 for i in range(100)]
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-3)


def shortcut(n, share, rng):
    """Images of 5 classes: the class is a faint pixel, and in `share` of them a bright one says the
    same; in the others it says another class. (Images, class, what the bright one says.)"""
    y = np.arange(n) % 5
    a = np.where(rng.random(n) < share, y, (y + rng.integers(1, 5, n)) % 5)
    pixels = rng.integers(0, 100, (n, 16))
    pixels[np.arange(n), a] += 120
    pixels[np.arange(n), 8 + y] += 50
    return pixels.reshape(n, 4, 4, 1).astype(np.uint8), y, a


@pytest.mark.slow
def test_lff_learns_what_the_shortcut_hides():
    """95 % of the training images have the shortcut; the worse group of the test images lacks it.
    Neither of the two is told which images those are."""
    rng = np.random.default_rng(0)
    images, y, _ = shortcut(1000, 0.95, rng)
    tests, truth, said = shortcut(1000, 0.5, rng)
    labels = Examples(
        *(jnp.asarray(y, jnp.int32),) * 3, jnp.ones(1000), jnp.full(5, 0.2), jnp.zeros(5)
    )
    index = jnp.asarray(np.random.default_rng(1).integers(0, 1000, (500, 64)), jnp.int32)
    worst = {}
    for weights in ("none", "lff"):
        fit = defaults().fit
        fit.update(model="mlp", width=2, batch=64, optimiser="adam", learning_rate=0.01,
                   weight_decay=1e-3, weights=weights)  # fmt: skip
        net = GroupClassifier(fit, resolution=4, channels=1, classes=5, values=5, steps=500)

        def train(state, net=net):
            batch = lambda i: {"image": jnp.asarray(images)[i], "index": i}
            step = lambda state, i: (net._step(state, batch(i), labels, KEY)[0], None)
            return jax.lax.scan(step, state, index)[0]

        state = jax.jit(train)(net.init(KEY, jnp.full(5, 0.2), 1000))
        right = net.predict(state.params | {"stats": state.stats}, tests)[1].argmax(1) == truth
        worst[weights] = min(right[said == truth].mean(), right[said != truth].mean())
    assert worst["lff"] > worst["none"] + 0.15, worst


@pytest.mark.parametrize("words", [{"objective": "group_dro", "dro_eta": 0.2}, {"weights": "lff"}])
def test_what_a_method_remembers_is_saved_and_a_resumed_run_is_the_same(words, data, tmp_path):
    images, group = data
    net = classifier(evaluations=1, **words)
    task = net.task("dro", known(group), Held(images, group // 2, group))
    sets = [np.flatnonzero(group == g) for g in range(4)]
    table = draw.balanced(sets, 8)
    feed = loop.drawn(images, np.arange(100), table, seed=3, batch=8)
    rhythm = lambda total: loop.Rhythm(total, 8, log=5, save=total, evaluate=10)
    whole = loop.run(task, feed, KEY, rhythm(20), tmp_path / "whole")
    loop.run(task, feed, KEY, rhythm(10), tmp_path / "two")
    again = loop.run(task, feed, KEY, rhythm(20), tmp_path / "two")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, again))
    if whole.biased is None:
        assert not np.allclose(whole.q, 0.25)
    else:
        assert (whole.biased.losses >= 0).any(1).all()


def one_step(net, data, index, labels):
    """(head before, state and logs after)."""
    state = net.init(KEY, jnp.full(4, 0.25), len(data[1]))
    before = np.asarray(state.params["head"]["kernel"])
    return before, *net.program(state, batch_of(data[0], index), labels, KEY)


def test_equal_words_give_equal_steps(data):
    """Mining of all, gamma = 0, alpha = 1, k = batch, no multiplier, a late start: plain."""
    index, labels = np.arange(0, 96, 12), known(data[1])
    before, plain, _ = one_step(classifier(), data, index, labels)
    assert np.abs(before - plain.params["head"]["kernel"]).max() > 1e-3
    for words in (
        {"mine": 8, "loss": "focal", "focal_gamma": 0.0, "objective": "cvar", "cvar_alpha": 1.0},
        {"objective": "top_k", "top_k": 8, "gap": "odds", "gap_form": "constraint",
         "gap_rate": 1e-9, "spectral": 1.0, "spectral_start": 0.5},
    ):  # fmt: skip
        _, other, _ = one_step(classifier(**words), data, index, labels)
        np.testing.assert_allclose(
            other.params["head"]["kernel"], plain.params["head"]["kernel"], atol=1e-6
        )


@pytest.mark.parametrize(("done", "factor"), [(0.0, 1.0), (0.5, 4.0)])
def test_a_step_of_irm_follows_the_gradient_of_the_formula(done, factor, data):
    """(mean loss + factor x penalty) / factor; by central differences in float64."""
    index, lr = np.arange(0, 96, 6), 0.5
    net = classifier(irm=4.0, irm_environments="groups", irm_start=0.3, momentum=0.0,
                     weight_decay=0.0, learning_rate=lr)  # fmt: skip
    state = net.init(KEY, jnp.full(4, 0.25)).replace(step=jnp.asarray(int(200 * done), jnp.int32))
    head = {k: np.asarray(v, np.float64) for k, v in state.params["head"].items()}
    after, _ = net.program(state, batch_of(data[0], index), known(data[1]), KEY)
    x, g = data[0][index].reshape(16, -1) / 127.5 - 1, data[1][index]
    loss = lambda f, rows: oracles_groups.cross_entropy(f[rows], g[rows] // 2).mean()

    def objective(kernel):
        f = x @ kernel + head["bias"]
        risks = [lambda w, rows=(g == e): loss(w * f, rows) for e in np.unique(g)]
        return (loss(f, slice(None)) + factor * oracles_groups.invariance(risks)) / factor

    for i, j in ((0, 0), (5, 1), (9, 0)):
        step = np.zeros_like(head["kernel"])
        step[i, j] = 1e-4
        slope = (objective(head["kernel"] + step) - objective(head["kernel"] - step)) / 2e-4
        moved = float(after.params["head"]["kernel"][i, j]) - head["kernel"][i, j]
        assert moved == pytest.approx(-lr * slope, rel=1e-2, abs=1e-5)


@pytest.mark.slow
def test_every_word_of_a_slot_takes_finite_steps_with_a_group_and_an_attribute_missing(data):
    index = np.arange(8)  # one group only
    unknown = np.where(np.arange(100) < 4, -1, data[1] % 2)
    for words in (
        {"objective": "max", "loss": "binary", "optimiser": "adam", "transform": "fgsm",
         "gap": "odds", "mmd": 1.0, "irm": 10.0},
        {"transform": "lisa", "l1": 0.1, "spectral": 0.1},
        {"objective": "cvar_groups", "loss": "hinge", "transform": "pgd", "attack_steps": 2,
         "adversary": 1.0, "adversary_given": "target", "weights": "lff",
         "weights_normalise": "batch"},
        {"gap": "opportunity", "spectral": 0.1, "spectral_gamma": (0.5, 1.0), "mine": 4,
         "mine_by": "proportional", "adversary": 1.0, "adversary_on": "logits"},
    ):  # fmt: skip
        made = one_step(classifier(**words), data, index, known(data[1], a=unknown))
        before, state, logs = made
        leaves = jax.tree.leaves((state.params, logs))
        assert all(bool(jnp.isfinite(x).all()) for x in leaves), words
        assert not np.array_equal(state.params["head"]["kernel"], before)


@pytest.mark.parametrize("model", ["resnet18", "occam_resnet18"])
def test_a_step_of_a_resnet_keeps_the_shapes_of_its_state_and_moves_its_statistics(model, data):
    net = classifier(model=model, width=2, stem="small")
    before = jax.eval_shape(net.init, KEY, jnp.full(4, 0.25))
    batch = batch_of(data[0], np.arange(8))
    after, _ = jax.eval_shape(net._step, before, batch, known(data[1]), KEY)
    # With a weak type that is lost in the step, a program would be compiled twice.
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    assert shapes(after) == shapes(before)
    assert shapes(before.best["stats"]) == shapes(before.stats)
    assert "mean" in before.stats["stem_norm"]


def test_the_multiplier_rises_until_the_gap_is_closed(data):
    net = classifier(gap="parity", gap_form="constraint", gap_slack=0.05, gap_rate=1.0)
    free = classifier()
    last = []
    for one in (net, free):
        state = one.init(KEY, jnp.full(4, 0.25))
        labels = known(data[1])
        for _ in range(100):
            state, logs = one.program(state, batch_of(data[0], np.arange(100)), labels, KEY)
        p = oracles_groups.softmax(np.asarray(one.predict(state.best | {
            "head": state.params["head"]}, data[0])[1], np.float64))[:, 1]  # fmt: skip
        last.append(abs(p[data[1] % 2 == 1].mean() - p[data[1] % 2 == 0].mean()))
    assert last[0] < 0.08 < last[1]


@pytest.mark.slow
def test_the_adversary_ends_near_chance_where_its_gradient_is_reversed():
    """Beside one that only watches (a factor of nearly 0); y is learnt all the same."""
    group = np.arange(400) % 4
    images = np.random.default_rng(0).integers(0, 130, (400, 4, 4, 1))
    images[group // 2 == 1, :2] += 80
    images[group % 2 == 1, :, :2] += 45
    images, found, labels = images.astype(np.uint8), {}, known(group)
    for factor in (1e-9, 1.0):
        net = classifier(model="mlp", width=2, adversary=factor, learning_rate=0.03,
                         weight_decay=1e-3, adversary_learning_rate=3e-3)  # fmt: skip
        state, right = net.init(KEY, jnp.full(4, 0.25)), []
        for step in range(400):
            index = np.arange(64) + (64 * step) % 320
            state, logs = net.program(state, batch_of(images, index), labels, KEY)
            right.append(logs["adversary/accuracy"][0] / logs["adversary/accuracy"][1])
        logits = net.predict(state.params | {"stats": {}}, images)[1]
        assert (logits.argmax(1) == group // 2).mean() > 0.97
        found[factor] = np.mean(right[-100:])
    assert found[1e-9] > 0.75
    assert found[1.0] < 0.6, found


def test_attacks_raise_the_loss_within_their_bounds():
    x = jnp.linspace(-1, 1, 12).reshape(1, 2, 2, 3)
    slope = jax.grad(lambda x: jnp.square(x - 0.3).sum())
    for steps in (1, 7):
        worse = transforms.attacked(x, slope, 0.1, steps)
        assert float(jnp.abs(worse - x).max()) == pytest.approx(0.1, abs=1e-6)
        assert float(jnp.abs(worse).max()) <= 1
        assert jnp.square(worse - 0.3).sum() > jnp.square(x - 0.3).sum()


def test_mixed_images_and_losses_have_the_same_shares():
    """With a loss that is linear in the image, that of mixed images is the mixed loss."""
    fit = defaults().fit
    fit.transform = "mixup"
    x = jax.random.uniform(KEY, (6, 2, 2, 1))
    y = jnp.arange(6)
    seen = transforms.view(fit, KEY, x, y, y, lambda x: x.sum())
    whole = seen.reduce(lambda target, rows: x.sum((1, 2, 3))[target])
    np.testing.assert_allclose(seen.images.sum((1, 2, 3)), whole, rtol=1e-5)
    assert float(jnp.abs(seen.images - x).max()) > 0.01


def test_partners_of_lisa_share_the_class_or_the_attribute():
    y, a = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 0, 1, -1, 1])
    for within in (True, False):
        j = np.asarray(transforms.partners(KEY, jnp.asarray(y), jnp.asarray(a), within))
        assert j[4] == 4  # unknown: itself
        rest = [0, 1, 2, 3, 5]
        same, other = (y, a) if within else (a, y)
        assert (same[j[rest]] == same[rest]).all()
        assert (other[j[rest]] != other[rest]).all()


def of_accuracy(net, images, share):
    """Held images of which a fresh network is right about this share."""
    state = net.init(KEY, jnp.full(4, 0.25))
    right = net.predict(state.best, images)[1].argmax(1)
    target = np.where(np.arange(len(images)) < share * len(images), right, 1 - right)
    return Held(images, target, np.arange(len(images)) % 2)


@pytest.mark.parametrize(("select", "share"), [("worst_group", 0.0), ("average", 0.9)])
def test_training_ends_when_patience_does(select, share, data, tmp_path):
    """An accuracy of 0.9 is less in float32, which the state keeps, than in float64."""
    images, group = data
    net = classifier(select=select, patience=2, learning_rate=1e-9, weight_decay=0.0)
    task = net.task("stale", known(group), of_accuracy(net, images, share))
    table = draw.uniform(np.arange(100), 8)
    feed = loop.drawn(images, np.arange(100), table, seed=3, batch=8)
    for _ in range(2):  # the second call finds it finished
        state = loop.run(task, feed, KEY, loop.Rhythm(50, 8, log=5, save=50, evaluate=5), tmp_path)
        assert int(state.step) == 15  # one evaluation that counts, two without a better one
