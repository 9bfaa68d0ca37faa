"""Distances within the classes of a judge, on features with a known answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from fairjax.evaluate import features
from fairjax.evaluate.distances import kid
from fairjax.evaluate.manifold import manifold_figures
from fairjax.evaluate.measured import Measured, Rows, fair_part
from fairjax.evaluate.moments import moments
from fairjax.experiments.observed import Observed
from fairjax.experiments.yardstick import Yardstick


def yardstick(truth):
    """A yardstick with one judge whose reference images have these true classes."""
    bare = object.__new__(Yardstick)
    bare._judges = [SimpleNamespace(label="hair", classes=("short", "long", "none"))]
    bare._reference = np.arange(len(truth))
    bare._dataset = SimpleNamespace(classes=lambda names, positions: truth[positions])
    return bare


def test_each_class_is_compared_with_its_own_reference_images():
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    theirs = rng.normal(size=(200, 8)) + 3 * truth[:, None]
    decided = np.repeat([0, 1], [120, 60])
    ours = rng.normal(size=(180, 8)) + np.where(decided, 2.0, 0.0)[:, None]  # class 1 is off
    judged = {"hair": np.eye(3)[decided]}
    found = list(yardstick(truth)._by_class("f", Rows(ours), Rows(theirs), np.arange(200), judged,
                                            full=True))  # fmt: skip
    quality = ("precision", "recall", "density", "coverage")
    for k, (part, of) in enumerate(((ours[:120], 0), (ours[120:], 1))):
        expected = manifold_figures(f"f/hair/{k}", part, theirs[of::2])
        assert [f[:5] for f in found[5 * k + 1 : 5 * k + 5]] == [f[:5] for f in expected]
        assert [f.name for f in found[5 * k + 1 : 5 * k + 5]] == [
            f"{q}/f/hair/{k}" for q in quality
        ]
    first, second = found[0], found[5]
    assert (first.name, second.name) == ("kid/f/hair/0", "kid/f/hair/1")
    assert (first.n, second.n) == (120, 60)
    assert second.value == pytest.approx(kid(ours[120:], theirs[1::2])[0])
    assert abs(first.value) < 0.2 * second.value
    assert "long" in second.note


def test_a_class_with_few_samples_or_references_has_no_figure():
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [100, 20, 100])
    decided = np.repeat([0, 1, 2], [29, 100, 100])
    ours, theirs = rng.normal(size=(229, 4)), rng.normal(size=(220, 4))
    judged = {"hair": np.eye(3)[decided]}
    found = yardstick(truth)._by_class("f", Rows(ours), Rows(theirs), np.arange(220), judged,
                                       full=False)  # fmt: skip
    names = [f.name for f in found]
    assert names == ["kid/f/hair/2"]


def test_fewer_features_than_samples_take_the_first():
    """Only the first images go through the feature network; the judge has seen all."""
    rng = np.random.default_rng(2)
    decided = np.repeat([0, 1], [50, 500])
    judged = {"hair": np.eye(3)[decided]}
    truth = np.zeros(300, int)
    ours, theirs = rng.normal(size=(60, 4)), rng.normal(size=(40, 4))
    found = yardstick(truth)._by_class("f", Rows(ours), Rows(theirs), np.arange(40), judged,
                                       full=False)  # fmt: skip
    assert [(f.name, f.n) for f in found] == [("kid/f/hair/0", 50)]


def test_a_part_of_a_sorted_set_has_the_shares_of_the_whole():
    """Reference images lie sorted by folder: the first 300 of 1,000 would be of one class only."""
    truth, networks = np.repeat([0, 1], 500), [(SimpleNamespace(name="f"), 300)]
    bare = yardstick(truth)
    bare._held, bare._networks, seen = {}, networks, []
    images = np.random.default_rng(4).normal(size=(1000, 4)) + truth[:, None]

    def measured(network, which, positions):
        seen.append(positions)
        return Measured(Rows(images[positions]), moments(images[positions]))

    bare._measured = measured
    ours = Measured(Rows(images), moments(images))
    decided = {"hair": np.eye(3)[truth]}
    found = bare.quality(Observed(images, decided, {}, {"f": ours}))
    kids = {f.name: f for f in found if f.name.startswith("kid/")}
    (positions,) = seen
    assert len(positions) == 300
    assert abs(truth[positions].mean() - 0.5) < 0.08
    assert set(kids) == {"kid/f", "kid/f/hair/0", "kid/f/hair/1"}
    for k in (0, 1):  # each class beside its own
        expected = kid(images[truth == k], images[positions][truth[positions] == k])[0]
        assert kids[f"kid/f/hair/{k}"].value == pytest.approx(expected)


def test_during_training_the_trained_features_are_used_where_asked(monkeypatch):
    rng = np.random.default_rng(5)
    images, samples = rng.normal(size=(50, 4)), rng.normal(size=(60, 4)) + 1
    bare = yardstick(np.zeros(50, int))
    bare._networks = [(SimpleNamespace(name="f"), 40), (SimpleNamespace(name="random_conv"), 1000)]
    bare._random_reference = images
    bare._measured = lambda network, which, at: Measured(Rows(images[at]), moments(images[at]))
    monkeypatch.setattr(features, "extract", lambda network, x: x)
    plain = kid(samples, images)[0]
    expected = kid(samples[:40], images[fair_part(np.arange(50), 40)])[0]
    for asked, values in ((False, [plain]), (True, [plain, expected])):
        bare._config = SimpleNamespace(eval=SimpleNamespace(features_during=asked))
        found = list(bare.quality_during(samples))
        assert [f.name for f in found] == ["kid/random_conv", "kid/f"][: len(values)]
        assert [f.value for f in found] == pytest.approx(values)


def test_copies_of_one_class_are_seen_in_that_class():
    """Of 400 samples the 60 of class 1 copy training images: few in all, all of their class."""
    rng = np.random.default_rng(3)
    images = rng.normal(size=(500, 6))  # 300 for training, 200 held out
    truth = np.arange(500) % 2
    bare = yardstick(truth)
    bare._dataset.training, bare._dataset.images = np.arange(300), images
    bare._held = {"reference": np.arange(300, 350), "biased": np.arange(350, 500)}
    bare._random = lambda positions: images[positions]
    bare._config = SimpleNamespace(eval=SimpleNamespace(feature_samples=1000))
    samples = rng.normal(size=(400, 6))
    samples[:60] = images[:60] + 1e-3
    judged = {"hair": np.eye(3)[np.repeat([1, 0], [60, 340])]}
    seen = Observed(samples, judged, {}, {"random_conv": Measured(Rows(samples), moments(samples))})
    figures, pairs = bare.neighbours(seen, show=4)
    found = {f.name.removeprefix("memorisation/random_conv"): f for f in figures}
    assert list(found) == ["", "/hair/0", "/hair/1"]
    assert found["/hair/1"].value == 1
    assert found["/hair/0"].value < 0.15
    assert found[""].value < 0.35
    assert "long" in found["/hair/1"].note
    assert pairs["distance"].max() < 0.01
