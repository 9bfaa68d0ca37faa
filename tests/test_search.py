"""Searches of `launch/sweep.py`: what is suggested, run, pruned, shared, gone on with and refused.

In the place of launch/train.py there is a program whose figures are a known function of the keys:
its best value is 1, at weight_decay = 0.01 and learning_rate = 0.1.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pipeline
import pytest
from test_report import whole_run

from fairjax.errors import InputError
from fairjax.experiments import compare, runs, search_space, sweep
from fairjax.experiments.stages import Stages
from fairjax.report import rows as row_files

FILE = """
from ml_collections import ConfigDict
from fairjax.classifier_config import defaults

WORST, AVERAGE = "'worst_group_accuracy/validation'", "'average_accuracy/validation'"
KEYS = {"fit.weight_decay": ("log", 1e-4, 1.0), "fit.learning_rate": ("log", 1e-3, 10.0)}
SEARCHES = {
    "tpe": {"keys": KEYS, "maximise": WORST, "trials": 20},
    "random": {"keys": KEYS, "maximise": WORST, "trials": 8, "sampler": "random"},
    "few": {"keys": KEYS | {("fit.objective", "fit.sampler"): (
                "choice", [("mean", "epoch"), ("group_dro", "balanced")])},
            "maximise": WORST + " - 0.5 * " + AVERAGE, "trials": 4},
    "median": {"keys": KEYS, "maximise": WORST, "trials": 10, "sampler": "random",
               "pruner": "median"},
    "halving": {"keys": KEYS, "maximise": WORST, "trials": 10, "sampler": "random",
                "pruner": "halving"},
    "both": {"keys": KEYS, "maximise": (WORST, AVERAGE), "trials": 8},
    "odd": {"keys": {"fit.batch": ("choice", (32, 64)), "fit.mine": ("uniform", 0, 64)},
            "maximise": WORST, "trials": 8, "sampler": "random"},
}

def get_config(arg=None):
    config = defaults()
    config.name = "toy"
    return config
"""

TRAIN = """
import json, math, os, sys, time
from pathlib import Path

given = dict(arg[2:].split("=", 1) for arg in sys.argv[1:])
root, here = Path(given.pop("workdir")), Path(__file__).parent
(here / "pid").write_text(str(os.getpid()))
with (here / "calls").open("a") as file:
    file.write(root.name + "\\n")
of = lambda name: float(given.get("config.fit." + name, 1.0))
far = math.log10(of("weight_decay")) + 2, math.log10(of("learning_rate")) + 1
value = 1 - (far[0] ** 2 + far[1] ** 2) / 4
worst, average = value, 0.9 - abs(value - 0.2) / 4
stream = root / "arms/main/fit"
stream.mkdir(parents=True, exist_ok=True)


def log():
    lines = [{"step": k, "worst_group/validation": value * (1 - 0.5**k),
              "average/validation": average} for k in range(1, 7)]
    draft = stream / "draft"
    draft.write_text("".join(json.dumps(line) + "\\n" for line in lines))
    draft.rename(stream / "metrics.jsonl")


if (here / "slow").exists() and value < float((here / "slow").read_text()):
    log()
    time.sleep(60)
code = here / ("code_" + root.name)
if code.exists():
    sys.exit(int(code.read_text()))
if (here / ("nan_" + root.name)).exists():
    worst = None
figures = {}
parts = (("validation", worst, average), ("test", value / 2, average / 2), ("train", 1, 1))
for part, w, a in parts:
    figures["worst_group_accuracy/" + part] = {"value": w, "low": w, "high": w, "n": 9}
    figures["average_accuracy/" + part] = {"value": a, "low": a, "high": a, "n": 9}
