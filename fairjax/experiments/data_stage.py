"""Stage `data`: images are prepared by the lead process, and loaded by all."""

import logging
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
    return loaded(config, folder)


def loaded(config: ConfigDict, folder: Path) -> Dataset:
    """The images of a finished data stage, prepared again where the user's cache was cleaned.

    Raises:
      InputError: they are no longer those on which the run began.
    """
    try:
        return data.load(folder)
    except InputError as error:  # the cache belongs to the user, who may have cleaned it
        log.info("%s; preparing it again", error)
    if is_lead():
        dataset = data.prepare(config, folder, log.info)
    else:  # on another machine: its cache has to be filled, what the lead wrote stays
        with tempfile.TemporaryDirectory() as scratch:
            dataset = data.prepare(config, Path(scratch), log.info)
    made = read_json(folder / ("DONE" if is_lead() else "manifest.json"))
    if dataset.manifest["hash"] != (made["output"]["manifest"] if is_lead() else made["hash"]):
        raise InputError(
            "the images are no longer those on which this run began",
            str(folder),
            "Restore them, or use another --workdir",
        )
    return dataset
