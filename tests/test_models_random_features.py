import numpy as np
import oracles_models as oracle

from fairjax.models import random_features

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def test_shape_scale_and_stored_values():
    found = np.asarray(random_features.features(IMAGES))
    assert found.shape == (8, random_features.size())
    assert found.dtype == np.float32
    assert 0.3 < np.sqrt(np.mean(found**2)) < 3
    # Fixed for ever: curves of different runs must be comparable.
    np.testing.assert_allclose(found[0, ::32], STORED, rtol=1e-4)


def test_it_sees_colour_and_place():
    dark = np.asarray(random_features.features(IMAGES // 2))
    half = IMAGES.copy()
    half[:, :16] //= 2
    top, bottom = (np.asarray(random_features.features(a)) for a in (half, half[:, ::-1]))
    plain = np.asarray(random_features.features(IMAGES))
    spread = plain.std(axis=0).mean()
    for a, b in [(plain, dark), (top, bottom)]:
        assert np.abs(a.mean(0) - b.mean(0)).max() > 5 * spread


def test_other_sizes_and_grey_images():
    large = IMAGES.repeat(2, axis=1).repeat(2, axis=2)
    assert random_features.features(large).shape == (8, 256)
    grey = IMAGES[..., :1]
    np.testing.assert_allclose(
        random_features.features(grey), random_features.features(grey.repeat(3, axis=3)), rtol=1e-5
    )


def test_the_wide_network_against_float64():
    x = IMAGES[:2].astype(np.float64) / 127.5 - 1
    levels = []
    for kernel, cells in zip(
        random_features._kernels(random_features.WIDE), (2, 2, 1), strict=True
    ):
        x = np.maximum(oracle.correlate(x, kernel), 0)
        side = x.shape[1] // cells
        levels += [x[:, r * side : (r + 1) * side, c * side : (c + 1) * side].mean((1, 2))
                   for r in range(cells) for c in range(cells)]  # fmt: skip
        half = x.shape[1] // 2
        x = x.reshape(len(x), half, 2, half, 2, -1).mean((2, 4))
    found = random_features.features(IMAGES[:2], random_features.WIDE)
    assert found.shape == (2, random_features.size(random_features.WIDE))
    np.testing.assert_allclose(found, 2 * np.concatenate(levels, 1), rtol=1e-4, atol=1e-5)


STORED = [0.520881, 0.542901, 0.260072, 0.242297, 0.280164, 0.295715, 1.25304, 0.034806]
