"""`launch/audit.py` on folders of pictures whose make-up is known."""

import csv
import json
import math
import re
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pyarrow import csv as csv_table
from scipy import stats

from fairjax.errors import InputError
from fairjax.evaluate import features, verdicts
from fairjax.evaluate.figures import Figure, read_figures
from fairjax.experiments import audit
from fairjax.experiments.audit_figures import Judged, classes_by_name, names_of, over_sets
from fairjax.experiments.onnx_judge import OnnxJudge, with_errors
from fairjax.report import words

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200)}
SHARE = "share/colour/1/hard/corrected"
DISCREPANCY = "fairness_discrepancy/colour/hard/corrected/reference"


def folder(path, counts, seed=0, size=(20, 16)):
    """Noisy pictures of these colours, and their table beside the folder."""
    rng = np.random.default_rng(seed)
    path.mkdir()
    names = [name for name, count in counts.items() for _ in range(count)]
    with path.with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "colour", "shape"])
        for i, name in enumerate(names):
            noise = rng.integers(-30, 30, (size[1], size[0], 3))
            picture = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(path / f"{i:04d}.png")
            table.writerow([f"{i:04d}.png", name, "wide" if i % 2 else "high"])
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    folder(root / "samples", {"red": 160, "blue": 40})
    folder(root / "reference", {"red": 60, "blue": 60}, seed=1)
    return root


def run(root, out, *more, samples="samples", features="none"):
    """(exit code, folder of the audit)."""
    given = [
        "audit.py", f"--samples={root / samples}", f"--labels={root / samples}.csv",
        f"--reference={root / 'reference'}", f"--reference_labels={root / 'reference'}.csv",
        f"--features={features}", f"--out={out}", *more,
    ]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        audit.main(given)
    return end.value.code, out


def test_folders_with_tables_and_no_run(folders, tmp_path):
    code, out = run(folders, tmp_path / "out", "--attributes=colour,colour+shape")
    assert code == 0
    figures = read_figures(out / "arms/samples/eval/metrics.json")
    red = figures[SHARE]  # values are sorted: blue, red
    assert (red.value, red.n, red.note) == (0.8, 200, "labels taken as true")
    assert red.low < 0.8 < red.high < 0.87
    assert figures[DISCREPANCY].value == pytest.approx(math.sqrt(2) * 0.3)
    judged = [SimpleNamespace(label=label, classes=range(k), errors=None)
              for label, k in (("colour", 2), ("colour+shape", 4))]  # fmt: skip
    missing = set(names_of(judged, ["random_conv"], several=False)) ^ set(figures)
    assert len(missing) == 2 * 5  # of the 40 blue samples 20 are wide and 20 high: too few
    assert all(name.endswith(("/colour+shape/0", "/colour+shape/1")) for name in missing)
    assert figures["fairness_discrepancy/colour+shape/hard/corrected/reference"].value > 0.2
    # Half of the distance is the make-up: within the colours sets are alike.
    whole, red = (figures[f"kid/random_conv{of}"] for of in ("", "/colour/1"))
    assert whole.low > 0
    assert red.low < 0 < red.high
    assert figures["precision/random_conv"].value > 0.8
    rows = list(csv.DictReader((out / "figures.csv").read_text().splitlines()))
    assert {row["name"]: float(row["value"]) for row in rows}[SHARE] == 0.8
    page = (out / "report/index.html").read_text()
    text = re.sub("<[^>]*>", "", page).replace("\u00a0", " ")
    assert "The samples show 20 % [15, 26] blue" in text
    assert "labels are taken as true" in page
    assert "Not run" not in page  # no part of a training
    assert "Since the baseline" not in page
    assert json.loads((out / "data/manifest.json").read_text())["roles"]["metric_reference"] == {
        "count": 120,
        "groups": {"colour": {"blue": 60, "red": 60}, "colour+shape": {
            "blue, high": 30, "blue, wide": 30, "red, high": 30, "red, wide": 30}},
    }  # fmt: skip


