"""What `launch/bench.py --input` measures: images from the official CelebA files and from the
prepared images, beside a plain loop with Pillow and PyTorch's DataLoader.

Seconds are those of the processor, of all threads of a side: what one core could do that did
nothing else, whatever else the machine is doing. Waiting for a disk does not count.
"""

import contextlib
import io
import itertools
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from ml_collections import ConfigDict
from PIL import Image
from rich.table import Table

from fairjax.data import celeba, decode
from fairjax.errors import InputError
from fairjax.experiments import bench_report as report_of
from fairjax.experiments.bench_loader import picture
from fairjax.experiments.bench_peer import Worker
from fairjax.objectives import draw
from fairjax.train import loop

BATCH = 64  # images of a timed step
MOST = 4096  # images that are looked at, the first of the list
PROGRAMS = ("zip", "folder", "cache")
TITLES = {"zip": "zip of JPEGs", "folder": "folder of JPEGs", "cache": "prepared, shuffled"}

Files = dict[str, Any]  # JSON: the same images as a zip, a folder and prepared, and their form


@contextlib.contextmanager
def files(config: ConfigDict) -> Iterator[Files]:
    """The first images of the config's CelebA in all three forms, for as long as it is entered.

    Raises:
      InputError: the config has another source, or there is no zip.
    """
    where, data = "data.celeba.dir", config.data
    given = Path(data.celeba.dir).expanduser()
    archive = given / "img_align_celeba.zip"
    if data.source != "celeba" or not data.celeba.dir or not archive.is_file():
        raise InputError(
            f"--input reads an img_align_celeba.zip, and {data.celeba.dir!r} has none",
            where,
            "Give --config=configs/celeba_bias09.py and the folder of the official files",
        )
    names = celeba.read_attributes(given / "list_attr_celeba.txt")[0][:MOST]
    places = celeba.places(given, names)
    shape = decode.Shape(data.resolution, data.crop, data.channels)
    with tempfile.TemporaryDirectory(prefix="fairjax-bench-") as made:
        folder, prepared = Path(made, "images"), Path(made, "images.u8")
        folder.mkdir()
        for name, place in zip(names, places, strict=True):
            (folder / name).write_bytes(decode.read(place))
        images, wrong = decode.render(shape, places)
        if wrong:
            raise InputError(f"{names[min(wrong)]}: {wrong[min(wrong)]}", where, "Mend the file")
        images.tofile(prepared)
        fixed = data.crop == "celeba140"
        yield shape._asdict() | {
            "archive": str(archive),
            "members": [place.member for place in places],
            "folder": str(folder),
            "names": names,
            "prepared": str(prepared),
            "size": images.shape,
            "batch": BATCH,
            "side": decode.CELEBA_CROP if fixed else 0,  # 0: the shorter one
            "resample": int(Image.Resampling.BILINEAR if fixed else Image.Resampling.LANCZOS),
        }


class Ours:
    """What a worker of the data stage makes of files, and what a training then reads."""

    def __init__(self, found: Files):
        shape = decode.Shape(found["resolution"], found["crop"], found["channels"])
        stamp = Path(found["archive"]).stat().st_mtime_ns
        packed = [decode.Place(found["archive"], member, stamp) for member in found["members"]]
        loose = [decode.Place(str(Path(found["folder"], name))) for name in found["names"]]
        everything = np.arange(len(packed))
        shuffled = draw.uniform(everything, BATCH)
        feed = loop.drawn(prepared(found), everything, shuffled, seed=0, batch=BATCH)
        self.next: dict[str, Iterator[Any]] = {
            "zip": (decode.render(shape, part)[0] for part in _parts(packed)),
            "folder": (decode.render(shape, part)[0] for part in _parts(loose)),
            "cache": (batch["image"] for batch in feed(0, 1 << 30)),
        }

    def __call__(self, program: str, times: int) -> float:
        """Processor seconds of `times` batches, one after the other."""
        return _seconds(lambda: next(self.next[program]), times)


