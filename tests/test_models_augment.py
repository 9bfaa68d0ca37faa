import jax
import jax.numpy as jnp
import numpy as np
import oracles_augment as oracle
import pytest
from quick import quick_jit

from fairjax.augmentations import CATEGORIES, TRANSFORMS, multipliers
from fairjax.models import augment
from fairjax.models.augment_colour import SYM2, band_gains, band_matrices, colour_matrix
from fairjax.models.augment_geometry import SYM6

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
ALL = multipliers("bgcfnc")
KEY = jax.random.key(3)
apply = quick_jit(augment.apply)
draw = quick_jit(lambda key, p: augment.draw(key, 20000, p, ALL))


def drawn(**values):
    """Parameters of the same values for all of IMAGES."""
    return {k: jnp.asarray(np.repeat(np.asarray([v]), 4, 0)) for k, v in values.items()}


def each(d, n=4):
    """Drawn parameters -> one dict of NumPy values per image."""
    return [{k: np.asarray(v[i], np.float64) for k, v in d.items()} for i in range(n)]


# What fires, and how often.


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8])
def test_every_transform_fires_with_its_probability(p):
    found = jax.device_get(draw(KEY, p))
    assert set(found) == set(TRANSFORMS)
    once = 1 - np.sqrt(1 - p)
    off = {"xflip": 1, "scale": 1, "aniso": 1, "contrast": 1, "lumaflip": 1, "saturation": 1}
    off |= dict.fromkeys(CATEGORIES["filter"], 1)
    for name, value in found.items():
        expected = p / 2 if name in ("xflip", "lumaflip") else 0.75 * p if name == "rot90" else p
        fired = (value.reshape(20000, -1) != off.get(name, 0)).any(1)
        assert fired.mean() == pytest.approx(expected, abs=0.012), name
    turns = (found["rotate"] != 0).mean(0)
    np.testing.assert_allclose(turns, once, atol=0.012)
    fired = np.stack([found[n] != off.get(n, 0) for n in ("scale", "hue")])
    assert fired.all(0).mean() == pytest.approx(p * p, abs=0.012)  # each on its own


def test_a_multiplier_scales_the_probability():
    half = multipliers("bg,rot90*0.5,rotate*0.5")
    found = quick_jit(lambda key: augment.draw(key, 20000, 0.8, half))(KEY)
    assert (found["rot90"] != 0).mean() == pytest.approx(0.3, abs=0.012)
    assert (found["rotate"] != 0).any(1).mean() == pytest.approx(0.4, abs=0.012)


def test_the_distributions_of_the_paper():
    found = jax.device_get(draw(KEY, 1.0))
    for name, spread in (("scale", 0.2), ("aniso", 0.2), ("contrast", 0.5), ("saturation", 1),
                         ("band1", 1), ("band4", 1)):  # fmt: skip
        value = np.log2(found[name])
        assert value.mean() == pytest.approx(0, abs=0.03 * spread), name
        assert value.std() == pytest.approx(spread, rel=0.03), name
    for name, spread in (("xfrac", 0.125), ("brightness", 0.2)):
        assert found[name].mean() == pytest.approx(0, abs=0.03 * spread), name
        assert found[name].std() == pytest.approx(spread, rel=0.03), name
    for name, most in (("rotate", np.pi), ("hue", np.pi), ("xint", 0.125)):
        assert np.abs(found[name]).max() == pytest.approx(most, rel=0.01), name
        assert found[name].std() == pytest.approx(most / np.sqrt(3), rel=0.03), name
    np.testing.assert_allclose(np.bincount(found["rot90"]) / 20000, 0.25, atol=0.015)
    assert found["noise"].min() >= 0
    assert np.sqrt((found["noise"] ** 2).mean()) == pytest.approx(0.1, rel=0.03)
    x, y, side = found["cutout"].T
    assert (side == 0.5).all()
    np.testing.assert_allclose([x.mean(), y.mean(), x.std()], [0.5, 0.5, 12**-0.5], atol=0.01)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.03