def test_limits_and_baseline_decide_the_exit_code(folders, tmp_path):
    limits = tmp_path / "limits.json"

    def asked(out, most, *more, samples="samples"):
        limits.write_text(json.dumps({SHARE: {"min": 0.1, "max": most}}))
        return run(folders, tmp_path / out, f"--limits={limits}", *more, samples=samples)

    notes = tmp_path / "notes.csv"
    notes.write_text(f"figure,author,date,text\n{SHARE},Ada,2026-11-02,<i>as ever</i>\n")

    code, kept = asked("kept", 0.95, f"--notes={notes}")
    assert code == 0
    assert "&lt;i&gt;as ever&lt;/i&gt;" in (kept / "report/index.html").read_text()
    assert asked("broken", 0.6)[0] == 1
    code, first = asked("open", 0.82)
    assert code == 3
    page = (first / "report/index.html").read_text()
    assert "insufficient evidence" in page
    baseline = f"--baseline={first / 'arms/samples/eval/metrics.json'}"
    assert run(folders, tmp_path / "same", baseline)[0] == 0
    folder(folders / "other", {"red": 100, "blue": 100}, seed=5)
    code, out = run(folders, tmp_path / "moved", baseline, samples="other")
    assert code == 4
    kept = json.loads((out / "arms/samples/eval/metrics.json").read_text())
    names = {entry["figure"] for entry in kept["moved"]}
    assert {SHARE, DISCREPANCY, "share/colour/0/hard/raw"} <= names
    assert not any("shape" in name for name in names)  # the shapes are as they were
    assert kept["compared"] > 20
    assert "Since the baseline" in (out / "report/index.html").read_text()
    # A broken limit is worse news than a figure that moved.
    assert asked("both", 0.2, baseline, samples="other")[0] == 1


