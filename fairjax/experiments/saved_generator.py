"""A trained generator as the `gan` stage saved it, and what a user may ask of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from fairjax.config import nearest
from fairjax.errors import InputError
from fairjax.experiments.centres import load_centres

# What `gan` writes into generator.json is what the generator is built from.
FIELDS = ("resolution", "image_channels", "z_dim", "w_dim", "mapping_layers", "channel_base",
          "channel_max", "g_architecture", "conv_clamp")  # fmt: skip


class Saved(NamedTuple):
    """A trained generator as its files hold it; `conditions` is None without labels."""

    net: Any
    params: Any
    noise: Any  # fixed noise images; None where the file has none
    mean: np.ndarray  # of w: [w_dim], or [classes, w_dim] with labels
    conditions: dict[str, Any] | None


def load_generator(folder: Path) -> Saved:
    """Reads the files that the `gan` stage wrote.

    Raises:
      InputError: a file is missing or damaged, or the parameters are not those of the architecture.
    """
    import jax
    import jax.numpy as jnp

    from fairjax.models.stylegan2 import Generator
    from fairjax.train.weight_files import load_tree

    path = folder / "generator.json"
    try:
        shape = json.loads(path.read_text())
        fields = {name: shape[name] for name in FIELDS}
        fields["architecture"] = fields.pop("g_architecture")
        fields["conv_clamp"] = fields["conv_clamp"] or None
        conditions = shape.get("conditions")
        net = Generator(c_dim=shape.get("c_dim", 0), **fields)
        c = jnp.zeros((1, net.c_dim)) if net.c_dim else None
        z = jnp.zeros((1, net.z_dim))
        wanted = jax.eval_shape(net.init, jax.random.key(0), z, c=c)["params"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"no description of a generator ({error})",
            str(path),
            "Give the folder of a finished `gan` stage, e.g. RUN/arms/main/gan",
        ) from error
    weights = folder / "generator.safetensors"
    saved = load_tree(weights)
    found = {k: v.shape for k, v in flatten_dict(saved.get("generator", {}), sep="/").items()}
    expected = {k: v.shape for k, v in flatten_dict(wanted, sep="/").items()}
    mean = saved.get("mapping_mean", {}).get("w_avg", np.zeros(0))
    wrong = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    classes = () if conditions is None else (len(conditions["classes"]),)
    if wrong or mean.shape != (*classes, net.w_dim):
        name = wrong[0] if wrong else "w_avg"
        raise InputError(
            f"{len(wrong) or 1} arrays are not those of {path.name}, the first is {name}: "
            f"{found.get(name)} instead of {expected.get(name)}",
            str(weights),
            "Keep both files of one run together",
        )
    return Saved(net, saved["generator"], saved.get("noise"), mean, conditions)


def labels_of(
    saved: Saved, only: str | None, label: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """What --class and --label ask for: (labels [k, c_dim], probabilities [k]).

    Raises:
      InputError: the generator has no labels, or not this class or label.
    """
    names = [] if saved.conditions is None else saved.conditions["classes"]
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
        if only is not None or len(numbers) != saved.net.c_dim:
            raise InputError(
                f"{','.join(map(str, label))}",
                flag,
                f"Give {saved.net.c_dim} numbers such as "
                f"{','.join('0' * saved.net.c_dim)}, and no --class beside them",
            )
        return numbers[None], np.ones(1)
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
    saved: Saved, centre: str | None, labelled: bool
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
                "there is no class with a mean of its own: the generator has no labels, or --label "
                "was given", "--centre=class", "Use --centre=global, or a file of centres",
            )  # fmt: skip
        return "class", saved.mean, np.ones(len(saved.mean))
    if kind == "global":
        mean = saved.mean
        if several and saved.conditions is not None:
            mean = np.array(saved.conditions["prior"]) @ saved.mean
        return "global", mean[None], np.ones(1)
    return "judged", *load_centres(Path(kind), saved.net.w_dim)
