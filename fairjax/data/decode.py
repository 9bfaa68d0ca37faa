"""One image file -> uint8 `[resolution, resolution, channels]`, whatever Pillow can read."""

import functools
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fairjax.errors import InputError, first_line

CROPS = ("center", "celeba140", "none")
# What a damaged, locked or unknown zip raises, be it opened or read.
UNREADABLE = (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
# What Pillow's decoders raise on damaged files, beside ValueError.
DAMAGED = (OSError, EOFError, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError,
           RuntimeError, struct.error, zlib.error)  # fmt: skip
LARGEST = 512 << 20  # bytes of one file, packed in a zip or not; pixels are limited by Pillow
CELEBA_CROP = 140  # fairgen's crop: the central 140 x 140 of the 178 x 218 picture, then bilinear


class Place(NamedTuple):
    """Where an image lies: a file, or a member of a zip (`stamp` changes with the zip)."""

    path: str
    member: str = ""
    stamp: int = 0


class Shape(NamedTuple):
    """What to make of an image. `crop`: one of CROPS; "none" = the image must be square.

    `channels` is 1 (gray), 3 (transparent parts on white) or 4 (RGBA as it is).
    """

    resolution: int
    crop: str
    channels: int


@functools.lru_cache(maxsize=4)
def open_zip(path: str, stamp: int) -> zipfile.ZipFile:
    """One handle per process: opening the official CelebA zip takes seconds."""
    return zipfile.ZipFile(path)


def zip_at(path: Path, where: str) -> tuple[zipfile.ZipFile, int]:
    """A zip of the user's and its stamp; raises InputError where it cannot be opened."""
    stamp = path.stat().st_mtime_ns
    try:
        return open_zip(str(path), stamp), stamp
    except UNREADABLE as error:
        mend = "The zip is cut off or damaged; make or download it anew"
        raise InputError(f"cannot open {path}: {error}", where, mend) from error


def read(place: Place) -> bytes:
    """Returns the encoded bytes. Raises one of `UNREADABLE`."""
    if place.member:
        return read_member(open_zip(place.path, place.stamp), place.member)
    if Path(place.path).stat().st_size > LARGEST:
        raise ValueError(f"too large: more than {LARGEST >> 20} MiB")
    return Path(place.path).read_bytes()


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """The bytes of a member; one that unpacks to more than `LARGEST` raises ValueError.

    Nothing is ever unpacked to a file, so its name can lead nowhere.
    """
    if archive.getinfo(member).file_size > LARGEST:
        raise ValueError(f"too large: it unpacks to more than {LARGEST >> 20} MiB")
    return archive.read(member)  # zipfile itself reads no more than what is announced


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an upright RGB image: transparent parts on white, 16-bit scaled to 8-bit."""
    image = upright(image)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return image


def opaque(images: np.ndarray) -> np.ndarray:
    """uint8 images [.., h, w, 1, 3 or 4 channels] -> [.., h, w, 3]: gray repeated, RGBA on white.

    For what looks at images in colour only: feature networks, pages. Images on the same scale that
    are float are not rounded.
    """
    if images.shape[-1] == 1:
        return np.repeat(images, 3, axis=-1)
    if images.shape[-1] == 3:
        return images
    alpha = images[..., 3:].astype(np.float32) / 255
    on_white = images[..., :3] * alpha + 255 * (1 - alpha)
    return on_white if images.dtype.kind == "f" else np.rint(on_white).astype(np.uint8)


def upright(image: Image.Image) -> Image.Image:
    """Returns an upright image, RGBA where the file has transparency, else RGB; 8-bit."""
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else it would only copy
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if image.mode == "F":
            scale = 255.0 if values.max(initial=0) <= 1 else 1.0
        else:  # "I" comes from 16-bit files too
            scale = 255 / 65535 if image.mode != "I" or values.max(initial=0) > 255 else 1.0
        image = Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def prepare(image: Image.Image, shape: Shape) -> np.ndarray:
    """Crops and resizes.

    Returns:
      uint8 `[resolution, resolution, channels]`.

    Raises:
      ValueError: the image is not square (crop "none") or smaller than the crop.
    """
    image = upright(image).convert("RGBA") if shape.channels == 4 else to_rgb(image)
    width, height = image.size
    side, method = min(width, height), Image.Resampling.LANCZOS
    if shape.crop == "celeba140":
        side, method = CELEBA_CROP, Image.Resampling.BILINEAR
        if min(width, height) < side:
            raise ValueError(f"{width}x{height} pixels are fewer than the crop of {side}")
    elif shape.crop == "none" and width != height:
        raise ValueError(f'{width}x{height} pixels are not square; data.crop="center" crops')
    left, top = round((width - side) / 2), round((height - side) / 2)
    image = image.crop((left, top, left + side, top + side))
    if side != shape.resolution:
        image = image.resize((shape.resolution, shape.resolution), method)  # antialiased
    if shape.channels == 1:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image)


def decode(data: bytes, shape: Shape) -> np.ndarray:
    """Decodes an image file's bytes; Pillow may warn of what is odd in it (in `chunk` it does not).

    Returns:
      uint8 `[resolution, resolution, channels]`.

    Raises:
      ValueError: it cannot be decoded; the message says why.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return prepare(image, shape)
    except UnidentifiedImageError as error:
        raise ValueError("not an image that Pillow can read") from error
    except DAMAGED as error:
        raise ValueError(f"damaged: {first_line(error)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large: {error}") from error


def render(shape: Shape, places: Sequence[Place]) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes a chunk of files, for `pool.fill`."""
    return chunk(shape, places, lambda place: decode(read(place), shape), UNREADABLE)


def chunk(
    shape: Shape,
    items: Sequence[Any],
    picture: Callable[[Any], np.ndarray],
    errors: tuple[type[Exception], ...],
) -> tuple[np.ndarray, dict[int, str]]:
    """The pictures of `items`, as `pool.Render` returns them; `errors` of one are its message."""
    side = shape.resolution
    out = np.zeros((len(items), side, side, shape.channels), np.uint8)
    wrong: dict[int, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's notes on odd palettes and large pictures
        for i, item in enumerate(items):
            try:
                out[i] = picture(item)
            except errors as error:
                wrong[i] = first_line(error)
    return out, wrong
