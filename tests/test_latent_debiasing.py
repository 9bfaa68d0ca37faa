"""De-biasing through a generator's latents, from a folder of images to the page."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
import toy_generator
from ml_collections import ConfigDict
from PIL import Image

from fairjax.classifier_config import defaults, source_config, tiny
from fairjax.data.dataset import load
from fairjax.data.prepare import prepare
from fairjax.data.synthetic import Joined
from fairjax.errors import InputError
from fairjax.evaluate.figures import read_figures
from fairjax.experiments import (
    config_line,
    fit_stage,
    latent_debiasing,
    robust_classification,
)
from fairjax.validation import validate

ARMS = {
    "erm": {},
    "erm_pairs": {"synthetic": "pairs", "synthetic_weight": 0.5},
    "fair": {"synthetic": "samples", "real": False},
}
COUNTS = {"biased": (90, 10, 10, 90), "reference": (12, 12, 12, 12), "judge": (50, 50, 50, 50)}


def colours(folder):
    """Pictures of one colour each, red or not and blue or not, with a table of which they are."""
    rng = np.random.default_rng(0)
    rows = []
    for part, counts in COUNTS.items():
        (folder / part).mkdir(parents=True)
        for group, n in enumerate(counts):
            for i in range(n):
                light = np.array([group // 2, 0, group % 2]) * 120 + rng.integers(0, 100, 3)
                noise = rng.integers(0, 30, (8, 8, 3))
                name = f"{part}{group}_{i}.png"
                Image.fromarray((light + noise).astype(np.uint8)).save(folder / part / name)
                rows.append(
                    [name, "red" if group // 2 else "dull", "blue" if group % 2 else "grey"]
                )
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "red", "blue"], *rows])


def config(folder):
    tree = defaults()
    tree.name = "latent"
    tiny(tree)
    tree.data.update(source="folder", group_attributes=("red", "blue"))
    tree.data.folder.update(
        biased=(str(folder / "biased"),), reference=(str(folder / "reference"),),
        judge=(str(folder / "judge"),), attributes=str(folder / "labels.csv"),
    )  # fmt: skip
    tree.fit.update(model="linear", epochs=5.0, learning_rate=0.05)
    tree.latent.update(generator=str(folder / "generator"), fit=600, pairs=70, epochs=10.0)
    tree.arms = ConfigDict(ARMS)
    return tree


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent")
    colours(folder)
    toy_generator.save(folder / "generator", toy_generator.two_colours())
    return folder


@pytest.fixture(scope="module")
def run(made):
    tree, workdir = config(made), made / "run"
    validate(tree)
    config_line.check_form(tree)
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(tree.to_dict(), default=list))
    page = robust_classification.run(tree, workdir)
    return tree, workdir, page.read_text()


def test_every_image_of_the_folders_trains_validates_or_tests(tmp_path):
    """Whatever the shares are that the generator's experiment holds out of them."""
    colours(tmp_path)
    tree = config(tmp_path)
    tree.data.folder.update(holdout=0.3, judge_test_share=0.2)
    dataset = prepare(source_config(tree), tmp_path / "data", lambda line: None)
    sizes = {role: len(positions) for role, positions in dataset.roles.items() if len(positions)}
    given = [sum(COUNTS[part]) for part in ("biased", "reference", "judge")]
    assert sizes == dict(zip(("train_biased", "train_reference", "judge_test"), given, strict=True))


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_pairs_are_kept_by_latent_with_the_labels_that_were_seen(run):
    tree, workdir, page = run
    rows = table(workdir / "pairs/pairs.csv")
    assert [int(row["latent"]) for row in rows] == list(range(600, 670))
    record = json.loads((workdir / "pairs/pairs.json").read_text())
    assert (record["flip"], record["keep"], record["space"]) == (["blue"], ["red"], "w")
    right = [row["blue_before"] != row["blue_after"] and row["red_before"] == row["red_after"]
             for row in rows]  # fmt: skip
    assert [row["handed_on"] == "1" for row in rows] == right
    assert 30 < sum(right) < 70
    assert record["figures"]["pair_rate"]["value"] == pytest.approx(np.mean(right))
    dataset = load(workdir / "data")
    real = len(dataset.ids)
    generated = latent_debiasing.with_generated(tree, dataset, workdir / "pairs")
    of_pairs = generated.roles["pairs"]
    assert len(of_pairs) == 2 * sum(right)
    assert of_pairs.min() >= real
    for name, words in (("red", ("dull", "red")), ("blue", ("blue", "grey"))):
        seen = generated.classes((name,), of_pairs)
        titles = generated.class_names((name,))
        assert {*titles} == {*words}
        for position, value in zip(of_pairs, seen, strict=True):
            _, latent, *edited = generated.ids[position].split("/")
            row = rows[int(latent) - 600]
            assert titles[value] == row[f"{name}_{'after' if edited else 'before'}"]
            image = generated.images[[position]][0]
            file = np.load(workdir / "pairs" / ("edited.npy" if edited else "images.npy"))
            np.testing.assert_array_equal(image, file[int(latent) - 600])
    # Half of the pairs' images are blue, whatever the bias of the samples.
    assert np.mean(generated.classes(("blue",), of_pairs)) == 0.5
    assert "came out so" in page