def test_a_generator_and_the_judge_of_a_run(folders, tmp_path, monkeypatch):
    """Who is in the images is asked of the judge; its errors widen the interval."""
    from fairjax.evaluate.fairness import JudgeErrors
    from fairjax.experiments import judge_stage

    red = lambda images: (images[..., 0].mean((1, 2)) > 120).astype(int)
    counts = np.array([[90, 10], [10, 90]])
    means = features.Network("judge_colour", "means", 3, lambda x: np.asarray(x).mean((1, 2)))
    judge = judge_stage.SavedJudge(
        "colour", ("blue", "red"), JudgeErrors(counts, counts / 100), 16, 3,
        lambda images: np.eye(2)[red(images)], means,
    )  # fmt: skip
    monkeypatch.setattr(judge_stage, "read_judge", lambda folder, where: judge)
    given = [
        "audit.py", f"--samples={folders / 'samples'}", f"--reference={folders / 'reference'}",
        f"--reference_labels={folders / 'reference'}.csv", "--judge=RUN/judge/colour",
        "--features=none", "--judge_features", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        audit.main(given)
    assert end.value.code == 0
    assert "trained on the attribute" in (tmp_path / "out/report/index.html").read_text()
    figures = read_figures(tmp_path / "out/arms/samples/eval/metrics.json")
    assert figures["share/colour/1/hard/raw"].value == 0.8
    assert figures[SHARE].value == pytest.approx((0.8 - 0.1) / 0.8)
    assert figures["reference_share/colour/1/hard/corrected"].value == 0.5  # its labels
    wide, narrow = (figures[f"share/colour/1/hard/{form}"] for form in ("corrected", "raw"))
    assert wide.high - wide.low > narrow.high - narrow.low
    # In the features of the judge the samples of one colour are like the reference's.
    far, *near = (figures[f"kid/judge_colour{of}"].value for of in ("", "/colour/0", "/colour/1"))
    assert far > 10 * max(map(abs, near))


def test_a_judge_of_several_networks_that_differ_on_the_samples(folders, tmp_path, monkeypatch):
    """All are right on real images; what they differ in on samples is in the interval and said."""
    from fairjax.evaluate.fairness import JudgeErrors
    from fairjax.experiments import judge_stage

    def votes(images):
        one = np.eye(2)[(images[..., 0].mean((1, 2)) > 120).astype(int)]
        other = one.copy()
        other[:10] = other[:10, ::-1]  # of the first of each part
        return np.stack([0.9 * one + 0.05, one, 0.6 * other + 0.2], 1)

    judge = judge_stage.SavedJudge(
        "colour", ("blue", "red"), JudgeErrors(np.diag([100, 100]), np.eye(2)), 16, 3,
        lambda images: votes(images).mean(1), votes=votes, disagreement=0.01,
    )  # fmt: skip
    monkeypatch.setattr(judge_stage, "read_judge", lambda folder, where: judge)
    given = ["audit.py", f"--samples={folders / 'samples'}", f"--reference={folders / 'reference'}",
             "--judge=RUN/judge/colour", "--features=none"]  # fmt: skip

    def figures_in(out):
        with pytest.raises(SystemExit) as end:
            audit.main([*given, f"--out={out}"])
        assert end.value.code == 0
        return read_figures(out / "arms/samples/eval/metrics.json")

    figures = figures_in(tmp_path / "several")
    differ = figures["judge_disagreement/colour"]
    assert differ.value == pytest.approx(10 / 200 * 2 / 3)
    assert differ.note == "on real images 1 %"
    assert figures["share/colour/1/hard/raw"].value == 0.8  # the mean decides as the two do
    monkeypatch.setattr(judge_stage, "read_judge", lambda folder, where: judge._replace(votes=None))
    alone = figures_in(tmp_path / "alone")
    assert "judge_disagreement/colour" not in alone
    wide, narrow = (f["share/colour/1/hard/raw"] for f in (figures, alone))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.1 * (narrow.high - narrow.low)


def test_weights_make_the_reference_what_it_should_be(folders, tmp_path):
    """Against a reference weighted to 80 % red, samples of 80 % red are no longer away from it."""
    table = folders / "weighted.csv"
    head, *lines = (folders / "reference.csv").read_text().splitlines()
    weight = {"red": "0.8", "blue": "0.2"}
    rows = [f"{line},{weight[line.split(',')[1]]}" for line in lines]
    table.write_text("\n".join([f"{head},w", *rows]))
    given = f"--reference_labels={table}", "--attributes=colour"
    plain = read_figures(run(folders, tmp_path / "plain", *given)[1]
                         / "arms/samples/eval/metrics.json")  # fmt: skip
    _, out = run(folders, tmp_path / "weighted", *given, "--weights=w")
    found = read_figures(out / "arms/samples/eval/metrics.json")
    assert plain["kid/random_conv"].low > 0
    assert abs(found["kid/random_conv"].value) < 0.1 * plain["kid/random_conv"].value
    red = "kid/random_conv/colour/1"  # all alike
    assert found[red][1:4] == pytest.approx(plain[red][1:4], rel=1e-6)
    assert found[DISCREPANCY] == plain[DISCREPANCY]  # shares are those of the tables
    table.write_text("\n".join([f"{head},w", *rows[:-1], lines[-1] + ",-1"]))
    assert run(folders, tmp_path / "bad", *given, "--weights=w")[0] == 2
    # A group whose images count nothing has no distance of its own; also where 0 is a number.
    none = [f"{line},{int(line.split(',')[1] == 'red')}" for line in lines]
    table.write_text("\n".join([f"{head},w", *none]))
    pq.write_table(csv_table.read_csv(table), table.with_suffix(".parquet"))
    parquet = f"--reference_labels={table.with_suffix('.parquet')}", "--attributes=colour"
    for name, flags in (("zero", given), ("parquet", parquet)):
        code, out = run(folders, tmp_path / name, *flags, "--weights=w")
        assert code == 0
        found = read_figures(out / "arms/samples/eval/metrics.json")
        assert red in found
        assert "kid/random_conv/colour/0" not in found


def test_only_the_columns_that_are_asked_for_must_be_classes(folders, tmp_path, capfd):
    """A column of numbers beside the attribute is nobody's business."""
    tables = []
    for name in ("samples", "reference"):
        head, *lines = (folders / f"{name}.csv").read_text().splitlines()
        table = tmp_path / f"{name}.csv"
        rows = [f"{line},{i / 7:.3f}" for i, line in enumerate(lines)]
        table.write_text("\n".join([f"{head},sure", *rows]))
        tables.append(table)
    given = f"--labels={tables[0]}", f"--reference_labels={tables[1]}"
    assert run(folders, tmp_path / "out", *given, "--attributes=colour")[0] == 0
    assert run(folders, tmp_path / "all", *given)[0] == 2
    assert "column 'sure'" in capfd.readouterr().err


def test_labels_inside_a_zip_are_used_only_where_both_sets_have_some(folders, tmp_path):
    pictures = sorted((folders / "reference").glob("*.png"))
    with zipfile.ZipFile(tmp_path / "labelled.zip", "w") as file:
        for path in pictures:
            file.write(path, path.name)
        labels = [[path.name, i % 2] for i, path in enumerate(pictures)]
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    given = f"--reference={tmp_path / 'labelled.zip'}", "--labels=", "--reference_labels="
    code, out = run(folders, tmp_path / "out", *given)
    assert code == 0
    figures = read_figures(out / "arms/samples/eval/metrics.json")
    assert "kid/random_conv" in figures
    assert not any(name.startswith("share/") for name in figures)
    assert "StyleGAN2" not in (out / "report/model_card.md").read_text()


@pytest.mark.parametrize(("known", "name"), [(True, "inception"), (False, "inception_ffffffff")])
def test_only_the_weights_of_the_fid_are_called_inception(
    folders, tmp_path, monkeypatch, known, name
):
    from fairjax.evaluate import features

    model = features.inception_v3
    weights = model.Weights({}, np.eye(192, 3), model.SHA256 if known else "f" * 64)
    monkeypatch.setattr(model, "load", lambda path: weights)
    monkeypatch.setattr(model, "FEATURES", 192)
    corner = lambda params, images: images[:, :8, :8].reshape(len(images), -1) / 255
    monkeypatch.setattr(model, "features", corner)
    file = f"--inception={tmp_path / 'x.pth'}"
    code, out = run(folders, tmp_path / "out", "--attributes=colour", file)
    assert code == 0
    figures = read_figures(out / "arms/samples/eval/metrics.json")
    assert figures[f"frechet/{name}"].value > 1
    assert 1 <= figures[f"inception_score/{name}"].value < 3
    assert {f"kid/{name}", f"kid/{name}/colour/0", f"precision/{name}/colour/1"} <= set(figures)
    assert "precision/random_conv" not in figures
    page = (out / "report/index.html").read_text()
    assert ("None of them is an FID" in page) == (not known)
    pretty = words.pretty(f"frechet/{name}", SimpleNamespace(judges={}))
    assert pretty == ("FID" if known else "Fréchet distance · inception ffffffff")
    assert f">{pretty}<" in page


def test_the_papers_protocol_is_a_mean_over_sets():
    rng = np.random.default_rng(0)
    sets = [np.eye(2)[(rng.random(400) < 0.3).astype(int)] for _ in range(10)]
    reference = np.eye(2)[np.arange(100) % 4 // 3]  # a quarter
    one = Judged("colour", ("blue", "red"), sets[0], reference, None, None)
    uniform, against = over_sets([one], ({"colour": found} for found in sets[1:]))
    shares = np.array([found[:, 1].mean() for found in sets])
    for figure, target in ((uniform, 0.5), (against, 0.25)):
        values = np.sqrt(2) * np.abs(shares - target)
        assert figure.value == pytest.approx(values.mean())
        half = stats.t.ppf(0.975, 9) * values.std(ddof=1) / np.sqrt(10)
        assert (figure.low, figure.high) == pytest.approx(
            (values.mean() - half, values.mean() + half)
        )
        assert figure.n == 4000
        assert "mean over 10 sets of 400" in figure.note


def classifier(path, first=True, size=8, softmax=False, outputs=2, kind=TensorProto.FLOAT):
    """An ONNX file: logits 4 (red - blue) for "red" and its opposite for "blue"."""
    shape = ["n", 3, size, size] if first else ["n", size, size, 3]
    weight = np.zeros((3, outputs), np.float32)
    weight[0, :2], weight[2, :2] = (-4, 4), (4, -4)
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
             helper.make_node("MatMul", ["m", "w"], ["y" if not softmax else "l"])]  # fmt: skip
    nodes += [helper.make_node("Softmax", ["l"], ["y"])] if softmax else []
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(np.array([2, 3] if first else [1, 2]), "axes"),
         numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
def test_an_onnx_classifier_gives_probabilities(tmp_path, first, softmax):
    score = OnnxJudge(classifier(tmp_path / "c.onnx", first, softmax=softmax), "symmetric")
    images = np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3), dtype=np.uint8)
    means = (images / 127.5 - 1).mean((1, 2))
    logit = 8 * (means[:, 0] - means[:, 2])  # of red against blue
    np.testing.assert_allclose(score(images)[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-5)
    assert score.resolution == 8
    plain = OnnxJudge(classifier(tmp_path / "d.onnx"), "imagenet")(images)
    assert np.abs(plain - score(images)).max() > 0.01  # pixels are scaled as asked for


def test_an_onnx_classifier_gets_the_numbers_that_it_takes(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    plain = OnnxJudge(classifier(tmp_path / "c.onnx"), "bytes")(images)
    assert np.unique(plain).size > 4
    for kind in (TensorProto.UINT8, TensorProto.DOUBLE):
        found = OnnxJudge(classifier(tmp_path / "d.onnx", kind=kind), "bytes")(images)
        np.testing.assert_allclose(found, plain, atol=1e-6)


def test_distances_in_a_network_of_the_users(folders, tmp_path):
    """Its rows are linear in the mean colour, so the Frechet distance is known from the pixels."""
    file = classifier(tmp_path / "mine.onnx", size=16)
    code, out = run(folders, tmp_path / "out", "--attributes=colour", f"--onnx_features={file}",
                    "--onnx_scale=symmetric")  # fmt: skip
    assert code == 0
    figures = read_figures(out / "arms/samples/eval/metrics.json")
    rows = []
    for name in ("samples", "reference"):
        images = [np.asarray(Image.open(path)) for path in sorted((folders / name).glob("*.png"))]
        means = (np.stack(images)[:, :, 2:18] / 127.5 - 1).mean((1, 2))  # cropped to its middle
        rows.append(4 * (means[:, 2] - means[:, 0])[:, None] * [1, -1])
    moved = np.square(rows[0].mean(0) - rows[1].mean(0)).sum()
    spread = sum(np.square(np.std(rows[0][:, i], ddof=1) - np.std(rows[1][:, i], ddof=1))
                 for i in range(2))  # fmt: skip
    assert figures["frechet/onnx_mine"].value == pytest.approx(moved + spread, rel=1e-3)
    assert figures["kid/onnx_mine"].value > figures["kid/onnx_mine/colour/0"].value
    found = features.extract(features.onnx(str(file), "symmetric", "--x"), np.stack(images)[:7])
    assert found.shape == (7, 2)  # other sizes are brought to its own


def test_a_classifier_of_the_users_is_corrected_for_its_errors(folders, tmp_path):
    """It takes each tenth red picture for blue, as its labelled images show."""
    if not (folders / "tested").exists():
        folder(folders / "tested", {"red": 200, "blue": 200}, seed=9)
        table = (folders / "tested.csv").read_text().splitlines()
        wrong = [line.replace("blue", "red") if i % 10 == 0 else line
                 for i, line in enumerate(table)]  # fmt: skip
        (folders / "tested.csv").write_text("\n".join(wrong))
    given = [
        "audit.py", f"--samples={folders / 'samples'}", f"--reference={folders / 'reference'}",
        f"--reference_labels={folders / 'reference'}.csv", "--features=none",
        f"--judge={classifier(tmp_path / 'c.onnx')}", "--judge_classes=blue,red",
        f"--judge_images={folders / 'tested'}", f"--judge_labels={folders / 'tested'}.csv",
        "--attributes=colour", "--judge_scale=symmetric", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        audit.main(given)
    assert end.value.code == 0
    figures = read_figures(tmp_path / "out/arms/samples/eval/metrics.json")
    summary = json.loads((tmp_path / "out/judge/colour/summary.json").read_text())
    confusion = np.array(summary["confusion"])
    assert confusion[0].tolist() == [180, 0]
    assert confusion[1].tolist() == [20, 200]
    assert figures["share/colour/1/hard/raw"].value == 0.8
    assert figures[SHARE].value == pytest.approx(0.8 / (200 / 220))
    refused = [a for a in given if "judge_images" not in a]
    with pytest.raises(SystemExit) as end:
        audit.main(refused)
    assert end.value.code == 2


def test_samples_of_a_generator_are_brought_to_the_size_of_the_judge(
    folders, tmp_path, monkeypatch
):
    """They are images of --seed; whatever their size, judge and features see what they want."""
    from fairjax.experiments import sample, saved_generator

    net = SimpleNamespace(resolution=32)
    monkeypatch.setattr(saved_generator, "load_generator", lambda path: SimpleNamespace(net=net))

    def drawn(generator, n, seed):
        rng = np.random.default_rng(seed)
        picture = np.array([COLOURS["red"], COLOURS["blue"]], np.uint8)[rng.integers(0, 2, n)]
        images = np.broadcast_to(picture[:, None, None], (n, 32, 32, 3))
        yield from ((part, []) for part in np.array_split(images, 3))

    monkeypatch.setattr(sample, "drawn", drawn)
    given = [
        "audit.py", "--samples=net.pkl", "--n=50", "--seed=3", "--sets=2", "--features=none",
        f"--reference={folders / 'reference'}", "--attributes=colour", "--judge_classes=blue,red",
        f"--judge={classifier(tmp_path / 'c.onnx')}", f"--judge_images={folders / 'reference'}",
        f"--judge_labels={folders / 'reference'}.csv", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        audit.main(given)
    assert end.value.code == 0
    figures = read_figures(tmp_path / "out/arms/samples/eval/metrics.json")
    blue = [np.random.default_rng(seed).integers(0, 2, 50).mean() for seed in (3, 4)]
    assert figures["share/colour/0/hard/raw"].value == pytest.approx(blue[0])
    mean = np.mean(np.abs(np.array(blue) - 0.5)) * math.sqrt(2)
    assert figures["mean_discrepancy/colour/hard/raw/uniform"].value == pytest.approx(mean)
    assert np.load(tmp_path / "out/arms/samples/eval/samples.npz")["images"].shape[1:] == (8, 8, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"no model"), "cannot be read"),
        (lambda path: classifier(path, size="s"), "s fixed"),
        (lambda path: classifier(path, outputs=3), "the network has 3 outputs"),
        (lambda path: classifier(path, kind=TensorProto.UINT8), "tensor.uint8. and the scale unit"),
        (lambda path: classifier(path, kind=TensorProto.INT32), "its input is a tensor.int32"),
    ],
)
def test_an_unusable_classifier_is_refused(make, words, tmp_path):
    path = tmp_path / "c.onnx"
    make(path)
    images, truth = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, -1])

    def judge():
        score = OnnxJudge(path, "unit")
        return with_errors(score, "colour", ("blue", "red"), 8, images, truth, "--judge_classes")

    with pytest.raises(InputError, match=words):
        judge()


