"""OccamNets in training: which images leave early, what survives a restart, what a run shows.

The trunk here is four convolutions, which compile in a tenth of the time; everything behind it is
the real thing. That of ResNet-18 is in `test_models_pretrained.py`.
"""

import csv
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles_occam
import pytest
from ml_collections import ConfigDict
from quick import quick_jit

from fairjax.classifier_config import defaults
from fairjax.errors import InputError
from fairjax.evaluate.figures import read_figures
from fairjax.experiments import robust_classification
from fairjax.models import occam
from fairjax.models.resnet import Conv3x3
from fairjax.objectives import draw
from fairjax.train import loop
from fairjax.train.group_classifier import Examples, GroupClassifier
from fairjax.train.selection import Held
from fairjax.validation import validate

KEY = jax.random.key(0)
N = 256
WORDS = {"model": "occam_resnet18", "width": 4, "batch": 32, "optimiser": "adam",
         "learning_rate": 0.01}  # fmt: skip


@pytest.fixture(autouse=True)
def short_compilation(monkeypatch):
    def trunk(width, stem, depth, x, train):
        maps = []
        for stage in range(4):
            layer = Conv3x3(width * 2, 2 if stage else 1, name=f"stage{stage}")
            x = nn.relu(layer(x))
            maps.append(x)
        return maps

    monkeypatch.setattr(occam, "trunk", trunk)
    monkeypatch.setattr(jax, "jit", quick_jit)


def images(seed):
    """(images, classes, which are easy): half of them have the colour of one of four classes, the
    others are noise, of which nothing can be learnt."""
    rng = np.random.default_rng(seed)
    y, easy = rng.integers(0, 4, N), rng.random(N) < 0.5
    x = rng.integers(0, 256, (N, 8, 8, 3)).astype(float)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])
    x[easy] = (0.3 * x + 0.7 * colours[y][:, None, None])[easy]
    return x.astype(np.uint8), y, easy


@pytest.mark.slow
def test_easy_images_leave_early_and_a_resumed_run_is_the_same(tmp_path):
    fit = defaults().fit
    fit.update(WORDS)
    net = GroupClassifier(fit, resolution=8, channels=3, classes=4, values=1, steps=160)
    x, y, _ = images(0)
    whole = lambda values: jnp.asarray(values, jnp.int32)
    share, nothing = jnp.full(4, 0.25), jnp.zeros(4)
    known = Examples(whole(y), whole(0 * y - 1), whole(y), jnp.ones(N), share, nothing)
    task = net.task("occam", known, Held(x, y, y))
    feed = loop.drawn(x, np.arange(N), draw.uniform(np.arange(N), 32), seed=1, batch=32)
    rhythm = lambda steps: loop.Rhythm(steps, 32, log=40, save=steps, evaluate=steps)
    run = lambda steps, folder: loop.run(task, feed, KEY, rhythm(steps), tmp_path / folder)
    state = run(160, "whole")
    run(60, "two")
    again = run(160, "two")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, again))
    assert state.memory["correct"].shape == (N, 4)  # a number for each image, however long it runs
    assert set(np.unique(state.memory["correct"])) >= {0, 1}

    x, y, easy = images(1)  # others of the same kind
    gates, logits = net.predict(state.best, x)
    left = np.array(oracles_occam.leaves_by(gates))
    assert (logits.argmax(1) == y)[easy].mean() > 0.95
    assert (logits.argmax(1) == y)[~easy].mean() < 0.4
    assert left[easy].mean() < left[~easy].mean() - 0.2


@pytest.mark.slow
def test_a_run_says_where_its_images_leave(tmp_path):
    tree = defaults()
    tree.name = "occam"
    tree.data.update(resolution=8, n_biased=120, n_judge_test=400)
    tree.fit.update(WORDS, epochs=4.0, evaluations=1)
    tree.arms = ConfigDict({"occam": {"sampler": "balanced", "objective": "group_dro"}})
    validate(tree)
    (tmp_path / "config.json").write_text(json.dumps(tree.to_dict(), default=list))
    page = robust_classification.run(tree, tmp_path).read_text()
    folder = tmp_path / "arms/occam/eval"
    figures = read_figures(folder / "metrics.json")
    with np.load(folder / "features.npz") as file:
        left = np.array(oracles_occam.leaves_by(file["features"]))
    with (folder / "predictions.csv").open() as file:
        red = np.array([row["target"] == "0" and row["colour"] == "0"
                        for row in csv.DictReader(file)])  # fmt: skip
    for j in (1, 2, 3):
        assert figures[f"exit/{j}/all/test"].value == pytest.approx((left == j).mean())
        mine = figures[f"exit/{j}/small, red/test"]
        assert (mine.value, mine.n) == (pytest.approx((left[red] == j).mean()), red.sum())
    assert "leave by exit 1" in page
    assert "small, red" in page


def test_slots_that_it_cannot_have_are_refused_together():
    tree = defaults()
    words = {"mmd": 1.0, "transform": "mixup", "head": "crt", "weights": "lff"}
    tree.arms = ConfigDict({"occam": WORDS | words | {"occam_thresholds": (0.5, 0.6)}})
    with pytest.raises(InputError) as error:
        validate(tree)
    first = "fit.mmd (=1.0) must be 0.0 with fit.model=occam_resnet18"
    last = "fit.occam_thresholds (=(0.5, 0.6)) must be four numbers"
    for said in (first, "fit.transform", "fit.head", "fit.weights", last):
        assert said in str(error.value)