class PlainLoop:
    """What one would write first: open, crop and resize one file after the other with Pillow."""

    def __init__(self, found: Files):
        self._archive, self._folder = zipfile.ZipFile(found["archive"]), Path(found["folder"])
        self._found, self._images = found, prepared(found)
        self._rng = np.random.default_rng(0)
        self.next = {
            "zip": (self._pictures(map(self._opened, part)) for part in _parts(found["members"])),
            "folder": (self._pictures(self._folder / name for name in part)
                       for part in _parts(found["names"])),
            "cache": (self._images[self._rng.integers(0, len(self._images), BATCH)]
                      for _ in itertools.count()),
        }  # fmt: skip

    def __call__(self, program: str, times: int) -> float:
        """Processor seconds of `times` batches, one after the other."""
        return _seconds(lambda: next(self.next[program]), times)

    def _opened(self, member: str) -> io.BytesIO:
        return io.BytesIO(self._archive.read(member))

    def _pictures(self, opened: Any) -> np.ndarray:
        made = np.empty((BATCH, *self._found["size"][1:]), np.uint8)
        for i, file in enumerate(opened):
            made[i] = np.asarray(picture(file, self._found)).reshape(made.shape[1:])
        return made


def prepared(found: Files) -> np.ndarray:
    """The prepared images, as the data stage leaves them."""
    return np.memmap(found["prepared"], np.uint8, "r", shape=tuple(found["size"]))


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    """Batches in order, round and round."""
    endless = itertools.cycle(items)
    while True:
        yield list(itertools.islice(endless, BATCH))


def _seconds(batch: Callable[[], Any], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        batch()
    return time.process_time() - start


def measure(found: Files, seconds: float, peer: Worker | None) -> dict[str, Any]:
    """Times all sides in alternation; the figures of the JSON line.

    Args:
      found: of `files`.
      seconds: for each side.
      peer: of `bench_peer.loader`, which looks at the same files.
    """
    load = os.getloadavg()[0]  # before we add to it
    ours, plain = Ours(found), PlainLoop(found)
    first = {"ours": next(ours.next["zip"]), "pillow": next(plain.next["zip"])}
    sums = {side: int(pixels.sum()) for side, pixels in first.items()}
    timers: dict[str, Any] = {"ours": ours, "pillow": plain}
    if peer is not None:
        timers["pytorch"], sums["pytorch"] = peer, peer.facts["sum"]
    sides = {}
    for side, timer in timers.items():
        for program in PROGRAMS:
            timer(program, 1)  # threads start, files are opened
        sides[side] = timer, {program: timer(program, 4) / 4 for program in PROGRAMS}
    samples = report_of.rounds(sides, seconds)
    rate = {side: {program: report_of.spread([1000 * BATCH / s[program] for s in each])
                   for program in PROGRAMS} for side, each in samples.items()}  # fmt: skip
    over = {side: {program: report_of.speed_over(*([s[program] for s in samples[name]]
                                                   for name in ("ours", side)))
                   for program in PROGRAMS} for side in list(sides)[1:]}  # fmt: skip
    bytes_of = [Path(found["folder"], name).stat().st_size for name in found["names"]]
    return {
        "images": len(bytes_of),
        "file_bytes": float(np.mean(bytes_of)),
        "form": {key: found[key] for key in ("resolution", "crop", "channels", "batch")},
        "rounds": len(samples["ours"]),
        "same_pixels": len(set(sums.values())) == 1,
        "images_per_second": rate,
        "speed_over": over,
        "device": report_of.device() | {"load_before": load},
        "versions": report_of.versions() | {"pillow": PIL.__version__},
        **({"peer": peer.facts} if peer is not None else {}),
    }


def table(report: dict[str, Any]) -> Table:
    """The report for people."""
    on, form, peer = report["device"], report["form"], report.get("peer")
    same = "the same pixels" if report["same_pixels"] else "OTHER PIXELS"
    shown = Table(
        title=f"{report['images']} JPEGs of {report['file_bytes']:.0f} bytes -> "
        f"{form['resolution']} px, {on['cpu']}, {report['rounds']} rounds",
        caption="images per second of one core, median and quartiles of the rounds; "
        f"{same} on all sides; load of the machine before: {on['load_before']:.1f}",
    )
    others = {"pillow": "plain loop"} | ({"pytorch": "DataLoader"} if peer else {})
    shown.add_column("", no_wrap=True)
    for name in ("fairjax", *(c for title in others.values() for c in (title, f"ours / {title}"))):
        shown.add_column(name, justify="right", no_wrap=True)
    rate, over = report["images_per_second"], report["speed_over"]
    for program in PROGRAMS:
        row = [TITLES[program], report_of.words(rate["ours"][program], ".0f")]
        for side in others:
            row += [report_of.words(rate[side][program], ".0f"),
                    report_of.words(over[side][program], ".2f")]  # fmt: skip
        shown.add_row(*row)
    return shown
