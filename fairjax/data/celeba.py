"""Source `celeba`: the official files, read directly.

`img_align_celeba.zip` (or the folder), `list_attr_celeba.txt`, `list_eval_partition.txt`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fairjax.data import cache, decode, labelled, storage
from fairjax.data.dataset import Collected
from fairjax.errors import InputError

WHERE = "data.celeba.dir"
LICENCE = "celeba: CelebA (Liu et al. 2015), non-commercial research only, no redistribution"
MEND = "Download the official aligned CelebA files into one folder"


def read_attributes(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Reads `list_attr_celeba.txt`: a count, the attribute names, then `file -1 1 ...` lines.

    Returns:
      File names in file order, attribute names, and int8 `[n, A]` of 0 and 1.

    Raises:
      InputError: the file is missing or has another form.
    """
    lines = _lines(path)
    if len(lines) < 3 or not lines[0].strip().isdigit():
        mend = "Use list_attr_celeba.txt as published: a count, the names, then one line an image"
        raise InputError(f"{path} does not start with a count and names", WHERE, mend)
    names = lines[1].split()
    cells = [line.split() for line in lines[2:] if line.strip()]
    for number, row in enumerate(cells, start=3):
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"-1", "1"}:
            found = f"line {number} of {path} is not a file name and {len(names)} of -1 or 1"
            raise InputError(found, WHERE, "Use the file as published")
    if len(cells) != int(lines[0]):
        found = f"{path} says {int(lines[0])} images and lists {len(cells)}"
        raise InputError(found, WHERE, "The file is cut off; download it anew")
    values = np.array([[cell == "1" for cell in row[1:]] for row in cells], np.int8)
    return [row[0] for row in cells], names, values


def read_partition(path: Path, files: list[str]) -> np.ndarray:
    """Reads `list_eval_partition.txt`; returns int8 `[n]` (0 train, 1 validation, 2 test)."""
    parts = {}
    for number, line in enumerate(_lines(path), start=1):
        row = line.split()
        if row and (len(row) != 2 or row[1] not in ("0", "1", "2")):
            found = f"line {number} of {path} is not a file name and 0, 1 or 2"
            raise InputError(found, WHERE, "Use the file as published")
        if row:
            parts[row[0]] = int(row[1])
    missing = [name for name in files if name not in parts]
    if missing:
        found = f"{path} lacks {len(missing)} images, such as {missing[0]}"
        raise InputError(found, WHERE, "Use the file as published")
    return np.array([parts[name] for name in files], np.int8)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"no file {path}", WHERE, MEND)
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def places(root: Path, files: list[str]) -> list[decode.Place]:
    """Returns where each image lies, in the zip or in the extracted folder.

    Raises:
      InputError: neither is there, or images are missing.
    """
    archive, folder = root / "img_align_celeba.zip", root / "img_align_celeba"
    if archive.is_file():
        opened, stamp = decode.zip_at(archive, WHERE)
        members = set(opened.namelist())
        prefix = "img_align_celeba/" if f"img_align_celeba/{files[0]}" in members else ""
        missing = [name for name in files if prefix + name not in members]
        out = [decode.Place(str(archive), prefix + name, stamp) for name in files]
    elif folder.is_dir():
        inner = folder / "img_align_celeba"  # some unpackers make the folder twice
        folder = inner if inner.is_dir() else folder
        there = {path.name for path in folder.iterdir()}
        missing = [name for name in files if name not in there]
        out = [decode.Place(str(folder / name)) for name in files]
    else:
        found = f"neither img_align_celeba.zip nor img_align_celeba/ in {root}"
        raise InputError(found, WHERE, MEND)
    if missing:
        found = f"{len(missing)} of {len(files)} listed images are missing, such as {missing[0]}"
        raise InputError(found, WHERE, "Extract or download the images completely")
    return out


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Reads the official CelebA files and gives roles to images.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets`.
      log: called with one line at a time.

    Raises:
      InputError: files missing or damaged, or a split that these images do not allow.
    """
    data = config.data
    if not data.celeba.dir:
        raise InputError("no folder given", WHERE, MEND)
    root = storage.fetched(data.celeba.dir, WHERE)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", WHERE, MEND)
    files, names, labels = read_attributes(root / "list_attr_celeba.txt")
    part = read_partition(root / "list_eval_partition.txt", files)
    where = places(root, files)
    about = Path(where[0].path).stat()
    facts = {"first": [about.st_size, about.st_mtime_ns], "count": len(files)}
    if not where[0].member:  # what changes in a zip changes the zip
        facts["files"] = cache.stamps(place.path for place in where)
    table = labelled.Table(
        ids=tuple(files),
        labels=labels,
        values={name: (f"not {name}", name) for name in names},
        part=part,
        items=where,
        render=decode.render,
        context=decode.Shape(data.resolution, data.crop, data.channels),
        facts=facts,
        licence=LICENCE,
    )
    return labelled.collect(config, "celeba", table, log)
