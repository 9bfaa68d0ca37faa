"""The classifier experiment from a config to its page: what it learns, leaves and refuses."""

import csv
import json
import shutil

import numpy as np
import pipeline
import pytest
from ml_collections import ConfigDict

from fairjax.classifier_config import TREES, defaults
from fairjax.errors import InputError
from fairjax.evaluate.figures import read_figures
from fairjax.experiments import (
    bench_classifier,
    compare,
    config_line,
    robust_classification,
    runs,
    sweep,
)
from fairjax.report import classifiers
from fairjax.report import rows as row_files
from fairjax.validation import cautions, validate

pytestmark = pytest.mark.slow

ARMS = {
    "erm": {},
    "dro": {"sampler": "balanced", "objective": "group_dro", "dro_c": (1.0,),
            "weight_decay": 0.02, "select": "worst_group"},
    "dfr": {"head": "dfr"},
    "jtt": {"first": "jtt", "jtt_epochs": 1.0, "jtt_factor": 20.0},
    "flat": {"weight_decay": 1.0, "learning_rate": 0.05, "epochs": 3.0},
    "ratio": {"weights": "density_ratio", "epochs": 3.0},
}  # fmt: skip


def config(**arms):
    tree = defaults()
    tree.name = "small"
    tree.data.resolution = 8
    tree.fit.update(width=8, epochs=15.0, evaluations=2)
    tree.ratio.update(networks=("random_conv",), folds=2)
    tree.arms = ConfigDict(arms or ARMS)
    return tree


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    tree = config()
    validate(tree)
    config_line.check_form(tree)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tree.to_dict(), default=list))
    page = robust_classification.run(tree, folder)
    return folder, page.read_text()


def figures(folder, arm):
    return read_figures(folder / f"arms/{arm}/eval/metrics.json")


def test_methods_help_the_worst_group(run):
    folder, _ = run
    of = {arm: figures(folder, arm) for arm in ARMS}
    worst = {arm: f["worst_group_accuracy/test"] for arm, f in of.items()}
    average = {arm: f["average_accuracy/test"].value for arm, f in of.items()}
    for arm in ("dro", "dfr", "jtt"):  # by far more than the intervals
        assert worst[arm].low > worst["erm"].high + 0.05, (arm, worst)
        assert average[arm] > average["erm"]
    # Plain training knows the majority groups, as the average weighted as in training shows.
    assert of["erm"]["average_accuracy/test/train_weighted"].value > 0.95
    assert of["erm"]["average_accuracy/train"].value > 0.95


def test_the_density_ratio_finds_rare_groups_and_an_arm_is_trained_on_it(run):
    """A linear head sees target and colour, but not that they belong together: it is a weak one."""
    folder, _ = run
    found = read_figures(folder / "weights/summary.json")
    mean = [found[f"mean_weight/large+colour/{g}"].value for g in range(4)]
    assert min(mean[1], mean[2]) > 1.3 > 1.1 > max(mean[0], mean[3])
    made = json.loads((folder / "arms/ratio/fit/DONE").read_text())
    assert set(made["inputs"]) == {"data", "weights"}


def test_figures_are_those_of_the_predictions(run):
    folder, _ = run
    with (folder / "arms/dfr/eval/predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    right = np.array([row["target"] == row["decision"] for row in table])
    group = np.array([row["target"] + row["colour"] for row in table])
    rates = {g: right[group == g].mean() for g in np.unique(group)}
    found = figures(folder, "dfr")
    assert found["worst_group_accuracy/test"].value == pytest.approx(min(rates.values()))
    assert found["accuracy/large, red/test"].value == pytest.approx(rates["10"])
    assert found["accuracy/large, red/test"].n == 1000
    assert found["average_accuracy/test"].value == pytest.approx(right.mean())
    shares = dict(zip(("00", "01", "10", "11"), (0.49, 0.01, 0.01, 0.49), strict=True))
    weighted = found["average_accuracy/test/train_weighted"]
    assert weighted.value == pytest.approx(sum(shares[g] * rates[g] for g in rates), abs=1e-6)
    assert weighted.low < weighted.value < weighted.high


def test_the_page_says_it_in_one_sentence_and_the_run_is_a_row_each(run, capsys):
    folder, page = run
    answer = json.loads((folder / "report/metrics.json").read_text())["answer"]
    assert "has the highest worst-group accuracy" in answer
    assert "plain training (erm)" in answer
    for words in (
        "dro_c =",
        "Cramér&#39;s V",
        "0.960",
        "Density ratio",
        "worst of small, green",
        "judge_test",
        "data:image/png",
        "MNIST",
    ):
        assert words in page, words
    rows = row_files.rows_of(folder, "cell")
    assert [row["method"] for row in rows] == sorted(ARMS)
    assert all(row["settings"] == row_files.settings_of(config(), row["method"]) for row in rows)
    other = [row | {"seed": 1, "worst_group": row["worst_group"] + 0.01} for row in rows]
    path = folder.parent / "rows.jsonl"
    path.unlink(missing_ok=True)
    row_files.append_rows(path, [*rows, *other])
    compare._run(["compare.py", str(path)])
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("| cell | dro | 2 |")]
    gain = 100 * (rows[1]["worst_group"] - rows[2]["worst_group"])
    assert f"+{gain:.1f}" in line
    of = {row["method"]: (row["worst_group"], row["average"]) for row in rows}
    best = [n for n in of if not any(a > of[n][0] and b > of[n][1] for a, b in of.values())]
    assert f"on the front of worst group and average: {', '.join(best)}" in said


