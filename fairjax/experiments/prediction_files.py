"""What an arm of `robust_classification` leaves for anybody who audits it, one row an image.

`eval/predictions.csv` and `features.npz` are of the test images; `validation.csv` and
`validation_features.npz` of those from which a repair may learn.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairjax.data.prepare import Dataset

PARTS = {"judge_test": ("predictions.csv", "features.npz"),
         "train_reference": ("validation.csv", "validation_features.npz")}  # fmt: skip
TARGET, DECISION = "target", "decision"  # columns


class Rows(NamedTuple):
    """The images of a role and what a classifier makes of them.

    Attributes:
      positions: int [n], into the images of the dataset. target: int [n].
      features: float32 [n, d], what its last layer sees (of an OccamNet: its gates).
      logits: float32 [n, classes].
    """

    positions: np.ndarray
    target: np.ndarray
    features: np.ndarray
    logits: np.ndarray


def score_of(class_name: str) -> str:
    """The column that holds the probability of a class."""
    return f"probability {class_name}"


def write(
    folder: Path, role: str, dataset: Dataset, names: tuple[str, ...], rows: Rows,
    known: bool = True,
) -> None:  # fmt: skip
    """Writes both files of a role.

    Args:
      names: attributes, the target first; the others become columns of value numbers, -1 unknown.
      known: whether these others may be looked at; else all are -1.
    """
    from fairjax.train.classifier import probabilities  # with JAX, which an audit can do without

    table, features = PARTS[role]
    p = probabilities(rows.logits)
    columns = [dataset.attribute_names.index(name) for name in names[1:]]
    values = dataset.attributes[rows.positions][:, columns] if known else (
        np.full((len(rows.positions), len(columns)), -1))  # fmt: skip
    ids = [dataset.ids[position] for position in rows.positions]
    with (folder / table).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        titles = [score_of(c) for c in dataset.class_names(names[:1])]
        out.writerow(["id", TARGET, DECISION, *titles, *names[1:]])
        for i, name in enumerate(ids):
            out.writerow([name, rows.target[i], int(p[i].argmax()), *(f"{x:.6f}" for x in p[i]),
                          *values[i].tolist()])  # fmt: skip
    np.savez(folder / features, allow_pickle=False, id=np.array(ids), features=rows.features)


def decisions(folder: Path) -> np.ndarray:
    """int [n]: the class that was decided on, of the test images in their order."""
    with (folder / PARTS["judge_test"][0]).open(newline="", encoding="utf-8") as file:
        return np.array([int(row[DECISION]) for row in csv.DictReader(file)])