(root / "arms/main/eval").mkdir(exist_ok=True)
(root / "report").mkdir(exist_ok=True)
(root / "arms/main/eval/metrics.json").write_text(json.dumps({"figures": figures}))
(root / "config.json").write_text((here / "config.json").read_text())
(stream / "DONE").write_text('{"seconds": 5}')
(root / "report/DONE").write_text('{"seconds": 1}')
# The last thing before the end: a run is stopped by what it logged only if it waits above.
log()
os._exit(0)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(FILE)
    (tmp_path / "train.py").write_text(TRAIN)
    _, module, *_ = sweep.opened(f"{tmp_path}/toy.py:few")
    (tmp_path / "config.json").write_text(json.dumps(module.get_config().to_dict(), default=list))
    monkeypatch.setattr(runs, "TRAIN", tmp_path / "train.py")
    monkeypatch.setattr(runs, "POLL", 0.1)
    return tmp_path


def run(toy, name, *args):
    """(exit code, trials that were run since the last call)."""
    calls = toy / "calls"
    calls.unlink(missing_ok=True)
    with pytest.raises(SystemExit) as stop:
        sweep.main(["sweep.py", f"--config={toy}/toy.py:{name}", f"--root={toy}/runs", *args])
    made = calls.read_text().split() if calls.exists() else []
    return stop.value.code, [int(name.removeprefix("trial_")) for name in made]


def rows_of(toy):
    return row_files.read_rows(toy / "toy.jsonl")


def test_tpe_finds_the_optimum(toy):
    assert run(toy, "tpe") == (0, list(range(20)))
    values = [row["values"][0] for row in rows_of(toy)]
    assert max(values) > 0.9
    # The half in which it knows something; draws that know nothing have a mean of 1/3.
    assert np.mean(values[10:]) > 0.6
    row = rows_of(toy)[0]
    exact = toy_value(row["searched"])
    assert row["values"] == [pytest.approx(exact)] == [row["validation"][WORST]]
    assert row["worst_group"] == pytest.approx(exact / 2)  # of the test images, for the reader
    assert [step for step, _ in row["between"]] == [1, 2, 3, 4, 5, 6]


WORST = "worst_group_accuracy/validation"


def test_a_rerun_goes_on_with_what_it_would_have_suggested(toy):
    assert run(toy, "few", f"--out={toy}/whole.jsonl") == (0, [0, 1, 2, 3])
    whole = row_files.read_rows(toy / "whole.jsonl")
    (toy / "runs").rename(toy / "before")
    assert run(toy, "few", "--limit=3") == (0, [0, 1, 2])
    assert run(toy, "few") == (0, [3])
    assert run(toy, "few") == (0, [])
    assert [r["searched"] for r in rows_of(toy)] == [r["searched"] for r in whole]
    found = whole[0]["validation"]
    assert whole[0]["values"] == [found[WORST] - 0.5 * found["average_accuracy/validation"]]
    assert {(r["searched"]["fit.objective"], r["searched"]["fit.sampler"]) for r in whole} <= {
        ("mean", "epoch"), ("group_dro", "balanced")}  # fmt: skip


def test_a_stopped_trial_is_gone_on_with_under_its_number(toy):
    (toy / "code_trial_0001").write_text("143")
    assert run(toy, "few") == (143, [0, 1])
    (toy / "code_trial_0001").unlink()
    assert run(toy, "few") == (0, [1, 2, 3])
    assert [r["trial"] for r in rows_of(toy)] == [0, 1, 2, 3]


def test_a_trial_that_got_some_of_its_values_only_has_failed(toy):
    """As where a process dies between two keys."""
    assert run(toy, "few", "--limit=1") == (0, [0])
    log = optuna.storages.journal.JournalFileBackend(f"{toy}/runs/toy/few/study.log")
    study = optuna.load_study(study_name="few", storage=optuna.storages.JournalStorage(log))
    study.ask({"fit.weight_decay": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)})
    assert run(toy, "few") == (0, [2, 3])
    (row,) = [r for r in rows_of(toy) if r["trial"] == 1]
    assert (row["state"], row["searched"]) == ("failed", {})
    assert "died before it had values" in row["reason"]
    assert run(toy, "few") == (0, [])


