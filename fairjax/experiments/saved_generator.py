"""A trained generator as the `gan` stage saved it, and what a user may ask of it."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairjax.config import nearest
from fairjax.errors import InputError
from fairjax.experiments.centres import load_centres

log = logging.getLogger("fairjax")


class Trained(NamedTuple):
    """A trained generator as its files hold it; `conditions` is None without labels."""

    net: Any
    params: Any
    noise: Any  # fixed noise images; None where the file has none
    mean: np.ndarray  # of w: [w_dim], or [classes, w_dim] with labels
    conditions: dict[str, Any] | None


def load_generator(path: Path) -> Trained:
    """Reads a generator in any of the forms of `fairjax.train.network_files`.

    Raises:
      InputError: a file is missing or damaged, or the parameters are not those of the architecture.
    """
    from fairjax.models.published import build
    from fairjax.train.network_files import read

    found = read(path)
    net = build("Generator", found.g_fields)
    return Trained(net, found.ema, found.buffers, found.w_avg, found.conditions)


def fingerprint(saved: Trained) -> str:
    """Hash of the generator's parameters; the same in each form of file."""
    from fairjax.train.network_files import flat

    digest = hashlib.sha256()
    for name, array in sorted(flat(saved.params).items()):
        digest.update(name.encode() + np.asarray(array).tobytes())
    return digest.hexdigest()[:16]


def labels_of(
    saved: Trained, only: str | None, label: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """What --class and --label ask for: (labels [k, c_dim], probabilities [k]).

    Where labels are numbers, --label is in the units of the training table.

    Raises:
      InputError: the generator has no labels, or not this class or label.
    """
    from fairjax.train.conditions import Numbers

    conditions = saved.conditions or {}
    names = conditions.get("classes", [])
    scale = Numbers.of_record(conditions["numbers"]) if "numbers" in conditions else None
    flag = "--class" if label is None else "--label"
    if not saved.net.c_dim:
        if only is not None or label is not None:
            raise InputError("this generator was trained without labels", flag, "Leave it out")
        return np.zeros((1, 0)), np.ones(1)
    if label is not None:
        try:
            numbers = np.array([float(v) for v in label])
        except ValueError:
            numbers = np.zeros(0)
        example = np.zeros(saved.net.c_dim) if scale is None else scale.mean
        if only is not None or len(numbers) != len(example) or not np.isfinite(numbers).all():
            of = "" if scale is None else f" ({', '.join(conditions['attributes'])})"
            raise InputError(
                f"{','.join(map(str, label))}",
                flag,
                f"Give {len(example)} numbers{of} such as "
                f"{','.join(f'{v:.3g}' for v in example)}, and no --class beside them",
            )
        if scale is None:
            return numbers[None], np.ones(1)
        for name, v, low, high in zip(
            conditions["attributes"], numbers, scale.low, scale.high, strict=True
        ):
            if not low <= v <= high:
                log.warning("--label: %s = %g, but the training images have %g to %g: what it "
                            "looks like is a guess of the network", name, v, low, high)  # fmt: skip
        return scale.labels(numbers[None]), np.ones(1)
    if scale is not None and only is not None:
        found = f"the labels of this generator are numbers: {', '.join(conditions['attributes'])}"
        mend = f"Use --label={','.join(f'{v:.3g}' for v in scale.mean)}"
        raise InputError(found, flag, mend)
    if saved.conditions is None:
        raise InputError(
            "generator.json does not say what its labels mean", "--label", "Give a --label"
        )
    prior = np.array(saved.conditions["prior"])
    if only is not None:
        if only not in names and not (only.isdigit() and int(only) < len(names)):
            raise InputError(f"no class {only!r}", flag, nearest(only, names))
        prior = np.eye(len(names))[names.index(only) if only in names else int(only)]
    return np.array(saved.conditions["labels"]), prior


def centres_of(
    saved: Trained, centre: str | None, labelled: bool
) -> tuple[str, np.ndarray, np.ndarray]:
    """What --centre asks for: (kind, centres [k, w_dim], number of samples behind each [k]).

    The kind is "global" (k = 1), "class" (one for each class of the generator) or "judged" (one for
    each class of a judge).
    """
    several = saved.mean.ndim == 2
    kind = centre or ("class" if several and not labelled else "global")
    if kind == "class":
        if not several or labelled:
            raise InputError(
                "there is no class with a mean of its own: the generator has no classes, or "
                "--label was given", "--centre=class", "Use --centre=global, or a file of centres",
            )  # fmt: skip
        return "class", saved.mean, np.ones(len(saved.mean))
    if kind == "global":
        mean = saved.mean
        if several and saved.conditions is not None:
            mean = np.array(saved.conditions["prior"]) @ saved.mean
        return "global", mean[None], np.ones(1)
    return "judged", *load_centres(Path(kind), saved.net.w_dim)
