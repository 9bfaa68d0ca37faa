"""What the data stage hands on: `Collected` from a source, `Dataset` to every later stage."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.data import cache
from fairjax.data.proportions import class_names, classes
from fairjax.errors import InputError

# In this order a picture that occurs twice keeps its place in the first role only.
ROLES = (
    "train_reference",
    "train_biased",
    "ratio_test",
    "judge_test",
    "judge_fit",
    "metric_reference",
)
MAX_VALUES = 127  # attribute values are stored as int8


@dataclass(frozen=True)
class Collected:
    """All that a source knows about its n images and A attributes."""

    entry: cache.Entry
    attributes: np.ndarray  # int8 [n, A], -1 = unknown
    attribute_values: dict[str, tuple[str, ...]]  # attribute name -> names of its values
    ids: tuple[str, ...]
    domain: np.ndarray  # int8 [n]: 1 reference, 0 biased, -1 neither
    roles: dict[str, np.ndarray]  # role -> int32 positions
    licences: tuple[str, ...]
    group_attributes: tuple[str, ...] = ()
    true_ratio: dict | None = None
    bad_files: tuple[str, ...] = ()
    in_both: tuple[tuple[str, str], ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    numbers: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # as in Dataset
    number_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """The prepared images, who they are, and which role each plays. See `load`."""

    manifest: dict
    images: np.ndarray  # memory map, uint8 [n, H, W, C]
    attributes: np.ndarray  # int8 [n, A], -1 = unknown
    attribute_names: tuple[str, ...]
    cardinalities: tuple[int, ...]
    domain: np.ndarray  # int8 [n]: 1 reference, 0 biased, -1 neither
    ids: tuple[str, ...]
    roles: dict[str, np.ndarray]  # role -> int32 positions into images
    numbers: np.ndarray  # float64 [n, B]: columns that are taken as numbers; NaN = unknown
    number_names: tuple[str, ...]

    @property
    def training(self) -> np.ndarray:
        """int32 positions of the training list: first the biased, then the reference images."""
        return np.concatenate([self.roles["train_biased"], self.roles["train_reference"]])

    def _columns(self, attributes: Sequence[str]) -> list[int]:
        for name in attributes:
            if name not in self.attribute_names:
                mend = f"This data has {list(self.attribute_names) or 'no attributes'}"
                raise InputError(f"unknown attribute {name!r}", "attributes", mend)
        return [self.attribute_names.index(name) for name in attributes]

    def classes(self, attributes: tuple[str, ...], positions: np.ndarray) -> np.ndarray:
        """Returns int32 `[m]`: the mixed-radix class over `attributes`, -1 where unknown."""
        columns = self._columns(attributes)
        rows = self.attributes[np.asarray(positions)][:, columns]
        return classes(rows, [self.cardinalities[c] for c in columns])

    def measured(self, columns: Sequence[str], positions: np.ndarray) -> np.ndarray:
        """Returns float64 `[m, c]`: the numbers in these columns, NaN where unknown."""
        for name in columns:
            if name not in self.number_names:
                found = f"the prepared images have no numbers of {name!r}"
                mend = "Use another --workdir, so that the data stage reads the table anew"
                raise InputError(found, "gan.condition_form=numbers", mend)
        return self.numbers[positions][:, [self.number_names.index(c) for c in columns]]

    def class_names(self, attributes: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the names of the classes of an attribute set, in the order of `classes`."""
        self._columns(attributes)
        values = self.manifest["attribute_values"]
        return class_names([values[name] for name in attributes])


def save_index(folder: Path, collected: Collected) -> str:
    """Writes `index.npz` (attributes, domain, ids; numbers if any); returns its SHA-256."""
    path = folder / "index.npz"
    ids = np.frombuffer("\n".join(collected.ids).encode(), np.uint8)
    with (folder / "index.npz.part").open("wb") as file:
        more = {"numbers": collected.numbers} if collected.number_names else {}
        np.savez_compressed(file, allow_pickle=False, attributes=collected.attributes,
                            domain=collected.domain, ids=ids, **more)  # fmt: skip
    (folder / "index.npz.part").replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(folder: Path) -> Dataset:
    """Opens a prepared dataset.

    Args:
      folder: the data folder of a workdir, with `manifest.json` and `index.npz`.

    Returns:
      The dataset; `images` is a read-only memory map of the user cache.

    Raises:
      InputError: the manifest or the cache is missing, changed or damaged. The check of the cache
        is complete up to 256 MiB; of larger ones it reads the size and 64 sampled blocks.
    """
    mend = "Run again with --stage=data"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        rest = {k: v for k, v in manifest.items() if k != "hash"}
        whole = cache.sha256(rest) == manifest["hash"]
        packed = (folder / "index.npz").read_bytes()
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"no complete data stage ({error})", str(folder), mend) from error
    if not whole:
        raise InputError("the manifest was changed", str(folder / "manifest.json"), mend)
    if hashlib.sha256(packed).hexdigest() != manifest["index_sha256"]:
        raise InputError("index.npz was changed", str(folder / "index.npz"), mend)
    key = manifest["cache"]["key"]
    wrong = cache.damage(cache.root() / key, full=False)
    if wrong is not None:
        found = f"the prepared images are gone or damaged: {wrong}"
        raise InputError(found, str(cache.root() / key), mend)
    with np.load(folder / "index.npz", allow_pickle=False) as index:
        attributes, domain = index["attributes"], index["domain"]
        ids = tuple(index["ids"].tobytes().decode().split("\n"))
        numbers = index["numbers"] if "numbers" in index else np.zeros((len(ids), 0))
    values = manifest["attribute_values"]
    names = tuple(manifest["attribute_names"])
    return Dataset(
        manifest=manifest,
        images=cache.read(key).images,
        attributes=attributes,
        attribute_names=names,
        cardinalities=tuple(len(values[name]) for name in names),
        domain=domain,
        ids=ids,
        roles={r: np.array(e["index"], np.int32) for r, e in manifest["roles"].items()},
        numbers=numbers,
        number_names=tuple(manifest.get("number_names", ())),
    )