PROCESS = """
import sys
from pathlib import Path
from fairjax.experiments import runs, sweep
runs.TRAIN, runs.POLL = Path(sys.argv.pop(1)), 0.1
sweep.main(["sweep.py", *sys.argv[1:]])
"""


@pytest.fixture
def start(toy):
    """Starts processes on one study; they end with the test."""
    made = []

    def one():
        given = [f"--config={toy}/toy.py:random", f"--root={toy}/runs"]
        made.append(subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(toy / "train.py"), *given],
            env=pipeline.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))  # fmt: skip
        return made[-1]

    yield one
    for process in made:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.slow
def test_processes_share_a_study_and_one_that_is_killed_loses_nothing(toy, start):
    """The first is killed in a trial; two others finish, and no trial is run by both."""
    (toy / "slow").write_text("2")  # every trial waits
    first = start()
    for _ in range(2400):
        if (toy / "calls").exists():
            break
        time.sleep(0.05)
    first.kill()
    first.wait()
    os.kill(int((toy / "pid").read_text()), signal.SIGKILL)  # the run outlives it
    (toy / "slow").unlink()
    assert (toy / "calls").read_text().split() == ["trial_0000"]
    both = [start(), start()]
    assert [process.wait(300) for process in both] == [0, 0]
    made = (toy / "calls").read_text().split()[1:]
    assert sorted(made) == [f"trial_{n:04d}" for n in range(8)]
    assert sorted(row["trial"] for row in rows_of(toy)) == list(range(8))


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_bad_trials_are_stopped_early(toy, pruner):
    assert run(toy, pruner, "--limit=5") == (0, list(range(5)))
    least = min(row["values"][0] for row in rows_of(toy) if row["state"] == "complete")
    (toy / "slow").write_text(str(least))  # what is worse than all of them would wait for a minute
    began = time.monotonic()
    assert run(toy, pruner) == (0, list(range(5, 10)))
    assert time.monotonic() - began < 50
    last = rows_of(toy)[5:]
    of = {row["trial"]: toy_value(row["searched"]) for row in last}
    pruned = {row["trial"] for row in last if row["state"] == "pruned"}
    assert {n for n, value in of.items() if value < least} == pruned != set()
    assert all(row["values"] is None and row["between"] for row in last if row["trial"] in pruned)


def toy_value(keys):
    wd, lr = keys["fit.weight_decay"], keys["fit.learning_rate"]
    return 1 - ((np.log10(wd) + 2) ** 2 + (np.log10(lr) + 1) ** 2) / 4


def test_failures_are_recorded_and_the_search_goes_on(toy, capsys):
    (toy / "code_trial_0000").write_text("1")
    (toy / "nan_trial_0001").touch()
    assert run(toy, "few") == (0, [0, 1, 2, 3])
    failed, empty, *good = rows_of(toy)
    assert (failed["state"], failed["reason"]) == ("failed", "its run ended with exit code 1")
    assert (empty["state"], empty["reason"]) == ("failed", f"the figure '{WORST}' is empty")
    assert failed["values"] is empty["values"] is None
    assert [r["state"] for r in good] == ["complete", "complete"]
    assert run(toy, "few") == (0, [])


def test_a_search_whose_first_run_cannot_use_its_input_ends_and_goes_on_once_mended(toy):
    (toy / "code_trial_0000").write_text("2")
    assert run(toy, "few") == (2, [0])
    assert not (toy / "toy.jsonl").exists()
    (toy / "code_trial_0000").unlink()
    (toy / "code_trial_0002").write_text("2")  # others came to their end: so it is these values
    assert run(toy, "few") == (0, [0, 1, 2, 3])
    assert [row["state"] for row in rows_of(toy)] == ["complete", "complete", "failed", "complete"]


