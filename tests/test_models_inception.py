"""Inception-v3 beside the original implementation (torch-fidelity), whose numbers are stored."""

import hashlib
import json

import inception_numbers
import make_published
import numpy as np
import pytest
from quick import quick_jit

from fairjax.errors import InputError
from fairjax.models import inception

STORED = json.loads(inception_numbers.FILE.read_text())
IMAGES = inception_numbers.IMAGES


@pytest.fixture(scope="module")
def tensors():
    return inception_numbers.tensors(STORED["convolutions"])


def test_a_file_gives_the_features_of_the_original(tensors, tmp_path):
    path = tmp_path / "weights.pth"
    counts = {f"{name}.bn.num_batches_tracked": np.array(0) for name in STORED["convolutions"]}
    path.write_bytes(make_published.state_dict(tensors | counts))
    weights = inception.load(path)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != inception.SHA256
    found = np.asarray(quick_jit(inception.features.__wrapped__)(weights.params, IMAGES))
    kept = inception_numbers.KEPT
    np.testing.assert_allclose(found[:, kept], STORED["features"], rtol=1e-4, atol=1e-4)
    logits = found @ weights.classes
    np.testing.assert_allclose(logits[:, kept], STORED["logits"], rtol=1e-4, atol=1e-4)


def test_images_are_resized_as_tensorflow_1_does():
    """Row i of the result lies at i * size / 299 of the image, without half a pixel of shift."""
    found = np.asarray(inception.resize(IMAGES.astype(np.float32), inception.SIDE))
    np.testing.assert_allclose(found[0, ::23, ::23, 0], STORED["resized"], atol=1e-4)
    ramp = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 10, 1), np.float32)
    rows = np.asarray(inception.resize(ramp[None], 40))[0, :, 0, 0]
    np.testing.assert_allclose(rows, np.minimum(np.arange(40) / 4, 9))  # half a pixel: -.375, ..
    small = np.asarray(inception.resize(ramp[None], 5))[0, :, 0, 0]
    np.testing.assert_array_equal(small, [0, 2, 4, 6, 8])  # no anti-aliasing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("Mixed_7c.branch_pool.bn.bias"), "Mixed_7c.branch_pool.bn.bias: missing"),
        (lambda t: t.update(AuxLogits=t["fc.bias"]), "AuxLogits"),
        (lambda t: t.update({"fc.weight": t["fc.weight"][:1000]}), r"\(1000, 2048\)"),
        (lambda t: t.update({"Mixed_6b.branch7x7_2.conv.weight":
            t["Mixed_6b.branch7x7_2.conv.weight"].swapaxes(2, 3)}), r"Mixed_6b.branch7x7_2"),
    ],
)  # fmt: skip
def test_tensors_of_another_network_are_refused(tensors, change, words):
    other = dict(tensors)
    change(other)
    with pytest.raises(InputError, match=words):
        inception.fold(other, "weights.pth")
