"""Writes a directory in the official CelebA format, drawn as avatars (no real face).

`python tests/make_celeba.py DIR --n 800 [--folder]`: 178 x 218 JPEGs in `img_align_celeba.zip` (or
a folder), `list_attr_celeba.txt` with the 40 official names, `list_eval_partition.txt` (60 % train,
20 % validation, 20 % test). "Male" means short hair here, so that a judge can see it.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fairjax.data import avatars

NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()
WIDTH, HEIGHT, CROP = 178, 218, 140
MALE = 0.42  # as in CelebA


def view() -> tuple[float, float, float, float]:
    """The part of the canvas whose central 140 pixels show what an avatar picture shows."""
    x, y, side, _ = avatars.VIEW
    unit = side / CROP
    left, top = round((WIDTH - CROP) / 2), round((HEIGHT - CROP) / 2)
    return x - left * unit, y - top * unit, WIDTH * unit, HEIGHT * unit


def make(folder: Path, n: int, seed: int = 0, as_zip: bool = True) -> None:
    """Writes n images and the two lists into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines, pictures = [], []
    for i in range(n):
        male = bool(rng.random() < MALE)
        beard = bool(rng.random() < (0.4 if male else 0.0))
        glasses = bool(rng.random() < 0.2)
        skin, background = int(rng.integers(5)), int(rng.integers(4))
        chosen = avatars.options((not male, skin, beard, glasses, background), (seed, 99, i))
        true = {
            "Male": male,
            "No_Beard": not beard,
            "Eyeglasses": glasses,
            "Pale_Skin": skin == 0,
            "Black_Hair": chosen["hairColor"] == "#2c1b18",
            "Brown_Hair": chosen["hairColor"] == "#724133",
            "Blond_Hair": chosen["hairColor"] == "#d6b370",
            "Gray_Hair": chosen["hairColor"] == "#e8e1e1",
            "Smiling": chosen["mouthVariant"] in ("smile", "twinkle"),
        }
        cells = [true.get(name, bool(rng.random() < 0.3)) for name in NAMES]
        name = f"{i + 1:06d}.jpg"
        lines.append(name + "".join(f" {1 if cell else -1:2d}" for cell in cells))
        buffer = io.BytesIO()
        image = Image.fromarray(avatars.draw(chosen, WIDTH, HEIGHT, view()))
        image.save(buffer, "JPEG", quality=90)
        pictures.append((name, buffer.getvalue()))
    table = [str(n), " ".join(NAMES) + " ", *lines]
    (folder / "list_attr_celeba.txt").write_text("\n".join(table) + "\n", encoding="utf-8")
    parts = [0 if 5 * i < 3 * n else 1 if 5 * i < 4 * n else 2 for i in range(n)]
    text = "".join(f"{i + 1:06d}.jpg {part}\n" for i, part in enumerate(parts))
    (folder / "list_eval_partition.txt").write_text(text, encoding="utf-8")
    if as_zip:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, data in pictures:
                archive.writestr(f"img_align_celeba/{name}", data)
    else:
        (folder / "img_align_celeba").mkdir(exist_ok=True)
        for name, data in pictures:
            (folder / "img_align_celeba" / name).write_bytes(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--n", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", dest="as_folder", action="store_true")
    given = parser.parse_args()
    make(given.directory, given.n, given.seed, not given.as_folder)
