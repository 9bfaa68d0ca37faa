import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from fairjax.data import decode

SHAPE = decode.Shape(16, "center", 3)


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient(height=16, width=16):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)


def test_square_rgb_of_the_right_size_is_untouched():
    made = decode.decode(encode(Image.fromarray(gradient())), SHAPE)
    np.testing.assert_array_equal(made, gradient())


def test_gray_bilevel_and_gray_output():
    gray = gradient()[..., 0]
    made = decode.decode(encode(Image.fromarray(gray)), SHAPE)
    np.testing.assert_array_equal(made, np.repeat(gray[..., None], 3, 2))
    one = decode.decode(encode(Image.fromarray(gray)), SHAPE._replace(channels=1))
    np.testing.assert_array_equal(one, gray[..., None])
    bilevel = decode.decode(encode(Image.fromarray(gray > 100)), SHAPE)
    np.testing.assert_array_equal(bilevel[..., 0], (gray > 100) * 255)


def test_palette_with_and_without_transparency():
    image = Image.fromarray(gradient()).quantize(8)
    made = decode.decode(encode(image), SHAPE)
    np.testing.assert_array_equal(made, np.asarray(image.convert("RGB")))
    clear = decode.decode(encode(image, transparency=image.getpixel((0, 0))), SHAPE)
    assert clear[0, 0].tolist() == [255, 255, 255]
    assert clear[15, 15].tolist() == made[15, 15].tolist()


def test_alpha_is_laid_on_white():
    half = np.dstack([gradient(), np.full((16, 16), 51, np.uint8)])  # opacity .2
    made = decode.decode(encode(Image.fromarray(half)), SHAPE)
    np.testing.assert_allclose(made, 0.2 * gradient() + 0.8 * 255, atol=1.01)
    gray_alpha = Image.fromarray(half[..., 0]).convert("LA")
    gray_alpha.putalpha(0)
    assert decode.decode(encode(gray_alpha), SHAPE).min() == 255


def test_rgba_output_keeps_the_transparency():
    shape = SHAPE._replace(channels=4)
    half = np.dstack([gradient(), np.full((16, 16), 51, np.uint8)])
    made = decode.decode(encode(Image.fromarray(half)), shape)
    np.testing.assert_array_equal(made, half)
    solid = decode.decode(encode(Image.fromarray(gradient())), shape)
    np.testing.assert_array_equal(solid, np.dstack([gradient(), np.full((16, 16), 255, np.uint8)]))
    small = decode.decode(encode(Image.fromarray(half)), shape._replace(resolution=8))
    assert small.shape == (8, 8, 4)
    np.testing.assert_array_equal(small[..., 3], 51)


def test_what_sees_colour_only_gets_gray_repeated_and_rgba_on_white():
    image = gradient()
    np.testing.assert_array_equal(decode.opaque(image), image)
    gray = decode.opaque(image[None, ..., :1])
    np.testing.assert_array_equal(gray, np.repeat(image[None, ..., :1], 3, -1))
    for alpha in (0, 51, 255):
        made = decode.opaque(np.dstack([image, np.full((16, 16), alpha, np.uint8)]))
        a = alpha / 255
        np.testing.assert_allclose(made, a * image + (1 - a) * 255, atol=0.51)


def test_cmyk():
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # full cyan
    made = decode.decode(encode(Image.fromarray(ink, "CMYK"), "TIFF"), SHAPE)
    np.testing.assert_array_equal(made[3, 3], [0, 255, 255])


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits(form):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    made = decode.decode(encode(Image.fromarray(deep), form), SHAPE)
    np.testing.assert_array_equal(made[..., 0], np.arange(256).reshape(16, 16))


def test_exif_orientation():
    image = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    made = decode.decode(encode(image, exif=exif), SHAPE)
    np.testing.assert_array_equal(made, np.rot90(gradient(), -1))


def test_centre_crop():
    wide = gradient(16, 24)
    made = decode.decode(encode(Image.fromarray(wide)), SHAPE)
    np.testing.assert_array_equal(made, wide[:, 4:20])


def test_celeba_crop_is_the_central_140_and_bilinear():
    image = gradient(218, 178)
    made = decode.decode(encode(Image.fromarray(image)), decode.Shape(64, "celeba140", 3))
    part = Image.fromarray(image[39:179, 19:159]).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(made, np.asarray(part))


def test_resize_is_antialiased():
    fine = np.zeros((64, 64), np.uint8)
    fine[:, ::2] = 255  # a pattern that plain subsampling turns black or white
    made = decode.decode(encode(Image.fromarray(fine)), SHAPE)
    assert abs(made[4:12, 4:12].astype(float) - 127.5).max() < 20


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        (b"", SHAPE, "empty"),
        (b"no image", SHAPE, "not an image"),
        (encode(Image.fromarray(gradient()))[:60], SHAPE, "damaged|not an image"),
        (encode(Image.fromarray(gradient(16, 20))), SHAPE._replace(crop="none"), "20x16"),
        (encode(Image.fromarray(gradient())), SHAPE._replace(crop="celeba140"), "crop of 140"),
    ],
)
def test_what_cannot_be_used_says_why(data, shape, message):
    with pytest.raises(ValueError, match=message):
        decode.decode(data, shape)


def test_damaged_files_never_raise_anything_else():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    failed = 0
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
        whole = encode(noise, form)
        for _ in range(60):
            data = bytearray(whole)
            for spot in rng.integers(0, len(data), 4):
                data[spot] = rng.integers(256)
            cut = bytes(data[: rng.integers(1, len(data))])
            picture = lambda data: decode.decode(data, SHAPE)
            made, wrong = decode.chunk(SHAPE, [cut], picture, (ValueError,))  # nor does it warn
            assert made.shape == (1, 16, 16, 3)
            failed += len(wrong)
    assert failed > 50


def test_damaged_and_locked_members_of_a_zip_are_named(tmp_path):
    image = encode(Image.fromarray(np.repeat(gradient(64, 64), 2, axis=0)), "BMP")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abcd":
            archive.writestr(name, image)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        starts = [info.header_offset for info in archive.infolist()]
    first = bytes(data).index(b"PK\x01\x02")
    heads = [first]
    for _ in range(3):
        heads.append(bytes(data).index(b"PK\x01\x02", heads[-1] + 1))
    for spot in range(starts[1] + 31, starts[1] + 60):  # what is packed in b
        data[spot] ^= 0xFF
    for at in (starts[2] + 6, heads[2] + 8):
        data[at] |= 1  # c is encrypted
    for at in (starts[3] + 8, heads[3] + 10):
        data[at] = 97  # d is packed in a way that Python does not know
    (tmp_path / "a.zip").write_bytes(data)
    places = [decode.Place(str(tmp_path / "a.zip"), name) for name in "abcd"]
    made, wrong = decode.render(SHAPE, places)
    assert made[0].any()
    assert sorted(wrong) == [1, 2, 3]
    assert "decompressing" in wrong[1]
    assert "password" in wrong[2]
    assert "not supported" in wrong[3]
