"""Pairs that differ in one attribute: the solve in latent space, and `launch/sample.py --flip`."""

import csv
import json

import numpy as np
import pytest
import toy_generator
from PIL import Image

from fairjax.errors import InputError
from fairjax.evaluate.fairness import JudgeErrors
from fairjax.experiments import judge_stage, pairs, sample
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.objectives.latent import solve


def test_the_solve_is_the_published_closed_form():
    """z' = z - 2 (w_g z + b_g) / (1 - c^2) (w_g - c w_t): keeps t, negates g."""
    rng = np.random.default_rng(0)
    z, normals, offsets = rng.normal(size=(50, 512)), rng.normal(size=(2, 512)), rng.normal(size=2)
    normals[1] += 0.7 * normals[0]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    scores = z @ normals.T + offsets
    found = solve(z, normals, offsets, scores * [-1, 1])
    (g, t), c = normals, normals[0] @ normals[1]
    assert abs(c) > 0.4
    expected = z - 2 * scores[:, :1] / (1 - c**2) * (g - c * t)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(found @ normals.T + offsets, scores * [-1, 1], atol=1e-10)


def test_the_solve_sets_any_number_of_scores_by_the_shortest_way():
    rng = np.random.default_rng(1)
    w, normals, offsets = rng.normal(size=(9, 20)), rng.normal(size=(4, 20)), rng.normal(size=4)
    target = rng.normal(size=(9, 4))
    found = solve(w, normals, offsets, target)
    np.testing.assert_allclose(found @ normals.T + offsets, target, atol=1e-10)
    step = np.linalg.lstsq(normals, (target - w @ normals.T - offsets).T, rcond=None)[0].T
    np.testing.assert_allclose(found - w, step, atol=1e-10)  # the solution of least norm


def judge(name, channel):
    """Never wrong: whether the mean of a colour is above the middle."""

    def score(images):
        light = (images[..., channel].reshape(len(images), -1).mean(1) > 127).astype(float)
        return np.stack([1 - light, light], 1)

    errors = JudgeErrors(np.eye(2, dtype=int) * 100, np.eye(2))
    return SavedJudge(name, (f"no {name}", name), errors, 8, 3, score)


RED, BLUE = judge("red", 0), judge("blue", 2)


@pytest.fixture(scope="module")
def generator():
    return toy_generator.two_colours()


@pytest.mark.slow
def test_pairs_keep_what_they_shall_and_flip_the_rest(generator):
    made, planes = pairs.make_pairs(generator, [RED, BLUE], 200, 1500)
    figures = {f.name: f.value for f in pairs.figures_of(made, planes, ["red", "blue"])}
    assert figures["plane_accuracy/red"] > 0.95
    assert figures["flip_rate/red"] > 0.9
    assert figures["keep_rate/blue"] > 0.9
    # So they do where the red is set to a value, and far from the border.
    far = pairs.make_pairs(generator, [RED, BLUE], 200, 1500, margin=2.0)[0]
    assert far.kept.mean() > 0.8
    light = lambda images: images[..., 0].mean((1, 2))
    asked = np.where(far.before[:, 0] > 0.5, -1, 1)
    assert np.std(light(far.edited)[asked > 0]) < 0.5 * np.std(light(far.images))
    # So they do in Z, and both colours flip together where both are asked for.
    made, planes = pairs.make_pairs(generator, [RED, BLUE], 200, 1500, space="z", flips=2)
    figures = {f.name: f.value for f in pairs.figures_of(made, planes, ["red", "blue"], flips=2)}
    assert figures["plane_accuracy/blue"] > 0.85  # the mapping's ReLU bends the border
    assert min(figures["flip_rate/red"], figures["flip_rate/blue"]) > 0.6
    assert figures["pair_rate"] == pytest.approx(made.kept.mean())
    np.testing.assert_array_equal(made.kept, (made.values()[0] != made.values()[1]).all(1))
    # Red alone, along its own direction, takes blue with it.
    alone, _ = pairs.make_pairs(generator, [RED], 200, 1500)
    blue = [BLUE.score(images)[:, 1] > 0.5 for images in (alone.images, alone.edited)]
    assert np.mean(blue[0] == blue[1]) < 0.8
    assert abs(planes[0].normal[0]) > 0.95
    assert figures["cosine/red/blue"] == pytest.approx(planes[0].normal @ planes[1].normal)


