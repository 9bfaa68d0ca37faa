"""`launch/sample.py`: images of a saved generator, and its answers to bad input."""

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pipeline
import pytest
from PIL import Image
from quick import quick_jit

import fairjax
from fairjax.errors import InputError
from fairjax.evaluate.fairness import JudgeErrors
from fairjax.experiments import gan_stage, sample
from fairjax.experiments.centres import group_centres, load_judge, save_centres
from fairjax.experiments.config_line import parse
from fairjax.experiments.judge_stage import SavedJudge
from fairjax.experiments.saved_generator import Trained, labels_of, load_generator
from fairjax.models.stylegan2 import Generator, num_ws
from fairjax.train.conditions import Conditions, of_numbers
from fairjax.train.network_files import write_folder

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the gan stage leaves behind, with noise that shows."""
    config = parse(["x", f"--config={pipeline.ROOT}/configs/quickstart.py:tiny"]).config
    gan = gan_stage.programs(config)
    state = quick_jit(gan.init)(jax.random.key(3), np.ones(1))
    g = jax.tree.map(np.array, state.ema)
    g["synthesis"]["b8"]["conv0"]["noise_strength"] = np.float32(2.0)
    folder = tmp_path_factory.mktemp("gan")
    mean = np.random.default_rng(0).normal(size=config.gan.w_dim).astype(np.float32)
    noise = jax.tree.map(np.asarray, gan.fixed_noise(jax.random.key(5)))
    left = gan_stage.saved(config, gan, state.replace(ema=g, w_avg=mean), noise)
    write_folder(folder, left)
    return folder


def drawn(folder, **options):
    return sample.draw(load_generator(folder), **options)[0]


@pytest.mark.slow
def test_an_image_depends_on_seed_and_position_only(folder):
    five = drawn(folder, n=5, batch=8)
    assert five.shape == (5, 16, 16, 3)
    assert five.dtype == np.uint8
    assert len({image.tobytes() for image in five}) == 5
    np.testing.assert_allclose(drawn(folder, n=2, batch=2), five[:2], atol=1)
    assert (drawn(folder, n=2, seed=1, batch=8) != five[:2]).any()


def test_truncation_ends_at_the_mean_image(folder):
    far, near, centre = (
        drawn(folder, n=4, psi=psi, noise="none", batch=8).astype(float) for psi in (1.0, 0.5, 0.0)
    )
    np.testing.assert_array_equal(centre, centre[:1].repeat(4, 0))
    assert np.abs(near - centre).mean() < np.abs(far - centre).mean()
    one = drawn(folder, n=4, psi=0.0, cutoff=0, noise="none", batch=8)
    np.testing.assert_allclose(one, far, atol=1)
    assert (drawn(folder, n=4, noise="random", batch=8) != far).any()


@pytest.mark.slow
def test_three_kinds_of_noise(folder):
    saved = load_generator(folder)
    images = {n: drawn(folder, n=2, noise=n, batch=2).astype(int) for n in ("const", "none")}
    assert (images["const"] != images["none"]).any()
    variables = {"params": saved.params, "buffers": saved.noise}
    k_z = jax.random.split(jax.random.fold_in(jax.random.key(0), 1))[0]
    z = jax.random.normal(k_z, (1, saved.net.z_dim))
    x = quick_jit(partial(saved.net.apply, noise="const"))(variables, z)
    expected = np.clip(np.round(np.asarray(x[0]) * 127.5 + 127.5), 0, 255)
    np.testing.assert_allclose(images["const"][1], expected, atol=1)
    with pytest.raises(InputError, match="no fixed noise"):
        sample.draw(saved._replace(noise=None), n=1, noise="const")


# A generator whose answer is known: the brightness of an image is the sign of w[0], and of its
# samples 1 in 6 or so is dark.

W_DIM = 16


def bright(images):
    """A judge that is never wrong: [n, 2] probabilities of dark and bright."""
    light = (images.reshape(len(images), -1).mean(1) > 127).astype(float)
    return np.stack([1 - light, light], 1)


@pytest.fixture(scope="module")
def two_groups():
    net = Generator(8, z_dim=W_DIM, w_dim=W_DIM, mapping_layers=1, channel_base=32, channel_max=4)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, W_DIM)))["params"]
    g = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes)
    # fc0: w = leaky(z / 4 + 0.25 in the first number), by the layer's constants.
    g["mapping"]["fc0"]["weight"] = 100 * np.eye(W_DIM, dtype=np.float32)
    g["mapping"]["fc0"]["bias"][0] = 25.0
    # The image is x s(w) / sqrt(4): with constant activations, a multiple of w[0].
    block = g["synthesis"]["b8"]
    block["conv1"]["bias"][:] = 1.0
    block["torgb"]["weight"][:] = 1.0
    block["torgb"]["affine"]["weight"][0] = 1.0
    z = np.asarray(jax.random.normal(jax.random.key(7), (20000, W_DIM)))
    w = np.asarray(net.apply({"params": g}, z, method="mapping"))
    return Trained(net, g, None, w.mean(0), None), w


@pytest.mark.slow
def test_truncation_to_one_centre_moves_the_groups_and_to_their_own_does_not(two_groups, tmp_path):
    saved, w = two_groups
    group = (w[:, 0] > 0).astype(int)
    centres, counts = group_centres(w, group, 2)
    assert 0.1 < 1 - group.mean() < 0.25
    save_centres(tmp_path, "brightness", w, np.eye(2)[group])
    path = str(tmp_path / "centres/brightness.safetensors")
    n, more = 400, {"batch": 200, "noise": "none"}
    share = lambda images: bright(images)[:, 0].mean()
    whole, _ = sample.draw(saved, n=n, **more)
    own, _ = sample.draw(saved, n=n, psi=0.5, centre=path, judge=bright, **more)
    common, _ = sample.draw(saved, n=n, psi=0.5, centre="global", **more)
    # What must come out: w of these n samples, from the documented keys.
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(0), i))[0] for i in range(n)]
    z = [jax.random.normal(k, (1, W_DIM)) for k in keys]
    first = np.asarray(saved.net.apply({"params": saved.params}, jnp.concatenate(z),
                                       method="mapping"))[:, 0]  # fmt: skip
    assert share(whole) == pytest.approx((first < 0).mean(), abs=0.006)
    np.testing.assert_array_equal(bright(own), bright(whole))  # nobody changes sides
    assert share(common) == pytest.approx((first < -saved.mean[0]).mean(), abs=0.006)
    assert share(common) < 0.1 * share(whole)  # the minority is all but gone
    # It is truncation all the same: the spread within a group is halved.
    light = bright(whole)[:, 1] > 0
    spread = lambda images: images[light].astype(float).mean((1, 2, 3)).std()
    assert spread(own) == pytest.approx(spread(whole) / 2, rel=0.15)


def test_a_class_without_a_centre_is_not_truncated(two_groups, tmp_path):
    saved, w = two_groups
    light = w[w[:, 0] > 0]
    save_centres(tmp_path, "brightness", light, np.eye(2)[np.ones(len(light), int)])
    path = str(tmp_path / "centres/brightness.safetensors")
    more = {"n": 60, "batch": 60, "noise": "none"}
    whole, _ = sample.draw(saved, **more)
    own, _ = sample.draw(saved, psi=0.5, centre=path, judge=bright, **more)
    dark = bright(whole)[:, 0] > 0
    assert dark.any()
    np.testing.assert_array_equal(own[dark], whole[dark])
    assert (own[~dark] != whole[~dark]).any()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """What the gan stage leaves behind of a conditional run."""
    config = parse(["x", f"--config={pipeline.ROOT}/configs/quickstart.py:tiny",
                    "--config.gan.condition=('long_hair',)"]).config  # fmt: skip
    labels = Conditions(("long_hair",), ("not long_hair", "long_hair"),
                        np.eye(2, dtype=np.float32), np.array([0.25, 0.75]),
                        np.zeros(3, int))  # fmt: skip
    gan = gan_stage.programs(config, labels)
    state = quick_jit(gan.init)(jax.random.key(3), np.ones(1))
    folder = tmp_path_factory.mktemp("labelled")
    mean = np.random.default_rng(0).normal(size=(2, config.gan.w_dim)).astype(np.float32)
    write_folder(folder, gan_stage.saved(config, gan, state.replace(w_avg=mean), None))
    return folder


@pytest.mark.slow
def test_labels_of_samples(labelled, tmp_path, capsys):
    saved = load_generator(labelled)
    _, classes = sample.draw(saved, n=400, batch=200)
    assert classes.count("long_hair") / 400 == pytest.approx(0.75, abs=0.08)
    options = {"n": 3, "batch": 4, "noise": "none"}
    long, names = sample.draw(saved, only="long_hair", **options)
    assert names == ["long_hair"] * 3
    np.testing.assert_array_equal(long, sample.draw(saved, only="1", **options)[0])
    np.testing.assert_array_equal(long, sample.draw(saved, label=["0", "1"], **options)[0])
    short, _ = sample.draw(saved, only="not long_hair", **options)
    between, names = sample.draw(saved, label=["0.5", "0.5"], **options)
    assert names == []
    assert (short != long).any()
    assert (between != long).any()
    # Truncation ends at the mean of the own class, or, if asked for, at that of all.
    synthesis = quick_jit(partial(saved.net.apply, method="synthesis"))
    ends = {c: sample.draw(saved, only=c, psi=0.0, **options)[0] for c in ("0", "1")}
    for c, end in ends.items():
        ws = np.broadcast_to(saved.mean[int(c)], (1, num_ws(16), saved.net.w_dim))
        x = synthesis({"params": saved.params}, ws)
        expected = np.clip(np.round(np.asarray(x[0]) * 127.5 + 127.5), 0, 255)
        np.testing.assert_allclose(end[0], expected, atol=1)
    common = [sample.draw(saved, only=c, psi=0.0, centre="global", **options)[0] for c in "01"]
    np.testing.assert_array_equal(*common)
    args = ["launch/sample.py", f"--generator={labelled}", "--n=2", "--class=long_hair"]
    sample.main([*args, f"--out={tmp_path / 'one'}"])
    assert json.loads((tmp_path / "one/samples.json").read_text())["classes"] == ["long_hair"] * 2


@pytest.fixture(scope="module")
def of_age(tmp_path_factory):
    """What the gan stage leaves behind of a run whose labels are numbers."""
    config = parse(["x", f"--config={pipeline.ROOT}/configs/folder.py:tiny"]).config
    config.gan.update(condition=("age",), condition_form="numbers")
    values = np.array([[20.0], [30.0], [30.0], [70.0]])
    gan = gan_stage.programs(config, of_numbers(("age",), values, np.array([0, 1, 1, 1], bool)))
    state = quick_jit(gan.init)(jax.random.key(3), np.ones(1))
    folder = tmp_path_factory.mktemp("of_age")
    write_folder(folder, gan_stage.saved(config, gan, state, None))
    return folder


def test_labels_of_samples_that_are_numbers(of_age, caplog):
    saved, options = load_generator(of_age), {"batch": 4, "noise": "none"}
    _, names = sample.draw(saved, n=40, **options)
    assert set(names) == {"age 30", "age 70"}  # the image of 20 years is none of the reference
    scale = saved.conditions["numbers"]
    assert scale["mean"] == [37.5]
    labels, _ = labels_of(saved, None, ["34.5"])
    deviation = np.std([20, 30, 30, 70])
    np.testing.assert_allclose(labels, [[(34.5 - 37.5) / deviation, 1]], rtol=1e-6)
    assert not caplog.records
    one, _ = sample.draw(saved, n=4, label=["25"], **options)
    assert (one != sample.draw(saved, n=4, label=["65"], **options)[0]).any()
    labels_of(saved, None, ["120"])
    assert "age = 120, but the training images have 20 to 70" in caplog.text
    for asked, words in (
        ({"label": ["1", "2"]}, "--label: 1,2. Give 1 numbers (age) such as 37.5"),
        ({"label": ["nan"]}, "--label: nan. Give 1 numbers"),
        (
            {"only": "30"},
            "--class: the labels of this generator are numbers: age. Use --label=37.5",
        ),
        ({"centre": "class"}, "there is no class"),
    ):
        with pytest.raises(InputError) as error:
            sample.draw(saved, n=1, batch=1, **asked)
        assert words in str(error.value)


def test_wrong_labels_and_centres_are_refused(folder, labelled):
    plain, saved = load_generator(folder), load_generator(labelled)
    for generator, options, words in (
        (plain, {"only": "long_hair"}, "--class: this generator was trained without labels"),
        (plain, {"label": ["1"]}, "--label: this generator was trained without labels"),
        (plain, {"centre": "class"}, "--centre=class: there is no class"),
        (saved, {"only": "long hair"}, "Did you mean long_hair"),
        (saved, {"only": "2"}, "no class '2'"),
        (saved, {"label": ["1"]}, "Give 2 numbers"),
        (saved, {"label": ["a", "b"]}, "Give 2 numbers"),
        (saved, {"centre": "no/such/file"}, "not a readable safetensors file"),
        (saved, {"centre": str(labelled / "generator.safetensors")}, "no centres of a generator"),
    ):
        with pytest.raises(InputError) as error:
            sample.draw(generator, n=1, batch=1, **options)
        assert words in str(error.value)


def test_centres_away_from_their_run_are_refused():
    with pytest.raises(InputError, match="does not lie in its run"):
        load_judge(Path("/centres/hair.safetensors"))


def test_images_are_written_as_they_come(folder, tmp_path, monkeypatch):
    whole = sample.drawn

    def stopped(saved, **options):
        batches = whole(saved, **options)
        yield next(batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "drawn", stopped)
    with pytest.raises(KeyboardInterrupt):
        sample._run(["sample.py", f"--generator={folder}", "--n=9", "--batch=4",
                     f"--out={tmp_path / 'faces'}"])  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "faces").iterdir())
    assert names == [f"{i:06d}.png" for i in range(4)]


def test_the_command_writes_images_and_an_overview(folder, tmp_path, capsys):
    args = ["launch/sample.py", f"--generator={folder}", "--n=9", "--psi=0.7", "--batch=8"]
    sample.main([*args, f"--out={tmp_path / 'faces'}"])
    assert "9 images" in capsys.readouterr().out
    files = sorted(p.name for p in (tmp_path / "faces").iterdir())
    assert files == [*(f"{i:06d}.png" for i in range(9)), "grid.png", "samples.json"]
    expected = drawn(folder, n=9, psi=0.7, batch=8)
    found = np.asarray(Image.open(tmp_path / "faces/000008.png"))
    np.testing.assert_array_equal(found, expected[8])
    overview = np.asarray(Image.open(tmp_path / "faces/grid.png"))
    np.testing.assert_array_equal(overview[:, -16:], expected[7])
    assert json.loads((tmp_path / "faces/samples.json").read_text())["psi"] == 0.7


def test_bad_input(folder, tmp_path, capsys):
    def refused(*args):
        with pytest.raises(SystemExit) as end:
            sample.main(["launch/sample.py", *args])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    out = f"--out={tmp_path / 'out'}"
    assert "--generator: not given" in refused(out)
    assert "--out: not given" in refused(f"--generator={folder}")
    assert "Did you mean psi" in refused(out, "--psy=1")
    assert "-1" in refused(out, f"--generator={folder}", "--n=-1")
    assert "generator.json" in refused(out, f"--generator={tmp_path}")
    given = f"--generator={folder}"
    assert "4294967295" in refused(out, given, "--seed=4294967296")
    assert "--margin: it is of pairs" in refused(out, given, "--margin=1")
    assert "pairs with --noise" in refused(out, given, "--flip=RUN/judge/hair", "--noise=none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.png").write_text("mine")
    line = refused(f"--out={tmp_path / 'full'}", f"--generator={folder}")
    assert "not an empty folder" in line
    copy = shutil.copytree(folder, tmp_path / "copy")
    shape = json.loads((copy / "generator.json").read_text())
    (copy / "generator.json").write_text(json.dumps(shape | {"channel_max": 4}))
    line = refused(out, f"--generator={copy}")
    assert "generator.safetensors" in line
    assert "instead of" in line
    (copy / "generator.json").write_text(json.dumps(shape | {"g_architecture": "old"}))
    assert "must be one of" in refused(out, f"--generator={copy}")
    (copy / "generator.json").write_text(json.dumps(shape))
    (copy / "generator.safetensors").write_bytes(b"cut")
    assert "not a readable safetensors file" in refused(out, f"--generator={copy}")
    assert not (tmp_path / "out").exists()


def test_help_lists_every_flag(capsys):
    sample.main(["launch/sample.py", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in ("generator", "out", "psi", "cutoff", "seed"))


def brightness(generator, classes=("dark", "bright", "white"), resolution=16):
    """A judge of the mean brightness, with borders that make the classes unequal."""
    plain = drawn(generator, n=64).astype(float).mean((1, 2, 3))
    borders = np.quantile(plain, [0.6, 0.9])
    score = lambda x: np.eye(3)[np.searchsorted(borders, x.astype(float).mean((1, 2, 3)))]
    errors = JudgeErrors(np.eye(3, dtype=int), np.eye(3))
    return SavedJudge("light", classes, errors, resolution, 3, score)


def test_balanced_samples_are_the_first_of_each_class(folder):
    judge, saved = brightness(folder), load_generator(folder)
    images, classes, cost = sample.balanced(saved, judge, 20, batch=32)
    assert [classes.count(name) for name in judge.classes] == [7, 7, 6]
    whole = drawn(folder, n=cost["drawn"], batch=32)
    np.testing.assert_allclose(images, whole[cost["index"]], atol=1)
    seen = judge.score(whole).argmax(-1)
    for k, most in enumerate((7, 7, 6)):  # none was passed over
        expected = np.flatnonzero(seen == k)[:most].tolist()
        assert [i for i in cost["index"] if seen[i] == k] == expected
    assert cost["index"] == sorted(cost["index"])
    assert cost["drawn"] == cost["index"][-1] + 1 > 30
    nothing = judge._replace(score=lambda x: np.eye(3)[np.zeros(len(x), int)])
    with pytest.raises(InputError, match="4 images of 'bright' are missing after 36 draws"):
        sample.balanced(saved, nothing, 12, most=3, batch=32)
    with pytest.raises(InputError, match="the judge sees 8 pixels"):
        sample.balanced(saved, judge._replace(resolution=8), 12)


def test_balanced_samples_by_the_command(folder, tmp_path, monkeypatch, capsys):
    from fairjax.experiments import judge_stage

    monkeypatch.setattr(judge_stage, "read_judge", lambda path, where: brightness(folder))
    sample.main(["sample.py", f"--generator={folder}", f"--out={tmp_path / 'out'}", "--n=6",
                 "--balance=RUN/judge/light"])  # fmt: skip
    record = json.loads((tmp_path / "out/samples.json").read_text())
    assert sorted(record["classes"]) == ["bright", "bright", "dark", "dark", "white", "white"]
    assert f"{record['drawn']} images were drawn for them" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("0*.png"))) == 6


def test_the_interface_in_python_draws_the_same_images(folder, monkeypatch):
    loaded = fairjax.load(folder)
    assert (loaded.resolution, loaded.channels, loaded.classes) == (16, 3, ())
    np.testing.assert_array_equal(loaded.sample(5, seed=2, psi=0.7, batch=8),
                                  drawn(folder, n=5, seed=2, psi=0.7, batch=8))  # fmt: skip
    judge = brightness(folder)
    monkeypatch.setattr("fairjax.experiments.loaded.read_judge", lambda path, where: judge)
    seen = judge.score(loaded.sample(6, balance="RUN/judge/light")).argmax(-1)
    assert np.bincount(seen).tolist() == [2, 2, 2]
    with pytest.raises(InputError):
        fairjax.load("no/such/folder")
