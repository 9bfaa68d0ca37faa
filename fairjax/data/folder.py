"""Source `folder`: the user's own images in folders or StyleGAN dataset zips."""

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from ml_collections import ConfigDict
from PIL import Image

from fairjax.config import with_arm
from fairjax.data import cache, decode, labels, pool, storage
from fairjax.data.dataset import Collected
from fairjax.data.proportions import classes
from fairjax.errors import InputError

FEWEST = 4  # images that the biased and the reference set must each have
SHOWN = 5
LOOKED_AT = 64  # files whose bytes tell one set from another with the same names and times


class Found(NamedTuple):
    """An image file: its place, its id, the names a table may use, what changes with it."""

    place: decode.Place
    id: str
    keys: tuple[str, ...]
    stamp: tuple


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Reads the biased, reference and judge images and their attributes.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets` and the
        columns that an arm is trained on as numbers.
      log: called with one line at a time.

    Raises:
      InputError: a missing or empty folder, a bad file, a table that does not fit.
    """
    data, own = config.data, config.data.folder
    found: list[Found] = []
    side: list[int] = []
    rows: labels.Rows = {}
    for name, domain in (("biased", 0), ("reference", 1), ("judge", -1)):
        places = _paths(own[name], f"data.folder.{name}")
        if not places and domain >= 0:
            raise InputError("no folder given", f"data.folder.{name}", "Give a folder of images")
        for number, path in enumerate(places):
            title = name if len(places) == 1 else f"{name}{number}"
            files, own_rows = listing(path, title, f"data.folder.{name}")
            found += files
            side += [domain] * len(files)
            rows |= {f"{title}/{key}": row for key, row in own_rows.items()}
    domains = np.array(side, np.int8)
    if data.crop not in decode.CROPS:
        raise InputError(f"unknown crop {data.crop!r}", "data.crop", f"Take one of {decode.CROPS}")
    entry, errors = images_of(found, decode.Shape(data.resolution, data.crop, data.channels), log)
    bad = tuple(f"{found[i].id}: {text}" for i, text in sorted(errors.items()))
    stop_or_report(bad, bool(data.skip_bad_files), log)
    good = np.array([i not in errors for i in range(len(found))], bool)

    notes: dict[str, Any] = {}
    if own.attributes:
        table = storage.fetched(own.attributes, "data.folder.attributes")
        rows = labels.read_table(table)
    values = np.zeros((len(found), 0), np.int8)
    names: dict[str, tuple[str, ...]] = {}
    measured, numbers = number_columns(config), np.zeros((len(found), 0))
    if rows:
        matched, unused = labels.match(rows, [f.keys for f in found])
        numbers = labels.numbers(matched, [f.id for f in found], measured, own.attributes)
        values, names = labels.encode(matched, measured)
        notes = {"rows_without_file": unused, "files_without_row": matched.count(None)}
        if own.attributes:
            notes["table_sha256"] = cache.file_sha256(Path(table))
        if unused:
            log(f"data: {unused} of {len(rows)} rows of the attribute table fit no image")
        if notes["files_without_row"]:
            log(f"data: {notes['files_without_row']} of {len(found)} images have no attributes")
    elif (domains < 0).any():
        mend = "Give data.folder.attributes, or leave data.folder.judge empty"
        raise InputError("judge images without attributes", "data.folder.judge", mend)
    elif measured:
        mend = "Give a table with these columns, or leave gan.condition empty"
        raise InputError(f"no numbers of {list(measured)}", "data.folder.attributes", mend)

    hashes = cache.pixel_hashes(entry.images)
    pairs = _in_both(domains, hashes, good)
    in_both = tuple((found[a].id, found[b].id) for a, b in pairs)
    good[[a for a, _ in pairs]] = False  # the reference set is scarce, so it keeps the picture
    if in_both:
        log(
            f"data: {len(in_both)} pictures are in the biased and in the reference set, such as "
            f"{in_both[0][0]} and {in_both[0][1]}; they count as reference only"
        )
    for name, domain in (("biased", 0), ("reference", 1)):
        n = len({h for h, d, g in zip(hashes, domains, good, strict=True) if g and d == domain})
        if n < FEWEST:
            also = f" besides {len(in_both)} that are in both sets" if in_both else ""
            mend = f"Give at least {FEWEST}; a GAN wants thousands"
            raise InputError(f"only {n} different images{also}", f"data.folder.{name}", mend)
    judged = tuple(dict.fromkeys(a for s in config.judge.attribute_sets for a in s))
    known = [list(names).index(a) for a in judged if a in names]
    strata = classes(values[:, known], [len(list(names.values())[c]) for c in known])
    return Collected(
        entry=entry,
        attributes=values,
        attribute_values=names,
        ids=tuple(f.id for f in found),
        domain=domains,
        roles=_roles(own, int(config.seed), domains, good, strata),
        licences=("folder: your own images; their licence is yours to check",),
        bad_files=bad,
        in_both=in_both,
        notes=notes,
        numbers=numbers,
        number_names=measured,
    )


def number_columns(config: ConfigDict) -> tuple[str, ...]:
    """Returns the columns of the attribute table that an arm takes as numbers."""
    arms = [with_arm(config, name).gan for name in config.arms]
    wanted = (c for gan in arms if gan.condition_form == "numbers" for c in gan.condition)
    return tuple(dict.fromkeys(wanted))


def stop_or_report(bad: Sequence[str], skip: bool, log: Callable[[str], None]) -> None:
    """Stops at files that cannot be decoded, or only reports them when they may be skipped."""
    shown = "; ".join(bad[:SHOWN]) + (f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
    if bad and not skip:
        mend = "Remove or mend them, or set data.skip_bad_files=True"
        raise InputError(f"{len(bad)} files cannot be used: {shown}", "data", mend)
    if bad:
        log(f"data: skipped {len(bad)} files: {shown}")


def _paths(given: Any, where: str) -> list[Path]:
    given = [given] if isinstance(given, str) else given
    return [storage.fetched(p, where) for p in given if p]


def extensions() -> frozenset[str]:
    """Returns the endings of all image formats that Pillow can read, such as ".png"."""
    return frozenset(e for e, f in Image.registered_extensions().items() if f in Image.OPEN)


def listing(path: Path, title: str, where: str) -> tuple[list[Found], labels.Rows]:
    """Lists the images of a folder (nested) or zip, sorted by name, and its `dataset.json` labels.

    Args:
      path: the folder or zip.
      title: what stands in front of the ids.
      where: the config key, for the error message.

    Raises:
      InputError: it does not exist, is no folder or zip, or holds no image.
    """
    endings = extensions()
    text, files = None, []
    if path.is_dir():
        seen: set[str] = set()  # a link to a folder above would lead round and round
        for folder, folders, names in os.walk(path, followlinks=True):
            if os.path.realpath(folder) in seen:
                folders.clear()
                continue
            seen.add(os.path.realpath(folder))
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in names:
                file = Path(folder, name)
                wanted = not name.startswith(".") and file.suffix.lower() in endings
                if wanted and (about := _stamp(file)):
                    key = file.relative_to(path).as_posix()
                    files.append((key, decode.Place(str(file)), about))
        if (path / "dataset.json").is_file():
            text = (path / "dataset.json").read_bytes()
    elif path.is_file() and zipfile.is_zipfile(path):
        archive, stamp = decode.zip_at(path, where)
        for member in archive.infolist():
            name = Path(member.filename).name
            if not name.startswith(".") and Path(name).suffix.lower() in endings:
                place = decode.Place(str(path), member.filename, stamp)
                files.append((member.filename, place, (member.file_size, member.CRC)))
        if "dataset.json" in archive.namelist():
            try:
                text = decode.read_member(archive, "dataset.json")
            except decode.UNREADABLE as error:
                mend = "Give the zip as StyleGAN's dataset_tool writes it"
                raise InputError(f"dataset.json: {error}", f"{where} ({path})", mend) from error
    elif path.exists():
        raise InputError(f"{path} is neither a folder nor a zip", where, "Give a folder or a zip")
    else:
        raise InputError(f"{path} does not exist", where, "Give a folder of images, or a zip")
    if not files:
        empty = path.is_dir() and not any(path.iterdir())
        found = f"{path} is empty" if empty else f"{path} holds no image file"
        raise InputError(found, where, "Give a folder of PNG, JPEG, ... files")
    found_files = []
    for key, place, stamp_of in sorted(files):
        keys = dict.fromkeys([f"{title}/{key}", f"{path.name}/{key}", key, Path(key).name])
        found_files.append(Found(place, f"{title}/{key}", tuple(keys), (key, *stamp_of)))
    rows = labels.read_dataset_json(text, f"{path}/dataset.json") if text is not None else {}
    return found_files, rows


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes with a file; () of what is none, such as a pipe, which would be waited for."""
    try:
        about = file.stat()
    except OSError:  # a link to nowhere, ...: who reads it is told
        return (-1,)
    return (about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else ()


def _content(places: Sequence[decode.Place]) -> str:
    """A hash of the bytes of a few files outside of zips, whose members have a CRC each.

    Archives give all files the same time, and all BMPs of a size are equally large. Unlike another
    time of the file's it is the same on all machines.
    """
    loose = [place.path for place in places if not place.member]
    whole = hashlib.sha256()
    for path in loose[:: -(-len(loose) // LOOKED_AT) or 1]:
        with contextlib.suppress(OSError):  # who reads it is told
            whole.update(cache.file_sha256(Path(path)).encode())
    return whole.hexdigest()


def images_of(
    found: Sequence[Found], shape: decode.Shape, log: Callable[[str], None]
) -> tuple[cache.Entry, dict[int, str]]:
    """The prepared images of files, and {position: what is wrong with the file}."""
    facts = {
        "files": [f.stamp for f in found],
        "content": _content([f.place for f in found]),
        "crop": shape.crop,
        "pillow": PIL.__version__,
    }

    def fill(images: np.ndarray) -> dict[str, Any]:
        log(f"data: reading {len(found)} image files")
        places = [f.place for f in found]
        spots = range(len(found))
        wrong = pool.fill(images, spots, places, decode.render, shape, log, "reading images")
        return {"errors": {str(i): text for i, text in wrong.items()}}

    size = (len(found), shape.resolution, shape.resolution, shape.channels)
    entry = cache.get("folder", facts, size, fill, log)
    errors = {int(i): text for i, text in entry.notes["errors"].items()}
    if any(text.startswith("[Errno") for text in errors.values()):
        cache.forget(entry.key)  # the disk's fault: no sign of it is left in the file
    return entry, errors


def _in_both(
    domains: np.ndarray, hashes: Sequence[bytes], good: np.ndarray
) -> list[tuple[int, int]]:
    """Returns (biased, reference) positions of equal pictures, for every such biased image."""
    reference = {hashes[i]: i for i in np.flatnonzero(good & (domains == 1))[::-1].tolist()}
    biased = np.flatnonzero(good & (domains == 0)).tolist()
    return [(i, reference[hashes[i]]) for i in biased if hashes[i] in reference]


def _roles(
    own: ConfigDict, seed: int, domains: np.ndarray, good: np.ndarray, strata: np.ndarray
) -> dict[str, np.ndarray]:
    if not 0 <= own.judge_test_share <= 1:  # 1: of classifiers, which have no judge
        raise InputError(f"{own.judge_test_share} is not a share", "data.folder.judge_test_share",
                         "Take 0 <= x <= 1")  # fmt: skip
    for key in ("holdout", "metric_share"):
        if not 0 <= own[key] < 1:
            raise InputError(f"{own[key]} is not a share", f"data.folder.{key}", "Take 0 <= x < 1")
    if own.holdout + own.metric_share >= 1:
        found = f"holdout + metric_share = {own.holdout + own.metric_share:g}"
        raise InputError(found, "data.folder", "Leave reference images to train on")
    rng = np.random.default_rng([seed, 0])
    biased = rng.permutation(np.flatnonzero(good & (domains == 0)))
    reference = rng.permutation(np.flatnonzero(good & (domains == 1)))
    b = round(own.holdout * len(biased))
    r = round(own.holdout * len(reference))
    m = r + round(own.metric_share * len(reference))
    fit, test = [np.zeros(0, int)], [np.zeros(0, int)]
    for stratum in np.unique(strata[strata >= 0]):
        members = rng.permutation(np.flatnonzero(good & (domains == -1) & (strata == stratum)))
        cut = round(own.judge_test_share * len(members))
        test.append(members[:cut])
        fit.append(members[cut:])
    parts = {
        "train_biased": biased[b:],
        "train_reference": reference[m:],
        "ratio_test": np.concatenate([biased[:b], reference[:r]]),
        "metric_reference": reference[r:m],
        "judge_fit": np.concatenate(fit),
        "judge_test": np.concatenate(test),
    }
    return {role: np.sort(where).astype(np.int32) for role, where in parts.items()}
