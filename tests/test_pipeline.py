"""All stages as a user runs them: a subprocess, killed, resumed, on several kinds of data."""

import fcntl
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import make_celeba
import numpy as np
import pipeline
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import avatars

pytestmark = pytest.mark.slow

QUICKSTART = "--config=configs/quickstart.py:tiny"


def ok(done) -> str:
    """What a run that must succeed wrote to stderr."""
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Path:
    """A finished run of the quickstart in small."""
    workdir = tmp_path_factory.mktemp("quickstart") / "run"
    ok(pipeline.run(workdir, QUICKSTART))
    return workdir


@pytest.fixture(scope="session")
def straight(tmp_path_factory) -> Path:
    """A finished run of the still smaller config of tests/pipeline.py, never interrupted."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    ok(pipeline.run(workdir))
    return workdir


def test_workdir_contract(quickstart):
    for name in (
        "config.json command.txt versions.json log.txt data/manifest.json data/examples.npz "
        "ratio/fold_0/network.safetensors ratio/fold_1/logits.npz weights/weights.npz "
        "ratio/efficientnet_lite0/heads.safetensors ratio/efficientnet_lite0/logits.npz "
        "weights/summary.json judge/long_hair/summary.json judge/long_hair/network.safetensors "
        "report/index.html report/model_card.md report/metrics.json"
    ).split():
        assert (quickstart / name).stat().st_size > 0, name
    for arm in ("equi", "weighted"):
        folder = quickstart / "arms" / arm
        for name in ("gan/metrics.jsonl", "gan/generator.safetensors", "gan/generator.json",
                     "eval/metrics.json", "eval/samples.npz", "eval/neighbours.npz"):  # fmt: skip
            assert (folder / name).stat().st_size > 0, name
        assert list(folder.glob("gan/events.*"))
        assert list(folder.glob("gan/samples/*.png"))
        assert any(f.name.isdigit() for f in (folder / "gan/checkpoints").iterdir())
        figures = json.loads((folder / "eval/metrics.json").read_text())["figures"]
        assert "fairness_discrepancy/long_hair/hard/corrected/reference" in figures
        assert "kid/efficientnet_lite0" in figures
        assert all({"value", "low", "high", "n"} <= figure.keys() for figure in figures.values())
    stages = pipeline.finished(quickstart)
    assert len(stages) == 10
    # 0.32 kimg in batches of 8, logged every 0.08 kimg, evaluated every 0.16.
    lines = (quickstart / "arms/equi/gan/metrics.jsonl").read_text().splitlines()
    steps = {json.loads(line)["step"] for line in lines if "loss/g" in line}
    assert steps == {10, 20, 30, 40}
    evaluated = {json.loads(line)["step"] for line in lines if "kid/random_conv" in line}
    assert evaluated == {20, 40}


def test_arms_differ_only_by_their_reals(quickstart):
    """Both arms start from the same network; they end with different ones."""
    weight = np.load(quickstart / "weights/weights.npz")["weight"]
    assert weight.std() > 0
    both = [(quickstart / f"arms/{arm}/gan/generator.safetensors").read_bytes()
            for arm in ("equi", "weighted")]  # fmt: skip
    assert both[0] != both[1]


def test_page_is_one_file_without_network(quickstart):
    page = (quickstart / "report/index.html").read_text()
    assert "equi" in page
    assert "weighted" in page
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    assert loaded
    assert all(link.startswith(("data:", "#")) for link in loaded), loaded
    assert not re.search(r"@import|url\((?!['\"]?(data:|#))", page)


def test_rerun_repeats_nothing(quickstart):
    def stamps() -> dict[str, int]:
        return {str(f): f.stat().st_mtime_ns for f in quickstart.rglob("*")
                if f.is_file() and f.name not in ("log.txt", "lock")}  # fmt: skip

    before = stamps()
    said = ok(pipeline.run(quickstart, QUICKSTART))
    assert stamps() == before
    assert said.count("done before") == 10
    assert "finished in" not in said


def test_report_alone_is_made_again(quickstart):
    page = quickstart / "report/index.html"
    text = page.read_text()
    page.unlink()
    before = pipeline.finished(quickstart)
    ok(pipeline.run(quickstart, QUICKSTART, "--stage=report"))
    assert len(page.read_text()) > 0.9 * len(text)
    after = pipeline.finished(quickstart)
    assert {name for name in after if after[name] != before[name]} == {"report"}


def test_default_workdir(tmp_path):
    """Without --workdir a run gets a folder of its own, and the same command finds it again."""
    args = (pipeline.CONFIG, "--config.weights.true_ratio=True")
    first = ok(pipeline.run(None, *args, "--stage=data", cwd=tmp_path))
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"small-\d{8}", run.name)
    assert f"run runs/{run.name};" in first
    ok(pipeline.run(None, *args, "--stage=weights", cwd=tmp_path))
    assert pipeline.finished(run).keys() == {"data", "weights"}
    other = ok(pipeline.run(None, *args, "--config.seed=1", "--stage=data", cwd=tmp_path))
    assert f"run runs/{run.name}-2;" in other


def test_killed_in_every_stage(straight, tmp_path):
    """kill -9 at a random moment of each stage: the same bits, and nothing done is repeated."""
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
    kill("ratio", pipeline.begun(killed, "ratio/fold_0"), 3.0)
    kill("judge", pipeline.begun(killed, "judge/long_hair"), 3.0)
    kill("gan", pipeline.saved(killed, "arms/main/gan"), 1.0)
    assert "arms/main/gan" not in pipeline.finished(killed), history
    kill("eval", pipeline.begun(killed, "arms/main/eval"), 1.0)
    kill("report", pipeline.begun(killed, "report"), 1.0)
    ok(pipeline.run(killed, cache=cache))
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
    again = ok(pipeline.run(workdir))
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


@pytest.fixture
def same(quickstart) -> list[str]:
    """Overrides that make a config train the quickstart's networks, compiled by then."""
    return pipeline.same_programs(ConfigDict(json.loads((quickstart / "config.json").read_text())))


