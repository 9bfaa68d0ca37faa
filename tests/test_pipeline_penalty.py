"""A run with a penalty as a user starts it: a judge of its own is trained, and the run says so."""

import json

import pipeline
import pytest

pytestmark = pytest.mark.slow


def test_a_run_with_a_penalty(tmp_path):
    workdir = tmp_path / "run"
    said = pipeline.ok(pipeline.run(
        workdir, "--config.weights.true_ratio=True", "--config.gan.kimg=0.16",
        "--config.gan.penalty=constraint", "--config.gan.penalty_slack=0.1",
        "--config.gan.penalty_rate=1.0", "--config.gan.r1_gamma=0.0",
    ))  # fmt: skip
    assert "labels are used in training, and the penalty may game its own judge" in said
    assert "penalty constraint on long_hair, target reference" in said
    stages = pipeline.finished(workdir)
    assert {"judge/long_hair", "penalty_judge/long_hair"} <= stages.keys()
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