def test_values_that_go_badly_together_fail_without_a_run(toy):
    code, made = run(toy, "odd")
    assert code == 0
    rows = rows_of(toy)
    wrong = [r["trial"] for r in rows if r["searched"]["fit.mine"] > r["searched"]["fit.batch"]]
    assert 0 < len(wrong) < 8
    assert made == [r["trial"] for r in rows if r["trial"] not in wrong]
    assert all("must be at most fit.batch" in rows[n]["reason"] for n in wrong)


def test_several_objectives_end_with_a_front(toy, caplog):
    with caplog.at_level("INFO", "fairjax"):
        assert run(toy, "both") == (0, list(range(8)))
    points = np.array([r["values"] for r in rows_of(toy)])
    on = [n for n, p in enumerate(points) if not ((points >= p).all(1) & (points > p).any(1)).any()]
    said = [record.getMessage() for record in caplog.records]
    assert [n for n in range(8) if any(f"on the front: trial {n} (" in line for line in said)] == on


def test_the_cost_is_said_before_anything_runs(toy, caplog):
    with caplog.at_level("INFO", "fairjax"):
        assert run(toy, "few", "--dry_run") == (0, [])
        assert not (toy / "runs").exists()
        assert run(toy, "few", "--limit=1") == (0, [0])
        assert run(toy, "few", "--dry_run") == (0, [])
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "4 of 4 trials to do (sampler tpe, pruner none), about 0:15 each (steps at" in said
    assert "3 of 4 trials to do (sampler tpe, pruner none), about 0:06 each (as runs before), at " \
           "most 0:18 in one process" in said  # fmt: skip
    assert "fit.weight_decay: 0.0001 to 1, log" in said


def test_another_search_in_the_same_folder_is_refused(toy, capsys):
    run(toy, "few", "--limit=1")
    (toy / "toy.py").write_text(FILE.replace("1e-4, 1.0", "1e-4, 0.1"))
    assert run(toy, "few") == (2, [])
    assert "begun with other keys.fit.weight_decay" in capsys.readouterr().err
    (toy / "toy.py").write_text(FILE)
    (toy / "runs").rename(toy / "before")
    assert run(toy, "few") == (2, [])
    assert "its trial 0 of few is none of this study" in capsys.readouterr().err


