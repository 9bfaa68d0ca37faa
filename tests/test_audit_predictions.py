"""`launch/audit.py --predictions`: a table of anybody's predictions in, figures and a page out."""

import csv
import html
import json
import re
import shutil
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fairjax.data import predictions
from fairjax.errors import InputError
from fairjax.experiments import audit, error_images


def table(path, n=1200, decide=None, prefix="", **columns):
    """Scores that find fewer of the women's positives; every 40th row has no age."""
    rng = np.random.default_rng(1)
    sex = rng.choice(["female", "male"], n)
    age = np.where(np.arange(n) % 40 == 0, "", rng.choice(["old", "young"], n))
    truth = rng.random(n) < 0.4
    score = 1 / (1 + np.exp(-(2 * truth - 1 - 0.8 * (truth & (sex == "female"))
                              + rng.normal(0, 0.8, n))))  # fmt: skip
    found = {"file": [f"{prefix}{i}.png" for i in range(n)], "y": truth.astype(int),
             "p": np.round(score, 4), "sex": sex, "age": age} | columns  # fmt: skip
    if decide is not None:
        found["d"] = decide(truth)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(found)
        writer.writerows(zip(*found.values(), strict=True))
    return path


def repairable(path, seed, n=1500, **columns):
    """Three classifiers with errors of their own; women's logits are 1.2 too low."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["female", "male"], n)
    truth = rng.random(n) < 0.4
    score = lambda: np.round(1 / (1 + np.exp(-(2 * truth - 1 - 1.2 * (sex == "female")
                                               + rng.normal(0, 0.8, n)))), 4)  # fmt: skip
    return table(path, n, **{"file": [f"{seed}/{i}.png" for i in range(n)],
                             "y": truth.astype(int), "p": score(), "q": score(), "r": score(),
                             "sex": sex, **columns})  # fmt: skip


def run(tmp_path, *more, predictions=None, out="out"):
    """(exit code, figures, page) of an audit."""
    path = predictions or table(tmp_path / "predictions.csv")
    given = {"label": "y", "score": "p", "attributes": "sex,sex+age"}
    flags = [f"--{key}={value}" for key, value in given.items()
             if not any(arg.startswith(f"--{key}=") for arg in more)]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        audit.main(["audit.py", f"--predictions={path}", *flags, *more, f"--out={tmp_path / out}"])
    metrics = tmp_path / out / "metrics.json"
    figures = json.loads(metrics.read_text())["figures"] if metrics.exists() else {}
    page = tmp_path / out / "index.html"
    text = html.unescape(page.read_text()).replace("\u00a0", " ") if page.exists() else ""
    return stop.value.code, figures, text


def test_the_page_names_who_comes_off_worst(tmp_path):
    code, figures, page = run(tmp_path, "--privileged=sex=male")
    assert code == 0
    gap = figures["equal_opportunity_difference/sex"]
    assert 0.1 < gap["low"] < gap["value"] < gap["high"] < 0.5
    assert gap["note"] == "male over female"
    assert figures["true_positive_rate_difference/sex/female"]["value"] == -gap["value"]
    assert "Errors differ between the groups of sex and sex+age" in page
    shown = [round(100 * gap[key]) for key in ("value", "low", "high")]
    assert f"{shown[0]} % [{shown[1]}, {shown[2]}] (male over female)" in page
    assert {name.split("/")[2] for name in figures if name.startswith("accuracy/sex+age/")} == {
        "female, old", "female, young", "male, old", "male, young"}  # fmt: skip
    counted = sum(figures[f"accuracy/sex+age/{s}, {a}"]["n"] for s in ("female", "male")
                  for a in ("old", "young"))  # fmt: skip
    assert counted == 1200 - 30  # those without an age are in no group
    assert page.count("<img") == 6 + 3  # reliability
    assert not re.search(r"(src|href|srcset)=\"(?!data:|#)", page)
    with (tmp_path / "out/figures.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["roc_auc/sex/male"]["value"]) == figures["roc_auc/sex/male"]["value"]
    assert rows.keys() == figures.keys()
    with (tmp_path / "out/errors.csv").open(newline="") as file:
        errors = [row for row in csv.DictReader(file) if row["attributes"] == "sex"]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    for sex in ("female", "male"):
        wrong = [abs(int(row["y"]) - float(row["p"])) for row in given if row["sex"] == sex]
        wrong = sorted((share for share in wrong if share > 0.5), reverse=True)[:20]
        found = [row for row in errors if row["group"] == sex]
        assert [-np.log(1 - share) for share in wrong] == pytest.approx(
            [float(row["loss"]) for row in found], rel=1e-3)  # fmt: skip
        assert all(given[int(row["row"]) - 2]["file"] == row["file"] for row in found)


def test_a_constant_classifier_is_called_so(tmp_path):
    path = table(tmp_path / "constant.csv", decide=lambda truth: np.zeros(len(truth), int))
    code, figures, page = run(tmp_path, "--decision=d", f"--against={path}", predictions=path)
    assert code == 0
    assert "These decisions are the same for everybody" in page
    assert "The classifier is constant: it decides “not 1” for everybody" in page
    assert figures["selection_rate/all/all"]["value"] == 0


def test_words_as_labels_need_no_scores(tmp_path):
    rng = np.random.default_rng(0)
    words = np.where(rng.random(1200) < 0.5, "good", "bad")
    path = table(tmp_path / "words.csv", decide=lambda truth: words, y=words)
    code, figures, page = run(tmp_path, "--decision=d", "--score=", "--positive=good",
                              predictions=path)  # fmt: skip
    assert code == 0
    assert figures["accuracy/all/all"]["value"] == 1
    assert not any(name.startswith("roc_auc") for name in figures)
    assert "No difference between groups is proven" in page


def test_words_for_nothing_are_no_labels_and_no_groups(tmp_path, capfd):
    places = [("y", 0, "NaN"), ("y", 1, "null"), ("sex", 2, "None"), ("sex", 3, "nan")]
    given = table(tmp_path / "predictions.csv")
    with given.open(newline="") as file:
        head, *body = list(csv.reader(file))
    for name, row, word in places:
        body[row][head.index(name)] = word
    with given.open("w", newline="") as file:
        csv.writer(file).writerows([head, *body])
    code, figures, _ = run(tmp_path, "--attributes=sex", predictions=given)
    assert code == 0
    assert figures["accuracy/all/all"]["n"] == 1198
    groups = [name.split("/")[2] for name in figures if name.startswith("accuracy/sex/")]
    assert groups == ["female", "male"]
    assert sum(figures[f"accuracy/sex/{group}"]["n"] for group in groups) == 1196
    said = capfd.readouterr().err
    assert f"--predictions={given}: 2 rows without a label are left out" in said
    assert "sex: 2 rows have no value and are in no group" in said


def test_two_columns_of_one_name_are_refused(tmp_path, capsys):
    given = table(tmp_path / "predictions.csv")
    given.write_text(given.read_text().replace("y,p,sex,age", "y,p,sex,p", 1))
    assert run(tmp_path, predictions=given)[0] == 2
    assert "has 2 columns 'p'" in capsys.readouterr().err


def test_groups_may_have_a_slash_in_their_name(tmp_path):
    race = ["White", "Asian/Pacific Islander", "Black/African American"] * 400
    given = table(tmp_path / "predictions.csv", race=race)
    code, figures, page = run(tmp_path, "--attributes=race", "--privileged=race=White",
                              f"--against={given}", predictions=given)  # fmt: skip
    assert code == 0
    assert "disparate_impact/race/Asian/Pacific Islander" in figures
    assert "disparate impact: Asian/Pacific Islander" in page
    assert "calibration error: race, Asian/Pacific Islander" in page


def test_one_long_cell_does_not_make_its_column_wide(tmp_path):
    given = table(tmp_path / "p.csv", remark=["x" * 100_000] + ["short"] * 1199)
    tracemalloc.start()
    rows = predictions.read(given, "y", ["p"], None, None, 0.5)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.columns["remark"].tolist()[:2] == ["x" * 100_000, "short"]
    assert most < 20 << 20  # 1,200 cells of 100,000 characters are 480 MB
    assert rows.columns["file"].dtype.kind == rows.columns["y"].dtype.kind == "U"


def test_repaired_decisions_of_many_classes_name_none_of_the_others(tmp_path):
    paths = []
    for seed in (1, 2):
        path = repairable(tmp_path / f"{seed}.csv", seed)
        with path.open(newline="") as file:
            head, *body = list(csv.reader(file))
        place = head.index("y")
        for i, row in enumerate(body):
            row[place] = "cat" if row[place] == "1" else ("dog", "owl")[i % 2]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([head, *body])
        paths.append(path)
    flags = "--attributes=sex", "--positive=cat"
    code, figures, _ = run(tmp_path, *flags, "--repair=parity", f"--fit={paths[1]}",
                           predictions=paths[0])  # fmt: skip
    assert code == 0
    made = tmp_path / "out/repaired.csv"
    with made.open(newline="") as file:
        assert {row["repaired_decision"] for row in csv.DictReader(file)} == {"cat", "not cat"}
    again = run(tmp_path, *flags, "--decision=repaired_decision", "--score=", predictions=made,
                out="again")[1]  # fmt: skip
    name = "accuracy/all/all"
    assert again[name] == figures[f"repaired/{name}"]


@pytest.mark.slow
def test_limits_and_baseline_decide_the_exit_code(tmp_path):
    path = tmp_path / "predictions.csv"
    run(tmp_path)
    limits = tmp_path / "limits.json"

    def code(limit, name="equal_opportunity_difference/sex", *more, out):
        limits.write_text(json.dumps({name: limit}))
        return run(tmp_path, f"--limits={limits}", *more, predictions=path, out=out)

    assert code({"max": 0.1}, out="a")[0] == 1
    assert code({"max": 0.6}, out="b")[0] == 0
    gap = json.loads((tmp_path / "out/metrics.json").read_text())["figures"]
    within = gap["equal_opportunity_difference/sex"]["value"]
    found, _, page = code({"max": within}, out="c")
    assert found == 3
    assert "insufficient evidence" in page
    other = table(tmp_path / "other.csv", decide=lambda truth: truth.astype(int))
    baseline = f"--baseline={tmp_path / 'out/metrics.json'}"
    assert run(tmp_path, baseline, predictions=path, out="d")[0] == 0
    found, _, page = run(tmp_path, baseline, "--decision=d", predictions=other, out="e")
    assert found == 4
    assert "false_negative_rate/sex/female: from" in page


def test_repaired_decisions_stand_beside_those_given(tmp_path):
    given = repairable(tmp_path / "test.csv", 1)
    fit = f"--fit={repairable(tmp_path / 'val.csv', 2)}"
    code, figures, page = run(tmp_path, "--repair=opportunity", fit, "--attributes=sex",
                              "--stress=noise,flips", predictions=given)  # fmt: skip
    assert code == 0
    gap = "equal_opportunity_difference/sex"
    assert figures[gap]["low"] > 0.25
    assert figures[f"repaired/{gap}"]["value"] < 0.06
    assert figures[f"change/{gap}"]["high"] < -0.2
    assert "repaired/roc_auc/sex/male" not in figures  # the scores are as they were
    changed = figures["change/accuracy/all/all"]["value"]
    assert changed == figures["repaired/accuracy/all/all"]["value"] - (
        figures["accuracy/all/all"]["value"])  # fmt: skip
    assert "Repair: opportunity by sex, fitted on other rows (female: threshold 0." in page
    assert f"The accuracy changes by {100 * changed:.0f} % [" in page
    assert page.count("<img") == 3 + 2 + 2
    with (tmp_path / "out/stress.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    ends = {(p["kind"], p["group"], p["level"]): float(p["value"]) for p in points
            if p["figure"] == gap}  # fmt: skip
    assert len(ends) == 2 * 2 * 7
    assert ends["noise", "male", "0.0"] == pytest.approx(figures[gap]["value"])
    # Wrong labels among those who are found most often make the gap look smaller.
    assert ends["flips", "male", "0.1"] < ends["flips", "male", "0.0"] - 0.05
    # The table that it wrote, audited as it is, has the figures that were called repaired.
    again = run(tmp_path, "--decision=repaired_decision", "--attributes=sex", "--score=",
                predictions=tmp_path / "out/repaired.csv", out="again")[1]  # fmt: skip
    assert again[gap] == figures[f"repaired/{gap}"]
    ensemble = ("--score=p,q,r", "--ensemble=mean", "--repair=calibration", "--attributes=sex")
    _, both, page = run(tmp_path, *ensemble, fit, predictions=given, out="both")
    assert both[gap] == figures[gap]  # of the first score
    error = "calibration_error/sex/female"
    assert both[f"repaired/{error}"]["high"] < both[error]["low"] / 2
    assert both["change/accuracy/all/all"]["low"] > changed
    assert "Together: the mean of the scores p, q, r." in page


def test_another_classifier_on_the_same_rows_is_compared_in_pairs(tmp_path):
    given = repairable(tmp_path / "test.csv", 1)
    with given.open(newline="") as file:
        head, *body = list(csv.reader(file))
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:  # in another order; nearly the same scores
        moved = [[*row[:2], f"{min(1, float(row[2]) + 0.02):.4f}", *row[3:]] for row in body]
        csv.writer(file).writerows([head, *reversed(moved)])
    own = run(tmp_path, "--attributes=sex", predictions=other, out="other")[1]
    code, figures, page = run(tmp_path, f"--against={other}", "--attributes=sex", predictions=given)
    assert code == 0
    for name in ("accuracy/all/all", "equal_opportunity_difference/sex", "roc_auc/sex/male"):
        assert figures[f"other/{name}"]["value"] == pytest.approx(own[name]["value"])
    change = figures["change/accuracy/all/all"]
    single = figures["accuracy/all/all"]
    assert 0 < change["low"] < change["high"]
    assert change["high"] - change["low"] < 0.7 * (single["high"] - single["low"])
    assert "As given and other" in page
    assert f"Other: the decisions on the same rows in {other}." in page
    assert not (tmp_path / "out/repaired.csv").exists()
    rows = predictions.read(given, "y", ["p"], None, None, 0.5)
    inverted = rows._replace(decided=~rows.decided, columns={})  # nothing names its rows
    found = predictions.matched(rows, inverted, "--against")
    np.testing.assert_array_equal(found.decided, ~rows.decided)


def test_repairs_of_fairlearn_stand_beside_ours(tmp_path):
    given, val = (repairable(tmp_path / f"{name}.csv", seed, n=600)
                  for name, seed in (("test", 1), ("val", 2)))  # fmt: skip
    for path in (given, val):  # scores and groups
        rows = predictions.read(path, "y", ["p", "q"], None, None, 0.5)
        features = np.c_[rows.members.T, rows.columns["sex"] == "male"]
        np.savez(path.with_suffix(".npz"), features=features, id=rows.columns["file"])
    flags = ["--repair=parity", f"--fit={val}", "--attributes=sex", "--tolerance=0.02",
             "--repair_with=thresholds,randomised,reductions",
             f"--features={given.with_suffix('.npz')}",
             f"--fit_features={val.with_suffix('.npz')}"]  # fmt: skip
    code, figures, page = run(tmp_path, *flags, predictions=given)
    assert code == 0
    gap = "demographic_parity_difference/sex"
    assert figures[gap]["low"] > 0.15
    for word, before in (("repaired", ""), ("randomised", "randomised/"),
                         ("reductions", "reductions/")):  # fmt: skip
        assert figures[f"{word}/{gap}"]["value"] < 0.1
        change = figures[f"{before}change/{gap}"]
        assert change["value"] == figures[f"{word}/{gap}"]["value"] - figures[gap]["value"]
        assert change["high"] < -0.05
    assert "Randomised: parity by sex with the thresholds of fairlearn" in page
    assert "Reductions: parity by sex with fairlearn's mixture" in page
    kept = (tmp_path / "out/repaired.csv").read_text()
    assert "repaired_decision,randomised_decision,reductions_decision" in kept
    assert run(tmp_path, *flags, predictions=given, out="again")[1] == figures
    assert (tmp_path / "again/repaired.csv").read_text() == kept
    other = run(tmp_path, *flags[:4], "--repair_with=randomised", "--seed=1", predictions=given,
                out="other")[1]  # fmt: skip
    changed = json.loads((tmp_path / "out/metrics.json").read_text())["randomised"]
    assert changed["otherwise_with_the_next_seed"] > 0
    assert other["randomised/accuracy/all/all"] != figures["randomised/accuracy/all/all"]
    card = (tmp_path / "out/model_card.md").read_text()
    assert f"by sex: as given {100 * figures[gap]['value']:.0f} % [" in card
    assert "; randomised " in card


def test_notes_training_rows_and_images_are_merged_into_the_page(tmp_path):
    path = table(tmp_path / "predictions.csv")
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(1200):
        Image.new("RGB", (12, 8), (i % 256, 0, 0)).save(folder / f"{i}.png")
    train = table(tmp_path / "train.csv", 400, sex=["female"] * 100 + ["male"] * 300,
                  y=[1] * 50 + [0] * 50 + [1] * 300)  # fmt: skip
    notes = tmp_path / "notes.csv"
    rows = [("figure", "author", "date", "text"),
            ("accuracy/sex/male", "Kim", "2026-11-02", "<b>later</b> | looked at"),
            ("roc_auc/sex/male", "Ada", "2026-10-01", "known since spring")]  # fmt: skip
    with notes.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    flags = (f"--notes={notes}", f"--train={train}", f"--images={folder}", "--attributes=sex")
    code, figures, page = run(tmp_path, *flags, predictions=path)
    assert code == 0
    shares = {("true", "female"): 50, ("false", "female"): 50, ("true", "male"): 300}
    rate = {"true": "true_positive_rate", "false": "true_negative_rate"}
    wanted = sum(n * figures[f"{rate[t]}/sex/{g}"]["value"] for (t, g), n in shares.items()) / 400
    found = figures["average_accuracy/label+sex/train_weighted"]
    assert found["value"] == pytest.approx(wanted)
    assert found["low"] < wanted < found["high"]
    raw = (tmp_path / "out/index.html").read_text()
    assert "&lt;b&gt;later&lt;/b&gt; | looked at" in raw
    assert page.index("known since spring") < page.index("later")  # by date
    kept = json.loads((tmp_path / "out/metrics.json").read_text())["notes"]
    assert [note["author"] for note in kept] == ["Ada", "Kim"]
    card = (tmp_path / "out/model_card.md").read_text()
    assert "2026-11-02, Kim, on accuracy/sex/male: &lt;b>later&lt;/b> \\| looked at" in card
    assert "- [ ] No difference in error rates between the groups of sex is proven" in card
    assert "- [x] Every group of sex has at least 50 positives and negatives" in card
    assert 'alt="10 images of female that were decided wrong"' in raw or (
        'alt="9 images of female that were decided wrong"' in raw)  # fmt: skip
    with (tmp_path / "out/reliability.csv").open(newline="") as file:
        bins = [row for row in csv.DictReader(file) if row["attributes"] == "sex"]
    assert sum(int(row["n"]) for row in bins) == 1200
    error = sum(int(r["n"]) * abs(float(r["score"]) - float(r["positives"])) for r in bins
                if r["group"] == "male")  # fmt: skip
    men = figures["accuracy/sex/male"]["n"]
    assert error / men == pytest.approx(figures["calibration_error/sex/male"]["value"])


def test_features_of_which_a_bit_has_flipped_are_told(tmp_path):
    path = tmp_path / "features.npz"
    np.savez_compressed(path, features=np.tile(np.arange(100.0)[:, None], 4))
    whole = path.read_bytes()
    for place in range(80, len(whole) - 150):  # within the packed numbers
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(InputError, match="no array `features` can be read"):
            predictions.features(path, SimpleNamespace(), "--features")


@pytest.mark.parametrize("name", ["../secret.png", "{root}/secret.png"])
def test_names_of_images_do_not_leave_their_folder(tmp_path, name):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (12, 8)).save(tmp_path / "secret.png")
    rows = SimpleNamespace(columns={"file": [name.format(root=tmp_path)]}, lines=[2])
    with pytest.raises(InputError, match="of row 2 cannot be read .it leads out of the folder"):
        error_images.of_folder(str(tmp_path / "images"), rows, [0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head, rows: [head, *rows[:-1]], "1199 rows with a label instead of 1200"),
        (lambda head, rows: [head, *rows[:-1], rows[0]], "two rows have the same 'file'"),
        (lambda head, rows: [head, ["x.png", *rows[0][1:]], *rows[1:]], "no row of file '0.png'"),
        (lambda head, rows: [head, [rows[0][0], str(1 - int(rows[0][1])), *rows[0][2:]], *rows[1:]],
         "another label for file 0.png"),
        (lambda head, rows: [["name", *head[1:]], *reversed(rows)],
         "another label for row 2"),
    ],
)  # fmt: skip
def test_other_rows_are_refused(tmp_path, capsys, change, words):
    given, other = table(tmp_path / "predictions.csv"), tmp_path / "other.csv"
    with given.open(newline="") as file:
        head, *body = list(csv.reader(file))
    with other.open("w", newline="") as file:
        csv.writer(file).writerows(change(head, body))
    code, figures, _ = run(tmp_path, f"--against={other}", predictions=given)
    assert code == 2
    assert not figures
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "columns", "words"),
    [
        (["--label=z"], {}, "no column 'z'"),
        (["--score="], {}, "neither scores nor decisions"),
        (["--attributes=sex,colour"], {}, "no column 'colour'"),
        (["--attributes=file"], {}, "1200 groups"),
        (["--positive=7"], {}, "no label is '7'"),
        (["--privileged=sex=divers"], {}, "--privileged=sex=divers: no such group"),
        (["--decision=age"], {}, "row 2 has no decision"),
        ([], {"p": ["0.5"] * 1199 + ["1.5"]}, "row 1201 holds '1.5'"),
        ([], {"p": ["maybe"] * 1200}, "row 2 holds 'maybe'"),
        ([], {"y": [1] * 1200}, "every label is '1'"),
        ([], {"y": ["a", "b", "c"] * 400}, "--positive=VALUE"),
        (["--attributes=age"], {"age": ["x"] * 1200}, "one group: x"),
        (["--score=p,q"], {"q": ["0.5"] * 1200}, "--ensemble=mean or majority"),
        (["--ensemble=mean"], {}, "fewer than two columns of scores"),
        (["--repair=odds"], {}, "--fit=FILE"),
        (["--against=p.csv", "--repair=odds"], {}, "two things to compare with"),
        (["--against=p.csv"], {}, "--against=p.csv: no file"),
        (["--stress=flips,fog"], {}, "--stress=flips,fog: 'fog'"),
        (["--stress=noise", "--decision=y"], {}, "do not follow from scores"),
        (["--fit=val.csv"], {}, "nothing is repaired"),
        (["--repair=odds", "--fit=p.csv", "--repair_by=age"], {}, "--repair_by=age: not among"),
        (["--repair=odds", "--fit=none.csv"], {}, "--fit=none.csv: no file"),
        (["--repair=odds", "--fit=p.csv", "--score=", "--decision=y"], {}, "no scores to repair"),
        (["--repair=odds", "--fit={own}"], {}, "the rows that are audited"),
        (["--repair=odds", "--fit={men}"], {}, "no positives of the group 'female'"),
        (
            ["--repair=parity", "--fit={poor}", "--repair_with=randomised"],
            {},
            "no positives of the group 'female'",
        ),
        (["--repair=odds", "--fit={men}", "--repair_with=lots"], {}, "--repair_with=lots: 'lots'"),
        (["--repair=odds", "--fit={men}", "--repair_with=reductions"], {}, "--features=FILE.npz"),
        (
            ["--repair=calibration", "--fit={men}", "--repair_with=randomised"],
            {},
            "of scores that are calibrated",
        ),
        (["--repair=odds", "--fit={copy}"], {}, "such as file 0.png"),
        # Numbers that start anew in each table are no sign of the same rows.
        (["--repair=odds", "--fit={anew}"], {}, "no positives of the group 'female'"),
        (["--repair=odds", "--fit={copy}"], {"file": [""] * 1200}, "the rows that are audited"),
        (["--attributes=sex,age,sex"], {}, "--attributes=sex,age,sex: 'sex' twice"),
        (["--attributes=sex+sex"], {}, "'sex' twice"),
        (["--attributes=sex/gender"], {"sex/gender": ["a", "b"] * 600}, "named 'sex/gender'"),
        ([], {"p": ["0.5"] * 1199 + ["NaN"]}, "row 1201 holds ''"),
        (["--decision=d"], {"d": ["1", "NaN"] * 600}, "row 3 has no decision"),
        (["--stress=pgd"], {}, "the network of a table is not known"),
        (["--attributes="], {}, "--attributes: not given"),
        (["--images=nowhere"], {}, "--images=nowhere: no such folder"),
        (
            ["--train={men}", "--attributes=age"],
            {"age": ["x", "y"] * 600, "y": [2, 3] * 600},
            "--positive=VALUE",
        ),
        (["--train={men}", "--positive=2"], {"y": [2, 3] * 600}, "no label is '2'"),
        (["--notes={notes}"], {"figure": ["accuracy/sex/mael"] * 1200}, "no figure"),
        (["--notes={notes}"], {"date": ["soon"] * 1200}, "row 2 has the date 'soon'"),
        (["--notes={notes}"], {"author": [""] * 1200}, "row 2 has no author"),
        (["--notes={men}"], {}, "no column 'figure'"),
    ],
)
def test_bad_input_ends_with_one_line(tmp_path, capsys, args, columns, words):
    men = table(tmp_path / "men.csv", prefix="m", sex=["male"] * 1200)
    anew = table(tmp_path / "anew.csv", p=[0.3] * 1200, sex=["male"] * 1200)
    sex = np.array(["female", "male"] * 600)
    some = (sex == "male") & (np.arange(1200) % 3 > 0)
    poor = table(tmp_path / "poor.csv", prefix="p", sex=sex, y=some.astype(int))
    notes = table(tmp_path / "notes.csv", **({"figure": ["accuracy/sex/male"] * 1200,
                  "author": ["Ada"] * 1200, "date": ["2026-11-02"] * 1200,
                  "text": ["seen"] * 1200} | columns))  # fmt: skip
    given = table(tmp_path / "p.csv", **columns)
    copy = shutil.copy(given, tmp_path / "copy.csv")
    args = [
        arg.format(men=men, poor=poor, own=given, notes=notes, copy=copy, anew=anew) for arg in args
    ]
    code, figures, _ = run(tmp_path, *args, predictions=given)
    assert code == 2
    assert not figures
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert not (tmp_path / "out").exists()