@pytest.mark.slow
def test_assumed_labels_are_those_of_the_paper(run):
    tree, workdir, _ = run
    other = ConfigDict(tree.to_dict())
    other.latent.labels = "assumed"
    dataset = latent_debiasing.with_generated(other, load(workdir / "data"), workdir / "pairs")
    first, second = np.split(dataset.roles["pairs"], 2)
    assert len(first) == 70
    for name, flips in (("red", False), ("blue", True)):
        a, b = (dataset.classes((name,), part) for part in (first, second))
        np.testing.assert_array_equal(a != b, np.full(70, flips))


@pytest.mark.slow
def test_who_trains_on_what_and_with_which_weight(run):
    tree, workdir, _ = run
    dataset = latent_debiasing.with_generated(tree, load(workdir / "data"), workdir / "pairs")
    sizes = {"erm": (200, 0), "erm_pairs": (200, len(dataset.roles["pairs"])), "fair": (0, 70)}
    for arm, (real, generated) in sizes.items():
        part, weight = fit_stage.training(robust_classification.with_arm(tree, arm), dataset)
        assert len(part.target) == real + generated
        own = 0.5 if arm == "erm_pairs" else 1.0
        np.testing.assert_array_equal(weight, [1.0] * real + [own] * generated)
        assert (part.positions < len(load(workdir / "data").ids)).sum() == real


@pytest.mark.slow
def test_changes_are_those_of_the_predictions(run):
    _, workdir, page = run
    found = read_figures(workdir / "changes/metrics.json")
    assert {name.split("/change/")[0] for name in found} == {
        "erm/erm_pairs", "erm/fair", "fair/erm_pairs"}  # fmt: skip
    worst = {}
    for arm in ("erm", "erm_pairs"):
        rows = table(workdir / f"arms/{arm}/eval/predictions.csv")
        of = lambda t, g, rows=rows: [r["target"] == r["decision"] for r in rows
                                      if (r["target"], r["blue"]) == (t, g)]  # fmt: skip
        rates = {(t, g): np.mean(of(t, g)) for t in "01" for g in "01"}
        worst[arm] = min(rates.values())
        figures = read_figures(workdir / f"arms/{arm}/eval/metrics.json")
        assert figures["worst_group_accuracy/test"].value == pytest.approx(worst[arm])
        deo = figures["equal_opportunity_difference/blue"].value
        assert deo == pytest.approx(abs(rates["1", "0"] - rates["1", "1"]))
    change = found["erm/erm_pairs/change/worst_group_accuracy/label+blue"]
    assert change.value == pytest.approx(worst["erm_pairs"] - worst["erm"])
    assert change.low <= change.value <= change.high
    assert "erm → erm_pairs" in page