def test_a_rerun_does_nothing_and_another_word_is_refused(run):
    folder, _ = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("DONE")}
    robust_classification.run(config(), folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("DONE")}
    other = config()
    other.arms.dfr.head = "crt"
    with pytest.raises(InputError, match="stage arms/dfr/head was run with fit.head = 'dfr'"):
        robust_classification.run(other, folder)
    plan = robust_classification.plan(config())
    assert list(plan) == ["data", "ratio/random_conv", "weights", "arms/dfr/fit",
                          "arms/dfr/head", "arms/dfr/eval", "arms/dro/fit", "arms/dro/eval",
                          "arms/erm/fit", "arms/erm/eval", "arms/flat/fit",
                          "arms/flat/eval", "arms/jtt/first", "arms/jtt/fit", "arms/jtt/eval",
                          "arms/ratio/fit", "arms/ratio/eval", "report"]  # fmt: skip


def test_a_constant_predictor_is_named(run):
    folder, page = run
    found = json.loads((folder / "arms/flat/eval/metrics.json").read_text())
    assert found["collapsed"] in ("small", "large")
    assert found["figures"]["worst_group_accuracy/test"]["value"] == 0
    assert f"constant predictor: always {found['collapsed']}" in page
    assert "constant predictors: flat" in page


WRONG = {
    "mistyped key": ({"samplr": "balanced"}, "arms.a.samplr is no key of fit. Did you mean"),
    "mistyped word": ({"sampler": "balancd"}, "fit.sampler (='balancd') must be one of uniform"),
    "alpha": ({"cvar_alpha": 0.0}, "fit.cvar_alpha (=0.0) must be above 0"),
    "top k": ({"objective": "top_k", "top_k": 999}, "fit.top_k (=999) must be at most the 128"),
    "no weights": ({"sampler": "weighted"}, "fit.sampler (='weighted') must be another, unless"),
    "weights to come": ({"sampler": "weighted", "weights": "lff"}, "there before the training"),
    "clip": ({"weights": "inverse", "weights_clip": 0.5}, "fit.weights_clip (=0.5) must be 0"),
    "clip of lff": ({"weights": "lff", "weights_clip": 2.0}, "fit.weights_clip (=2.0) must be 0"),
    "drawn": (
        {"weights": "sqrt", "sampler": "weighted", "weights_normalise": "batch"},
        "fit.weights_normalise (='batch') must be set with fit.sampler=weighted",
    ),
    "figure": ({"select": "accuracy"}, "fit.select (='accuracy') must be one of last, average"),
    "two weights": ({"first": "jtt", "weights": "sqrt"}, "fit.weights (='sqrt') must be none"),
    "smote": ({"head_smote": 5}, "fit.head_smote (=5) must be 0 unless fit.head is crt"),
    "patience": ({"patience": 3}, "fit.patience (=3) must be 0 with fit.select=last"),
    "c": ({"dro_c": ()}, "fit.dro_c (=()) must be one or more numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words_are_refused_by_name(name):
    words, said = WRONG[name]
    tree = config(a={})
    tree.arms.a = ConfigDict(words)
    with pytest.raises(InputError) as error:
        validate(tree)
    assert said in str(error.value)
    assert "1 problem(s)" in str(error.value)


@pytest.mark.parametrize("transform", ["mixup", "lisa"])
def test_what_reads_labels_of_each_image_is_refused_with_mixed_ones(transform):
    words = {"gap": "parity", "irm": 1.0, "mmd": 1.0, "adversary": 0.5, "weights": "lff",
             "spectral_gamma": (0.44, 2.5)}  # fmt: skip
    for key, value in words.items():
        tree = config(a={key: value, "spectral": 0.1})
        for harmless in ("none", "fgsm", "pgd"):
            tree.fit.transform = harmless
            validate(tree)
        tree.fit.transform = transform
        with pytest.raises(InputError) as error:
            validate(tree)
        said = f"fit.transform (={transform!r}) must be another with fit.{key}={value}, which hold"
        assert said in str(error.value)
    tree.arms = ConfigDict({"a": {"spectral": 0.1, "l1": 0.1, "weights": "inverse", "mine": 64}})
    validate(tree)


@pytest.mark.parametrize("weights", ["inverse", "sqrt", "effective", "reweighing"])
def test_weights_that_a_group_shares_are_refused_where_they_change_nothing(weights):
    for objective in ("group_mean", "group_dro", "max", "cvar_groups"):
        tree = config(a={"weights": weights, "objective": objective})
        said = f"(={weights!r}) must be none with fit.objective={objective}, as a weight"
        with pytest.raises(InputError) as error:
            validate(tree)
        assert said in str(error.value)
        tree.fit.sampler = "weighted"
        validate(tree)
    for objective in ("mean", "cvar", "top_k"):
        validate(config(a={"weights": weights, "objective": objective}))
    tree = config(a={"weights": "reweighing", "objective": "group_mean", "groups": "target"})
    validate(tree)  # there images of a class differ in weight


def test_groups_that_are_made_up_for_twice_are_warned_of():
    for sampler in ("balanced", "epoch_balanced", "over", "under"):
        tree = config(erm={}, a={"sampler": sampler, "weights": "inverse"})
        validate(tree)
        (told,) = cautions(tree)
        assert told.startswith(f"arm a draws as much of each group (fit.sampler={sampler}) and")
    for one in ({"sampler": "balanced"}, {"weights": "inverse"},
                {"sampler": "weighted", "weights": "inverse"}):  # fmt: skip
        assert cautions(config(a=one)) == []


def test_the_networks_of_the_ratio_are_checked_where_an_arm_asks_for_it():
    tree = config(a={"weights": "sqrt"})
    tree.ratio.folds = 1
    validate(tree)
    tree.arms.a.weights = "density_ratio"
    with pytest.raises(InputError, match=r"ratio.folds \(=1\) must be at least 2"):
        validate(tree)


def test_hidden_labels_are_refused_before_anything_is_computed():
    tree = config(dro=ARMS["dro"], dfr=ARMS["dfr"], erm={})
    tree.data.protected_known = "none"
    with pytest.raises(InputError) as error:
        validate(tree)
    assert "fit.sampler (='balanced')" in str(error.value)
    assert "fit.head (='dfr')" in str(error.value)
    tree.fit.groups = "target"  # classes in the place of groups
    validate(tree)
    tree.data.group_attributes = ("large",)
    tree.data.protected_known = "both"
    tree.arms = ConfigDict({"a": {"adversary": 1.0}})
    with pytest.raises(InputError, match="data.group_attributes names none"):
        validate(tree)
    assert set(TREES) == {"fair_generation", "robust_classification"}


@pytest.mark.parametrize("hidden", ["none", "validation"])
def test_the_true_ratio_is_of_labels_that_may_not_be_hidden(hidden):
    tree = config(erm={}, ratio={"weights": "density_ratio"})
    tree.data.protected_known = hidden
    validate(tree)
    assert cautions(tree) == []
    tree.weights.true_ratio = True
    with pytest.raises(InputError) as error:
        validate(tree)
    assert "fit.weights (='density_ratio') must be another with weights.true_ratio=True" in str(
        error.value
    )
    assert "(arm ratio)" in str(error.value)
    tree.data.protected_known = "both"
    validate(tree)
    (told,) = cautions(tree)
    assert told.startswith("arm ratio: weights.true_ratio makes the weights of the labels")
    del tree.arms["ratio"]
    assert cautions(tree) == []


def test_the_page_says_which_ratio_was_taken(run, tmp_path):
    folder, page = run
    assert "learnt without labels. The mean weights" in page
    tree = config()
    tree.weights.true_ratio = True
    (tmp_path / "config.json").write_text(json.dumps(tree.to_dict(), default=list))
    shutil.copytree(folder / "weights", tmp_path / "weights")
    page = classifiers.build(tmp_path).read_text()
    assert "labels were used for it, and no ratio was estimated. The mean weights" in page
    assert "learnt without labels" not in page


def test_group_dro_costs_no_more_operations_than_plain_training(monkeypatch):
    monkeypatch.setattr(bench_classifier, "WINDOW", 0.01)
    tree = config()
    tree.fit.update(model="linear", batch=32)
    found = bench_classifier.measure(tree, "dro", "erm", 0.1)
    assert found["flop_ratio"] < 1.01
    assert found["windows"] >= 8
    low, middle, high = found["ratio"][1], found["ratio"][0], found["ratio"][2]
    assert 0 < low <= middle <= high
    assert set(found["ms"]) == {"erm", "dro"}


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_sweep_of_the_digits_is_planned_and_costed(tmp_path):
    path, module, _, cells, _ = sweep.opened(str(pipeline.ROOT / "configs/coloured_digits.py"))
    planned = sweep.jobs(path, cells, module.SEEDS, tmp_path)
    assert [job.seed for job, _ in planned] == [0, 1, 2]
    assert {"erm", "dro_l2_c", "dfr"} <= set(planned[0][0].methods)
    job, tree = planned[0]
    seconds, why = runs.cost(job.cell, tree, [])
    steps = len(job.methods) * 80 * 2400 / 128
    assert seconds == pytest.approx(steps * runs.ASSUMED_STEP)
    assert "steps" in why
