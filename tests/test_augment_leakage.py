"""What augmentation does to attributes, measured on avatars, and when it can be undone.

The reading of skin tone is in closed form: the tone of the table that most pixels match. It knows
no place, so it reads turned and moved faces as well.
"""

from functools import partial

import jax
import numpy as np
import pytest
from quick import quick_jit

from fairjax.augmentations import multipliers
from fairjax.data.avatar_table import ATTRIBUTES
from fairjax.data.avatars import draw, options
from fairjax.models import augment

TONES = np.array(
    [[int(value.choices["skinColor"][0][i : i + 2], 16) for i in (1, 3, 5)]
     for value in ATTRIBUTES["skin"]]
)  # fmt: skip


@pytest.fixture(scope="module")
def avatars():
    """48 avatars at 32 px in [-1, 1] and their true tones."""
    rng = np.random.default_rng(0)
    values = [[rng.integers(len(v)) for v in ATTRIBUTES.values()] for _ in range(48)]
    skin = list(ATTRIBUTES).index("skin")
    for i, row in enumerate(values):
        row[skin] = i % len(TONES)
    images = [draw(options(row, (i,)), 32, 32) for i, row in enumerate(values)]
    return np.stack(images) / np.float32(127.5) - 1, np.array([row[skin] for row in values])


def tone(images):
    """Index of the tone that most pixels match; soft, so that blurred borders count little."""
    pixels = (np.asarray(images, np.float64) * 127.5 + 127.5).reshape(len(images), -1, 1, 3)
    return np.exp(-((pixels - TONES) ** 2).sum(-1) / (2 * 12**2)).sum(1).argmax(1)


@pytest.fixture(scope="module")
def share_changed(avatars):
    images, _ = avatars

    def measured(categories, p):
        pipe = partial(augment.augment, multipliers=multipliers(categories))
        program = quick_jit(pipe)
        changed = [tone(program(images, p, jax.random.key(k))) != tone(images) for k in range(4)]
        return float(np.mean(changed))

    return measured


def test_the_reading_finds_the_true_tone(avatars):
    images, truth = avatars
    assert (tone(images) == truth).mean() > 0.9


def test_colour_changes_the_skin_tone_and_geometry_does_not(share_changed):
    colour, still = share_changed("color", 0.8), share_changed("bg", 0.8)
    print(f"tone changed: color {colour:.3f}, bg {still:.3f}")
    assert colour > 0.5
    assert still < 0.1


def test_hue_and_luma_flip_alone_change_it_too(share_changed):
    assert share_changed("hue,lumaflip", 0.8) > 0.4


# A distribution of images can be recovered from its augmentation where the mixing matrix of the
# augmentation's group is invertible (section 2.2 and appendix C of the paper).


def dihedral(p, image):
    """Matrix over the 8 orientations of an image: share of each after xflip, then rot90, at p."""
    orientations = [np.rot90(i, k) for i in (image, image[:, ::-1]) for k in range(4)]

    def number(picture):
        return next(k for k, o in enumerate(orientations) if np.array_equal(o, picture))

    mixing = np.zeros((8, 8))
    for start, picture in enumerate(orientations):
        for flip in (False, True):
            for k in range(4):
                share = p / 2 if flip else 1 - p / 2
                share *= p / 4 if k else 1 - 3 * p / 4
                end = number(np.rot90(picture[:, ::-1] if flip else picture, k))
                mixing[end, start] += share
    return mixing


def test_flips_and_quarter_turns_can_be_undone_below_p_1():
    image = np.arange(16.0).reshape(1, 4, 4, 1).astype(np.float32)
    n, p = 4000, 0.8
    pipe = partial(augment.augment, multipliers=multipliers("xflip,rot90"))
    program = quick_jit(pipe)
    seen = np.asarray(program(np.repeat(image, n, 0), p, jax.random.key(0)))[..., 0]
    plain = image[0, :, :, 0]
    shares = [(seen == np.rot90(i, k)).all((1, 2)).mean()
              for i in (plain, plain[:, ::-1]) for k in range(4)]  # fmt: skip
    mixing = dihedral(p, plain)
    np.testing.assert_allclose(shares, mixing[:, 0], atol=0.025)
    # Eigenvalues by hand: a flip keeps 1 - p of what changes sign, a turn 1 - p of what rotates.
    smallest = np.linalg.svd(mixing, compute_uv=False).min()
    assert smallest == pytest.approx((1 - p) ** 2, rel=1e-6)
    assert np.argmax(shares) == 0  # the undistorted image stays the most likely one
    np.testing.assert_allclose(np.linalg.solve(mixing, shares), np.eye(8)[0], atol=0.5)
    assert np.linalg.svd(dihedral(1.0, plain), compute_uv=False).min() < 1e-12


def test_luma_flip_can_be_undone_below_p_1_and_not_at_1():
    n = 4000
    for p in (0.5, 0.8):
        drawn = augment.draw(jax.random.key(1), n, p, multipliers("lumaflip"))
        share = float((np.asarray(drawn["lumaflip"]) < 0).mean())
        assert share == pytest.approx(p / 2, abs=0.03)  # [[1 - s, s], [s, 1 - s]]: 1 - 2 s = 1 - p
        assert 1 - 2 * share > 0.1