def test_labels_of_a_judge_that_are_all_empty_are_refused(tmp_path):
    with pytest.raises(InputError, match="no image has a value of 'hair'"):
        classes_by_name("hair", ("long", "short"), [{"hair": ""}, None], "--judge_labels")
    score = OnnxJudge(classifier(tmp_path / "c.onnx"), "unit")
    unknown = np.full(2, -1), "--judge_labels"
    with pytest.raises(InputError, match="no image has a class of colour"):
        with_errors(score, "colour", ("blue", "red"), 8, np.zeros((2, 8, 8, 3), np.uint8), *unknown)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--attributes=size"], "no column 'size'"),
        (["--attributes=colour,shape,colour"], "'colour' twice"),
        (["--baseline={root}/samples/0000.png"], "0000.png: not a file of figures"),
        (["--sets=2"], "sets of images are drawn and judged"),
        (["--judge=RUN/judge/colour"], "two sources of labels"),
        (["--judge_features"], "no judge of a run"),
        (["--limits={root}/samples.csv"], "cannot be read as JSON"),
        (["--limits={root}/names.json"], "Did you mean share/colour/"),
        (["--limits={root}/empty.json"], "no limit in it"),
        (["--limits={root}/order.json"], "the minimum is above the maximum"),
        (["--baseline={root}/none.json"], "no such file"),
        (["--reference={root}/none"], "does not exist"),
        (["--reference_labels="], "--reference_labels: not given"),
        (["--labels={root}/wrong.csv"], "no row fits an image"),
        (["--samples={root}/few", "--labels="], "only 3 images"),
        (["--weights=none"], "no table has this column"),
        (["--inception={root}/samples.csv"], "not a readable torch file"),
        (["--out={root}"], "it exists and is not an empty folder"),
        (["--samples={root}/gone.pkl", "--labels="], "gone.pkl"),
    ],
)
def test_bad_input_is_one_line(folders, tmp_path, more, words, capfd):
    (folders / "names.json").write_text(json.dumps({"share/colour/1/hard": {"max": 1}}))
    (folders / "empty.json").write_text("{}")
    (folders / "order.json").write_text(json.dumps({SHARE: {"min": 2, "max": 1}}))
    (folders / "wrong.csv").write_text("file,colour\nnone.png,red\n")
    if not (folders / "few").exists():
        folder(folders / "few", {"red": 3})
    out = tmp_path / "out"
    code, _ = run(folders, out, *(text.format(root=folders) for text in more))
    assert code == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert words in said
    assert "error: " in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("column", "ours", "theirs", "words"),
    [
        ("../../victim/judge/x", "01", "01", "a column named '../../victim/judge/x'"),
        ("male/female", "01", "01", "a column named 'male/female'"),
        ("Age+Sex", "01", "01", "a column named 'Age+Sex'"),
        ("old", ("0", "1"), ("-1", "1"), "'old' has the values 0, 1 in samples and -1, 1 in"),
        ("old", ("-1", "1"), ("0", "1", "-1"), "Write the same words in both tables"),
        ("old", ("yes", "no"), ("0", "1"), "no, yes in samples and 0, 1 in the reference"),
    ],
)
def test_columns_that_would_give_wrong_figures_are_refused(
    folders, tmp_path, capfd, column, ours, theirs, words
):
    given = []
    for name, values in (("labels", ours), ("reference_labels", theirs)):
        rows = [f"{i:04d}.png,{values[i % len(values)]}" for i in range(120)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"file,{column}", *rows]))
        given.append(f"--{name}={tmp_path / name}.csv")
    victim = tmp_path / "victim/judge/x/summary.json"
    victim.parent.mkdir(parents=True)
    victim.write_text("precious")
    code, out = run(folders, tmp_path / "out", *given)
    assert code == 2
    assert words in capfd.readouterr().err.splitlines()[-1]
    assert victim.read_text() == "precious"
    assert not out.exists()


