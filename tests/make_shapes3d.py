"""Writes a file in the official format of 3D Shapes, drawn in two dimensions.

`python tests/make_shapes3d.py FILE --n 1300 [--floors 0,6]`: `images` uint8 [n, 64, 64, 3] and
`labels` float64 [n, 6], different combinations of the factors in the official order. A wall with a
corner that moves with the orientation, a floor, and a cube, cylinder, sphere or capsule.
"""

import argparse
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COUNTS = (10, 10, 10, 8, 4, 15)  # floor, wall and object hue, scale, shape, orientation
NUMBERS = (*[np.arange(10) / 10] * 3, np.linspace(0.75, 1.25, 8), np.arange(4.0),
           np.linspace(-30, 30, 15))  # fmt: skip
SKY = (155, 226, 251)
OVER = 4  # drawn larger, then reduced: a step of the scale is less than a pixel


def colour(hue: float, value: float = 1.0) -> tuple[int, ...]:
    """RGB of 0 to 255."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 1.0, value))


def draw(numbers: Sequence[float]) -> np.ndarray:
    """uint8 `[64, 64, 3]` of the six factors, as they stand in the file."""
    floor, wall, thing, scale, shape, orientation = numbers
    side = 64 * OVER
    image = Image.new("RGB", (side, side), SKY)
    pen = ImageDraw.Draw(image)
    top, bottom = round(0.25 * side), round(0.62 * side)
    corner = round(side * (0.5 + orientation / 75))
    pen.rectangle((0, top, corner, bottom), fill=colour(wall))
    pen.rectangle((corner, top, side, bottom), fill=colour(wall, 0.6))
    pen.rectangle((0, bottom, side, side), fill=colour(floor, 0.9))
    half, foot = 0.16 * side * scale, 0.85 * side
    wide, high = half * (0.7 if shape == 3 else 1.0), half * (3.2 if shape == 3 else 2.0)
    box = (side / 2 - wide, foot - high, side / 2 + wide, foot)
    if shape == 0:
        pen.rectangle(box, fill=colour(thing, 0.85))
    elif shape == 2:
        pen.ellipse(box, fill=colour(thing, 0.85))
    else:
        pen.rounded_rectangle(box, wide if shape == 3 else wide / 3, fill=colour(thing, 0.85))
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))


def make(path: Path, n: int, seed: int = 0, floors: Sequence[int] = tuple(range(10)),
         **layout: object) -> np.ndarray:  # fmt: skip
    """Writes n pictures, with these floor hues in equal shares; returns their labels.

    `layout`: how `images` is stored, for h5py's create_dataset. As in the official file, one chunk
    holds a small square of many images.
    """
    import h5py

    rng = np.random.default_rng(seed)
    each = int(np.prod(COUNTS[1:]))
    rows = [
        floor * each + rng.choice(each, len(part), replace=False)
        for floor, part in zip(floors, np.array_split(np.arange(n), len(floors)), strict=True)
    ]
    digits = np.unravel_index(np.sort(np.concatenate(rows)), COUNTS)
    labels = np.stack([v[d] for v, d in zip(NUMBERS, digits, strict=True)], axis=1)
    layout = {"chunks": (min(n, 500), 16, 16, 1), "compression": "gzip"} | layout
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.stack([draw(row) for row in labels]), **layout)
        file.create_dataset("labels", data=labels)
    return labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=1300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floors", default="0,1,2,3,4,5,6,7,8,9")
    given = parser.parse_args()
    make(given.file, given.n, given.seed, [int(floor) for floor in given.floors.split(",")])
