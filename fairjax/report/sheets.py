"""Sheets of images as PNG data URIs in their own resolution; the page enlarges them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fairjax.data.decode import opaque, to_rgb
from fairjax.report.drawing import data_uri

_PAGE = 960  # CSS pixels of the page's column
_GAP = 1  # pixels between tiles, in the images' own resolution


class Sheet(NamedTuple):
    """One PNG of tiles: data URI, width in CSS pixels, whether its pixels are enlarged whole."""

    uri: str
    width: int
    pixelated: bool
    alt: str


class Section(NamedTuple):
    """The samples of a sheet that the judge decided for one class."""

    name: str
    decided: int
    shown: int
    sheet: Sheet | None


def scale(resolution: int, wanted: int = 96) -> float:
    """CSS pixels per image pixel: whole numbers for small images, so that pixels stay square."""
    return max(1, round(wanted / resolution)) if resolution <= 128 else 160 / resolution


def columns(resolution: int) -> int:
    """How many tiles fit into one row of the page."""
    return int(_PAGE // ((resolution + _GAP) * scale(resolution)))


def grid(images: np.ndarray, alt: str, across: int | None = None) -> Sheet | None:
    """Tiles the images in reading order on a clear background; None for no images.

    Args:
      images: uint8 [n, H, W, C], C 1 or 3.
      alt: the sheet in words.
      across: tiles in a row; None fills the page's width.
    """
    if not len(images):
        return None
    n, height, width, _ = images.shape
    across = min(n, across or columns(width))
    down = -(-n // across)
    sheet = np.zeros((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, 4), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, across)
        top, left = row * (height + _GAP), column * (width + _GAP)
        sheet[top : top + height, left : left + width, :3] = opaque(image)
        sheet[top : top + height, left : left + width, 3] = 255
    factor = scale(width)
    return Sheet(_png(Image.fromarray(sheet)), round(sheet.shape[1] * factor), factor > 1, alt)


def sorted_by_judge(
    images: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], title: str
) -> list[Section]:
    """The first samples, sorted by the judge's probability, one section per decided class.

    For two classes the sections follow each other from the surest of class 0 to the surest of
    class 1, so the border between them is the 50 % line. For more, each section starts with the
    surest.

    Args:
      images: uint8 [m, H, W, C] in the order of drawing (the first ones are a random choice).
      probabilities: [m, k].
      classes: k names.
      title: what the samples are, for the description of the picture.
    """
    shown = min(len(images), max(6 * columns(images.shape[2]), 24))
    images, probabilities = images[:shown], probabilities[:shown]
    decided = probabilities.argmax(axis=1)
    sections = []
    for index, name in enumerate(classes):
        own = np.nonzero(decided == index)[0]
        own = own[np.argsort(-probabilities[own, index], kind="stable")]
        if len(classes) == 2 and index == 1:
            own = own[::-1]
        alt = f"{title}: {len(own)} of {shown} samples judged {name}"
        sections.append(Section(name, len(own), shown, grid(images[own], alt)))
    return sections


def pairs(samples: np.ndarray, neighbours: np.ndarray, distance: np.ndarray) -> Sheet | None:
    """Samples above their nearest training images, the closest pairs first."""
    order = np.argsort(distance, kind="stable")[: columns(samples.shape[2])]
    both = np.concatenate([samples[order], neighbours[order]])
    alt = f"{len(order)} samples (top) and their nearest training images (bottom)"
    return grid(both, alt, across=max(1, len(order)))


def file(path: Path) -> Sheet:
    """A PNG that is there already, e.g. a grid that the training wrote."""
    with Image.open(path) as image:
        picture = to_rgb(image)
    factor = max(1, min(3, 448 // picture.width))
    return Sheet(_png(picture), min(picture.width * factor, _PAGE), factor > 1, path.stem)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue())
