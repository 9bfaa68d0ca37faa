"""`launch/convert.py`: from each form to each, and its answers to bad input."""

import json
import subprocess
import sys

import jax
import make_published as make
import numpy as np
import pytest
from published_networks import assert_equal, saved
from safetensors.numpy import load_file

from fairjax.experiments import convert, sample
from fairjax.experiments.saved_generator import load_generator
from fairjax.models.stylegan2 import num_ws
from fairjax.train import network_files
from fairjax.train.network_files import to_published


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "net.pkl"
    path.write_bytes(make.content(to_published(saved())))
    return path


def run(*args):
    convert.main(["launch/convert.py", *map(str, args)])


def test_from_an_official_file_to_a_folder_and_back(official, tmp_path, capsys):
    folder, file = tmp_path / "there", tmp_path / "back.safetensors"
    run(f"--source={official}", f"--out={folder}")
    assert "its discriminator, 8 px" in capsys.readouterr().out
    images, _ = sample.draw(load_generator(folder), n=2, batch=2)
    assert images.shape == (2, 8, 8, 3)
    run(f"--source={folder}", f"--out={file}")
    nets, arrays = to_published(saved()), load_file(file)
    options = json.loads(file.with_suffix(".json").read_text())
    assert set(options) == {"G_ema", "D"}
    for name in options:
        assert options[name]["init_kwargs"] == json.loads(json.dumps(nets[name].init_kwargs))
        for key, array in nets[name].arrays.items():  # noise_const, w_avg and filters among them
            found = arrays.pop(f"{name}.{key}")
            assert (found.shape, found.tobytes()) == (array.shape, array.tobytes()), key
    assert not arrays
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.json", "back.safetensors", "there"]


def test_an_official_file_keeps_all_its_networks_as_safetensors(official, tmp_path, capsys):
    run(f"--source={official}", f"--out={tmp_path / 'net.safetensors'}")
    assert "the generator in training" in capsys.readouterr().out
    found = network_files.read(tmp_path / "net.safetensors")
    for name in ("ema", "g", "d", "buffers"):
        assert_equal(getattr(found, name), getattr(saved(), name))


@pytest.mark.slow
def test_a_program_that_needs_no_fairjax(tmp_path):
    """Run by a process that has JAX alone, it draws what the network draws."""
    rng, sources, paths = np.random.default_rng(0), [], []
    for labels in (0, 3):
        source, root = saved({"c_dim": labels}, {"c_dim": labels}), tmp_path / str(labels)
        (root / "gan").mkdir(parents=True)
        network_files.write_folder(root / "gan", source)
        run(f"--source={root / 'gan'}", f"--out={root / 'made' / 'net.jaxexport'}")
        z = rng.normal(size=(3, source.g_fields["z_dim"])).astype(np.float32)
        c = [np.eye(labels, dtype=np.float32)] if labels else []
        np.savez(root / "inputs.npz", *[z, *c, np.float32(0.7), np.uint32(5)])
        sources.append((source, root, z, c))
        paths += [str(root / name) for name in ("made/net.jaxexport", "inputs.npz", "images.npy")]
    code = (
        "import sys, numpy as np; from jax import export; from pathlib import Path\n"
        "for made, inputs, images in zip(*[iter(sys.argv[1:])] * 3):\n"
        "    made = export.deserialize(bytearray(Path(made).read_bytes()))\n"
        "    np.save(images, made.call(*np.load(inputs).values()))\n"
        "assert 'fairjax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, *paths], check=True, cwd=tmp_path)
    for source, root, z, c in sources:
        found = np.load(root / "images.npy")
        net, params = load_generator(root / "gan").net, {"params": source.ema}
        w = net.apply(params, z, **({"c": c[0]} if c else {}), method="mapping")
        pulled = 0.7 * w + 0.3 * source.mean()
        ws = np.broadcast_to(np.asarray(pulled)[:, None], (3, num_ws(net.resolution), w.shape[1]))
        x = net.apply(params, ws, jax.random.key(5), "random", method="synthesis")
        assert found.shape == x.shape
        assert found.dtype == np.uint8
        expected = np.clip(np.round(np.asarray(x) * 127.5 + 127.5), 0, 255)
        np.testing.assert_allclose(found, expected, atol=1)
        assert found.std() > 1


def test_a_stage_without_fixed_noise_gets_some(tmp_path, capsys):
    (tmp_path / "gan").mkdir()
    network_files.write_folder(tmp_path / "gan", saved()._replace(buffers=None))
    for name in ("a", "b"):
        run(f"--source={tmp_path / 'gan'}", f"--out={tmp_path / name}.safetensors")
    assert "fixed noise drawn now" in capsys.readouterr().out
    a, b = (load_file(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    noise = "G_ema.synthesis.b8.conv0.noise_const"
    np.testing.assert_array_equal(a[noise], b[noise])
    assert 0.7 < a[noise].std() < 1.3


def test_bad_input(official, tmp_path, capsys):
    def refused(*args):
        with pytest.raises(SystemExit) as end:
            run(*args)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    source, out = f"--source={official}", f"--out={tmp_path / 'out'}"
    assert "--source: not given" in refused(out)
    assert "--out: not given" in refused(source)
    assert "Did you mean source" in refused("--sourc=x", out)
    assert "unexpected argument" in refused(source, out, "x")
    assert "no such file" in refused(f"--source={tmp_path / 'none'}", out)
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    assert "it names os.system" in refused(f"--source={tmp_path / 'evil.pkl'}", out)
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    assert "nothing is overwritten" in refused(source, f"--out={tmp_path / 'full'}")
    (tmp_path / "x.json").write_text("mine")
    assert "x.json" in refused(source, f"--out={tmp_path / 'x.safetensors'}")
    assert (tmp_path / "x.json").read_text() == "mine"


def test_help_lists_every_flag(capsys):
    run("--help")
    said = capsys.readouterr().out
    assert "--source" in said
    assert "--out" in said
