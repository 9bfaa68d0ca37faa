"""Runs that are killed, stopped and resumed, a sweep, and runs with labels and with a penalty."""

import fcntl
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pipeline
import pytest
from PIL import Image

from fairjax.report import rows as row_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def straight(tmp_path_factory) -> Path:
    """A finished run of the still smaller config of tests/pipeline.py, never interrupted."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    pipeline.ok(pipeline.run(workdir))
    return workdir


def test_killed_while_drawing_training_and_measuring(straight, tmp_path):
    """kill -9 at a random moment of some stages: the same bits, and nothing done is repeated. Those
    of all stages: `python tests/faults.py --kills=N`."""
    rng = random.Random()
    killed, cache = tmp_path / "run", tmp_path / "cache"
    history = []

    def kill(stage: str, ready, longest: float) -> None:
        before = pipeline.finished(killed)
        delay = rng.uniform(0, longest)
        code, said = pipeline.stop_when(killed, ready, signal.SIGKILL, delay=delay, cache=cache)
        history.append((stage, round(delay, 3), code))
        assert code in (-signal.SIGKILL, 0), said[-2000:]
        after = pipeline.finished(killed)
        assert {name: after[name] for name in before} == before, history

    drawing = lambda: cache.is_dir() and any(cache.glob("avatars-*.partial.*"))
    kill("data", drawing, 0.5)
    assert "data" not in pipeline.finished(killed), history  # drawing takes longer than that
    kill("gan", pipeline.saved(killed, "arms/main/gan"), 1.0)
    assert "arms/main/gan" not in pipeline.finished(killed), history
    kill("eval", pipeline.begun(killed, "arms/main/eval"), 1.0)
    pipeline.ok(pipeline.run(killed, cache=cache))
    assert pipeline.differences(straight, killed) == [], history
    assert "resumed at step" in (killed / "log.txt").read_text()
    assert (killed / "report/index.html").exists()


def test_sigterm_saves_and_resumes(straight, tmp_path):
    """SIGTERM while the GAN trains: exit 143, the resume command, and later the same bits."""
    workdir = tmp_path / "run"
    log = workdir / "arms/main/gan/metrics.jsonl"
    code, said = pipeline.stop_when(
        workdir, lambda: log.exists() and log.stat().st_size > 0, signal.SIGTERM
    )
    assert code == 143, said[-2000:]
    last = said.strip().splitlines()[-1]
    assert "stopped by SIGTERM" in last
    assert f"launch/train.py {pipeline.CONFIG} --workdir={workdir}" in last
    assert "Traceback" not in said
    again = pipeline.ok(pipeline.run(workdir))
    assert "gan main: resumed at step" in again
    # The step of the signal has a line of its own in the record; all else is the same.
    assert set(pipeline.differences(straight, workdir)) <= {"arms/main/gan/metrics.jsonl"}
    kept, whole = (
        {r["step"]: r.get("kid/random_conv") for r in pipeline.results(w)[name]}
        for w in (workdir, straight)
        for name in ["arms/main/gan/metrics.jsonl"]
    )
    assert whole.items() <= kept.items()
    assert len(kept) - len(whole) <= 1


def test_sigint_between_the_trainings(tmp_path):
    """Ctrl-C outside a training loop stops at once, with one line and no traceback."""
    workdir, cache = tmp_path / "run", tmp_path / "cache"
    code, said = pipeline.stop_when(
        workdir, pipeline.begun(workdir, "data"), signal.SIGINT, delay=0.3, cache=cache
    )
    assert code == 130, said[-2000:]
    assert "Traceback" not in said
    assert "stopped by SIGINT" in said.strip().splitlines()[-1]


def test_second_run_on_the_same_folder_is_refused(straight):
    """While one run holds the folder, another one answers in one line."""
    with (straight / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = pipeline.run(straight)
    assert done.returncode == 2
    assert "another run is using this folder" in done.stderr


def test_a_sweep_trains_and_leaves_its_rows(tmp_path):
    grid = tmp_path / "small.py"
    grid.write_text(
        f"import sys\nsys.path.insert(0, {str(pipeline.ROOT / 'tests')!r})\n"
        "import pipeline\nSWEEPS, SEEDS = {'s': ('small', 'same')}, (0,)\n"
        "def get_config(arg=None):\n    return pipeline.get_config()\n"
    )
    command = [sys.executable, str(pipeline.ROOT / "launch/sweep.py"), f"--config={grid}",
               f"--root={tmp_path}/runs"]  # fmt: skip
    done = subprocess.run(command, env=pipeline.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row, same = row_files.read_rows(tmp_path / "small.jsonl")
    assert (row["cell"], row["seed"], row["method"]) == ("small", 0, "main")
    assert (row["discrepancy"] is None) == (row["evaluations"] == 0)  # its judge may be too weak
    assert "kid/random_conv" in row["figures"]
    assert row["seconds"]["run"] > 0
    assert "bayes_gap/ratio_test" in row["ratio"]
    # A cell of the same stages trains nothing again, and makes a page of its own.
    assert "taken over from other runs: data, ratio" in done.stderr
    for key in ("figures", "curve", "chain", "ratio", "settings"):
        assert same[key] == row[key]
    assert (tmp_path / "runs/small/same/0/arms/main/gan/generator.json").exists()
    assert (tmp_path / "runs/small/same/0/report/index.html").exists()
    again = subprocess.run([*command, "--dry_run"], env=pipeline.environment(),
                           capture_output=True, text=True)  # fmt: skip
    assert "0 of 2 runs to do" in again.stderr


def test_labels_gray_images_and_clusters_through_all_stages(tmp_path):
    """Trained with labels on gray images, group DRO over clusters; sampled by class and around the
    judged centres."""
    workdir = tmp_path / "run"
    pipeline.ok(pipeline.run(
        workdir, "--config.gan.condition=('long_hair',)", "--config.data.channels=1",
        "--config.gan.kimg=0.4", "--config.eval.every_kimg=0.4", "--config.gan.dro",
        "--config.gan.groups=clusters", "--config.ratio.clusters=3",
    ))  # fmt: skip
    gan = workdir / "arms/main/gan"
    logged = [json.loads(line) for line in (gan / "metrics.jsonl").read_text().splitlines()]
    q = np.array([[line[f"q/{g}"] for g in range(3)] for line in logged if "q/0" in line])
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
    assert "q/3" not in logged[0]
    described = json.loads((gan / "generator.json").read_text())
    assert described["conditions"]["classes"] == ["short hair", "long hair"]
    assert described["conditions"]["prior"] == pytest.approx([0.5, 0.5])
    assert "trained with labels of long_hair" in (workdir / "report/index.html").read_text()
    centre = workdir / "arms/main/eval/centres/long_hair.safetensors"
    for out, more in (("one", ["--class=long hair"]), ("two", ["--noise=const"]),
                      ("three", ["--psi=0.5", f"--centre={centre}"])):  # fmt: skip
        pipeline.ok(subprocess.run(
            [sys.executable, "launch/sample.py", f"--generator={gan}", "--n=4", "--batch=4",
             f"--out={tmp_path / out}", *more],
            cwd=pipeline.ROOT, env=pipeline.environment(), capture_output=True, text=True,
            check=False,
        ))  # fmt: skip
        with Image.open(tmp_path / out / "000003.png") as image:
            assert (image.mode, image.size) == ("L", (8, 8))
    assert json.loads((tmp_path / "one/samples.json").read_text())["classes"] == ["long hair"] * 4


def test_a_run_with_a_penalty(tmp_path):
    """Each has a judge of its own, of labels or of groups of the ratios, and the run says so."""
    workdir = tmp_path / "run"
    file = tmp_path / "penalties.py"
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(pipeline.ROOT / 'tests')!r})\n"
        "import pipeline\n\n\ndef get_config(arg=None):\n"
        "    config = pipeline.get_config()\n"
        "    config.weights.true_ratio = True\n"
        "    config.gan.update(kimg=0.16, r1_gamma=0.0)\n"
        "    config.arms = {\n"
        "        'main': {'penalty': 'constraint', 'penalty_slack': 0.1, 'penalty_rate': 1.0},\n"
        "        'steered': {'penalty': 'marginals', 'penalty_groups': 'ratio',\n"
        "                    'penalty_momentum': 0.9}}\n"
        "    return config\n"
    )
    said = pipeline.ok(pipeline.run(workdir, f"--config={file}"))
    assert "labels are used in training, and the penalty may game its own judge" in said
    assert "penalty constraint on long_hair, target reference" in said
    stages = pipeline.finished(workdir)
    judges = {"judge/long_hair", "penalty_judge/long_hair", "penalty_judge/ratio_2"}
    assert judges <= stages.keys()
    networks = [(workdir / judge / "long_hair/network.safetensors").read_bytes()
                for judge in ("judge", "penalty_judge")]  # fmt: skip
    assert networks[0] != networks[1]
    done = json.loads((workdir / "arms/main/gan/DONE").read_text())
    assert "penalty_judge/long_hair" in done["inputs"]
    assert sum(done["output"]["penalty"]["target"]) == pytest.approx(1)
    lines = [json.loads(line) for line in
             (workdir / "arms/main/gan/metrics.jsonl").read_text().splitlines()]  # fmt: skip
    logged = [line for line in lines if "penalty/mu" in line]
    assert logged
    assert all({"penalty/distance", "penalty/share/0", "loss/g"} <= line.keys() for line in logged)
    # The audit has one judge, and the page says where the labels went.
    figures = json.loads((workdir / "arms/main/eval/metrics.json").read_text())["figures"]
    assert "fairness_discrepancy/long_hair/hard/corrected/reference" in figures
    assert "frechet/judge_long_hair" in figures
    found = json.loads((workdir / "report/metrics.json").read_text())
    for name in ("index.html", "model_card.md"):
        text = (workdir / "report" / name).read_text()
        assert "by a penalty that may have gamed its own judge" in text, name
    assert any("another judge" in line for line in found["answer"]["caveats"])
    # The other arm's judge knows the groups of the ratios: here those of the attribute, exactly.
    summary = json.loads((workdir / "penalty_judge/ratio_2/summary.json").read_text())
    assert [name.split()[0] for name in summary["classes"]] == ["ratio", "ratio"]
    done = json.loads((workdir / "arms/steered/gan/DONE").read_text())
    assert "penalty_judge/ratio_2" in done["inputs"]
    assert "penalty_judge/long_hair" not in done["inputs"]
    assert "penalty marginals on ratio_2, target reference (ratio about" in said
    assert "A penalty on groups of the ratios steered steered" in text
    assert '"penalty/running/1"' in (workdir / "arms/steered/gan/metrics.jsonl").read_text()
