"""Centres for truncation: the mean w of each class, and the judge that tells the classes apart.

The mean w of all samples is that of the majority: truncation towards it moves the other groups
there too. The `eval` stage therefore writes, for each judge, the mean w of the samples of each
class; `launch/sample.py --centre=FILE` judges each image and pulls it to the centre of its class.

Where there is no judge, a table of labels that a person gave to images of `launch/sample.py` names
the latents behind each class, whose mean w is then the centre.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fairjax.config import nearest
from fairjax.data.labels import plain, read_table
from fairjax.errors import InputError
from fairjax.experiments.judge_stage import read_judge
from fairjax.train.weight_files import load_tree, save_tree

TABLES = (".csv", ".parquet", ".pq")


def group_centres(w: np.ndarray, classes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """w [n, w_dim], classes int [n] -> (mean w of each class [k, w_dim], number of samples [k]).

    A class without samples has no centre: its row is zero and its number 0.
    """
    counts = np.bincount(classes, minlength=k)
    sums = np.zeros((k, w.shape[1]))
    np.add.at(sums, classes, w.astype(np.float64))
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts.astype(np.int32)


def save_centres(folder: Path, label: str, w: np.ndarray, judged: np.ndarray) -> None:
    """Writes centres/<label>.safetensors from w [n, w_dim] and the judge's probabilities [n, k]."""
    centres, counts = group_centres(w, judged.argmax(-1), judged.shape[1])
    (folder / "centres").mkdir(exist_ok=True)
    parts = {"centres": centres, "counts": counts}
    save_tree(folder / "centres" / f"{label}.safetensors", parts)


def load_centres(path: Path, w_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """(centres [k, w_dim], counts [k]); raises InputError for a file of another generator."""
    saved = load_tree(path)
    if not {"centres", "counts"} <= saved.keys() or saved["centres"].shape[1:] != (w_dim,):
        raise InputError(
            f"no centres of a generator with {w_dim} style numbers",
            str(path),
            "Give RUN/arms/<arm>/eval/centres/<attributes>.safetensors of the same arm",
        )
    return saved["centres"], saved["counts"]


def load_judge(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The judge behind RUN/arms/<arm>/eval/centres/<attributes>.safetensors: images -> [n, k]."""
    above = path.resolve().parents
    if len(above) < 5:
        raise InputError("it does not lie in its run, whose judge is needed", str(path),
                         "Give RUN/arms/<arm>/eval/centres/<attributes>.safetensors")  # fmt: skip
    return read_judge(above[4] / "judge" / path.stem, str(path)).score


def labelled_images(path: Path, only: str | None, generator: str) -> tuple[int, np.ndarray]:
    """What a table says of the images beside it: (their seed, numbers of those of a class [m]).

    Args:
      path: CSV or Parquet in a folder that `launch/sample.py` wrote; a column `file` and one with
        the classes. Images without a row or with an empty cell are not used.
      only: the class.
      generator: its fingerprint, which must be that of the generator of the images.

    Raises:
      InputError: the table or the folder is of another kind, or has no image of that class.
    """
    where = f"--centre={path}"
    rows = read_table(path, where)
    beside = path.parent / "samples.json"
    try:
        made = json.loads(beside.read_text())
        seed, n, psi = int(made["seed"]), int(made["n"]), float(made["psi"])
        drawn = np.array(made.get("index", range(n)), int)  # of --balance: which were kept
        maker = made["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "Keep the table in the folder that launch/sample.py wrote the images to"
        raise InputError(f"no record of images ({error!r})", str(beside), mend) from error
    if maker != generator:
        raise InputError("another generator drew these images", where, "Label images of this one")
    if psi != 1:
        mend = "Label images of --psi=1"
        raise InputError(f"these images were drawn with --psi={psi:g}", where, mend)
    columns = list(next(iter(rows.values()), {}))
    if len(columns) != 1:
        mend = "Keep the column file and the one with the classes"
        raise InputError(f"{len(columns)} columns of classes: {columns}", where, mend)
    members: dict[str, list[int]] = {}
    owner: dict[int, str] = {}
    for name, row in rows.items():
        match = re.fullmatch(r"(\d{6,})\.png", Path(name).name)
        if match is None or int(match[1]) >= n:
            mend = f"Write {0:06d}.png to {n - 1:06d}.png"
            raise InputError(f"{name!r} is none of the {n} images of the folder", where, mend)
        if owner.setdefault(int(match[1]), name) != name:
            raise InputError(f"two rows for {Path(name).name!r}", where, "Remove one")
        if title := plain(row[columns[0]]):
            members.setdefault(title, []).append(int(match[1]))
    if not members:
        mend = f"Write classes in the column {columns[0]!r}"
        raise InputError("no image has a class", where, mend)
    names = sorted(members)
    if only not in members:
        given = "not given" if only is None else f"no image of a class {only!r}"
        mend = f"Choose one of {', '.join(names)}" if only is None else nearest(only, names)
        raise InputError(f"{given}, while {where}", "--class", mend)
    return seed, np.sort(drawn[members[only]])
