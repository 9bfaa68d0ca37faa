import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fairjax.data.cache import write_json
from fairjax.errors import InputError
from fairjax.evaluate.fairness import JudgeErrors, fairness_figures
from fairjax.evaluate.figures import Figure, write_figures
from fairjax.report import card, words
from fairjax.report.answer import answer
from fairjax.report.build import build
from fairjax.report.workdir import read

CLASSES = ["short hair", "long hair"]


def faces(rng, long_hair, size=32, noise=0):
    """uint8 [n, size, size, 3]: simple faces, with long hair where asked."""
    out = []
    for long in long_hair:
        image = Image.new(
            "RGB", (96, 96), tuple(rng.choice(["#dfe9f3", "#f3e7df", "#e5f0e2"], 1))[0]
        )
        pen = ImageDraw.Draw(image)
        hair, skin = (
            rng.choice(["#2b1d16", "#6b4423", "#c9a15a", "#8d2f1d"]),
            rng.choice(["#f2c9a5", "#d99b6c", "#a5673f", "#6a4128"]),
        )
        pen.ellipse((22, 8, 74, 56), fill=hair)
        if long:
            pen.rectangle((22, 32, 74, 84), fill=hair)
        pen.rectangle((40, 60, 56, 80), fill=skin)
        pen.ellipse((28, 18, 68, 70), fill=skin)
        pen.ellipse(
            (14, 76, 82, 130), fill=rng.choice(["#3b6ea5", "#a53b52", "#3ba57d", "#555a66"])
        )
        for x in (40, 56):
            pen.ellipse((x - 3, 38, x + 3, 44), fill="#1d1d1f")
        pen.arc((40, 46, 56, 60), 20, 160, fill="#8c2f2f", width=2)
        out.append(np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)))
    images = np.stack(out).astype(np.float32) + rng.normal(0, noise, (len(out), size, size, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


def write_shared(root, rng, labels=True, tested=1000):
    """Everything that the arms share: config, data, weights and, with labels, the judge."""
    arms = {"equi": {"reweight": "none"}, "weighted": {"reweight": "resample"}}
    gan = {"batch": 16, "kimg": 100.0, "reweight": "resample"}
    write_json(root / "config.json", {"name": "quickstart", "seed": 0, "gan": gan, "arms": arms})
    (root / "command.txt").write_text("python launch/train.py --config=configs/quickstart.py\n")
    versions = {
        "date": "2026-01-02 10:00 UTC",
        "python": "3.11.9",
        "jax": "0.10.2",
        "device": "cpu",
    }
    write_json(root / "versions.json", versions)

    def role(count, shares):
        counts = {name: round(count * s) for name, s in zip(CLASSES, shares, strict=True)}
        return {"count": count, "groups": {"long_hair": counts} if labels else {}}

    roles = {
        "train_biased": role(10000, (0.9, 0.1)),
        "train_reference": role(5000, (0.5, 0.5)),
        "ratio_test": role(1000, (0.7, 0.3)),
        "judge_fit": role(3000, (0.5, 0.5)),
        "judge_test": role(2 * tested, (0.5, 0.5)),
        "metric_reference": role(2000, (0.5, 0.5)),
    }
    manifest = {
        "source": "avatars",
        "resolution": 32,
        "roles": roles,
        "groups": {"attributes": ["long_hair"] if labels else []},
        "licences": ["Avataaars by Pablo Stanley, free for personal and commercial use"],
        "bad_files": ["broken <one>.png"],
        "in_both": [["a.png", "b.png"]],
        "duplicates_dropped": 3,
    }
    write_json(root / "data" / "manifest.json", manifest)
    examples = {
        "biased": faces(rng, rng.random(64) < 0.1),
        "reference": faces(rng, rng.random(64) < 0.5),
    }
    np.savez(root / "data" / "examples.npz", **examples)
    edges = np.geomspace(0.05, 20, 41)
    heights = {
        "all": np.histogram(rng.lognormal(-0.4, 0.7, 10000), edges)[0],
        "short hair": np.histogram(rng.lognormal(-0.6, 0.25, 9000), edges)[0],
        "long hair": np.histogram(rng.lognormal(1.5, 0.4, 1000), edges)[0],
    }
    p = np.linspace(0.05, 0.95, 10)
    (root / "weights").mkdir(exist_ok=True)
    write_figures(
        root / "weights" / "summary.json",
        [
            Figure("log_loss/ratio_test", 0.601, 0.585, 0.617, 1000),
            Figure("log_loss/bayes", 0.5914, math.nan, math.nan, 0),
            Figure("calibration_error/before", 0.061, 0.05, 0.072, 15000),
            Figure("calibration_error/after", 0.012, 0.008, 0.02, 15000),
            Figure("mean_weight/biased", 1.02, 0.99, 1.05, 10000),
            Figure("effective_sample_size/biased", 3710, math.nan, math.nan, 10000),
        ],
        {
            "chain": [
                {
                    "name": "union",
                    "attribute": "long_hair",
                    "value": 0.377,
                    "low": 0.37,
                    "high": 0.385,
                },
                {
                    "name": "weighted",
                    "attribute": "long_hair",
                    "value": 0.03,
                    "low": 0.02,
                    "high": 0.045,
                },
            ]
            if labels
            else [],
            "histogram": {"edges": edges, "counts": heights if labels else {"all": heights["all"]}},
            "calibration": {
                "before": {"confidence": p, "frequency": p**1.3, "count": 100 + 900 * (1 - p)},
                "after": {"confidence": p, "frequency": p + 0.01, "count": 100 + 900 * (1 - p)},
            },
        },
    )
    errors = JudgeErrors(
        np.round(tested * np.array([[0.99, 0.01], [0.015, 0.985]])).astype(int),
        np.array([[0.985, 0.015], [0.02, 0.98]]),
    )
    if labels:
        summary = {
            "attributes": ["long_hair"],
            "classes": CLASSES,
            "calibration_error": [0.012, 0.034],
            "confusion": errors.counts,
            "soft_confusion": errors.soft,
            "accuracy": [0.99, 0.985],
        }
        write_json(root / "judge" / "long_hair" / "summary.json", summary)
    return errors


def write_arm(root, rng, name, share, errors, labels=True, n=2000, dro=False):
    """One finished arm whose samples have the given share of long hair."""
    folder = root / "arms" / name
    (folder / "gan" / "samples").mkdir(parents=True)
    (folder / "eval").mkdir()
    lines = []
    for step in range(0, 100_001, 500):
        kimg = step / 1000
        line = {"step": step, "kimg": kimg, "time": step / 10}
        line["loss/g"] = 0.4 + 0.2 * math.exp(-kimg / 20) + rng.normal(0, 0.05)
        line["loss/d_real"] = line["loss/d_fake"] = 0.7 + rng.normal(0, 0.05)
        line["real_inside_margin"] = 0.9 - 0.002 * kimg + rng.normal(0, 0.01)
        if dro:
            line["q/0"], line["q/1"] = 0.7 - 0.002 * kimg, 0.3 + 0.002 * kimg
        if step % 10_000 == 0 and step:
            line["kid/random_conv"] = 0.02 + 0.2 * math.exp(-kimg / 15)
            if labels:
                key = "fairness_discrepancy/long_hair/hard/corrected/reference"
                line[key] = abs(0.5 - share) * math.sqrt(2) + rng.normal(0, 0.01)
        lines.append(json.dumps(line))
    (folder / "gan" / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 100500, "ki')
    long = rng.random(n) < share
    second = np.where(long, rng.beta(20, 1, n), rng.beta(1, 20, n))
    probabilities = np.stack([1 - second, second], axis=1)
    figures = [
        Figure("kid/efficientnet_lite0", 0.0123 + share / 100, 0.011, 0.019, n),
        Figure("kid/random_conv", 0.021, 0.018, 0.024, n),
        Figure("frechet/efficientnet_lite0", 41.3, math.nan, math.nan, n),
        Figure("kid/efficientnet_lite0/heldout_reference", 0.010, 0.009, 0.011, n),
        Figure("kid/efficientnet_lite0/heldout_biased", 0.031, 0.029, 0.033, n),
        Figure("ratio_score/samples", 0.47, 0.46, 0.48, n),
        Figure("memorisation/efficientnet_lite0", 0.06, 0.03, 0.09, n),
    ]
    arrays = {"images": faces(rng, long[:128], noise=6)}
    if labels:
        reference = np.eye(2)[np.arange(2000) % 2]
        found = fairness_figures(
            probabilities, errors, reference, np.arange(2000) % 2, "long_hair", draws=200
        )
        figures = [*found, Figure("judge_disagreement/long_hair", 0.18, 0.17, 0.19, n), *figures]
        key = "share/long_hair/0/hard/corrected"
        figures += [Figure(f"psi{psi}/{key}", 0.9 - 0.1 * psi, math.nan, math.nan, n)
                    for psi in (0.5, 0.7)]  # fmt: skip
        arrays["judge/long_hair"] = probabilities[:128]
    write_figures(folder / "eval" / "metrics.json", figures)
    np.savez(folder / "eval" / "samples.npz", **arrays)
    near = {
        "samples": arrays["images"][:16],
        "neighbours": faces(rng, long[:16]),
        "distance": np.arange(16.0),
    }
    np.savez(folder / "eval" / "neighbours.npz", **near)
    write_json(folder / "gan" / "DONE", {"seconds": 4000.0})
    for kimg in (20, 60, 100):
        tiles = faces(rng, rng.random(16) < share, noise=60 - kimg / 2)
        tiles = tiles.reshape(4, 4, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(128, 128, 3)
        Image.fromarray(tiles).save(folder / "gan" / "samples" / f"{kimg:06d}kimg.png")


def whole_run(root, labels=True, n=2000, tested=1000, shares=(0.14, 0.42), dro=False):
    rng = np.random.default_rng(0)
    errors = write_shared(root, rng, labels, tested)
    for name, share in zip(("equi", "weighted"), shares, strict=True):
        write_arm(root, rng, name, share, errors, labels, n, dro and name == "weighted")
    return root


def text_of(page):
    """What a reader sees: no style, no tags, no image data, single spaces."""
    text = re.sub(r"<style>.*?</style>", "", page.read_text("utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


@pytest.fixture
def copy(complete, tmp_path):
    """A complete run to be changed."""
    root = tmp_path / "run"
    shutil.copytree(complete[0], root)
    return root


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    root = whole_run(tmp_path_factory.mktemp("complete"))
    return root, build(root)


def test_the_page_answers_with_intervals(complete):
    root, page = complete
    assert page == root / "report" / "index.html"
    text = text_of(page)
    assert "The weighted generator repeats less of the bias" in text
    assert (
        "Of the biased training images 90 % show short hair, of the reference images 50 %" in text
    )
    # The very numbers of metrics.json, written out.
    for name in ("equi", "weighted"):
        path = root / "arms" / name / "eval" / "metrics.json"
        share = json.loads(path.read_text())["figures"]["share/long_hair/0/hard/corrected"]
        low, value, high = (round(100 * share[key]) for key in ("low", "value", "high"))
        assert f"({name}) shows {value} % [{low}, {high}] short hair" in text
    assert "The fairness discrepancy against the reference falls from" in text


def test_every_section_is_filled(complete):
    text = text_of(complete[1])
    assert "Not run" not in text
    for part in (
        "python launch/train.py --config=configs/quickstart.py",
        "jax 0.10.2",
        "train_biased 10,000 9,000 (90 %) 1,000 (10 %)",
        "Avataaars by Pablo Stanley",
        "broken &lt;one&gt;.png",
        "a.png = b.png",
        "50 % line",
        "of 54 shown samples",
        "judged short hair",
        "images calibration error short hair",
        "trained on these images show long hair in the proportions of the reference set",
        "99.0 %",
        "Fairness discrepancy · long hair · hard · corrected · against the reference",
        "KID · efficientnet lite0",
        "0.601 [0.585, 0.617]",
    ):
        assert part in text, part
    assert "target of a DRO run" not in text
    assert "insufficient evidence" not in text


def test_the_page_needs_no_network_and_is_one_file(complete):
    html = complete[1].read_text("utf-8")
    for reference in re.findall(r"(?:src|srcset|href|action|data)\s*=\s*[\"']([^\"']*)", html):
        assert reference.startswith(("data:image/png;base64,", "#")), reference[:80]
    assert not re.search(r"https?://|url\(|@import|<script|<link|<iframe", html)
    assert {path.name for path in complete[1].parent.iterdir()} == {
        "index.html",
        "metrics.json",
        "model_card.md",
        "data_sheet.md",
    }


def test_every_number_leads_to_its_row(complete):
    """The figures in front lead to rows under the names, and with the values, of metrics.json."""
    html = complete[1].read_text("utf-8")
    leads = re.findall(r'<a href="#(figure:[^"]*)">([^<]*)</a>', html)
    assert len(leads) > 20
    for row_id, text in leads:
        (row,) = re.findall(rf'<tr id="{re.escape(row_id)}">(.*?)</tr>', html)
        assert f">{row_id.removeprefix('figure:')}</td>" in row
        assert f">{text}</td>" in row
    (said,) = re.findall(r'<p class="said">(.*?)</p>', html)
    assert said.count('<a href="#figure:share/long_hair/0/hard/corrected">') == 2  # of both arms
    caveats = " ".join(re.findall(r'<p class="caveat">(.*?)</p>', html))
    assert caveats.count('<a href="#figure:judge_disagreement/long_hair">') == 2
    assert not re.search("[\ue000-\ue002]", html)
    for name in ("metrics.json", "model_card.md"):
        assert not re.search("[\ue000-\ue002]", complete[1].with_name(name).read_text("utf-8"))
    shares = "figure:share/long_hair/0/hard/corrected"
    assert re.search(rf'<tr id="{shares}">.*<td class="faint ">2000 / 2000</td></tr>', html)


def test_quality_within_the_classes_stands_beside_each_other(copy):
    path = copy / "arms/weighted/eval/metrics.json"
    document = json.loads(path.read_text())
    for k, value in enumerate((1.25, 7.5)):
        entry = {"value": value, "low": value - 0.5, "high": value + 0.5, "n": 40, "note": ""}
        document["figures"][f"kid/efficientnet_lite0/long_hair/{k}"] = entry
    write_json(path, document)
    text = text_of(build(copy))
    heads = "figure equi: short hair equi: long hair weighted: short hair weighted: long hair"
    assert f"{heads} KID · efficientnet lite0 not run not run 1.2 [0.8, 1.8] 7.5 [7.0, 8.0]" in text
    assert text.index("Within the classes of long_hair") < text.index(heads)


def test_truncation_cost_and_what_was_not_measured_are_said(complete):
    root, page = complete
    text, html = text_of(page), page.read_text("utf-8")
    assert re.search(r'alt="Share of short hair over psi: equi 0.85 at 0.5, 0\.8\d* at 1', html)
    assert "psi0.7/share/long_hair/0/hard/corrected" in text
    assert "arms/equi/gan 1:06:40 25" in text  # 100 kimg in 4,000 s
    assert "all 2:13:20" in text
    assert "Not measured: smoothness; what people think of the samples; energy" in text
    assert "None of them is an FID" in text


def test_energy_stands_beside_the_time_where_it_was_counted(copy):
    for path in copy.rglob("DONE"):
        record = json.loads(path.read_text())
        counted = {"CPU": 7200.0} if path.parent.name == "gan" else {}
        write_json(path, record | {"joules": counted})
    page = build(copy)
    text = text_of(page)
    assert "stage time images/s energy, CPU" in text
    assert "arms/equi/gan 1:06:40 25 2 Wh" in text
    assert "Energy is what the chips of the lead process's machine counted" in text
    assert "Not measured: smoothness; what people think of the samples. " in text


def test_card_and_data_sheet_say_what_people_have_to_answer(complete, copy):
    card = complete[1].with_name("model_card.md").read_text()
    assert re.search(r"before, 0\.\d+ \[.*\] in equi; in weighted, 0\.\d+ \[", card)
    assert "Training images are copied" not in card  # not in these features
    assert "- [ ] Who gains from the images" in card
    sheet = complete[1].with_name("data_sheet.md").read_text()
    assert "- train_biased (trained on: the large, biased set): 10000 images; long_hair" in sheet
    assert "3 duplicates were dropped, 1 files could not be read, 1 pictures" in sheet
    assert "no generator was trained with them" in sheet
    config = json.loads((copy / "config.json").read_text())
    config["arms"]["weighted"]["condition"] = ["long_hair"]
    write_json(copy / "config.json", config)
    sheet = build(copy).with_name("data_sheet.md").read_text()
    assert "**Labels were used in the training of** weighted." in sheet
    config["arms"]["weighted"] = {"reweight": "loss", "penalty": "marginals",
                                  "penalty_groups": "ratio"}  # fmt: skip
    write_json(copy / "config.json", config)
    sheet = build(copy).with_name("data_sheet.md").read_text()
    assert "no generator was trained with them" in sheet
    config["weights"] = {"true_ratio": True}
    write_json(copy / "config.json", config)
    page = build(copy)
    assert "Labels were used in the training of** weighted." in (
        page.with_name("data_sheet.md").read_text()
    )
    assert "labels were used for it, and no ratio was estimated" in page.read_text()


def test_metrics_json_holds_every_arm(complete):
    root, page = complete
    document = json.loads(page.with_name("metrics.json").read_text())
    assert set(document["arms"]) == {"equi", "weighted"}
    own = json.loads((root / "arms" / "weighted" / "eval" / "metrics.json").read_text())
    assert document["arms"]["weighted"]["figures"] == own["figures"]
    stream = (root / "arms" / "equi" / "gan" / "metrics.jsonl").read_text().splitlines()[:-1]
    logged = [json.loads(line).get("kid/random_conv") for line in stream]
    expected = np.mean([value for value in logged if value is not None][-4:])
    found = document["arms"]["equi"]["last_four"]["kid/random_conv"]
    assert found["value"] == pytest.approx(expected)
    assert document["insufficient_evidence"]["equi"] == {"long_hair": ""}


def test_the_model_card_holds_the_answer_and_no_markup(complete):
    card = complete[1].with_name("model_card.md").read_text()
    assert card.startswith("# Model card: quickstart\n")
    assert "The weighted generator repeats less of the bias." in card
    assert "| Fairness discrepancy" in card
    assert "&#39;" not in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}


def test_without_labels_no_attribute_is_claimed(tmp_path):
    text = text_of(build(whole_run(tmp_path, labels=False)))
    assert "No attribute was measured" in text
    assert "closer to held-out reference images (KID 0.010" in text
    assert "Ratio network&#39;s score" in text
    assert "hair" not in text.split("What was run")[0].replace("long_hair", "")
    assert "Fairness discrepancy" not in text


def test_few_samples_are_insufficient_evidence(tmp_path):
    page = build(whole_run(tmp_path, n=99))
    text = text_of(page)
    assert "insufficient evidence (99 samples, 100 needed)" in text
    assert "repeats less of the bias" not in text
    assert not re.search(r"arm \(equi\) shows \d", text)
    assert re.search(r"insufficient evidence: 0\.\d+ \[", text)  # the table greys such values
    metrics = json.loads(page.with_name("metrics.json").read_text())
    assert metrics["insufficient_evidence"]["equi"]["long_hair"] == "99 samples, 100 needed"


def test_few_test_images_are_insufficient_evidence(tmp_path):
    said = answer(read(whole_run(tmp_path, tested=49))).plain()
    assert said.headline == "Insufficient evidence"
    reason = "49 test images in the judge's smallest class, 50 needed"
    assert sum(reason in sentence for sentence in said.sentences) == 2


def test_a_weak_judge_is_insufficient_evidence(copy):
    path = copy / "arms" / "weighted" / "eval" / "metrics.json"
    document = json.loads(path.read_text())
    name = "fairness_discrepancy/long_hair/hard/corrected/reference"
    note = "judge too weak: finds 0.40 of a class"
    document["figures"][name] |= {"value": None, "low": None, "high": None, "note": note}
    write_json(path, document)
    said = answer(read(copy)).plain()
    assert f"(weighted): insufficient evidence ({note})." in said.sentences[-1]
    assert said.tone == "open"
    assert not any("falls" in sentence for sentence in said.evidence)


def test_a_refused_judge_is_insufficient_evidence(copy):
    path = copy / "judge" / "long_hair" / "summary.json"
    write_json(path, json.loads(path.read_text()) | {"refused": "trained on 12 images"})
    said = answer(read(copy)).plain()
    assert said.headline == "Insufficient evidence"
    assert "insufficient evidence (trained on 12 images)" in said.sentences[-1]


def test_overlapping_intervals_are_no_proven_change(tmp_path):
    said = answer(read(whole_run(tmp_path, n=300, shares=(0.30, 0.34)))).plain()
    assert said.headline == "No proven difference to the unweighted generator"
    assert "the intervals overlap" in said.evidence[0]


def test_only_an_arm_with_weights_is_called_weighted(tmp_path):
    run = read(whole_run(tmp_path))
    assert answer(run).plain().headline == "The weighted generator repeats less of the bias"
    first, other = run.arms
    changes = {"gan.reweight": "none", "gan.train_on": "reference"}
    alone = dataclasses.replace(other, settings=other.settings | changes)
    said = answer(dataclasses.replace(run, arms=(first, alone))).plain().headline
    assert said == f"The generator {other.name} repeats less of the bias"


def test_an_arm_that_got_worse_is_said_to_be_worse(tmp_path):
    said = answer(read(whole_run(tmp_path, shares=(0.4, 0.1)))).plain()
    assert said.headline == "More of the bias than the unweighted generator"
    assert said.tone == "bad"


def test_a_dro_run_names_its_target(tmp_path):
    text = text_of(build(whole_run(tmp_path, dro=True)))
    assert "The target of a DRO run is q, not the reference" in text
    assert "weighted by resampling, with group DRO" in text


def test_a_class_index_is_shown_by_its_name_wherever_the_judge_is_named(complete):
    run = read(complete[0])
    assert words.pretty("share/long_hair/1/hard/raw", run).split(" · ")[1:3] == [
        "long hair", "long hair",
    ]  # fmt: skip
    shown = words.pretty("kid/efficientnet_lite0/long_hair/0", run)
    assert shown.endswith("long hair · short hair")


def test_an_arm_on_the_reference_set_only_is_no_baseline(tmp_path):
    run = read(whole_run(tmp_path / "run"))
    first = run.arms[0]
    alone = dataclasses.replace(first, settings=first.settings | {"gan.train_on": "reference"})
    assert words.kind_of_arm(alone) == "unweighted, on the reference set only"
    assert words.baseline(dataclasses.replace(run, arms=(alone, first))) is first


def test_an_arm_on_samples_of_another_says_so_and_is_no_baseline(tmp_path):
    run = read(whole_run(tmp_path / "run"))
    first = run.arms[0]
    settings = first.settings | {"gan.own_from": "arm:equi", "gan.own_share": 1.0}
    own = dataclasses.replace(first, name="again", settings=settings)
    assert words.kind_of_arm(own) == "unweighted, trained on samples of equi (100 %)"
    assert words.baseline(dataclasses.replace(run, arms=(own, first))) is first
    own.settings["gan.own_share"] = 0.125
    assert words.kind_of_arm(own).endswith("of equi (12.5 %)")


def test_an_arm_that_was_trained_with_labels_says_so(tmp_path):
    arm = read(whole_run(tmp_path)).arms[0]
    assert "labels" not in words.kind_of_arm(arm)
    arm.settings["gan.condition"] = ["hair", "age"]
    assert words.kind_of_arm(arm).endswith(", trained with labels of hair and age")


def test_labels_reach_an_arm_through_true_ratios_and_through_other_arms(tmp_path):
    run = read(whole_run(tmp_path))
    first = run.arms[0]

    def arm(name, **settings):
        return dataclasses.replace(
            first, name=name, settings=first.settings | {"gan.reweight": "none"} | settings
        )

    penalty = {"gan.penalty": "marginals", "gan.penalty_groups": "ratio"}
    bins, labels = {"gan.groups": "ratio_bins"}, {"gan.groups": "attributes"}
    arms = (arm("plain"), arm("steered", **penalty), arm("bins", **bins, **{"gan.dro": True}),
            arm("logged", **bins), arm("logged_too", **labels),
            arm("tuned", **{"gan.init_from": "arm:fed"}),
            arm("fed", **{"gan.own_from": "arm:labelled"}),
            arm("labelled", **labels, **{"gan.dro": True}))  # fmt: skip
    run = dataclasses.replace(run, arms=arms)
    run.config["weights"] = {"true_ratio": False}
    assert card.trained_with_labels(run) == ["tuned", "fed", "labelled"]
    run.config["weights"] = {"true_ratio": True}
    assert card.trained_with_labels(run) == ["steered", "bins", "tuned", "fed", "labelled"]


def test_on_the_reference_set_alone_no_weight_acts(tmp_path):
    first = read(whole_run(tmp_path)).arms[0]
    alone = {"gan.reweight": "resample", "gan.train_on": "reference"}
    arm = dataclasses.replace(first, settings=first.settings | alone)
    assert arm.reweight == "none"
    assert words.kind_of_arm(arm).startswith("unweighted, on the reference set only")


def test_a_threat_on_few_images_is_said_to_be_no_evidence(tmp_path):
    run = read(whole_run(tmp_path))
    note = "insufficient evidence: 10 held-out images, 50 needed"
    figure = Figure("memorisation/random_conv", 0.3, 0.0, 0.6, 100, note)
    run.arms[0].figures[figure.name] = figure
    (copied,) = (said for said in card.threats(run) if f"of {run.arms[0].name} are closer" in said)
    assert copied.endswith(f"than 95 % of new images are ({note}).")


def test_intervals_that_overlap_are_no_proof_of_equal_distances(tmp_path):
    run = read(whole_run(tmp_path, labels=False))
    for end, value in (("reference", (0.1, 0.02, 0.18)), ("biased", (0.3, 0.15, 0.45))):
        for arm in run.arms:
            name = f"kid/random_conv/heldout_{end}"
            arm.figures[name] = Figure(name, *value, 100, "")
    said = " ".join(answer(run).evidence)
    assert "are not proven to be closer to held-out reference images (KID" in said
    assert "as far" not in said


def test_an_arm_with_a_penalty_says_so_and_is_no_baseline(tmp_path):
    run = read(whole_run(tmp_path / "run"))
    first = run.arms[0]
    fair = dataclasses.replace(
        first, name="fair", settings=first.settings | {"gan.penalty": "adversary"}
    )
    assert words.kind_of_arm(fair) == "unweighted, with an adversary on its styles"
    assert words.baseline(dataclasses.replace(run, arms=(fair, first))) is first
    said = answer(dataclasses.replace(run, arms=(first, fair))).caveats
    assert sum("another judge" in line and "training of fair," in line for line in said) == 1
    assert not any("another judge" in line for line in answer(run).caveats)
    steered = dataclasses.replace(fair, settings=fair.settings | {"gan.penalty_groups": "ratio"})
    assert (
        words.kind_of_arm(steered) == "unweighted, with an adversary on its styles of ratio groups"
    )
    said = " ".join(answer(dataclasses.replace(run, arms=(first, steered))).caveats)
    assert "A penalty on groups of the ratios steered fair and" in said
    assert "Labels were used" not in said


def test_what_the_networks_of_the_judge_differ_in_is_said(tmp_path):
    run = read(whole_run(tmp_path / "run"))
    first = run.arms[0]
    name = f"judge_disagreement/{run.main_set}"

    def caveats(value):
        figure = Figure(name, value, value - 0.01, value + 0.01, 500, "on real images 0.1 %")
        arm = dataclasses.replace(first, figures=first.figures | {name: figure})
        return [words.unled(c) for c in answer(dataclasses.replace(run, arms=(arm,))).caveats]

    assert "what its networks differ in; they say nothing" in caveats(0.01)[0]
    assert not any("differently" in line for line in caveats(0.01))
    (line,) = [c for c in caveats(0.18) if "differently" in c]
    assert line.startswith("Two networks of the judge decide differently on 18 % [17, 19] of the "
                           f"samples of {first.name} (on real images 0.1 %)")  # fmt: skip
    others = {key: figure for key, figure in first.figures.items() if key != name}
    alone = dataclasses.replace(first, figures=others)
    assert not any("networks" in c for c in answer(dataclasses.replace(run, arms=(alone,))).caveats)


def test_an_empty_workdir_gives_a_page_that_says_so(tmp_path):
    text = text_of(build(tmp_path))
    assert text.count("Not run") >= 8
    assert "No generator has been evaluated yet" in text


def test_a_run_that_stopped_early(copy):
    for name in ("judge/long_hair/summary.json", "arms/weighted/eval/metrics.json"):
        (copy / name).unlink()
    for path in (copy / "arms" / "weighted" / "eval").iterdir():
        path.unlink()
    (copy / "data" / "examples.npz").unlink()
    text = text_of(build(copy))
    assert "not run" in text
    assert "No attribute was measured" in text


@pytest.mark.parametrize(
    "name", ["config.json", "data/examples.npz", "arms/equi/eval/metrics.json"]
)
def test_a_damaged_file_is_named(copy, name):
    (copy / name).write_text("{")
    with pytest.raises(InputError, match=re.escape(str(copy / name))):
        build(copy)


def test_a_damaged_line_in_the_middle_of_a_stream_is_named(copy):
    path = copy / "arms" / "equi" / "gan" / "metrics.jsonl"
    path.write_text('{"step": 0, "kimg": 0}\n{"st\n{"step": 2, "kimg": 1}\n')
    with pytest.raises(InputError, match="line 2"):
        build(copy)


def test_markup_in_the_users_names_is_text(copy):
    config = json.loads((copy / "config.json").read_text())
    write_json(copy / "config.json", config | {"name": "<script>alert(1)</script>"})
    page = build(copy)
    assert "<script>" not in page.read_text("utf-8")
    assert "<script>" not in page.with_name("model_card.md").read_text("utf-8")


def test_four_classes_and_gray_images(copy):
    rng = np.random.default_rng(1)
    classes = ["a", "b", "c", "d"]
    write_json(
        copy / "judge" / "long_hair" / "summary.json",
        {"attributes": ["long_hair"], "classes": classes, "confusion": np.eye(4, dtype=int) * 100},
    )
    probabilities = rng.dirichlet(np.full(4, 0.1), size=500)
    errors = JudgeErrors(np.eye(4, dtype=int) * 100, np.eye(4))
    for arm in ("equi", "weighted"):
        folder = copy / "arms" / arm / "eval"
        figures = fairness_figures(
            probabilities, errors, np.eye(4)[np.arange(80) % 4], None, "long_hair", draws=100
        )
        write_figures(folder / "metrics.json", figures)
        images = rng.integers(0, 255, (64, 64, 64, 1), dtype=np.uint8)
        arrays = {"images": images, "judge/long_hair": probabilities[:64]}
        np.savez(folder / "samples.npz", **arrays)
    text = text_of(build(copy))
    assert "50 % line" not in text
    for name in classes:
        assert f"{name} · " in text