@pytest.mark.slow
def test_a_rerun_does_nothing_and_a_lost_stage_comes_back_alike(run):
    tree, workdir, _ = run
    done = {path: path.stat().st_mtime_ns for path in workdir.rglob("DONE")}
    robust_classification.run(tree, workdir)
    assert done == {path: path.stat().st_mtime_ns for path in workdir.rglob("DONE")}
    before = json.loads((workdir / "pairs/DONE").read_text())
    for file in (workdir / "pairs").iterdir():
        file.unlink()
    robust_classification.run(tree, workdir)
    after = json.loads((workdir / "pairs/DONE").read_text())
    assert {k: v for k, v in before.items() if k != "seconds"} == {
        k: v for k, v in after.items() if k != "seconds"}  # fmt: skip
    for arms in ({"plain": {}} | ARMS, ARMS):  # one more arm, and without it again
        tree.arms = ConfigDict(arms)
        robust_classification.run(tree, workdir)
        compared = {n.split("/change/")[0] for n in read_figures(workdir / "changes/metrics.json")}
        assert ("erm/plain" in compared) == ("plain" in arms)
    other = ConfigDict(tree.to_dict())
    other.latent.space = "z"
    with pytest.raises(InputError, match="stage pairs was run with latent.space = 'w', now 'z'"):
        robust_classification.run(other, workdir)


@pytest.mark.slow
def test_a_generator_that_was_trained_again_is_told(run, made):
    tree, workdir, _ = run
    folder, before = made / "generator", made / "before"
    folder.rename(before)
    robust_classification.run(tree, workdir)  # gone: what it drew is there
    other = toy_generator.two_colours()
    params = jax.tree.map(lambda leaf: leaf * 1.5, other.params)
    toy_generator.save(folder, other._replace(params=params))
    robust_classification.run(tree, workdir, "report")  # of what is there
    more = ConfigDict(tree.to_dict())
    more.arms = ConfigDict({"plain_pairs": {"synthetic": "pairs"}} | ARMS)
    with pytest.raises(InputError, match="another generator than that whose images"):
        robust_classification.run(more, workdir)
    shutil.rmtree(folder)
    before.rename(folder)
    robust_classification.run(tree, workdir)


WRONG = {
    "no generator": ({"latent.generator": ""}, "fit.synthetic (='pairs') must be none unless"),
    "nothing to train on": ({"fit.real": False}, "fit.real (=False) must be True with"),
    "all flip": ({"latent.flip": ("red", "blue")}, "latent.flip (=('red', 'blue')) must be some"),
    "hidden": ({"data.protected_known": "none"}, "data.protected_known (='none') must be both"),
    "space": ({"latent.space": "s"}, "latent.space (='s') must be w or z"),
    "weight": ({"fit.synthetic_weight": 0.0}, "fit.synthetic_weight (=0.0) must be positive"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words_are_refused_by_name(name, tmp_path):
    changes, words = WRONG[name]
    tree = config(tmp_path)
    tree.update_from_flattened_dict(changes)
    with pytest.raises(InputError) as error:
        validate(tree)
    assert words in str(error.value)


def test_generators_that_cannot_serve_are_refused_before_anything_is_computed(tmp_path):
    tree = config(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        robust_classification.run(tree, tmp_path / "run")
    toy_generator.save(tmp_path / "generator", toy_generator.two_colours())
    tree.data.resolution = 16
    with pytest.raises(InputError, match="it draws 8 pixels and 3 channels, the run has 16"):
        robust_classification.run(tree, tmp_path / "run")
    assert not (tmp_path / "run/data").exists()


def test_joined_images_are_looked_up_where_they_lie():
    a, b = (np.random.default_rng(i).integers(0, 256, (5 + i, 2, 2, 1), np.uint8) for i in (0, 1))
    both = np.concatenate([a, b])
    found = Joined(a, b)
    order = np.random.default_rng(2).permutation(len(both))
    np.testing.assert_array_equal(found[order], both[order])
    assert (len(found), found.shape) == (11, both.shape)
