"""The prepared cache: decoded uint8 images in one memory-mapped file, drawn or decoded only once.

An entry is a folder `<root>/<key>/` with `images.u8` (raw uint8 `[n, H, W, C]`) and `entry.json`
(shape, a hash for each block of 1 MiB, the facts that decided the pixels, a hash of all this). It
is filled under another name and renamed when complete, so an interrupted drawing never looks
finished.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

BLOCK = 1 << 20
FULL_CHECK_BYTES = 256 << 20  # entries up to this size are read completely by every check
SAMPLED_BLOCKS = 64


class Entry(NamedTuple):
    """A complete cache entry: its folder name, images uint8 `[n, H, W, C]`, and JSON notes."""

    key: str
    images: np.ndarray
    notes: dict[str, Any]


def root() -> Path:
    """Returns the cache folder: `$FAIRJAX_CACHE`, else the platform's user cache folder."""
    moved = os.environ.get("FAIRJAX_CACHE")
    return Path(moved) if moved else platformdirs.user_cache_path("fairjax")


def canonical(value: Any) -> str:
    """Returns JSON text that is equal for equal values (sorted keys, no spaces)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(value: Any) -> str:
    """Returns the SHA-256 (hex) of a JSON-able value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON so that a reader sees either the old file or the complete new one.

    Raises:
      TypeError, ValueError: the value is not JSON (NaN is not); the old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, path)


def _plain(value: Any) -> Any:
    """A NumPy value, or anything that can be listed, as JSON."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _block_hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def damage(folder: Path, full: bool) -> str | None:
    """Says in words what is wrong with an entry, or None.

    Args:
      folder: the entry.
      full: read every block; otherwise only entries up to 256 MiB are read completely, and 64
        blocks spread over a larger one.
    """
    try:
        entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        known = entry.pop("hash", None)  # entries of older versions have none
        if known is not None and known != sha256(entry):
            return "entry.json has changed"
        wanted, blocks, _ = int(np.prod(entry["shape"])), entry["blocks"], entry["notes"]
        size = (folder / "images.u8").stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not complete ({error})"
    if size != wanted:
        return f"images.u8 has {size} bytes instead of {wanted}"
    numbers = range(len(blocks))
    if not full and size > FULL_CHECK_BYTES:
        numbers = np.linspace(0, len(blocks) - 1, SAMPLED_BLOCKS).astype(int).tolist()
    with (folder / "images.u8").open("rb") as file:
        for number in numbers:
            file.seek(number * BLOCK)
            if _block_hash(file.read(BLOCK)) != blocks[number]:
                return f"images.u8 has changed in block {number}"
    return None


def read(key: str) -> Entry:
    """Opens an entry without checking it; images are a read-only memory map."""
    folder = root() / key
    facts = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    images = np.memmap(folder / "images.u8", np.uint8, "r", shape=tuple(facts["shape"]))
    return Entry(key, images, facts["notes"])


def get(
    name: str,
    facts: dict[str, Any],
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], dict[str, Any]],
    log: Callable[[str], None],
) -> Entry:
    """Returns the entry for `facts`; makes it when it is missing or damaged.

    Args:
      name: a word in front of the key, for people who look into the folder.
      facts: JSON-able; everything that decides the pixels.
      shape: `[n, H, W, C]`, n >= 1.
      fill: writes all images into the array that it is given; returns JSON-able notes to keep.
      log: called with one line at a time.

    Raises:
      OSError: the disk is full; nothing is left of the entry.
    """
    key = f"{name}-{sha256([facts, list(shape)])[:20]}"
    folder = root() / key
    root().mkdir(parents=True, exist_ok=True)
    with only_one(key):
        if folder.exists():
            wrong = damage(folder, full=True)
            if wrong is None:
                log(f"data: using the prepared images in {folder}")
                return read(key)
            log(f"data: the prepared images in {folder} are damaged ({wrong}); making them anew")
            shutil.rmtree(folder)
        for left in root().glob(f"{key}.partial.*"):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{key}.partial.", dir=root()))
        try:
            images = _blank(draft / "images.u8", shape)
            notes = fill(images)
            images.flush()
            del images
            with (draft / "images.u8").open("rb") as file:
                blocks = [_block_hash(data) for data in iter(lambda: file.read(BLOCK), b"")]
                os.fsync(file.fileno())
            entry = {"shape": list(shape), "facts": facts, "notes": notes, "blocks": blocks}
            write_json(draft / "entry.json", entry | {"hash": sha256(entry)})
            os.rename(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return read(key)


def _blank(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new file of zeros, mapped for writing.

    Its space is taken now: a full disk is an OSError here, while a write into a map for which the
    disk has no room would kill the process.
    """
    size = int(np.prod(shape))
    with path.open("wb") as file:
        file.truncate(size)
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system without it
                raise OSError(error.errno, error.strerror, str(path)) from error
    return np.memmap(path, np.uint8, "r+", shape=shape)


def forget(key: str) -> None:
    """Removes an entry, so that it is made anew; who has its images open keeps them."""
    with only_one(key):
        shutil.rmtree(root() / key, ignore_errors=True)


def stamps(paths: Iterable[str | os.PathLike]) -> str:
    """A hash of the sizes and times of files: another one when any of them was replaced."""
    found = (os.stat(path) for path in paths)
    return sha256([[about.st_size, about.st_mtime_ns] for about in found])


@contextlib.contextmanager
def only_one(key: str) -> Iterator[None]:
    """Lets one process of this machine at a time look at an entry or make it; others wait."""
    path = root() / f"{key}.lock"
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pixel_hashes(images: Iterable[np.ndarray]) -> list[bytes]:
    """Returns one 16-byte hash per image `[H, W, C]`."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
