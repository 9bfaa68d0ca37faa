"""Source `avatars`: faces drawn with DiceBear's avataaars style, with exact attributes.

Art: "Avataaars" by Pablo Stanley, free for personal and commercial use (https://avataaars.com/).
Attributes are independent of each other given the group, with the same shares in every set; only
the shares over `data.group_attributes` differ between the biased and the reference set.
"""

import functools
import importlib.metadata
import importlib.resources
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fairjax.data import cache, pool
from fairjax.data.avatar_table import ATTRIBUTES, FREE, HAIR_CONTRAST, MERGED, VIEW, Merged
from fairjax.data.dataset import ROLES, Collected
from fairjax.data.proportions import (
    class_names,
    exact_counts,
    group_proportions,
    rows_of_classes,
    true_ratio,
)
from fairjax.errors import InputError

PACKAGES = ("dicebear-core", "dicebear-styles", "resvg_py")
LICENCE = (
    "avatars: drawn with DiceBear; style Avataaars by Pablo Stanley (https://avataaars.com/), "
    "free for personal and commercial use"
)
ATTEMPTS = 200
_CANVAS = 'viewBox="0 0 280 280"'


@functools.cache
def _style() -> Any:
    """The parsed style; loading takes half a second, so once per process."""
    from dicebear import Style

    text = (importlib.resources.files("dicebear_styles") / "avataaars.json").read_text("utf-8")
    return Style(json.loads(text))


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float64)


@functools.cache
def _hair_colours(skin: str) -> tuple[str, ...]:
    far = [c for c in FREE["hairColor"] if np.linalg.norm(_rgb(c) - _rgb(skin)) >= HAIR_CONTRAST]
    return tuple(far)


def options(values: Sequence[int], key: Sequence[int]) -> dict[str, Any]:
    """Returns DiceBear options for one avatar.

    Args:
      values: the value index of each attribute, in the order of ATTRIBUTES.
      key: non-negative integers; the free choices are a function of them alone.
    """
    rng = np.random.default_rng(list(key))
    chosen: dict[str, Any] = {"seed": "fairjax"}
    for name, value in zip(ATTRIBUTES, values, strict=True):
        for option, choices in ATTRIBUTES[name][int(value)].choices.items():
            chosen[option] = choices[rng.integers(len(choices))]
    for option, choices in FREE.items():
        if option == "hairColor":
            choices = _hair_colours(chosen["skinColor"])
        chosen[option] = choices[rng.integers(len(choices))]
    chosen["facialHairColor"] = chosen["hairColor"]
    return chosen