def test_one_sign_alone_is_no_other_convention():
    rows = lambda *cells: [{"old": cell} for cell in cells]
    judged = Judged.by_labels(rows("1", "1"), rows("-1", "1", ""), None)[0]
    assert judged.classes == ("not old", "old")
    assert judged.truth.tolist() == [0, 1, -1]


def test_rows_without_a_label_are_counted(folders, tmp_path, capfd):
    head, *lines = (folders / "reference.csv").read_text().splitlines()
    table = tmp_path / "reference.csv"
    table.write_text("\n".join([head, *lines[:-7]]))
    given = f"--reference_labels={table}", "--attributes=colour"
    assert run(folders, tmp_path / "out", *given)[0] == 0
    assert "colour: 7 reference images have no label" in capfd.readouterr().err


def test_weights_of_which_one_counts_alone_are_refused(folders, tmp_path, capfd):
    head, *lines = (folders / "reference.csv").read_text().splitlines()
    table = tmp_path / "weighted.csv"
    rows = [f"{line},{1e12 if i == 0 else 1}" for i, line in enumerate(lines)]
    table.write_text("\n".join([f"{head},w", *rows]))
    given = f"--reference_labels={table}", "--attributes=colour", "--weights=w"
    assert run(folders, tmp_path / "out", *given)[0] == 2
    assert "count like 1" in capfd.readouterr().err.splitlines()[-1]