def test_the_command_hands_on_only_pairs_that_came_out_right(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "load_generator", lambda path: generator)
    known = {"RUN/judge/red": RED, "RUN/judge/blue": BLUE}
    monkeypatch.setattr(judge_stage, "read_judge", lambda path, where: known[str(path)])
    out = tmp_path / "out"
    sample.main(["sample.py", "--generator=g", "--flip=RUN/judge/red", "--keep=RUN/judge/blue",
                 "--n=60", "--fit=1000", f"--out={out}"])  # fmt: skip
    rows, listed = (list(csv.DictReader((out / name).read_text().splitlines()))
                    for name in ("pairs.csv", "labels.csv"))  # fmt: skip
    labels = {row["file"]: row for row in listed}
    assert [int(row["latent"]) for row in rows] == list(range(1000, 1060))
    wanted = [row for row in rows if row["handed_on"] == "1"]
    assert len(labels) == 2 * len(wanted) == len(list(out.glob("00*.png")))
    assert 40 < len(wanted) <= 60
    for row in rows:
        right = (row["red_before"] != row["red_after"]) and (
            row["blue_before"] == row["blue_after"]
        )
        assert (row["handed_on"] == "1") == right
    for name, row in labels.items():
        image = np.asarray(Image.open(out / name))[None]
        for one in (RED, BLUE):
            assert row[one.label] == one.classes[int(one.score(image)[0, 1])]
    document = json.loads((out / "pairs.json").read_text())
    assert document["figures"]["pair_rate"]["value"] == len(wanted) / 60
    assert (document["flip"], document["keep"]) == (["red"], ["blue"])
    # An image is the one that the generator draws for its number.
    first = sample.draw(generator, n=60, first=1000)[0]
    first_kept = int(wanted[0]["latent"])
    stored = np.asarray(Image.open(out / f"{first_kept:06d}.png")).astype(int)
    np.testing.assert_allclose(stored, first[first_kept - 1000], atol=1)


@pytest.mark.parametrize(
    ("judges", "words"),
    [
        ([RED._replace(classes=("a", "b", "c"))], "3 classes"),
        ([RED, BLUE._replace(resolution=16)], "it sees 16 pixels"),
        ([RED._replace(score=lambda x: np.eye(2)[np.zeros(len(x), int)])], "0 of 80 images"),
    ],
)
def test_judges_that_cannot_serve_are_refused(generator, judges, words):
    with pytest.raises(InputError, match=words):
        pairs.make_pairs(generator, judges, 4, 100)


def test_one_direction_cannot_be_flipped_and_kept(generator):
    with pytest.raises(InputError, match="one direction for red and copy"):
        pairs.make_pairs(generator, [RED, RED._replace(label="copy")], 4, 100)


def test_a_few_misjudged_images_do_not_turn_a_direction():
    """Two attributes go together but where a judge errs: these images say nothing of either."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(5000, 64))
    values = np.stack([w[:, 0] + 0.3 * rng.normal(size=5000) > 0] * 2, 1)
    wrong = rng.choice(5000, 8, replace=False)
    values[wrong, 0] ^= True
    for plane in pairs.fit_planes(w, values, ["a", "b"]):
        assert plane.normal[0] > 0.97
        assert plane.accuracy.value > 0.88


def test_pairs_go_with_no_other_choice(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sample, "load_generator", lambda path: generator)
    for more, words in ((["--keep=a"], "without --flip"), (["--flip=a", "--psi=0.5"], "psi"),
                        (["--flip=a", "--class=b"], "--class")):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            sample.main(["sample.py", "--generator=g", f"--out={tmp_path / 'o'}", *more])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
