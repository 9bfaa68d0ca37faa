"""What an audit looks at: images of folders with their tables, and those drawn from a generator."""

import contextlib
import io
import logging
from collections import Counter
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
LEAST_PIXELS = 8  # to which images may be brought
LOOKED_AT = 100  # samples whose size is compared with the first one's
CANNOT_OPEN = (*decode.UNREADABLE, *decode.DAMAGED, Image.DecompressionBombError)
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
    return decode.Shape(_pixels_of(values.samples), "center", 3)


def _pixels_of(samples: str) -> int:
    """The smaller side of the first sample; others are looked at only to warn where most differ."""
    where = f"--samples={samples}"
    found = folder.listing(Path(samples).expanduser(), "samples", where)[0]
    try:
        pixels = _smaller_side(found[0].place)
    except CANNOT_OPEN as error:
        raise InputError(f"{found[0].id}: {error}", where, "Remove the file") from error
    if pixels < LEAST_PIXELS:
        raise InputError(f"{found[0].id}, the first image, has a side of {pixels} pixels", where,
                         "Remove the file, or say to how many pixels images are brought: "
                         "--resolution")  # fmt: skip
    log.info("all images are brought to %d pixels, the size of %s", pixels, found[0].id)
    sizes: Counter[int] = Counter()
    for one in found[:: -(-len(found) // LOOKED_AT)]:
        with contextlib.suppress(*CANNOT_OPEN):  # told where all files are read
            sizes[_smaller_side(one.place)] += 1
    usual, n = sizes.most_common(1)[0]
    if usual != pixels and n > sizes[pixels]:
        log.warning("most samples have %d pixels: --resolution=%d would be their size", usual,
                    usual)  # fmt: skip
    return pixels


def _smaller_side(place: decode.Place) -> int:
    with Image.open(io.BytesIO(decode.read(place))) as image:
        return min(image.size)


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
    share = found / found.max()  # whose squares are no infinities
    counting = share.sum() ** 2 / np.square(share).sum()  # Kish's effective number
    if counting < FEWEST:
        raise InputError(f"a few of {len(found)} images weigh so much that they count like "
                         f"{counting:.2g}", where, f"Give weights that count like {FEWEST} images "
                         "or more: (sum of weights)^2 / (sum of squares)")  # fmt: skip
    return found