WRONG = {
    "unknown key": ({"keys": {"fit.weight_decy": ("log", 1e-4, 1.0)}},
                    "Did you mean fit.weight_decay"),
    "fixed key": ({"keys": {"seed": ("choice", [1, 2])}}, "seed is no key that can be searched"),
    "a tree": ({"keys": {"fit": ("choice", [1, 2])}}, "fit is no key that can be searched"),
    "no keys": ({"keys": {}}, "keys must be a dict"),
    "empty range": ({"keys": {"fit.l1": ("uniform", 1.0, 1.0)}}, "is empty"),
    "log of 0": ({"keys": {"fit.l1": ("log", 0.0, 1.0)}}, "must begin above 0"),
    "no number": ({"keys": {"fit.l1": ("log", "a", 1.0)}}, "must have two numbers"),
    "whole": ({"keys": {"fit.width": ("log", 1.5, 4.0)}}, "must have two whole numbers"),
    "a word's range": ({"keys": {"fit.model": ("log", 1.0, 2.0)}}, "the key holds 'cnn'"),
    "no choice": ({"keys": {"fit.model": ("choice", [])}}, "must be ('uniform', low, high)"),
    "twice": ({"keys": {"fit.model": ("choice", ["cnn", "cnn"])}}, "names a choice twice"),
    "pairs": ({"keys": {("fit.model", "fit.width"): ("choice", ["cnn"])}}, "choices of 2 values"),
    "wrong type": ({"keys": {"fit.width": ("choice", [8, "wide"])}}, "fit.width = 'wide'"),
    "wrong word": ({"keys": {"fit.model": ("choice", ["cnn", "cm"])}}, "fit.model = 'cm'"),
    "out of range": ({"keys": {"fit.cvar_alpha": ("uniform", 0.5, 1.5)}}, "fit.cvar_alpha = 1.5"),
    "dfr": ({"keys": {"fit.head": ("choice", ["none", "dfr"])}}, "fitted on the validation images"),
    "test": ({"maximise": "'average_accuracy/test'"}, "a choice by them is no test; take "
             "'average_accuracy/validation'"),
    "training": ({"maximise": "'average_accuracy/train'"}, "no figure of the validation images"),
    "unknown figure": ({"minimise": "'wrst_group_accuracy/validation'"},
                       "Did you mean worst_group_accuracy/validation"),
    "no formula": ({"maximise": "worst +"}, "it cannot be read"),
    "no objective": ({"maximise": ()}, "maximise or minimise must be a formula"),
    "pruned front": ({"minimise": "'average_accuracy/validation'", "pruner": "median"},
                     "must be none with several objectives"),
    "pruned group": ({"maximise": "'accuracy/small, blue/validation'", "pruner": "median"},
                     "not measured while a fit runs"),
    "trials": ({"trials": 0}, "trials (=0) must be a whole number from 1"),
    "sampler": ({"sampler": "bayes"}, "sampler (='bayes') must be one of tpe, random"),
    "mistyped": ({"trails": 3}, "unknown key 'trails'. Did you mean trials"),
    "arm": ({"arm": "erm"}, "arm (='erm') must be one of main"),
    "a number as a key": ({"keys": {5: ("log", 1, 2)}}, "5 must be the name of a key"),
    "a number as a formula": ({"minimise": 5}, "minimise (=5) must be a formula"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_search_is_refused_before_anything_runs(toy, name):
    path, module, *_ = sweep.opened(f"{toy}/toy.py:tpe")
    changed, words = WRONG[name]
    module.SEARCHES = {"tpe": module.SEARCHES["tpe"] | changed}
    with pytest.raises(InputError) as error:
        search_space.load(path, module, "tpe")
    assert words in str(error.value)
    assert "1 problem(s)" in str(error.value)


def test_all_problems_are_told_at_once(toy, capsys):
    text = FILE.replace("1e-3, 10.0", "10.0, 1e-3").replace('"trials": 4', '"trials": -4')
    (toy / "toy.py").write_text(text.replace("fit.weight_decay", "fit.weight"))
    assert run(toy, "few") == (2, [])
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "3 problem(s)" in said
    for words in ("fit.weight is no key", "fit.learning_rate", "trials (=-4)"):
        assert words in said
    assert run(toy, "few", "--cells=a") == (2, [])
    assert not (toy / "runs").exists()


def test_a_key_that_the_arm_sets_itself_and_one_of_the_arm(toy):
    text = FILE.replace(
        "    return config", "    config.arms.main.learning_rate = 0.1\n    return config"
    )
    (toy / "toy.py").write_text(text.replace('"fit.learning_rate"', '"arms.main.learning_rate"'))
    path, module, which, *_ = sweep.opened(f"{toy}/toy.py:tpe")
    search, config = search_space.load(path, module, which)
    changed = search_space.with_values(config, {"arms.main.learning_rate": 0.3})
    assert (changed.arms.main.learning_rate, config.arms.main.learning_rate) == (0.3, 0.1)
    (toy / "toy.py").write_text(text)
    with pytest.raises(InputError, match="search arms.main.learning_rate"):
        search_space.load(*sweep.opened(f"{toy}/toy.py:tpe")[:3])


def test_stages_of_equal_config_and_input_are_taken_over(tmp_path):
    plan = {"data": {"n": 1}, "fit": {"rate": 0.1}, "head": {"k": 3}, "report": {}}

    def make(folder, plan):
        stages = Stages(folder, plan)
        stages.run("data", [], lambda f: _write(f, "data"))
        stages.run("fit", ["data"], lambda f: _write(f, "fit"))
        stages.run("head", ["fit"], lambda f: _write(f, "head"))
        return stages

    first = tmp_path / "a"
    make(first, plan)
    taken = lambda name, **other: Stages(tmp_path / name, plan | other).take_over([first])
    assert taken("same") == ["data", "fit", "head"]
    assert taken("same") == []
    assert (tmp_path / "same/fit/numbers.json").read_text() == '["fit"]'
    make(tmp_path / "same", plan)  # finds all done, and whole
    assert taken("head", head={"k": 4}) == ["data", "fit"]
    assert taken("rate", fit={"rate": 0.2}) == ["data"]  # the head was fitted on another fit
    assert taken("other data", data={"n": 2}) == []
    (first / "fit/numbers.json").write_text("[]")
    assert taken("damaged") == ["data"]


def _write(folder: Path, text: str):
    (folder / "numbers.json").write_text(json.dumps([text]))
    return {"made": text}


def test_compare_shows_the_trials_and_their_front(toy, capsys):
    (toy / "code_trial_0002").write_text("1")
    run(toy, "few")
    text = (toy / "toy.jsonl").read_text()
    (toy / "few.jsonl").write_text(text + text.replace('"few"', '"other"'))
    by_number = {row["trial"]: row for row in rows_of(toy)}
    capsys.readouterr()
    compare.main(["compare.py", f"{toy}/few.jsonl", f"--out={toy}/out"])
    said = capsys.readouterr().out
    assert "few: 4 trials, 3 complete, 1 failed." in said
    assert "other: 4 trials, 3 complete, 1 failed." in said
    assert "Trial 2 failed: its run ended with exit code 1" in said
    lines = {
        n: line for n in by_number for line in said.splitlines() if line.startswith(f"| {n} |")
    }
    points = {n: (r["validation"][WORST], r["validation"]["average_accuracy/validation"])
              for n, r in by_number.items() if n != 2}  # fmt: skip
    assert lines.keys() == points.keys()
    for n, (worst, average) in points.items():
        beaten = any(a >= worst and b >= average and (a, b) != (worst, average)
                     for a, b in points.values())  # fmt: skip
        wd = by_number[n]["searched"]["fit.weight_decay"]
        assert lines[n].startswith(f"| {n} | {'-' if beaten else 'yes'} | {worst:.4g} | ")
        assert f"| {worst / 2:.4g} | {average / 2:.4g} |" in lines[n]
        assert lines[n].endswith(f"| {wd:.4g} |")
    page = (toy / "out/index.html").read_text()
    assert "fit.weight_decay" in page
    assert "other trials" in page or "<img" in page
    assert (toy / "out/front_few.png").exists()
    # Other objectives, here the opposite: whoever is worst is on the front alone.
    compare.main(["compare.py", f"{toy}/few.jsonl", f"--front=minimise '{WORST}'"])
    least = min(points, key=lambda n: points[n][0])
    assert f"On the front: {least}." in capsys.readouterr().out
    for front, words in (("maximise 'a'", "no figure is named 'a'"), ("least 'a'", "no objective")):
        with pytest.raises(SystemExit) as stop:
            compare.main(["compare.py", f"{toy}/few.jsonl", f"--front={front}"])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def test_a_figure_that_the_runs_do_not_have_ends_the_search(toy, capsys):
    """Known only when the first trial has ended, as the names of groups come from the data."""
    (toy / "toy.py").write_text(FILE.replace("average_accuracy/v", "accuracy/small, bleu/v"))
    assert run(toy, "few") == (2, [0])
    assert "no figure is named 'accuracy/small, bleu/validation'" in capsys.readouterr().err
    assert not (toy / "toy.jsonl").exists()
    assert run(toy, "few", "--dry_run")[0] == 0


GAN = """
from ml_collections import ConfigDict
from fairjax.config import defaults

BIAS, KID = "'fairness_discrepancy/long_hair/hard/corrected/reference'", "'kid/random_conv'"
SEARCHES = {"gan": {"arm": "weighted", "keys": {"gan.r1_gamma": ("log", 0.1, 10.0)},
                    "minimise": f"{BIAS} + 0.1 * {KID}", "trials": 2, "pruner": "median"}}

def get_config(arg=None):
    config = defaults()
    config.gan.kimg = 100.0
    config.arms = ConfigDict({"equi": {"reweight": "none"}, "weighted": {}})
    return config
"""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("judge.attribute_sets = ()", "what is judged"),
        ("eval.features_during = True", "eval.inception"),
    ],
)
def test_figures_that_a_generator_will_not_have_are_refused(tmp_path, more, words):
    text = GAN.replace("random_conv", "inception")
    (tmp_path / "toy.py").write_text(text.replace("    return", f"    config.{more}\n    return"))
    path, module, *_ = sweep.opened(f"{tmp_path}/toy.py:gan")
    with pytest.raises(InputError, match=words):
        search_space.load(path, module, "gan")