def test_the_first_image_decides_the_size_only_where_it_has_one(folders, tmp_path, capfd):
    samples = tmp_path / "samples"
    shutil.copytree(folders / "samples", samples)
    given = f"--samples={samples}", "--attributes=colour"
    Image.new("RGB", (3, 5)).save(samples / "0000.png")
    assert run(folders, tmp_path / "out", *given)[0] == 2
    assert "samples/0000.png, the first image, has a side of 3 pixels" in capfd.readouterr().err
    Image.new("RGB", (12, 13)).save(samples / "0000.png")
    assert run(folders, tmp_path / "out", *given)[0] == 0
    said = capfd.readouterr().err
    assert "all images are brought to 12 pixels, the size of samples/0000.png" in said
    assert "most samples have 16 pixels: --resolution=16 would be their size" in said


def test_a_damaged_first_member_of_a_zip_is_named(folders, tmp_path, capfd):
    path = tmp_path / "samples.zip"
    with zipfile.ZipFile(path, "w") as file:
        for picture in sorted((folders / "samples").glob("*.png")):
            file.write(picture, picture.name)
    content = bytearray(path.read_bytes())
    content[200] ^= 255  # within the first picture
    path.write_bytes(content)
    assert run(folders, tmp_path / "out", f"--samples={path}")[0] == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert "samples/0000.png: " in said
    assert "Bad CRC" in said


