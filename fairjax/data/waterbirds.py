"""Source `waterbirds`: the official folder with its `metadata.csv` (Sagawa et al., 2020).

Birds cut out of CUB and pasted on land or water: the target is the bird, the protected attribute
the place. Read with `data.split=official`, as the three parts are the point of this data set.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fairjax.data import cache, decode, labelled, storage
from fairjax.data.dataset import Collected
from fairjax.data.labels import read_lines
from fairjax.errors import InputError

WHERE = "data.waterbirds.dir"
MEND = "Give the unpacked folder waterbird_complete95_forest2water2 with its metadata.csv"
LICENCE = "waterbirds: made of CUB-200-2011 and Places images, non-commercial research only"
# Column -> what a cell may be.
COLUMNS = {"y": ("0", "1"), "place": ("0", "1"), "split": ("0", "1", "2")}


def read_metadata(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Reads `metadata.csv`; returns file names, labels int8 [n, 2] (bird, place), parts int8 [n].

    Raises:
      InputError: the file is missing or has another form.
    """
    if not path.is_file():
        raise InputError(f"no file {path}", WHERE, MEND)
    head, body = read_lines(path, WHERE)
    rows = [dict(zip(head, line, strict=True)) for line in body]
    missing = [name for name in ("img_filename", *COLUMNS) if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}", WHERE, MEND)
    for number, row in enumerate(rows, start=2):
        for name, cells in COLUMNS.items():
            if row[name] not in cells:
                found = f"line {number} of {path} has {name} = {row[name]!r}"
                raise InputError(found, WHERE, f"It must be one of {', '.join(cells)}")
    table = np.array([[int(row[name]) for name in COLUMNS] for row in rows], np.int8)
    return [row["img_filename"] for row in rows], table[:, :2], table[:, 2]


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Reads the official folder and gives roles to images.

    Args:
      config: as `source_config` gives it; uses `data` and `seed`.
      log: called with one line at a time.

    Raises:
      InputError: files missing or damaged, or a split that these images do not allow.
    """
    data = config.data
    root = storage.fetched(data.waterbirds.dir, WHERE)
    files, labels, part = read_metadata(root / "metadata.csv")
    absent = [name for name in files if not (root / name).is_file()]
    if absent:
        found = f"{len(absent)} of {len(files)} listed images are missing, such as {absent[0]}"
        raise InputError(found, WHERE, "Unpack the archive completely")
    about = (root / "metadata.csv").stat()
    table = labelled.Table(
        ids=tuple(files),
        labels=labels,
        values={"waterbird": ("landbird", "waterbird"), "water": ("on land", "on water")},
        part=part,
        items=[decode.Place(str(root / name)) for name in files],
        render=decode.render,
        context=decode.Shape(data.resolution, data.crop, data.channels),
        facts={
            "metadata": [about.st_size, about.st_mtime_ns],
            "files": cache.stamps(root / name for name in files),
        },
        licence=LICENCE,
    )
    return labelled.collect(config, "waterbirds", table, log)
