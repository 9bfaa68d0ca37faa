"""Damaged files, of a run and of its input: what the next run does with one; see faults.py.

As a config: the stage data of a run whose input is in the official CelebA format.
"""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import make_celeba
import pipeline
from children import command, whole


def get_config():
    """That of tests/pipeline.py with the files of tests/make_celeba.py."""
    config = pipeline.get_config()
    config.data.update(source="celeba", crop="celeba140", group_attributes=("Male",), n_biased=160)
    config.judge.attribute_sets = (("Male",),)
    return config


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else b"x"


def flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"x"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


HARMS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "cut": cut,
    "flipped": flip,
    "emptied": lambda data, rng: b"",
    "lengthened": lambda data, rng: data + b"\0more",
    "deleted": lambda data, rng: None,
}
# What nothing is computed from: logs, views of other files, and what says who holds the folder.
VIEWS = re.compile(r"^(log\.txt|command\.txt|versions\.json|lock|report/.*)$|events\.out")


def harmed(file: Path, rng: random.Random) -> str:
    """Harms a file; returns the name of the harm."""
    name = rng.choice(sorted(HARMS))
    data = HARMS[name](file.read_bytes(), rng)
    file.unlink() if data is None else file.write_bytes(data)
    return name


def corruption(rng: random.Random, straight: Path, cache: Path, base: Path, config: str,
               number: int) -> dict:  # fmt: skip
    """Harms one file of a copy of the run and of the cache, and looks at what the next run does.

    Kinds of files are taken in turn by `number`.
    """
    workdir, own, said = base / "run", base / "cache", base / "said"
    shutil.copytree(straight, workdir)
    shutil.copytree(cache, own, symlinks=True)
    stages = sorted((f.parent for f in workdir.rglob("DONE")),
                    key=lambda f: (f / "DONE").stat().st_mtime_ns)  # fmt: skip
    if rng.random() < 0.7:  # as if it had been stopped in this stage, or just before its end
        first = rng.randrange(len(stages))
        (stages[first] / "DONE").unlink()
        for later in stages[first + 1 :]:
            shutil.rmtree(later)
    kinds: dict[str, list[Path]] = {}
    for root in (workdir, own):
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            if file.is_file() and "xla" not in inside.parts and not VIEWS.search(str(inside)):
                kind = "checkpoint" if "checkpoints" in inside.parts else file.suffix or file.name
                kinds.setdefault(kind, []).append(file)
    file = rng.choice(kinds[sorted(kinds)[number % len(kinds)]])
    found = {"file": str(file.relative_to(base)), "harm": harmed(file, rng)}
    argv = command(workdir, config)
    code = whole(argv, own, said)
    text = said.read_text()
    if code == 2:
        line = text.strip().splitlines()[-1]
        found["refused"] = line.replace(str(base), "")
        folder = re.search(r"Delete the (?:folder|file) (\S+) ", line)
        if folder is None or not folder.group(1).startswith(str(base)):
            return found | {"wrong": f"no way out: {line}"}
        shutil.rmtree(folder.group(1))
        code = whole(argv, own, said)
        text += said.read_text()
    if code or "Traceback" in text:
        return found | {"wrong": f"exit {code}: {text[-3000:]}"}
    # A picture or lines of the record of an unfinished stage are lost, and this is said.
    removed = re.findall(r"run/(\S+\.(?:png|jsonl)) is damaged", text)
    lost = [name for name in pipeline.differences(straight, workdir) if name not in removed]
    return found | {"removed": removed, "wrong": lost}


def collected(workdir: Path, cache: Path) -> dict[str, object]:
    """What a data stage has made: roles, counts, pixels; not the name of the cache, which the time
    and size of the input decide, and the hash of all."""
    manifest = json.loads((workdir / "data/manifest.json").read_text())
    (pixels,) = cache.glob("*/images.u8")
    kept = {k: v for k, v in manifest.items() if "cache" not in k and k != "hash"}
    return kept | {"pixels": pixels.read_bytes()}


def input_corruption(rng: random.Random, base: Path, given: Path, number: int) -> dict:
    """Harms one file in the CelebA format and looks at what the data stage makes of it.

    A picture, or the archive of the pictures, that is not whole must be refused by name, or make no
    difference. A table that can still be read is what it says: other labels are other data.
    """
    there = base / "input"
    shutil.copytree(given, there)

    def collect(name: str) -> tuple[int, str]:
        workdir, said = base / name, base / "said"
        argv = command(workdir, f"--config={Path(__file__).resolve()}", "--stage=data",
                       f"--config.data.celeba.dir={there}")  # fmt: skip
        return whole(argv, base / f"{name} cache", said), said.read_text()

    files = sorted(there.iterdir())
    file = files[number % len(files)]
    whole_file = file.read_bytes()
    found = {"file": f"input/{file.name}", "harm": harmed(file, rng)}
    code, text = collect("harmed")
    if code not in (0, 2) or "Traceback" in text:
        return found | {"wrong": f"exit {code}: {text[-3000:]}"}
    if code == 2:
        line = text.strip().splitlines()[-1]
        found["refused"] = line.replace(str(base), "")
        if (base / "harmed/data/DONE").exists() or not re.search(r"error: .*(celeba|image)", line):
            return found | {"wrong": f"not named: {line}"}
    file.write_bytes(whole_file)
    again, text = collect("mended")
    if again or "Traceback" in text:
        return found | {"wrong": f"mended, exit {again}: {text[-3000:]}"}
    right = collected(base / "mended", base / "mended cache")
    if code == 0:
        made = collected(base / "harmed", base / "harmed cache")
        found["other"] = sorted(k for k in right if right[k] != made.get(k))
        if found["other"] and file.suffix == ".zip":
            return found | {"wrong": f"a damaged archive went through: {found['other']}"}
    return found | {"wrong": []}


def make_input(folder: Path) -> Path:
    """The files that `input_corruption` harms copies of; made once."""
    if not (folder / "list_eval_partition.txt").exists():
        make_celeba.make(folder, 700)
    return folder