def test_celeba_through_all_stages(same, tmp_path):
    make_celeba.make(tmp_path / "celeba", 1300)
    workdir = tmp_path / "run"
    ok(pipeline.run(workdir, "--config=configs/celeba_bias09.py:tiny", *same,
                    f"--config.data.celeba.dir={tmp_path / 'celeba'}"))  # fmt: skip
    manifest = json.loads((workdir / "data/manifest.json").read_text())
    assert manifest["roles"]["train_biased"]["groups"]["Male"] == {"not Male": 216, "Male": 24}
    figures = json.loads((workdir / "arms/weighted/eval/metrics.json").read_text())["figures"]
    assert "fairness_discrepancy/Male/hard/raw/reference" in figures
    assert "CelebA" in (workdir / "report/index.html").read_text()


def test_folder_without_labels_through_all_stages(same, tmp_path):
    """No attribute is measured, and the page says so; the label-free figures are there."""
    rng = np.random.default_rng(0)
    for name, n, long_hair in (("biased", 120, 0.1), ("reference", 60, 0.5)):
        (tmp_path / name).mkdir()
        for i in range(n):
            row = (int(rng.random() < long_hair), *map(int, rng.integers(0, 2, 4)))
            picture = avatars.draw(avatars.options(row, (len(name), i)), 24, 24)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    workdir = tmp_path / "run"
    ok(pipeline.run(workdir, "--config=configs/folder.py:tiny", *same,
                    f"--config.data.folder.biased={tmp_path / 'biased'}",
                    f"--config.data.folder.reference={tmp_path / 'reference'}"))  # fmt: skip
    assert not (workdir / "judge").exists()
    figures = json.loads((workdir / "arms/weighted/eval/metrics.json").read_text())["figures"]
    assert not [name for name in figures if name.startswith(("fairness", "share"))]
    assert {"kid/efficientnet_lite0/heldout_biased", "ratio_score/samples"} <= figures.keys()
    page = (workdir / "report/index.html").read_text()
    assert re.search(r"no attribute was measured", page, re.IGNORECASE)


def test_second_run_on_the_same_folder_is_refused(straight):
    """While one run holds the folder, another one answers in one line."""
    with (straight / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = pipeline.run(straight)
    assert done.returncode == 2
    assert "another run is using this folder" in done.stderr


def test_labels_and_gray_images_through_all_stages(tmp_path):
    """Trained with labels on gray images; sampled by class and around the judged centres."""
    workdir = tmp_path / "run"
    ok(pipeline.run(workdir, "--config.gan.condition=('long_hair',)", "--config.data.channels=1",
                    "--config.gan.kimg=0.4", "--config.eval.every_kimg=0.4"))  # fmt: skip
    gan = workdir / "arms/main/gan"
    described = json.loads((gan / "generator.json").read_text())
    assert described["conditions"]["classes"] == ["short hair", "long hair"]
    assert described["conditions"]["prior"] == pytest.approx([0.5, 0.5])
    assert "trained with labels of long_hair" in (workdir / "report/index.html").read_text()
    centre = workdir / "arms/main/eval/centres/long_hair.safetensors"
    for out, more in (("one", ["--class=long hair"]), ("two", ["--noise=const"]),
                      ("three", ["--psi=0.5", f"--centre={centre}"])):  # fmt: skip
        ok(subprocess.run(
            [sys.executable, "launch/sample.py", f"--generator={gan}", "--n=4", "--batch=4",
             f"--out={tmp_path / out}", *more],
            cwd=pipeline.ROOT, env=pipeline.environment(), capture_output=True, text=True,
            check=False,
        ))  # fmt: skip
        with Image.open(tmp_path / out / "000003.png") as image:
            assert (image.mode, image.size) == ("L", (8, 8))
    assert json.loads((tmp_path / "one/samples.json").read_text())["classes"] == ["long hair"] * 4
