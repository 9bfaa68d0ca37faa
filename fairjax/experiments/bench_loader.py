"""The other side of `launch/bench.py --input --against=pytorch`: a DataLoader on the same files.

Started by `bench_worker`, in an interpreter that has torch and Pillow (and need not have fairjax).
"""

import io
import os
import sys
import time
import warnings
import zipfile


def picture(file, files):
    """One image file as the form of `files` wants it, by Pillow alone."""
    from PIL import Image

    with Image.open(file) as image:
        made = image.convert("L" if files["channels"] == 1 else "RGB")
    side, small = files["side"] or min(made.size), files["resolution"]
    left, top = round((made.width - side) / 2), round((made.height - side) / 2)
    made = made.crop((left, top, left + side, top + side))
    return made.resize((small, small), files["resample"])


class Pictures:
    """A map-style dataset of image files: open, crop, resize with Pillow, then a tensor."""

    def __init__(self, files, packed):
        self._files, self._packed = files, packed
        self._archive = zipfile.ZipFile(files["archive"]) if packed else None

    def __len__(self):
        return len(self._files["names"])

    def __getitem__(self, i):
        import numpy as np
        import torch

        files = self._files
        if self._packed:
            file = io.BytesIO(self._archive.read(files["members"][i]))
        else:
            file = os.path.join(files["folder"], files["names"][i])
        return torch.from_numpy(np.array(picture(file, files)))


class Prepared:
    """A map-style dataset of the prepared images."""

    def __init__(self, files):
        import numpy as np

        size = tuple(files["size"])
        self._images = np.memmap(files["prepared"], np.uint8, "r", shape=size)

    def __len__(self):
        return len(self._images)

    def __getitem__(self, i):
        import numpy as np
        import torch

        return torch.from_numpy(np.array(self._images[i]))


class Loaders:
    """A DataLoader for each program, without worker processes, as on the other sides."""

    def __init__(self, files):
        from torch.utils.data import DataLoader

        self._loaders = {
            "zip": DataLoader(Pictures(files, True), files["batch"], drop_last=True),
            "folder": DataLoader(Pictures(files, False), files["batch"], drop_last=True),
            "cache": DataLoader(Prepared(files), files["batch"], shuffle=True, drop_last=True),
        }
        self._running = {name: iter(loader) for name, loader in self._loaders.items()}

    def next(self, program):
        try:
            return next(self._running[program])
        except StopIteration:
            self._running[program] = iter(self._loaders[program])
            return next(self._running[program])

    def time(self, program, times):
        """Processor seconds of `times` batches, one after the other."""
        start = time.process_time()
        for _ in range(times):
            self.next(program)
        return time.process_time() - start


def begin(request):
    """The loaders and what they are, or a sentence about what is missing."""
    warnings.filterwarnings("ignore")
    try:
        import PIL
        import torch
    except ImportError as error:
        words = f"{sys.executable} cannot import torch and Pillow ({error})"
        return None, {"error": words, "what": "torch"}
    torch.set_num_threads(request["threads"])
    loaders = Loaders(request["files"])
    facts = {"torch": torch.__version__, "pillow": PIL.__version__}
    return loaders, facts | {"sum": int(loaders.next("zip").sum(dtype=torch.int64))}
