"""`launch/sample.py`: images of a saved generator, and its answers to bad input."""

import json
import shutil

import jax
import numpy as np
import pipeline
import pytest
from PIL import Image

from fairjax.experiments import gan_stage, sample
from fairjax.experiments.command import parse
from fairjax.train.network_files import write_folder

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the gan stage leaves behind, with noise that shows."""
    config = parse(["x", f"--config={pipeline.ROOT}/configs/quickstart.py:tiny"]).config
    gan = gan_stage.programs(config)
    state = jax.jit(gan.init)(jax.random.key(3), np.ones(1))
    g = jax.tree.map(np.array, state.ema)
    g["synthesis"]["b8"]["conv0"]["noise_strength"] = np.float32(2.0)
    folder = tmp_path_factory.mktemp("gan")
    mean = np.random.default_rng(0).normal(size=config.gan.w_dim).astype(np.float32)
    write_folder(folder, gan_stage.saved(gan, state.replace(ema=g, w_avg=mean)))
    return folder


def test_an_image_depends_on_seed_and_position_only(folder):
    five = sample.draw(folder, n=5, batch=8)
    assert five.shape == (5, 16, 16, 3)
    assert five.dtype == np.uint8
    assert len({image.tobytes() for image in five}) == 5
    np.testing.assert_allclose(sample.draw(folder, n=2, batch=2), five[:2], atol=1)
    assert (sample.draw(folder, n=2, seed=1, batch=8) != five[:2]).any()


def test_truncation_ends_at_the_mean_image(folder):
    far, near, centre = (
        sample.draw(folder, n=4, psi=psi, noise="none", batch=8).astype(float)
        for psi in (1.0, 0.5, 0.0)
    )
    np.testing.assert_array_equal(centre, centre[:1].repeat(4, 0))
    assert np.abs(near - centre).mean() < np.abs(far - centre).mean()
    one = sample.draw(folder, n=4, psi=0.0, cutoff=0, noise="none", batch=8)
    np.testing.assert_allclose(one, far, atol=1)
    assert (sample.draw(folder, n=4, noise="random", batch=8) != far).any()


def test_the_command_writes_images_and_an_overview(folder, tmp_path, capsys):
    args = ["launch/sample.py", f"--generator={folder}", "--n=9", "--psi=0.7", "--batch=8"]
    sample.main([*args, f"--out={tmp_path / 'faces'}"])
    assert "9 images" in capsys.readouterr().out
    files = sorted(p.name for p in (tmp_path / "faces").iterdir())
    assert files == [*(f"{i:06d}.png" for i in range(9)), "grid.png", "samples.json"]
    expected = sample.draw(folder, n=9, psi=0.7, batch=8)
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