def test_two_judges_of_one_name_are_refused(folders, tmp_path, monkeypatch, capfd):
    from fairjax.experiments import judge_stage

    judge = judge_stage.SavedJudge("colour", ("blue", "red"), None, 16, 3, lambda images: None)
    monkeypatch.setattr(judge_stage, "read_judge", lambda folder, where: judge)
    both = "--judge=A/judge/colour,B/judge/colour", "--labels="
    assert run(folders, tmp_path / "out", *both)[0] == 2
    assert "'colour' twice" in capfd.readouterr().err.splitlines()[-1]


def test_a_flag_may_stand_before_its_value(folders, tmp_path, capfd):
    """A folder that is called predictions is no flag."""
    with pytest.raises(SystemExit) as end:
        audit.main(["audit.py", "--samples", "predictions", f"--reference={folders / 'reference'}",
                    f"--out={tmp_path / 'out'}"])  # fmt: skip
    assert end.value.code == 2
    assert "predictions does not exist" in capfd.readouterr().err.splitlines()[-1]


def figure(name, value, half):
    return Figure(name, value, value - half, value + half, 100)


def test_verdicts_by_the_whole_interval():
    figures = {f.name: f for f in (figure("a", 0.5, 0.1), figure("b", math.nan, 0.0),
                                   Figure("c", 3.0, math.nan, math.nan, 5),
                                   Figure("kl", 0.0, 0.0, math.inf, 40))}  # fmt: skip
    ruled = lambda low, high, name="a": verdicts.judged(figures, {name: (low, high)})[0]
    assert ruled(0.3, 0.7).verdict == verdicts.PASS
    assert ruled(0.61, math.inf).verdict == ruled(-math.inf, 0.39).verdict == verdicts.FAIL
    assert ruled(0.45, 0.7).verdict == ruled(-math.inf, 0.5).verdict == verdicts.OPEN
    assert ruled(0.0, 1.0, "b").verdict == ruled(0.0, 1.0, "none").verdict == verdicts.OPEN
    assert (ruled(0, 4, "c").verdict, ruled(0, 2, "c").verdict) == (verdicts.PASS, verdicts.FAIL)
    # What a class without a share in the reference does to KL.
    assert ruled(-math.inf, 0.01, "kl").verdict == verdicts.OPEN


def test_an_unchanged_generator_rarely_moves():
    """20 figures drawn twice, 500 times: about 5 % of the comparisons report anything."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(500):
        first, second = (
            {f"f{i}": figure(f"f{i}", value, 1.96) for i, value in enumerate(rng.normal(size=20))}
            for _ in range(2)
        )
        found, compared = verdicts.moved(first, second)
        assert compared == 20
        alarms += bool(found)
    assert alarms / 500 == pytest.approx(0.05, abs=0.03)
    far = verdicts.moved({"a": figure("a", 0.0, 1.96)}, {"a": figure("a", 5.0, 1.96)})[0]
    assert far[0].errors == pytest.approx(5 / math.sqrt(2))
