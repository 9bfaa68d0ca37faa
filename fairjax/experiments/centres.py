"""Centres for truncation: the mean w of each class, and the judge that tells the classes apart.

The mean w of all samples is that of the majority: truncation towards it moves the other groups
there too. The `eval` stage therefore writes, for each judge, the mean w of the samples of each
class; `launch/sample.py --centre=FILE` judges each image and pulls it to the centre of its class.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from fairjax.errors import InputError
from fairjax.experiments.stages import read_json
from fairjax.train.classifier import Classifier, probabilities
from fairjax.train.weight_files import load_tree, save_tree


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
    run, label = path.resolve().parents[4], path.stem
    folder = run / "judge" / label
    try:
        config = ConfigDict(json.loads((run / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the judge of these centres is not beside them ({error})",
            str(path),
            "Keep the file where the eval stage wrote it, in the folder of the run",
        ) from error
    network = Classifier(
        config.judge, resolution=config.data.resolution, channels=config.data.channels,
        classes=len(read_json(folder / "summary.json")["classes"]), steps=1,
    )  # fmt: skip
    variables = load_tree(folder / "network.safetensors")
    return lambda images: probabilities(network.predict(variables, images))
