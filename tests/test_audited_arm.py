"""`launch/audit.py --predictions=RUN/arms/NAME`: a trained classifier, audited and attacked."""

import csv
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

import fairjax
from fairjax.classifier_config import defaults, tiny
from fairjax.data.prepare import load
from fairjax.evaluate.figures import read_figures
from fairjax.experiments import audit, robust_classification
from fairjax.train.attacks import HARMLESS, noisy
from fairjax.train.weight_files import load_tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A logistic regression on the pixels of 400 test digits, of which all can be derived."""
    folder = tmp_path_factory.mktemp("run") / "digits"
    config = defaults()
    config.name = "small"
    tiny(config)
    config.fit.update(model="linear", epochs=30.0)
    config.arms = ConfigDict({"plain": {}, "other": {"sampler": "balanced"}})
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=list))
    robust_classification.run(config, folder)
    return folder / "arms/plain"


def audited(arm, tmp_path, *flags):
    with pytest.raises(SystemExit) as stop:
        audit.main(["audit.py", f"--predictions={arm}", *flags, f"--out={tmp_path / 'out'}"])
    return stop.value.code


def test_an_arm_beside_a_table_that_is_in_words(arm, tmp_path):
    """The same decisions, written out by somebody: nothing changes when the arm takes its place."""
    given = fairjax.predictions(arm).table
    path = tmp_path / "theirs.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(given.columns)
        out.writerows(zip(*(column.tolist() for column in given.columns.values()), strict=True))
    assert set(given.columns["colour"].tolist()) == {"red", "green"}
    flags = ("--label=target", f"--score=probability {given.positive}", "--attributes=colour",
             f"--positive={given.positive}", f"--against={arm}")  # fmt: skip
    assert audited(path, tmp_path, *flags) == 0
    figures = read_figures(tmp_path / "out/metrics.json")
    assert figures["other/accuracy/colour/red"].value == figures["accuracy/colour/red"].value
    changes = np.array([f.value for name, f in figures.items() if name.startswith("change/")])
    assert (changes == 0).sum() > 10
    assert (changes[np.isfinite(changes)] == 0).all()  # the others have no row to be counted on


def test_an_arm_may_be_named_from_where_it_lies(arm, tmp_path, monkeypatch):
    monkeypatch.chdir(arm.parent)
    assert audited(arm.name, tmp_path) == 0
    assert "audit of digits, plain" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize("what", ["", "arms"])
def test_only_an_arm_is_compared_with(arm, tmp_path, capsys, what):
    assert audited(arm, tmp_path, f"--against={arm.parents[1] / what}") == 2
    assert f"--against={arm.parents[1] / what}: no arm of a run" in capsys.readouterr().err


def test_attacks_are_those_that_a_linear_classifier_cannot_hide_from(arm, tmp_path):
    other = arm.parent / "other"
    kinds = "--stress=fgsm,pgd,pixels,transforms"
    assert audited(arm, tmp_path, kinds, f"--against={other}") == 0
    figures = read_figures(tmp_path / "out/metrics.json")
    own = read_figures(arm / "eval/metrics.json")
    same = own["average_accuracy/test/train_weighted"]
    assert figures["average_accuracy/label+colour/train_weighted"].value == pytest.approx(
        same.value
    )
    assert figures["accuracy/all/all"].value == own["average_accuracy/test"].value
    theirs = read_figures(other / "eval/metrics.json")["average_accuracy/test"]
    assert figures["other/accuracy/all/all"].value == theirs.value
    worst = figures["worst_group_accuracy/label+colour"]
    assert worst.value == own["worst_group_accuracy/test"].value

    # The network again, in float64: logits are rows of pixels times a matrix.
    data = load(arm.parents[1] / "data")
    positions = data.roles["judge_test"]
    head = {k: np.float64(v) for k, v in load_tree(arm / "fit/network.safetensors")["head"].items()}
    target, colour = (data.classes((name,), positions) for name in ("large", "colour"))
    x = np.float64(data.images[positions]).reshape(len(positions), -1)
    w = head["kernel"][:, 1] - head["kernel"][:, 0]
    margin = lambda x: (x / 127.5 - 1) @ w + head["bias"][1] - head["bias"][0]
    right = lambda x, of: ((margin(x) > 0) == target)[colour == of].mean()
    with (tmp_path / "out/stress.csv").open(newline="") as file:
        points = {(p["kind"], p["group"], float(p["level"]), p["figure"]): p
                  for p in csv.DictReader(file)}  # fmt: skip
    worse = np.where(target[:, None] == 1, -1, 1) * np.sign(w)
    for level in (0, 1, 2, 4, 8, 16):
        attacked = np.clip(x + level * worse, 0, 255)
        for group, name in enumerate(("red", "green")):
            for kind in ("fgsm", "pgd"):  # a slope that is the same everywhere
                found = points[kind, name, level, f"accuracy/colour/{name}"]
                assert float(found["value"]) == pytest.approx(right(attacked, group), abs=0.011)
                assert float(found["low"]) <= float(found["value"]) <= float(found["high"])
            gap = points["fgsm", name, level, "worst_group_accuracy/colour"]
            wanted = min(right(attacked, group), right(x, 1 - group))
            assert float(gap["value"]) == pytest.approx(wanted, abs=0.011)
    assert right(np.clip(x + 16 * worse, 0, 255), 0) < right(x, 0) - 0.1
    blurred = noisy(data.images[positions], 64, 64).reshape(x.shape)
    found = points["pixels", "red", 64, "accuracy/colour/red"]
    assert float(found["value"]) == pytest.approx(right(blurred, 0), abs=0.011)
    for name, change in HARMLESS.items():
        after = change(data.images[positions]).reshape(x.shape)
        stays = ((margin(after) > 0) == (margin(x) > 0))[colour == 1]
        kept = figures[f"stability/{name}/colour/green"]
        assert kept.value == pytest.approx(stays.mean(), abs=0.011)
        scores = [1 / (1 + np.exp(-margin(images))) for images in (x, after)]
        moved = np.abs(scores[1] - scores[0])[colour == 1].mean()
        found = figures[f"score_change/{name}/colour/green"]
        assert found.value == pytest.approx(moved, abs=1e-4)
        assert found.low < moved < found.high
    page = (tmp_path / "out/index.html").read_text()
    assert "images of green that were decided wrong" in page
    assert "accuracy/colour/green" not in page.split("<main>")[0]
    assert "largest change of a pixel, of 255: red" in page


def test_the_arm_knows_its_columns_and_validation_rows(arm, tmp_path):
    handed = fairjax.predictions(str(arm))
    assert set(handed.groups("colour")) == {"red", "green"}
    data = load(arm.parents[1] / "data")
    pixels = np.float64(data.images[data.roles["judge_test"]]).reshape(len(handed.truth), -1)
    np.testing.assert_allclose(handed.features, pixels / 127.5 - 1, atol=1e-6)
    assert audited(arm, tmp_path, "--repair=parity", "--repair_with=reductions") == 0
    figures = read_figures(tmp_path / "out/metrics.json")
    gap = "demographic_parity_difference/colour"
    assert figures[f"reductions/{gap}"].value < figures[gap].value - 0.1
    with (arm / "eval/validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [data.ids[p] for p in data.roles["train_reference"]]


@pytest.mark.parametrize(
    ("path", "flags", "words"),
    [
        ("..", [], "no arm of a run"),
        ("/", [], "no arm of a run"),
        (".", ["--positive=middle"], "the classes small, large"),
        (".", ["--stress=pgd,transforms", "--limits={limits}"], "Did you mean stability/shift"),
        (".", ["--stress=fog"], "Give some of flips, noise, fgsm, pgd, pixels, transforms"),
        (".", ["--features=eval/predictions.csv", "--repair=parity",
               "--repair_with=reductions"], "no array `features`"),
    ],
)  # fmt: skip
def test_what_is_no_arm_is_refused(arm, tmp_path, capsys, path, flags, words):
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"stability/shfit/colour/red": {"min": 0.9}}))
    flags = [flag.format(limits=limits) for flag in flags]
    assert audited(arm / path, tmp_path, *flags) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
