"""Stage `data`: images are prepared by the lead process, and loaded by all."""

import logging
import shutil
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from fairjax.data import prepare as data
from fairjax.data.prepare import Dataset
from fairjax.errors import InputError
from fairjax.experiments.stages import read_json, shared
from fairjax.train.devices import is_lead

log = logging.getLogger("fairjax")


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
            return dataset
        found = f"{folder}: another manifest than that of the run"
    except InputError as error:  # the cache belongs to the user, who may have cleaned it
        found = str(error)
    log.info("%s; preparing it again", found)
    # Elsewhere: what the run began with stays until the same is there.
    with tempfile.TemporaryDirectory() as scratch:
        dataset = data.prepare(config, Path(scratch), log.info)
        if dataset.manifest["hash"] != known:
            raise InputError(
                "the images are no longer those on which this run began",
                str(folder),
                "Restore them, or use another --workdir",
            )
        if is_lead():
            for name in ("index.npz", "manifest.json"):
                shutil.copy(Path(scratch) / name, folder / name)
    return dataset
