"""`launch/sample.py --centre=TABLE`: centres from labels that a person gave to its images."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from quick import quick_jit

from fairjax.experiments import sample
from fairjax.models.stylegan2 import Generator, num_ws
from fairjax.train.network_files import G_FIELDS, Saved, fields_of, write_folder

W_DIM, SEED = 6, 4
SIZE = {"z_dim": W_DIM, "w_dim": W_DIM, "mapping_layers": 1, "channel_base": 32, "channel_max": 4}


def command(generator, out, *more):
    fixed = ("--noise=none", "--batch=4", *more)
    sample.main(["launch/sample.py", f"--generator={generator}", f"--out={out}", *fixed])


def trained(folder, seed, **labels):
    net = Generator(8, **SIZE, **labels)
    c = {"c": jnp.zeros((1, net.c_dim))} if net.c_dim else {}
    init = quick_jit(partial(net.init, noise="none"))
    params = jax.device_get(init(jax.random.key(seed), jnp.zeros((1, W_DIM)), **c)["params"])
    write_folder(folder, Saved(fields_of(net, G_FIELDS), params, np.zeros(W_DIM, np.float32)))
    return net, params


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A generator, and a folder of 12 of its images."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "gan").mkdir()
    net, params = trained(root / "gan", 0)
    command(root / "gan", root / "faces", "--n=12", f"--seed={SEED}")
    return root, net, params


def image_of_mean(net, params, indices):
    """The image at the mean w of some images, from the documented keys of each."""
    key = jax.random.key(SEED)
    keys = [jax.random.split(jax.random.fold_in(key, i))[0] for i in indices]
    z = jnp.concatenate([jax.random.normal(k, (1, W_DIM)) for k in keys])
    w = quick_jit(partial(net.apply, method="mapping"))({"params": params}, z).mean(0)
    ws = jnp.broadcast_to(w, (1, num_ws(8), W_DIM))
    synthesis = quick_jit(partial(net.apply, method="synthesis", noise="none"))
    x = synthesis({"params": params}, ws)[0]
    return np.clip(np.round(np.asarray(x) * 127.5 + 127.5), 0, 255)


TABLE = """file,kind
000003.png,cat
faces/000000.png,dog
000011.png,cat
000004.png,
000005.png,cat
000007.png,cat
000009.png,cat
"""


def test_all_images_are_pulled_to_the_mean_of_the_labelled_ones(drawn, tmp_path):
    root, net, params = drawn
    table = root / "faces/kinds.csv"
    table.write_text(TABLE)
    for name, indices in (("cat", (3, 5, 7, 9, 11)), ("dog", (0,))):
        out = tmp_path / name
        # Another seed than that of the labelled images; at psi = 0 each image is the centre.
        command(root / "gan", out, "--n=3", "--psi=0", f"--centre={table}", f"--class={name}")
        expected = image_of_mean(net, params, indices)
        for i in range(3):
            with Image.open(out / f"{i:06d}.png") as image:
                np.testing.assert_allclose(np.asarray(image), expected, atol=1)
    assert np.abs(expected - image_of_mean(net, params, (3, 5, 7, 9, 11))).max() > 3
    record = json.loads((tmp_path / "cat/samples.json").read_text())
    assert (record["class"], record["centre"]) == ("cat", str(table))


def test_of_balanced_images_the_latents_of_those_that_were_kept_are_taken(drawn, tmp_path):
    """`--balance` numbers its files by rank and says in `index` which image each one is."""
    root, net, params = drawn
    shutil.copytree(root / "faces", tmp_path / "kept")
    record = json.loads((tmp_path / "kept/samples.json").read_text())
    (tmp_path / "kept/samples.json").write_text(json.dumps(record | {"n": 3, "index": [4, 9, 2]}))
    table = tmp_path / "kept/kinds.csv"
    table.write_text("file,kind\n000000.png,cat\n000002.png,cat\n")
    command(root / "gan", tmp_path / "out", "--n=1", "--psi=0", f"--centre={table}", "--class=cat")
    with Image.open(tmp_path / "out/000000.png") as image:
        np.testing.assert_allclose(np.asarray(image), image_of_mean(net, params, (4, 2)), atol=1)


def test_bad_tables_are_refused_before_anything_is_drawn(drawn, tmp_path, capsys):
    root, *_ = drawn
    table = root / "faces/bad.csv"

    def refused(text, *args, generator=root / "gan"):
        table.write_text(text)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command(generator, tmp_path / "out", f"--centre={table}", *args)
        assert end.value.code == 2
        assert not (tmp_path / "out").exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "--class: not given" in refused(TABLE)
    assert "Choose one of cat, dog" in refused(TABLE)
    line = refused(TABLE, "--class=cats")
    assert "--class: no image of a class 'cats'" in line
    assert "Did you mean cat?" in line
    cat = "--class=cat"
    for name in ("grid.png", "000012.png", "3.png", "000003.jpg"):
        line = refused(f"file,kind\n{name},cat\n", cat)
        assert f"{name!r} is none of the 12 images of the folder. Write 000000.png to" in line
    twice = "file,kind\n000001.png,cat\nfaces/000001.png,dog\n"
    assert "two rows for '000001.png'" in refused(twice, cat)
    assert "no image has a class. Write classes in the column 'kind'" in refused(
        "file,kind\n000001.png,\n", cat
    )
    assert "2 columns of classes: ['kind', 'age']" in refused("file,kind,age\n1,2,3\n", cat)
    assert "0 columns of classes" in refused("file,kind\n", cat)
    missing = f"--centre={root / 'none.csv'}"  # the last of two equal flags counts
    assert f"{missing}: no file" in refused(TABLE, missing, cat)
    for name, labels in (("other", {}), ("labelled", {"c_dim": 2})):
        (root / name).mkdir()
        trained(root / name, 1, **labels)
    assert "another generator drew these" in refused(TABLE, cat, generator=root / "other")
    line = refused(TABLE, cat, "--label=0,1", generator=root / "labelled")
    assert "the generator has labels of its own" in line


def test_the_folder_must_say_where_its_images_are_from(drawn, tmp_path, capsys):
    root, *_ = drawn
    command(root / "gan", tmp_path / "near", "--n=2", "--psi=0.5")
    (tmp_path / "bare").mkdir()
    for name, words in (("near", "drawn with --psi=0.5. Label images of --psi=1"),
                        ("bare", "samples.json: no record of images")):  # fmt: skip
        table = tmp_path / name / "kinds.csv"
        table.write_text("file,kind\n000001.png,cat\n")
        with pytest.raises(SystemExit) as end:
            command(root / "gan", tmp_path / "out", f"--centre={table}", "--class=cat")
        assert end.value.code == 2
        assert words in capsys.readouterr().err
