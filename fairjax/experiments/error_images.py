"""The images of a table's rows, for sheets of what was decided wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairjax.data import decode
from fairjax.data.decode import Place, Shape
from fairjax.data.predictions import Predictions
from fairjax.errors import InputError

COLUMN = "file"
SIDE = 96  # pixels of a tile


def of_folder(given: str, table: Predictions, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Row -> uint8 [SIDE, SIDE, 3], the image in the folder that the column `file` names.

    Raises:
      InputError: no such column or folder, or an image that is missing or damaged.
    """
    folder, where = Path(given).expanduser(), f"--images={given}"
    if COLUMN not in table.columns:
        raise InputError(f"the table has no column {COLUMN!r}", where, "Name the images in it")
    if not folder.is_dir():
        raise InputError("no such folder", where, "Give the folder that the names start from")
    found = {}
    for row in rows:
        name = table.columns[COLUMN][row]
        try:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError("it leads out of the folder")
            found[row] = decode.decode(decode.read(Place(str(folder / name))),
                                       Shape(SIDE, "center", 3))  # fmt: skip
        except (OSError, ValueError) as error:
            raise InputError(f"{name!r} of row {table.lines[row]} cannot be read ({error})", where,
                             "Mend the name or the file") from error  # fmt: skip
    return found
