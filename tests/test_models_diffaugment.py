import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick_jit

from fairjax.models import diffaugment

RNG = np.random.default_rng(0)
KEY = jax.random.key(2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colour_is_brightness_saturation_contrast(channels):
    x = RNG.uniform(-1, 1, (64, 4, 4, channels)).astype(np.float32)
    y = np.asarray(quick_jit(diffaugment.colour)(x, KEY), np.float64)
    x = x.astype(np.float64)
    if channels == 4:
        np.testing.assert_array_equal(y[..., 3], x[..., 3])
    x, y = x[..., :3], y[..., :3]
    # Invert what the paper does: the mean tells brightness; gray values contrast; the rest both.
    brightness = y.mean((1, 2, 3)) - x.mean((1, 2, 3))
    gray_x, gray_y = x.mean(3), y.mean(3)
    gray_x -= gray_x.mean((1, 2), keepdims=True)
    gray_y -= gray_y.mean((1, 2), keepdims=True)
    contrast = (gray_x * gray_y).sum((1, 2)) / (gray_x**2).sum((1, 2))
    np.testing.assert_allclose(gray_y, contrast[:, None, None] * gray_x, atol=1e-5)
    factors = [(brightness, -0.5, 0.5), (contrast, 0.5, 1.5)]
    if channels > 1:
        off_x, off_y = (z - z.mean(3, keepdims=True) for z in (x, y))
        both = (off_x * off_y).sum((1, 2, 3)) / (off_x**2).sum((1, 2, 3))
        np.testing.assert_allclose(off_y, both[:, None, None, None] * off_x, atol=1e-5)
        factors.append((both / contrast, 0, 2))
    for found, low, high in factors:
        assert low <= found.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < found.max() <= high


def test_translation_moves_whole_pixels_and_zeros_come_in():
    x = RNG.uniform(0.5, 1, (300, 16, 16, 2)).astype(np.float32)
    y = np.asarray(quick_jit(diffaugment.translation)(x, KEY))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    moves = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    counts = dict.fromkeys(moves, 0)
    for k in range(300):
        hits = [m for m in moves
                if np.array_equal(y[k], padded[k, 2 - m[0] :, 2 - m[1] :][:16, :16])]  # fmt: skip
        assert len(hits) == 1
        counts[hits[0]] += 1
    assert min(counts.values()) > 0


def test_cutout_is_a_square_of_half_the_size():
    x = jnp.ones((300, 16, 16, 1))
    off = np.asarray(quick_jit(diffaugment.cutout)(x, KEY))[..., 0] == 0
    rows, columns = off.any(2), off.any(1)
    np.testing.assert_array_equal(off, rows[:, :, None] & columns[:, None, :])
    for sides in (rows, columns):
        assert set(sides.sum(1)) == {4, 5, 6, 7, 8}  # whole, or cut at a border
        assert (np.abs(np.diff(sides.astype(int), axis=1)).sum(1) <= 2).all()
        assert sides.mean(0).min() > 0.2


def test_the_policy_decides_and_the_gradient_is_linear():
    x = RNG.uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)

    def of(policy):
        return quick_jit(lambda x: diffaugment.diffaugment(x, KEY, policy))

    both, one = of(("translation", "cutout")), of(("color",))
    assert (np.asarray(both(x)) == 0).mean() > 0.1
    assert not (np.asarray(one(x)) == 0).any()
    np.testing.assert_allclose(both(2 * x), 2 * both(x), rtol=1e-6)
    every = ("color", "translation", "cutout")
    slope = quick_jit(jax.grad(lambda x: diffaugment.diffaugment(x, KEY, every).sum()))
    np.testing.assert_allclose(slope(x), slope(-x), atol=1e-5)