def draw(
    chosen: dict[str, Any], width: int, height: int, view: Sequence[float] = VIEW
) -> np.ndarray:
    """Draws one avatar.

    Args:
      chosen: from `options`.
      width: pixels.
      height: pixels.
      view: the part of the 280 x 280 canvas to show: x, y, width, height. Outside the canvas lies
        the background.

    Returns:
      uint8 `[height, width, 3]`.
    """
    import resvg_py
    from dicebear import Avatar

    box = " ".join(f"{v:g}" for v in view)
    text = str(Avatar(_style(), chosen)).replace(_CANVAS, f'viewBox="{box}"', 1)
    png = resvg_py.svg_to_bytes(
        svg_string=text,
        width=width,
        height=height,
        background=chosen["backgroundColor"],
        skip_system_fonts=True,
    )
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def _render(
    context: tuple[int, int], items: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> tuple[np.ndarray, dict[int, str]]:
    resolution, channels = context
    out = np.empty((len(items), resolution, resolution, channels), np.uint8)
    for i, (values, key) in enumerate(items):
        image = draw(options(values, key), resolution, resolution)
        out[i] = (
            image if channels == 3 else np.asarray(Image.fromarray(image).convert("L"))[..., None]
        )
    return out, {}


def collect(config: ConfigDict, log: Callable[[str], None]) -> Collected:
    """Draws (or finds in the cache) every role's avatars.

    Args:
      config: the whole experiment's config; uses `data`, `seed`, `judge.attribute_sets`.
      log: called with one line at a time.

    Raises:
      InputError: unknown attribute, impossible proportions, or too few different pictures.
    """
    data = config.data
    groups = _known(tuple(data.group_attributes), "data.group_attributes")
    judged = _known(
        tuple(dict.fromkeys(a for s in config.judge.attribute_sets for a in s)),
        "judge.attribute_sets",
    )
    names = (*ATTRIBUTES, *(a for a in MERGED if a in groups + judged))
    group_names = class_names([_value_names(a) for a in groups])
    biased, reference = group_proportions(
        len(group_names), data.bias, data.biased_proportions, data.reference_proportions
    )
    seed = int(config.seed)
    even = _even(judged)
    plan: list[tuple[str, int, tuple[str, ...], Sequence[float], int]] = [
        ("train_biased", data.n_biased, groups, biased, 0),
        ("train_reference", round(data.n_biased * data.perc), groups, reference, 1),
        ("ratio_test", data.n_ratio_test // 2, groups, biased, 0),
        ("ratio_test", data.n_ratio_test - data.n_ratio_test // 2, groups, reference, 1),
        ("judge_fit", data.n_judge_fit, judged, even, -1),
        ("judge_test", data.n_judge_test, judged, even, -1),
        ("metric_reference", data.n_metric_reference, groups, reference, 1),
    ]
    values, domain, keys, roles = [], [], [], {role: np.zeros(0, np.int32) for role in ROLES}
    total = 0
    for number, (role, n, attributes, shares, side) in enumerate(plan):
        if n < 0:
            raise InputError(f"{n} images for {role}", "data", "Give counts >= 0")
        values.append(_values(n, attributes, shares, np.random.default_rng([seed, number])))
        domain += [side] * n
        keys += [(seed, number, i) for i in range(n)]
        positions = np.arange(total, total + n, dtype=np.int32)
        roles[role] = np.concatenate([roles[role], positions])
        total += n
    if total == 0:
        raise InputError("no image at all", "data.n_biased", "Ask for at least one image")
    attributes_of = np.concatenate(values)

    merged = [MERGED[a] for a in names[len(ATTRIBUTES) :]]
    columns = [np.array(m.value)[attributes_of[:, list(ATTRIBUTES).index(m.of)]] for m in merged]
    facts = {
        "table": cache.sha256([{a: v for a, v in ATTRIBUTES.items()}, FREE, HAIR_CONTRAST, VIEW]),
        **({"merged": merged} if merged else {}),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        "seed": seed,
        "plan": [[role, n, list(a), list(s)] for role, n, a, s, _ in plan],
    }
    shape = (total, data.resolution, data.resolution, data.channels)

    def fill(images: np.ndarray) -> dict[str, Any]:
        log(f"data: drawing {total} avatars at {data.resolution} px on {pool.cores()} cores")
        return {"attempts": _draw_all(images, attributes_of.tolist(), keys, log)}

    entry = cache.get("avatars", facts, shape, fill, log)
    attempts: dict[str, int] = entry.notes["attempts"]
    ids = tuple(f"avatar/{s}/{p}/{i}/{attempts.get(str(n), 0)}" for n, (s, p, i) in enumerate(keys))
    return Collected(
        entry=entry,
        attributes=np.column_stack([attributes_of, *columns]).astype(np.int8),
        attribute_values={a: _value_names(a) for a in names},
        ids=ids,
        domain=np.array(domain, np.int8),
        roles=roles,
        licences=(LICENCE,),
        group_attributes=groups,
        true_ratio=true_ratio(groups, group_names, biased, reference),
    )


def _known(attributes: tuple[str, ...], where: str) -> tuple[str, ...]:
    for name in attributes:
        if name not in ATTRIBUTES and name not in MERGED:
            raise InputError(
                f"unknown attribute {name!r}", where, f"Avatars have {[*ATTRIBUTES, *MERGED]}"
            )
    if len(set(attributes)) != len(attributes) or (where.startswith("data") and not attributes):
        raise InputError(f"{list(attributes)}", where, "Name one or more different attributes")
    for name in MERGED:
        if name in attributes and MERGED[name].of in attributes:
            mend = f"Name one of {name} and {MERGED[name].of}"
            raise InputError("an attribute and a summary of it", where, mend)
    return attributes


def _value_names(attribute: str) -> tuple[str, ...]:
    if attribute in MERGED:
        return MERGED[attribute].names
    return tuple(value.name for value in ATTRIBUTES[attribute])


def _even(attributes: tuple[str, ...]) -> list[float]:
    k = int(np.prod([len(_value_names(a)) for a in attributes], dtype=int))
    return [1 / k] * k


def _values(
    n: int, attributes: tuple[str, ...], shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Draws int8 `[n, A]`: exact counts over `attributes`, the others at random by their shares.

    So are the values that make up one of a merged attribute.
    """
    names = tuple(ATTRIBUTES)
    out = np.stack(
        [rng.choice(len(v), n, p=[x.share for x in v]) for v in ATTRIBUTES.values()], axis=1
    ).astype(np.int8)
    if attributes:
        k = np.repeat(np.arange(len(shares)), exact_counts(n, shares))
        rows = rows_of_classes(rng.permutation(k), [len(_value_names(a)) for a in attributes])
        for a, value in zip(attributes, rows.T, strict=True):
            if a in MERGED:
                value = _within(MERGED[a], value, rng)
            out[:, names.index(MERGED[a].of if a in MERGED else a)] = value
    return out


def _within(merged: Merged, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws for each value [n] of a merged attribute one of those that make it up."""
    of = np.array(merged.value)
    share = np.array([value.share for value in ATTRIBUTES[merged.of]])
    p = [np.where(of == v, share, 0) / share[of == v].sum() for v in range(len(merged.names))]
    drawn = np.stack([rng.choice(len(of), len(values), p=row) for row in p])
    return drawn[values, np.arange(len(values))]


def _draw_all(
    images: np.ndarray,
    values: list[list[int]],
    keys: list[tuple[int, int, int]],
    log: Callable[[str], None],
) -> dict[str, int]:
    """Draws all avatars; draws anew, in a fixed order, each that equals an earlier one.

    Returns:
      {position as text: number of the attempt}, only of those drawn more than once.
    """
    context = (images.shape[1], images.shape[3])
    attempt = dict.fromkeys(range(len(values)), 0)
    todo = list(attempt)
    hashes: list[bytes] = [b""] * len(values)
    what = "drawing avatars"
    for _ in range(ATTEMPTS):
        items = [(tuple(values[i]), (*keys[i], attempt[i])) for i in todo]
        pool.fill(images, todo, items, _render, context, log, what)
        for i, made in zip(todo, cache.pixel_hashes(images[todo]), strict=True):
            hashes[i] = made
        seen: set[bytes] = set()
        todo = []
        for i, pixels in enumerate(hashes):
            if pixels in seen:
                todo.append(i)
                attempt[i] += 1
            seen.add(pixels)
        if not todo:
            return {str(i): a for i, a in attempt.items() if a}
    raise InputError(
        f"{len(todo)} of {len(values)} avatars are equal to others at {context[0]} px",
        "data.n_biased",
        "Ask for fewer images or a higher data.resolution",
    )
