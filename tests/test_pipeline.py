"""All stages as a user runs them, in a subprocess, on several kinds of data."""

import fcntl
import json
import re
from pathlib import Path

import make_celeba
import make_shapes3d
import numpy as np
import pipeline
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import avatars

pytestmark = pytest.mark.slow

QUICKSTART = "--config=configs/quickstart.py:tiny"


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Path:
    """A finished run of the quickstart in small."""
    workdir = tmp_path_factory.mktemp("quickstart") / "run"
    pipeline.ok(pipeline.run(workdir, QUICKSTART, "--config.eval.features_during"))
    return workdir


def test_workdir_contract(quickstart):
    for name in (
        "config.json command.txt versions.json log.txt data/manifest.json data/examples.npz "
        "ratio/fold_0/network.safetensors ratio/fold_1/logits.npz weights/weights.npz "
        "ratio/efficientnet_lite0/heads.safetensors ratio/efficientnet_lite0/logits.npz "
        "ratio/random_conv/heads.safetensors ratio/random_conv/logits.npz "
        "weights/summary.json judge/long_hair/summary.json judge/long_hair/network.safetensors "
        "penalty_judge/ratio_2/network.safetensors "
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
        assert 0 <= figures["judge_disagreement/long_hair"]["value"] <= 1
        assert all({"value", "low", "high", "n"} <= figure.keys() for figure in figures.values())
    stages = pipeline.finished(quickstart)
    assert len(stages) == 13
    # 0.32 kimg in batches of 8, logged every 0.08 kimg, evaluated every 0.16.
    lines = (quickstart / "arms/equi/gan/metrics.jsonl").read_text().splitlines()
    steps = {json.loads(line)["step"] for line in lines if "loss/g" in line}
    assert steps == {10, 20, 30, 40}
    for network in ("random_conv", "efficientnet_lite0"):
        evaluated = {json.loads(line)["step"] for line in lines if f"kid/{network}" in line}
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
    said = pipeline.ok(pipeline.run(quickstart, QUICKSTART, "--config.eval.features_during"))
    assert stamps() == before
    assert said.count("done before") == 13
    assert "finished in" not in said


def test_report_alone_is_made_again(quickstart):
    page = quickstart / "report/index.html"
    text = page.read_text()
    page.unlink()
    before = pipeline.finished(quickstart)
    pipeline.ok(pipeline.run(quickstart, QUICKSTART, "--stage=report"))
    assert len(page.read_text()) > 0.9 * len(text)
    after = pipeline.finished(quickstart)
    assert {name for name in after if after[name] != before[name]} == {"report"}


def test_default_workdir(tmp_path):
    """Without --workdir a run gets a folder of its own, and the same command finds it again."""
    args = (pipeline.CONFIG, "--config.weights.true_ratio=True")
    first = pipeline.ok(pipeline.run(None, *args, "--stage=data", cwd=tmp_path))
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"small-\d{8}", run.name)
    assert f"run runs/{run.name};" in first
    pipeline.ok(pipeline.run(None, *args, "--stage=weights", cwd=tmp_path))
    assert pipeline.finished(run).keys() == {"data", "weights"}
    with (run / "lock").open("a") as held:  # as by a run that goes on
        fcntl.flock(held, fcntl.LOCK_EX)
        said = pipeline.ok(pipeline.run(None, *args, "--stage=report", cwd=tmp_path))
    assert "what is there so far, without judge/long_hair, arms/main/gan, arms/main/eval" in said
    assert "weighted, by its true labels" in (run / "report/index.html").read_text()
    assert pipeline.finished(run).keys() == {"data", "weights"}
    other = pipeline.ok(pipeline.run(None, *args, "--config.seed=1", "--stage=data", cwd=tmp_path))
    assert f"run runs/{run.name}-2;" in other


@pytest.fixture
def same(quickstart) -> list[str]:
    """Overrides that make a config train the quickstart's networks, compiled by then."""
    return pipeline.same_programs(ConfigDict(json.loads((quickstart / "config.json").read_text())))


def test_celeba_through_all_stages(same, tmp_path):
    make_celeba.make(tmp_path / "celeba", 1300)
    workdir = tmp_path / "run"
    pipeline.ok(pipeline.run(workdir, "--config=configs/celeba_bias09.py:tiny", *same,
                    f"--config.data.celeba.dir={tmp_path / 'celeba'}"))  # fmt: skip
    manifest = json.loads((workdir / "data/manifest.json").read_text())
    assert manifest["roles"]["train_biased"]["groups"]["Male"] == {"not Male": 216, "Male": 24}
    figures = json.loads((workdir / "arms/weighted/eval/metrics.json").read_text())["figures"]
    assert "fairness_discrepancy/Male/hard/raw/reference" in figures
    assert "CelebA" in (workdir / "report/index.html").read_text()


def test_shapes3d_through_all_stages(same, tmp_path):
    file = tmp_path / "3dshapes.h5"
    make_shapes3d.make(file, 1600, floors=(0, 4, 6))
    workdir = tmp_path / "run"
    pipeline.ok(pipeline.run(workdir, "--config=configs/shapes3d.py:tiny", *same,
                    f"--config.data.shapes3d.file={file}"))  # fmt: skip
    manifest = json.loads((workdir / "data/manifest.json").read_text())
    counts = {"red floor": 216, "blue floor": 24}
    assert manifest["roles"]["train_biased"]["groups"]["floor_hue"] == counts
    figures = json.loads((workdir / "arms/weighted/eval/metrics.json").read_text())["figures"]
    assert "fairness_discrepancy/floor_hue/hard/raw/reference" in figures
    judge = json.loads((workdir / "judge/floor_hue/summary.json").read_text())
    assert sum(judge["accuracy"]) / 2 > 0.7  # it can be learnt from the pictures
    page = (workdir / "report/index.html").read_text()
    assert "blue floor" in page
    assert "3D Shapes" in page


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
    pipeline.ok(pipeline.run(workdir, "--config=configs/folder.py:tiny", *same,
                    f"--config.data.folder.biased={tmp_path / 'biased'}",
                    f"--config.data.folder.reference={tmp_path / 'reference'}"))  # fmt: skip
    assert not (workdir / "judge").exists()
    figures = json.loads((workdir / "arms/weighted/eval/metrics.json").read_text())["figures"]
    assert not [name for name in figures if name.startswith(("fairness", "share"))]
    assert {"kid/efficientnet_lite0/heldout_biased", "ratio_score/samples"} <= figures.keys()
    page = (workdir / "report/index.html").read_text()
    assert re.search(r"no attribute was measured", page, re.IGNORECASE)
