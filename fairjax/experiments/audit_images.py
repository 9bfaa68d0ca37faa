"""What an audit looks at: images of folders with their tables, and those drawn from a generator."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from fairjax.data import decode, folder, labels
from fairjax.errors import InputError
from fairjax.evaluate.measured import fair_part

log = logging.getLogger("fairjax")

FEWEST = 6  # images in a set below which there is nothing to compare
# The table that belongs to a set of images.
TABLES = {"samples": "labels", "reference": "reference_labels", "judge_images": "judge_labels"}


class ImageSet(NamedTuple):
    """Images and what a table says of them."""

    pixels: np.ndarray  # uint8 [n, H, W, C], memory-mapped
    rows: list[dict[str, Any] | None]  # one of each image
    weights: np.ndarray | None  # [n] how much each counts; None: all the same


def shape_of(
    values: flags.FlagValues, generator: Any, of_judges: list[tuple[int, int]]
) -> decode.Shape:
    """The size to which all images are brought."""
    wanted = {*of_judges}
    if len(wanted) > 1:
        raise InputError(f"judges of images of {sorted(wanted)} (pixels, channels)", "--judge",
                         "Audit with one after the other")  # fmt: skip
    if wanted:
        resolution, channels = wanted.pop()
        if values.resolution not in (None, resolution):
            raise InputError(f"the judge sees {resolution} pixels",
                             f"--resolution={values.resolution}", "Leave it out")  # fmt: skip
        return decode.Shape(resolution, "center", channels)
    if values.resolution is not None:
        return decode.Shape(values.resolution, "center", 3)
    if generator is not None:
        return decode.Shape(int(generator.net.resolution), "center", 3)
    first = folder.listing(Path(values.samples).expanduser(), "samples", "--samples")[0][0]
    try:
        with Image.open(io.BytesIO(decode.read(first.place))) as image:
            return decode.Shape(min(image.size), "center", 3)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{first.id}: {error}", "--samples", "Remove the file") from error


def drawn(generator: Any, n: int, seed: int, shape: decode.Shape) -> Iterator[np.ndarray]:
    """n images of a generator, batch by batch, brought to the size of all others."""
    from fairjax.experiments import sample

    for pixels, _ in sample.drawn(generator, n=n, seed=seed):
        if pixels.shape[1:] != (shape.resolution, shape.resolution, shape.channels):
            pictures = (Image.fromarray(image.squeeze()) for image in pixels)
            pixels = np.stack([decode.prepare(picture, shape) for picture in pictures])
        yield pixels


def images_of(
    given: str, title: str, shape: decode.Shape, table: str | None, column: str | None = None
) -> ImageSet:
    """The images of a folder or zip, with the rows of a table or of its `dataset.json`, and the
    weights in one column of these, which is no attribute."""
    where = f"--{title}={given}"
    found, rows = folder.listing(Path(given).expanduser(), title, where)
    found = [found[i] for i in fair_part(np.arange(len(found)))]
    entry, errors = folder.images_of(found, shape, log.info)
    bad = [f"{found[i].id}: {text}" for i, text in sorted(errors.items())]
    if bad or len(found) < FEWEST:
        what = f"{len(bad)} files cannot be used: {'; '.join(bad[:5])}" if bad else (
            f"only {len(found)} images")  # fmt: skip
        raise InputError(what, where, "Remove or mend them" if bad else "Give hundreds")
    if table:
        flag = f"--{TABLES[title]}={table}"
        rows = labels.read_table(Path(table).expanduser(), flag)
        matched, unused = labels.match(rows, [f.keys for f in found], flag)
        if unused:
            log.info("%s: %d of %d rows fit no image", flag, unused, len(rows))
    else:
        matched = labels.match(rows, [f.keys for f in found], where)[0] if rows else []
    weights = _weights(matched, column, f"--weights={column}") if column else None
    rest = [row and {k: v for k, v in row.items() if k != column} for row in matched]
    return ImageSet(entry.images, rest or [None] * len(found), weights)


def _weights(rows: list[dict[str, Any] | None], column: str, where: str) -> np.ndarray | None:
    """[n]: the numbers in a column; None where the table has no such column."""
    if not any(column in row for row in rows if row):
        return None
    try:
        cells = [(row or {}).get(column) for row in rows]
        found = np.array([float("nan" if cell in (None, "") else cell) for cell in cells])
    except ValueError as error:
        raise InputError(f"a weight that is no number ({error})", where, "Mend it") from error
    wrong = ~((found >= 0) & np.isfinite(found))
    if wrong.any() or np.count_nonzero(found) < FEWEST:
        raise InputError(f"{wrong.sum()} of {len(found)} images have no weight of 0 or more, "
                         f"{np.count_nonzero(found)} one above 0", where,
                         f"Give each image a weight, {FEWEST} of them one above 0")  # fmt: skip
    return found
