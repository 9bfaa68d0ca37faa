"""Stage `data`: images are prepared by the lead process, and loaded by all."""

import contextlib
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fairjax.data import cache
from fairjax.data import prepare as data
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.experiments.stages import read_json, shared
from fairjax.train.devices import is_lead

log = logging.getLogger("fairjax")

# Of the manifest: where the images were put, which depends on the times of the files, its own hash,
# and what was counted beside the data.
BESIDE = ("cache", "hash", "notes")


def prepared(config: ConfigDict, folder: Path) -> Dataset:
    """What the body of the stage begins with: fills its folder, then loads it in every process."""
    if is_lead():
        data.prepare(config, folder, log.info)
    shared()
    return _known(config, folder, read_json(folder / "manifest.json")["hash"])


def loaded(config: ConfigDict, folder: Path) -> Dataset:
    """The images of a finished data stage, prepared again where the user's cache was cleaned.

    Raises:
      InputError: they are no longer those on which the run began.
    """
    return _known(config, folder, read_json(folder / "DONE")["output"]["manifest"])


def _known(config: ConfigDict, folder: Path, known: str) -> Dataset:
    """The images of the manifest with the hash `known`."""
    try:
        dataset = data.load(folder)
        if dataset.manifest["hash"] == known:
            _tell_of_labels(config, dataset)
            return dataset
        found = f"{folder}: another manifest than that of the run"
    except InputError as error:  # the cache belongs to the user, who may have cleaned it
        found = str(error)
    log.info("%s; preparing it again", found)
    # Elsewhere: what the run began with stays until the same is there.
    with tempfile.TemporaryDirectory() as scratch:
        dataset = data.prepare(config, Path(scratch), log.info)
        copied = ["index.npz", "manifest.json"]
        if dataset.manifest["hash"] != known:
            dataset = replace(dataset, manifest=_same(folder, known, dataset.manifest))
            copied.remove("manifest.json")
        if is_lead():
            for name in copied:
                shutil.copy(Path(scratch) / name, folder / name)
    return dataset


def _same(folder: Path, known: str, found: dict[str, Any]) -> dict[str, Any]:
    """The manifest with which the run began, where the images found are the same (in files of
    other times, such as a copy on another machine).

    Raises:
      InputError: they are others; says what differs, where it is known.
    """
    which = ""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # it may be damaged
        began = read_json(folder / "manifest.json")
        if began["hash"] == known:
            differs = [k for k in found if k not in BESIDE and found[k] != began.get(k)]
            if not differs:
                return began
            which = f" (of manifest.json differ: {', '.join(differs)})"
    raise InputError(
        f"the images or their labels are no longer those on which this run began{which}",
        str(folder),
        "Restore them, or use another --workdir",
    )


def _tell_of_labels(config: ConfigDict, dataset: Dataset) -> None:
    """Warns where the user's table of labels was changed after it was read."""
    known, table = dataset.manifest["notes"].get("table_sha256"), config.data.folder.attributes
    if known and is_lead() and Path(table).is_file() and cache.file_sha256(Path(table)) != known:
        log.warning(
            "%s has changed; this run keeps the labels that its data stage read. To read it anew, "
            "use another --workdir", table,
        )  # fmt: skip
