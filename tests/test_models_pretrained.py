"""Networks of torchvision's form: their features against float64, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest
import torch_files
from ml_collections import ConfigDict
from quick import quick_jit
from safetensors.numpy import save_file

from fairjax.classifier_config import defaults
from fairjax.data.cache import file_sha256
from fairjax.errors import InputError
from fairjax.experiments import robust_classification
from fairjax.models import pretrained
from fairjax.models.encoders import Pixels
from fairjax.models.resnet import ResNet
from fairjax.train import loop
from fairjax.train.group_classifier import GroupClassifier
from fairjax.train.weight_files import load_tree
from fairjax.validation import validate

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def random_network(model):
    """Tensors with torchvision's names and shapes, written down from them."""
    rng, tensors = np.random.default_rng(0), {}

    def conv(name, out, inner, size):
        scale = np.sqrt(2 / (inner * size * size)).astype(np.float32)
        tensors[f"{name}.weight"] = scale * rng.standard_normal(
            (out, inner, size, size), np.float32
        )

    def norm(name, width):
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5),
                          ("running_var", 0.5)):  # fmt: skip
            tensors[f"{name}.{part}"] = rng.uniform(low, low + 1, width).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    before, deep = 64, model == "resnet50"
    for stage, blocks in enumerate(BLOCKS[model]):
        inner = 64 * 2**stage
        out = 4 * inner if deep else inner
        shapes = [(inner, 1), (inner, 3), (out, 1)] if deep else [(inner, 3), (out, 3)]
        for block in range(blocks):
            name, width = f"layer{stage + 1}.{block}", before
            for i, (wide, size) in enumerate(shapes, 1):
                conv(f"{name}.conv{i}", wide, width, size)
                norm(f"{name}.bn{i}", wide)
                width = wide
            if block == 0 and (stage or deep):
                conv(f"{name}.downsample.0", out, before, 1)
                norm(f"{name}.downsample.1", out)
            before = out
    tensors["fc.weight"] = np.zeros((1000, before), np.float32)
    tensors["fc.bias"] = np.zeros(1000, np.float32)
    return tensors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tensors and a file of each network: one by torch's own writer's rules, one safetensors."""
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for model, end in (("resnet18", ".pth"), ("resnet50", ".safetensors")):
        tensors, path = random_network(model), folder / f"{model}{end}"
        if end == ".pth":
            path.write_bytes(torch_files.archive(tensors))
        else:
            save_file(tensors, path)
        found[model] = tensors, path
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", list(BLOCKS))
def test_features_are_those_of_the_papers_network(model, files):
    tensors, path = files[model]
    images = np.random.default_rng(1).integers(0, 256, (2, 21, 21, 3), np.uint8)
    net = ResNet(64, depth=pretrained.DEPTHS[model])
    run = quick_jit(lambda v, x: net.apply(v, pretrained.normalised(x), False, features=True))
    found = run(pretrained.read(path, model), images.astype(np.float32) / 127.5 - 1)
    x = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = oracle.resnet(tensors, x, BLOCKS[model])
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def config(path, model="resnet18", **words):
    tree = defaults()
    tree.data.update(resolution=8, n_biased=40, n_judge_test=40)
    fit = {"model": model, "pretrained": str(path), "width": 64, "stem": "imagenet", "batch": 8}
    tree.arms = ConfigDict({"arm": fit | words})
    return tree


@pytest.mark.slow
def test_a_run_starts_from_the_file_and_knows_its_content(files, tmp_path, monkeypatch):
    """No step is taken: what the fit stage leaves is what it began with."""
    tensors, path = files["resnet18"]
    begin = lambda task, feed, key, *_: task.start(quick_jit(task.init)(key))
    monkeypatch.setattr(loop, "run", begin)
    tree = config(path)
    validate(tree)
    robust_classification.run(tree, tmp_path, "data")
    robust_classification.run(tree, tmp_path, "fit")
    saved = load_tree(tmp_path / "arms/arm/fit/network.safetensors")
    assert saved["head"]["kernel"].shape == (512, 2)  # a new last layer
    kernel = tensors["layer4.0.downsample.0.weight"][:, :, 0, 0].T
    np.testing.assert_array_equal(saved["encoder"]["stage3_block0"]["shortcut"]["kernel"], kernel)
    np.testing.assert_array_equal(saved["stats"]["stem_norm"]["var"], tensors["bn1.running_var"])
    done = json.loads((tmp_path / "arms/arm/fit/DONE").read_text())
    assert done["config"]["fit"]["pretrained"] == f"sha256 {file_sha256(path)}"
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(path.read_bytes())
    robust_classification.run(config(moved), tmp_path, "fit")  # the same file
    tensors = tensors | {"fc.bias": np.ones(1000, np.float32)}
    moved.write_bytes(torch_files.archive(tensors))
    with pytest.raises(InputError, match="was run with fit.pretrained = 'sha256"):
        robust_classification.run(config(moved), tmp_path, "fit")


def test_other_networks_are_refused_by_the_first_tensor_that_differs(files, tmp_path):
    tensors, path = files["resnet18"]
    with pytest.raises(InputError, match="as resnet50: .* tensors are not those of the network"):
        pretrained.read(path, "resnet50")
    small = {k: v for k, v in tensors.items() if v.size < 2000}
    wrong = tmp_path / "wrong.safetensors"
    for changed, said in (
        (tensors | {"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)},
         r"1 tensors.*conv1.weight: \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)"),
        (tensors | {"head.weight": small["bn1.bias"]}, r"1 tensors.*head.weight: .* of none"),
        (small, "missing instead of"),
    ):  # fmt: skip
        save_file(changed, wrong)
        with pytest.raises(InputError, match=said):
            pretrained.read(wrong, "resnet18")
    wrong.write_bytes(b"no network")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        pretrained.read(wrong, "resnet18")
    with pytest.raises(InputError, match="not a readable safetensors"):
        robust_classification.run(config(wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_that_do_not_fit_the_file_are_refused_together(files):
    tree = config(files["resnet18"][1], width=16, stem="small")
    tree.data.channels = 1
    with pytest.raises(InputError) as error:
        validate(tree)
    for said in ("fit.width (=16) must be 64", "fit.stem (='small') must be imagenet",
                 "must be '' unless data.channels is 3"):  # fmt: skip
        assert said in str(error.value)
    with pytest.raises(InputError, match="must be '' unless fit.model is resnet18 or resnet50"):
        validate(config("x", model="cnn"))
    with pytest.raises(InputError, match="must be a file that is there"):
        validate(config("none.pth"))


def test_the_full_networks_have_the_known_sizes():
    for depth, size in ((18, 11_689_512), (50, 25_557_032)):  # He et al.'s, for ImageNet
        net = ResNet(64, 1000, depth=depth)
        variables = jax.eval_shape(
            lambda key, net=net: net.init(key, jnp.zeros((1, 64, 64, 3)), False), jax.random.key(0)
        )
        assert sum(a.size for a in jax.tree.leaves(variables["params"])) == size


def test_images_are_normalised_as_those_that_the_network_was_shown():
    fit = defaults().fit
    fit.update(model="resnet18", pretrained="x")
    net = GroupClassifier(fit, resolution=2, channels=3, classes=2, values=2, steps=1)
    net._encoder = Pixels()
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3), np.uint8)
    variables = {"head": {"kernel": jnp.zeros((12, 2)), "bias": jnp.zeros(2)}}
    features, _ = net.predict(variables, images)
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(features, expected.reshape(5, 12), atol=1e-5)


def test_dropout_hides_features_of_training_steps_only():
    fit = defaults().fit
    fit.update(model="linear", dropout=0.25)
    net = GroupClassifier(fit, resolution=16, channels=3, classes=2, values=2, steps=1)
    x = jnp.ones((4, 16, 16, 3))
    params = {"encoder": {}, "head": {"kernel": jnp.eye(768), "bias": jnp.zeros(768)}}
    _, seen, _ = net._apply(params, {}, x, train=True, drops=jax.random.key(0))
    share = float((seen == 0).mean())
    assert share == pytest.approx(0.25, abs=0.04)
    np.testing.assert_allclose(seen[seen != 0], 1 / 0.75, rtol=1e-6)
    features, seen, _ = net._apply(params, {}, x, train=False)
    np.testing.assert_array_equal(features, seen)