def test_a_transform_draws_the_same_whatever_else_is_on():
    alone = augment.draw(KEY, 4, 0.7, multipliers("hue"))
    among = augment.draw(KEY, 4, 0.7, ALL)
    np.testing.assert_array_equal(alone["hue"], among["hue"])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_at_p_0_no_bit_changes_and_p_is_no_constant_of_the_program(channels):
    x = RNG.uniform(-1, 1, (4, 8, 8, channels)).astype(np.float32)
    pipe = quick_jit(lambda x, p, key: augment.augment(x, p, key, ALL))
    np.testing.assert_array_equal(pipe(x, 0.0, KEY), x)
    y = pipe(x, 0.8, KEY)
    assert not np.allclose(y, x)
    assert np.isfinite(y).all()
    assert pipe._cache_size() == 1


# Geometry.


def test_exact_operations_are_exact():
    def of(image, **values):
        return np.asarray(apply(IMAGES, drawn(**values), KEY))[0]

    image = IMAGES[0]
    np.testing.assert_array_equal(of(image, xflip=-1.0), image[:, ::-1])
    for k in range(4):
        np.testing.assert_array_equal(of(image, rot90=k), np.rot90(image, k))
    wide = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    shifted = wide[8 + 1 :, 8 - 2 :][:8, :8]  # 2 to the right, 1 up
    np.testing.assert_array_equal(of(image, xint=(0.25, -0.125)), shifted)
    both = of(image, xflip=-1.0, rot90=1, xint=(0.25, -0.125))
    wide = np.pad(np.rot90(image[:, ::-1]), ((8, 8), (8, 8), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(both, wide[8 + 1 :, 8 - 2 :][:8, :8])


def test_an_image_without_a_fraction_is_exact_beside_one_that_is_sampled():
    d = drawn(xflip=-1.0, rot90=3, scale=1.0, rotate=(0.0, 0.0), aniso=1.0, xfrac=(0.0, 0.0))
    d["scale"] = d["scale"].at[1].set(1.3)
    y = np.asarray(apply(IMAGES, d, KEY))
    exact = [np.rot90(image[:, ::-1], 3) for image in IMAGES]
    np.testing.assert_array_equal(y[[0, 2, 3]], np.stack(exact)[[0, 2, 3]])
    assert not np.allclose(y[1], exact[1], atol=0.05)


def test_geometry_matches_the_oracle():
    d = quick_jit(lambda key: augment.draw(key, 4, 1.0, multipliers("bg")))(KEY)
    y = apply(IMAGES, d, KEY)
    for i, values in enumerate(each(d)):
        matrix = oracle.geometry(values, 8)
        expected = oracle.sample(IMAGES[i].astype(np.float64), matrix, SYM6)
        np.testing.assert_allclose(y[i], expected, atol=3e-5)
    assert np.abs(expected - IMAGES[3]).max() > 0.3


def test_sampling_at_the_pixels_themselves_gives_the_image():
    from fairjax.models.augment_geometry import sampled

    here = jnp.tile(jnp.eye(3), (4, 1, 1))
    np.testing.assert_allclose(quick_jit(sampled)(IMAGES, here), IMAGES, atol=2e-6)


def test_the_wavelets_are_orthogonal_with_their_vanishing_moments():
    for taps, moments in ((np.array(SYM6), 6), (SYM2, 2)):
        n = len(taps)
        assert taps.sum() == pytest.approx(np.sqrt(2), abs=1e-11)
        for shift in range(0, n, 2):
            assert taps[shift:] @ taps[: n - shift] == pytest.approx(float(shift == 0), abs=1e-11)
        signs = (-1.0) ** np.arange(n)
        for power in range(moments):
            moment = (signs * taps * (np.arange(n) / n) ** power).sum()
            assert moment == pytest.approx(0, abs=1e-10)


# Colour, filter, noise, cutout.


def test_colour_matches_the_oracle():
    d = quick_jit(lambda key: augment.draw(key, 4, 1.0, multipliers("color")))(KEY)
    d["lumaflip"] = jnp.asarray([1.0, -1.0, -1.0, 1.0])
    matrix, _, offset = colour_matrix(d)
    rgba = np.concatenate([IMAGES, IMAGES[..., :1]], -1)
    gray = IMAGES[..., :1]
    y, of_rgba, of_gray = (apply(x, d, KEY) for x in (IMAGES, rgba, gray))
    for i, values in enumerate(each(d)):
        expected = oracle.colour(values)
        np.testing.assert_allclose(matrix[i], expected[:3, :3], atol=1e-5)
        np.testing.assert_allclose(np.full(3, offset[i]), expected[:3, 3], atol=1e-5)
        colours = IMAGES[i] @ expected[:3, :3].T + expected[:3, 3]
        np.testing.assert_allclose(y[i], colours, atol=1e-5)
        np.testing.assert_allclose(of_rgba[i][..., :3], colours, atol=1e-5)
        np.testing.assert_array_equal(of_rgba[i][..., 3], rgba[i][..., 3])
        three = np.repeat(gray[i], 3, -1) @ expected[:3, :3].T + expected[:3, 3]
        np.testing.assert_allclose(of_gray[i][..., 0], three.mean(-1), atol=1e-5)


def test_filter_gains_and_responses_match_the_oracle():
    d = quick_jit(lambda key: augment.draw(key, 4, 1.0, multipliers("filter")))(KEY)
    gains = band_gains(d)
    for found, values in zip(gains, each(d), strict=True):
        np.testing.assert_allclose(found, oracle.band_gain(values), rtol=1e-5)
    size = 64
    bands = band_matrices(size)
    np.testing.assert_allclose(bands.sum(0), np.eye(size), atol=1e-14)
    for cycles in (0, 3, 9, 17, 26, 31.5):  # cosines that are their own mirror images
        omega = np.pi * 2 * cycles / (size - 1)
        wave = np.cos(omega * np.arange(size))
        expected = oracle.band_response(omega, SYM2)[:, None] * wave
        np.testing.assert_allclose(bands @ wave, expected, atol=1e-12)
    matrix = np.einsum("nb,bij->nij", np.asarray(gains, np.float64), band_matrices(8))
    expected = np.einsum("nij,njwc,nkw->nikc", matrix, IMAGES, matrix)
    np.testing.assert_allclose(apply(IMAGES, d, KEY), expected, atol=1e-4)


def test_noise_and_cutout():
    x = jnp.zeros((4, 32, 32, 4)) + 0.5
    y = np.asarray(apply(x, {"noise": jnp.asarray([0.0, 0.1, 0.2, 0.0])}, KEY)) - 0.5
    np.testing.assert_allclose(y[..., :3].std((1, 2, 3)), [0, 0.1, 0.2, 0], rtol=0.05)
    assert (y[..., 3] == 0).all()
    d = {"cutout": jnp.asarray([[0.5, 0.5, 0], [0.5, 0.25, 0.5], [0.1, 0.9, 0.5], [1, 0, 0.5]])}
    y = np.asarray(apply(x, d, KEY))
    for i, values in enumerate(each(d)):
        off = oracle.square(values, 32) & (values["cutout"][2] > 0)
        np.testing.assert_array_equal(y[i], np.where(off[..., None], 0, 0.5).repeat(4, -1))


# Derivatives.


@pytest.mark.slow
def test_second_derivative_in_the_image_by_finite_differences():
    with jax.enable_x64(True):
        x, direction, target = RNG.normal(size=(3, 2, 8, 8, 3))
        d = augment.draw(KEY, 2, 1.0, ALL)

        def loss(x):
            return jnp.sum(jnp.tanh(augment.apply(x, d, KEY)) * target)

        slope = quick_jit(jax.grad(loss))
        second = quick_jit(jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), direction)))(x)
        step = 1e-5
        numeric = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(second, numeric, rtol=1e-5, atol=1e-7)
        assert np.abs(second).max() > 0.1
        moved = float(loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        assert moved == pytest.approx(float(jnp.vdot(slope(x), direction)), rel=1e-6)
