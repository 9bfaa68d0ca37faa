"""Streams of images: sums as of all at once, a cache that knows its images, several devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fairjax.evaluate import features, measured
from fairjax.evaluate.distances import frechet
from fairjax.evaluate.inception_score import ScoreSums
from fairjax.evaluate.measured import measured_once
from fairjax.experiments.observed import observe, regrouped

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
# Its features are known: the mean colour, the first two pixels, a product.
NETWORK = features.Network(
    "known", "known 1", 6,
    lambda images: np.concatenate([np.asarray(images, np.float32).mean((1, 2)) / 99,
                                   np.asarray(images, np.float32)[:, 0, 0] / 99], 1),
    batch=32, classes=np.eye(6, 4, dtype=np.float32),
)  # fmt: skip


def known(images):
    x = images.astype(np.float64)
    return np.concatenate([x.mean((1, 2)), x[:, 0, 0]], 1) / 99


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    monkeypatch.setattr(measured, "KEPT", 100)
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path))


def test_one_pass_over_parts_is_as_all_images_at_once():
    weights = np.random.default_rng(1).uniform(0, 2, 300)
    parts = np.split(IMAGES, [1, 50, 130, 131])
    red = lambda images: images[..., 0].mean((1, 2))
    few = NETWORK._replace(name="few")
    seen = observe(parts, 300, {"red": red}, [(NETWORK, 1000), (few, 70)], weights, keep=9)
    np.testing.assert_array_equal(seen.scores["red"], red(IMAGES))
    np.testing.assert_array_equal(seen.first, IMAGES[:9])
    whole, x = seen.measured["known"], known(IMAGES)
    np.testing.assert_allclose(whole.rows.x, x[:100], rtol=1e-5)
    np.testing.assert_array_equal(whole.rows.weights, weights[:100])
    np.testing.assert_allclose(whole.moments.covariance(), np.cov(x.T, aweights=weights), rtol=1e-4)
    assert whole.moments.n == 300
    sums = ScoreSums(300, 4)
    sums.add(x[:, :4], weights)
    np.testing.assert_allclose(whole.scores, sums.scores(), rtol=1e-6)
    some = seen.measured["few"].moments
    assert some.n == 70
    np.testing.assert_allclose(some.mean, np.average(x[:70], 0, weights[:70]), rtol=1e-5)
    for size in (1, 7, 300, 512):
        again = list(regrouped(parts, size))
        assert [len(a) for a in again] == [size] * (300 // size) + [300 % size] * (300 % size > 0)
        np.testing.assert_array_equal(np.concatenate(again), IMAGES)


def test_a_reference_is_measured_once_and_anew_where_anything_changed(tmp_path):
    calls = []
    network = NETWORK._replace(of=lambda images: calls.append(1) or NETWORK.of(images))

    def asked(images=IMAGES, positions=None, weights=None, of=network):
        """(what was found, whether the network was asked)."""
        calls.clear()
        return measured_once(of, images, positions, weights), bool(calls)

    first, fresh = asked()
    assert fresh
    again, fresh = asked(IMAGES.copy())
    assert not fresh
    np.testing.assert_array_equal(again.rows.x, first.rows.x)
    assert frechet(again.moments, first.moments) == pytest.approx(0, abs=1e-9)
    assert (again.moments.n, again.moments.total) == (300, 300)
    changed = IMAGES.copy()
    changed[299, 7, 7, 2] ^= 1  # one bit of the last image
    assert asked(changed)[1]
    assert asked(of=network._replace(identity="known 2"))[1]
    assert asked(weights=np.arange(300.0))[1]
    assert asked(positions=np.arange(299))[1]
    assert asked(IMAGES.reshape(300, 4, 16, 3))[1]
    # The same images at other places of a larger array.
    found, fresh = asked(np.concatenate([changed, IMAGES]), 300 + np.arange(300))
    assert not fresh
    np.testing.assert_array_equal(found.rows.x, first.rows.x)
    for path in (tmp_path / "features").iterdir():  # damaged: measured anew
        path.write_bytes(path.read_bytes()[:-200])
    assert asked()[1]
    assert not asked()[1]
    assert not list((tmp_path / "features").glob("*.draft"))


def test_a_batch_is_split_over_devices_and_changes_nothing():
    code = (
        "import jax, numpy as np, sys\n"
        "from fairjax.evaluate import features\n"
        "network = features.random_conv()\n"
        "where = []\n"
        "of = lambda x: (where.append(x.sharding.device_set), network.of(x))[1]\n"
        "images = np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3), dtype=np.uint8)\n"
        "np.save(sys.argv[1], features.extract(network._replace(of=of), images))\n"
        "assert [len(devices) for devices in where] == [3, 3], where\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    path = os.path.join(os.environ["FAIRJAX_CACHE"], "rows.npy")
    subprocess.run([sys.executable, "-c", code, path], check=True, env=os.environ | flags)
    images = IMAGES[:130].copy()
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    one = features.extract(features.random_conv(), images)
    np.testing.assert_allclose(np.load(path), one, rtol=1e-5, atol=1e-6)
