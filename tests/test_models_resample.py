import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import oracles_models as oracle
import pytest

from fairjax.models import resample, strided, taps, winograd
from fairjax.models.initialize import FAST_COMPILE

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 6, 8, 3))
KERNEL = RNG.normal(size=(3, 3, 3, 5))
OPERATIONS = {
    "blur1": (lambda x, k, f: resample.blur(x, 1, 4.0, f), lambda x, k: oracle.fir(x, 1, 1, 4.0)),
    "blur2": (lambda x, k, f: resample.blur(x, 2, 1.0, f), lambda x, k: oracle.fir(x, 2, 2)),
    "image_up": (lambda x, k, f: resample.image_up(x, f), lambda x, k: oracle.image_up(x)),
    "image_down": (lambda x, k, f: resample.image_down(x, f), lambda x, k: oracle.image_down(x)),
    "conv": (resample.conv, oracle.correlate),
    "conv_up": (resample.conv_up, oracle.conv_up),
    "conv_down": (resample.conv_down, oracle.conv_down),
}
EACH_FORM = pytest.mark.parametrize("form", resample.FORMS)
EACH = pytest.mark.parametrize("name", OPERATIONS)


@EACH_FORM
@EACH
def test_against_the_oracle(name, form):
    ours, theirs = OPERATIONS[name]
    found = ours(jnp.asarray(X, jnp.float32), jnp.asarray(KERNEL, jnp.float32), form)
    np.testing.assert_allclose(found, theirs(X, KERNEL), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "narrow"),
    [*((name, winograd.NARROW) for name in OPERATIONS), ("conv", 1), ("conv_up", 1),
     ("conv_down", 1)],
)  # fmt: skip
def test_all_forms_have_the_same_first_and_second_derivatives(name, narrow, monkeypatch):
    monkeypatch.setattr(winograd, "NARROW", narrow)
    ours, _ = OPERATIONS[name]
    image = X if narrow > 1 else X[:, :4]  # whole tiles at half the size too
    x, k = jnp.asarray(image, jnp.float32), jnp.asarray(KERNEL, jnp.float32)

    def first(x, k, form):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(ours(x, k, form))), (0, 1))(x, k)

    def second(x, k, form):
        dx, dk = first(x, k, form)
        return jnp.sum(dx**2) + jnp.sum(jnp.sin(dk))

    *others, plain = [
        jax.jit(
            lambda x, k, f=form: (first(x, k, f), jax.grad(second, (0, 1))(x, k, f)),
            compiler_options=FAST_COMPILE,
        )(x, k)
        for form in resample.FORMS
    ]
    for other in others:
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(plain), strict=True):
            scale = float(jnp.abs(b).max()) or 1.0
            np.testing.assert_allclose(a / scale, b / scale, atol=1e-5)


@pytest.mark.parametrize("forms", [strided.PRODUCTS, strided.LIBRARY])
def test_the_three_functions_of_stride_two_are_one_trilinear_form(forms):
    small, large = RNG.normal(size=(2, 3, 4, 3)), RNG.normal(size=(2, 7, 9, 5))
    s, g, k = (jnp.asarray(a, jnp.float32) for a in (small, large, KERNEL))
    trio = forms[2]
    expected = np.sum(oracle.scatter_up(small, KERNEL) * large)
    np.testing.assert_allclose(jnp.sum(trio.grow(s, k) * g), expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(trio.shrink(g, k) * s), expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(trio.kernel_gradient(s, g) * k), expected, rtol=1e-5)
    np.testing.assert_allclose(trio.grow(s, k), oracle.scatter_up(small, KERNEL), atol=1e-5)


def wide(stride):
    """small, kernel, large of a shape for which `winograd` is taken."""
    h, w = 4, 6
    size = (2 * h + 1, 2 * w + 1) if stride == 2 else (h, w)
    shapes = (4, h, w, 64), (3, 3, 64, 80), (4, *size, 80)
    return tuple(RNG.normal(size=shape) for shape in shapes)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [1, 10**9])