def test_a_generator_is_searched_by_what_its_training_logs(tmp_path, monkeypatch, capsys):
    (tmp_path / "toy.py").write_text(GAN)

    _, module, *_ = sweep.opened(f"{tmp_path}/toy.py:gan")
    tree = json.dumps(module.get_config().to_dict(), default=list)

    def trained(command, hopeless):
        root = Path(command[-1].partition("=")[2])
        whole_run(root, n=50)
        (root / "config.json").write_text(tree)
        (root / "report").mkdir(exist_ok=True)
        for stage in ("report", "arms/equi/gan", "arms/weighted/gan"):
            (root / stage / "DONE").write_text('{"seconds": 1}')
        return 0

    monkeypatch.setattr(runs, "to_its_end", trained)
    assert run(tmp_path, "gan") == (0, [])
    row, other = rows_of(tmp_path)
    stream = tmp_path / "runs/toy/gan/trial_0000/arms/weighted/gan/metrics.jsonl"
    lines = [json.loads(line) for line in stream.read_text().splitlines()[:-1]]
    last = [line for line in lines if line["kimg"] > 75 and "kid/random_conv" in line]
    key = "fairness_discrepancy/long_hair/hard/corrected/reference"
    expected = [np.mean([line[name] for line in last]) for name in (key, "kid/random_conv")]
    assert row["values"] == [pytest.approx(expected[0] + 0.1 * expected[1])]
    assert row["discrepancy"] == pytest.approx(expected[0])
    assert len(row["between"]) == 10  # one for each evaluation
    compare.main(["compare.py", f"{tmp_path}/toy.jsonl"])
    said = capsys.readouterr().out
    assert "gan: 2 trials, 2 complete." in said
    final = row["figures"][key][0]
    assert f"| {expected[0]:.4g} | {expected[1]:.4g} | {final:.4g} | " in said
    for text, words in (
        ("'kid/inception'", "'kid/inception' is measured after the training only"),
        ("'share/beard/0/hard/raw'", "is of no judge; judged are long_hair"),
        ("'share/long_hair/hard/raw'", "is no figure of samples. Did you mean share/long_hair/"),
        (
            "'fairness_discrepancy/long_hair/hard/correted/reference'",
            "is no figure of samples. Did you mean fairness_discrepancy/long_hair/hard/",
        ),
    ):
        (tmp_path / "toy.py").write_text(GAN.replace('f"{BIAS} + 0.1 * {KID}"', f'"{text}"'))
        assert run(tmp_path, "gan") == (2, [])
        assert words in capsys.readouterr().err
    logged = GAN.replace("config.gan.kimg = 100.0", "config.eval.features_during = True")
    (tmp_path / "toy.py").write_text(logged.replace("kid/random_conv", "kid/efficientnet_lite0"))
    search_space.load(*sweep.opened(f"{tmp_path}/toy.py:gan")[:3])
