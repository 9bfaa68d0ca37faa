import numpy as np

from fairjax.models import random_features

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def test_shape_scale_and_stored_values():
    found = np.asarray(random_features.features(IMAGES))
    assert found.shape == (8, random_features.FEATURES)
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


STORED = [0.520881, 0.542901, 0.260072, 0.242297, 0.280164, 0.295715, 1.25304, 0.034806]