def test_fewer_products_give_the_numbers_of_the_direct_sum(stride, block, monkeypatch):
    monkeypatch.setattr(winograd, "BLOCK", block)  # one sample at a time, and all
    small, kernel, large = wide(stride)
    if stride == 1:
        seen = np.pad(large, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shrunk = oracle.correlate(large, kernel.swapaxes(2, 3))
        grown = oracle.correlate(small, kernel[::-1, ::-1])
    else:
        seen = large
        grown = oracle.scatter_up(small, kernel)
        shrunk = np.zeros_like(small)
    gradient = np.zeros_like(kernel)
    h, w = small.shape[1:3]
    for a in range(3):
        for b in range(3):
            tap = seen[:, a : a + stride * h : stride, b : b + stride * w : stride][:, :h, :w]
            gradient[a, b] = np.einsum("nhwi,nhwo->io", small, tap)
            if stride == 2:
                shrunk += tap @ kernel[a, b].T
    trio = strided.PRODUCTS[stride]
    s, k, g = (jnp.asarray(x, jnp.float32) for x in (small, kernel, large))
    found = [jax.jit(f)(*of) for f, of in zip(trio, [(s, k), (g, k), (s, g)], strict=True)]
    for ours, exact in zip(found, (grown, shrunk, gradient), strict=True):
        np.testing.assert_allclose(ours, exact, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize(("stride", "dtype", "products"), [
    (1, "float32", 16), (2, "float32", 25), (1, "bfloat16", 0), (2, "bfloat16", 4),
])  # fmt: skip
def test_wide_images_are_convolved_with_fewer_products(stride, dtype, products):
    small, kernel, large = (jnp.asarray(x, dtype) for x in wide(stride))
    text = jax.jit(strided.PRODUCTS[stride].grow).lower(small, kernel).as_text()
    assert text.count("stablehlo.dot_general") == products
    assert ("stablehlo.convolution" in text) == (products == 0)
    odd = small[:, :3]
    text = jax.jit(strided.PRODUCTS[stride].grow).lower(odd, kernel).as_text()
    assert text.count("stablehlo.dot_general") == {1: 0, 2: 4}[stride]


@pytest.mark.parametrize("stride", [1, 2])
def test_wide_images_of_any_number_can_be_exported(stride):
    small, kernel, large = (np.float32(x) for x in wide(stride))
    trio = strided.PRODUCTS[stride]

    def both(small, large):
        return trio.grow(small, kernel), trio.shrink(large, kernel)

    (n,) = jax.export.symbolic_shape("n")
    inputs = [jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype) for x in (small, large)]
    exported = jax.export.export(jax.jit(both))(*inputs)
    for found, expected in zip(exported.call(small, large), both(small, large), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


CONVOLUTION = re.compile(
    r"stablehlo.convolution.* = \[.*\]x\[(.*?)\]->.*lhs_dilate = \[(\d).*"
    r"\(tensor<.*?>, tensor<(.*?)>\) -> tensor<(.*?)>"
)


@pytest.mark.parametrize("name", ["conv", "conv_up", "conv_down"])
def test_the_library_form_has_only_convolutions_that_cudnn_has(name):
    """A kernel as large as the image only where a 3x3 kernel comes out of an undilated image."""
    ours, _ = OPERATIONS[name]

    def first(x, k, form):
        return jax.grad(lambda x, k: jnp.sum(ours(x, k, form) ** 3), (0, 1))(x, k)

    def second(x, k, form):
        dx, dk = first(x, k, form)
        return jnp.sum(dx**2) + jnp.sum(dk**2)

    def others(form):
        x, k = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
        text = jax.jit(jax.grad(lambda x, k: second(x, k, form), (0, 1))).lower(x, k).as_text()
        found = CONVOLUTION.findall(text)
        assert len(found) == text.count("stablehlo.convolution") > 4
        count = 0
        for order, dilation, kernel, result in found:
            order = order.split(", ")
            kernel = [int(n) for n in kernel.split("x")[:4]]
            large = kernel[order.index("0")] > 4
            count += large and (dilation != "1" or not result.startswith("3x3x"))
        return count

    assert others("library") == 0
    assert others("lax") > 0  # JAX makes them where it differentiates by itself


@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_gradient_in_blocks_is_that_of_the_whole_batch(monkeypatch, stride):
    small = RNG.normal(size=(6, 4, 4, 3))
    large = RNG.normal(size=(6, 4 * stride + 2, 4 * stride + 2, 5))
    expected = np.zeros((3, 3, 3, 5))
    for a in range(3):
        for b in range(3):
            seen = large[:, a : a + 4 * stride : stride, b : b + 4 * stride : stride]
            expected[a, b] = np.einsum("nhwi,nhwo->io", small, seen)
    for block in (1, 16, 40, 10**6):  # blocks of 1, 1, 2 and all 6 samples
        monkeypatch.setattr(taps, "BLOCK", block)
        found = taps.kernel_gradient(
            jnp.asarray(small, jnp.float32), jnp.asarray(large, jnp.float32), stride
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_kernel_gradient_of_half_precision_is_summed_in_full():
    small, large = (jnp.ones((16, size, size, 1), jnp.bfloat16) for size in (32, 34))
    found = taps.kernel_gradient(small, large, 1)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, 16 * 32 * 32)  # ones added one by one would stop at 256


def test_resampling_keeps_a_constant_image_away_from_the_border():
    x = jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(resample.image_up(x)[0, 2:-2, 2:-2], 1, atol=1e-6)
    np.testing.assert_allclose(resample.image_down(x)[0, 1:-1, 1:-1], 1, atol=1e-6)


def test_same_size_convolution():
    found = resample.conv(jnp.asarray(X, jnp.float32), jnp.asarray(KERNEL, jnp.float32))
    np.testing.assert_allclose(found, oracle.correlate(X, KERNEL), atol=2e-5)
    found = resample.conv(jnp.asarray(X, jnp.float32), jnp.asarray(KERNEL[:1, :1], jnp.float32))
    np.testing.assert_allclose(found, oracle.correlate(X, KERNEL[:1, :1]), atol=2e-5)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="polyphase"):
        resample.chosen("polyphase")
