"""The data stage: config -> source -> prepared cache -> roles -> `manifest.json`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fairjax.data import avatars, cache, celeba, digits, shapes3d, tfds, waterbirds
from fairjax.data import folder as folders
from fairjax.data.dataset import ROLES, Collected, Dataset, load, save_index
from fairjax.data.proportions import class_names, classes
from fairjax.errors import InputError

__all__ = ["Dataset", "load", "prepare"]

SOURCES: dict[str, Callable[[ConfigDict, Callable[[str], None]], Collected]] = {
    "avatars": avatars.collect,
    "celeba": celeba.collect,
    "digits": digits.collect,
    "folder": folders.collect,
    "shapes3d": shapes3d.collect,
    "tfds": tfds.collect,
    "waterbirds": waterbirds.collect,
}


def prepare(config: ConfigDict, folder: Path, log: Callable[[str], None]) -> Dataset:
    """Makes (or finds) the prepared images, divides them into roles and writes the manifest.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets`.
      folder: the data folder of the workdir; gets `index.npz` and, last, `manifest.json`.
      log: called with one line at a time.

    Returns:
      The dataset, as `load(folder)` opens it later.

    Raises:
      InputError: the config or the images cannot be used.
    """
    source = config.data.source.partition(":")[0]  # "tfds:<name>" carries the data set's name
    if source not in SOURCES:
        mend = f"Take one of {sorted(SOURCES)}"
        raise InputError(f"unknown source {source!r}", "data.source", mend)
    if config.data.channels not in ((1, 3, 4) if source == "folder" else (1, 3)):
        mend = "Take 1 or 3; 4 (RGBA) with data.source=folder"
        raise InputError(f"{config.data.channels} channels", "data.channels", mend)
    collected = SOURCES[source](config, log)
    collected, dropped = separate(collected)
    if dropped:
        log(f"data: {dropped} pictures occurred in two roles; each stays in the first only")
    for role in ("train_biased", "train_reference"):
        if not len(collected.roles[role]):
            raise InputError(f"no image is left for {role}", "data", "Give more different images")
    sets = attribute_sets(config, collected)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = describe(config, collected, sets, dropped)
    manifest["index_sha256"] = save_index(folder, collected)
    manifest["hash"] = cache.sha256(manifest)
    cache.write_json(folder / "manifest.json", manifest)
    for role, entry in manifest["roles"].items():
        counts = entry["groups"].get("+".join(collected.group_attributes), {})
        text = ", ".join(f"{name}: {n}" for name, n in counts.items())
        log(f"data: {role}: {entry['count']} images" + (f" ({text})" if text else ""))
    return load(folder)


def attribute_sets(config: ConfigDict, collected: Collected) -> list[tuple[str, ...]]:
    """Returns the attribute sets to count: the groups' and the judge's, each once.

    Raises:
      InputError: the config names an attribute that the data lacks. Data without any attribute is
        fine where the config names none: nothing is counted then.
    """
    if not collected.attribute_values:
        for where, named in (
            ("judge.attribute_sets", config.judge.attribute_sets),
            ("data.group_attributes", config.data.group_attributes),
        ):
            if named:
                mend = "Give a table of labels (data.folder.attributes), or leave this empty"
                raise InputError(f"{list(named)}, but the data has no attributes", where, mend)
        return []
    sets = [collected.group_attributes] if collected.group_attributes else []
    sets += [tuple(s) for s in config.judge.attribute_sets]
    for name in (name for s in sets for name in s):
        if name not in collected.attribute_values:
            mend = f"This data has {list(collected.attribute_values)}"
            raise InputError(f"unknown attribute {name!r}", "judge.attribute_sets", mend)
        if len(collected.attribute_values[name]) < 2:
            only = collected.attribute_values[name]
            mend = "A judge needs at least two values; take another attribute"
            found = f"{name!r} has no second value besides {list(only)}"
            raise InputError(found, "judge.attribute_sets", mend)
    return list(dict.fromkeys(sets))


def separate(collected: Collected) -> tuple[Collected, int]:
    """Keeps each picture (by its pixels) in one role only, the first in the order of ROLES.

    Returns:
      The collected data with disjoint roles, and how many positions left their role.
    """
    owner: dict[bytes, str] = {}
    roles, dropped = {}, 0
    for role in ROLES:
        positions = collected.roles.get(role, np.zeros(0, np.int32))
        hashes = cache.pixel_hashes(collected.entry.images[p] for p in positions)
        keep = [owner.setdefault(made, role) == role for made in hashes]
        roles[role] = positions[np.array(keep, bool)].astype(np.int32)
        dropped += keep.count(False)
    return replace(collected, roles=roles), dropped


def describe(
    config: ConfigDict, collected: Collected, sets: Sequence[tuple[str, ...]], dropped: int
) -> dict[str, Any]:
    """Returns the manifest without its hashes of files."""
    values = collected.attribute_values
    names = list(values)
    roles: dict[str, dict[str, Any]] = {}
    for role in ROLES:
        positions = collected.roles[role]
        groups = {}
        for attributes in sets:
            columns = [names.index(a) for a in attributes]
            rows = collected.attributes[positions][:, columns]
            k = classes(rows, [len(values[a]) for a in attributes])
            titles = class_names([values[a] for a in attributes])
            counts = {title: int((k == c).sum()) for c, title in enumerate(titles)}
            if (k < 0).any():
                counts["unknown"] = int((k < 0).sum())
            groups["+".join(attributes)] = counts
        pixels = hashlib.sha256()
        for position in positions:
            pixels.update(collected.entry.images[position])
        roles[role] = {
            "count": len(positions),
            "sha256": pixels.hexdigest(),
            "groups": groups,
            "index": positions.tolist(),
        }
    return {
        "source": config.data.source,
        "resolution": int(collected.entry.images.shape[1]),
        "channels": int(collected.entry.images.shape[3]),
        "licences": list(collected.licences),
        "attribute_names": names,
        "attribute_values": {name: list(v) for name, v in values.items()},
        "groups": {"attributes": list(collected.group_attributes)},
        "true_ratio": collected.true_ratio,
        "counts": {role: entry["count"] for role, entry in roles.items()},
        "bad_files": list(collected.bad_files),
        "in_both": [list(pair) for pair in collected.in_both],
        "duplicates_dropped": dropped,
        "notes": collected.notes,
        "cache": {"key": collected.entry.key, "path": collected.entry.key},
        **({"number_names": list(collected.number_names)} if collected.number_names else {}),
        "ids_sha256": hashlib.sha256("\n".join(collected.ids).encode()).hexdigest(),
        "roles": roles,
    }
