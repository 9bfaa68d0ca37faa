"""Published StyleGAN2 weights <-> our networks: options, names and layouts, both ways.

The names are those of stylegan2-ada-pytorch (and of the StyleGAN2 networks of the stylegan3
repository), which ours equal up to layout: convolutions are OIHW there and HWIO here, dense weights
`[out, in]` and `[in, out]`, the constant `[c, h, w]` and `[h, w, c]`. No kernel is turned around:
the upsampling one is stored in convolution orientation on both sides (`resample.conv_up`).
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fairjax.errors import InputError
from fairjax.models.discriminator import Discriminator
from fairjax.models.published_options import discriminator_fields, generator_fields, init_kwargs
from fairjax.models.published_pickle import Network
from fairjax.models.resample import TAPS
from fairjax.models.stylegan2 import Generator

FILTER = (np.outer(TAPS, TAPS) / np.sum(TAPS) ** 2).astype(np.float32)
CLASSES = {"Generator": generator_fields, "Discriminator": discriminator_fields}


def build(class_name: str, fields: dict[str, Any]) -> nn.Module:
    """The network of these fields (those of `Generator` or `Discriminator`)."""
    kind: Any = {"Generator": Generator, "Discriminator": Discriminator}[class_name]
    return kind(**fields)  # type: ignore[no-any-return]


def shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """Our arrays of a network by path ("params/mapping/fc0/weight"), from shapes alone."""
    # Abstract inputs: the options of a file may describe more numbers than there is memory.
    shape: tuple[int, ...] = (1, network.resolution, network.resolution, network.image_channels)
    init: Any = network.init
    if not isinstance(network, Discriminator):
        shape, init = (1, network.z_dim), partial(init, noise="none")
    label = {"c": jax.ShapeDtypeStruct((1, network.c_dim), jnp.float32)} if network.c_dim else {}
    key = jax.eval_shape(lambda: jax.random.key(0))
    tree = jax.eval_shape(init, key, jax.ShapeDtypeStruct(shape, jnp.float32), **label)
    found = {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}
    if not isinstance(network, Discriminator):
        found["w_avg"] = (network.w_dim,)
    return found


def published_name(path: str) -> str:
    """Our path -> the name in a file: "params/synthesis/b8/conv0/bias" -> "synthesis.b8..."."""
    return "mapping.w_avg" if path == "w_avg" else path.split("/", 1)[1].replace("/", ".")


def published_layout(path: str, array: np.ndarray) -> np.ndarray:
    """Our array -> the one in a file."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if path.endswith("/const"):
        return array.transpose(2, 0, 1)
    return array.T if path.endswith("/weight") else array


def our_layout(path: str, array: np.ndarray) -> np.ndarray:
    """The array of a file -> ours."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if path.endswith("/const"):
        return array.transpose(1, 2, 0)
    return array.T if path.endswith("/weight") else array


def filters(paths: Iterable[str]) -> list[str]:
    """The names of the resampling filters in a file of a network with these arrays (our paths).

    One for each block and for each convolution that is not modulated to an image, all equal.
    """
    names = set()
    for name in map(published_name, paths):
        parts = name.split(".")
        if name.endswith(".torgb.weight") or not name.endswith(".weight"):
            continue
        if parts[-2][:4] in ("conv", "skip", "from"):
            names.add(".".join([*parts[:-1], "resample_filter"]))
            if ".".join(parts[:-2]) != "b4":  # the discriminator's last block has none of its own
                names.add(".".join([*parts[:-2], "resample_filter"]))
    return sorted(names)


def fields_of(network: Network, where: str) -> dict[str, Any]:
    """The fields of our network for the options of a published one.

    Raises InputError at an option that ours do not have, by its name.
    """
    if network.class_name not in CLASSES:
        raise InputError(
            f"a network of the class {network.class_name[:40]!r}", where,
            "StyleGAN2's Generator and Discriminator can be read",
        )  # fmt: skip
    return CLASSES[network.class_name](network, where)


def import_network(network: Network, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A published network -> (fields of ours, its arrays as a tree).

    The tree has "params" and, for a generator, "buffers" (the fixed noise) and "w_avg" [w_dim].

    Raises:
      InputError: an option that ours do not have, an array that is missing, left over, of another
        shape or type, or a resampling filter other than [1, 3, 3, 1].
    """
    fields = fields_of(network, where)
    ours = shapes(build(network.class_name, fields))
    paths = {published_name(path): path for path in ours}
    nothing = np.float32(0)  # no memory, whatever the shape
    wanted = {published_name(path): published_layout(path, np.broadcast_to(nothing, shape)).shape
              for path, shape in ours.items()}  # fmt: skip
    # Files of TensorFlow networks hold no filter: there the options alone say which.
    held = any(name.endswith("resample_filter") for name in network.arrays)
    fixed = filters(ours) if held else []
    check_arrays(
        {name: array.shape for name, array in network.arrays.items()},
        wanted | {name: FILTER.shape for name in fixed},
        where,
        "The options of the file say otherwise: it is damaged or of another kind",
    )
    for name, array in network.arrays.items():
        if array.dtype != np.float32:
            raise InputError(f"{name} is {array.dtype}", where, "Weights must be float32")
    for name in fixed:
        if not np.allclose(network.arrays[name], FILTER, atol=1e-6):
            raise InputError(
                f"{name} is another filter than [1, 3, 3, 1]", where, "Only this one can be used"
            )
    tree = {path: np.array(our_layout(path, network.arrays[name]), order="C")
            for name, path in paths.items()}  # fmt: skip
    return fields, unflatten_dict(tree, sep="/")


def export_network(class_name: str, fields: dict[str, Any], tree: dict[str, Any]) -> Network:
    """The inverse of `import_network`; fixed noise that the tree lacks is drawn from the seed 0."""
    ours = shapes(build(class_name, fields))
    arrays = {published_name(path): published_layout(path, np.asarray(array))
              for path, array in flatten_dict(tree, sep="/").items()}  # fmt: skip
    draw = np.random.default_rng(0)
    for path, shape in ours.items():
        if path.startswith("buffers/"):
            arrays.setdefault(published_name(path), draw.standard_normal(shape, np.float32))
    arrays |= {name: FILTER for name in filters(ours)}
    arrays = {name: np.array(arrays[name], np.float32, order="C") for name in sorted(arrays)}
    return Network(class_name, init_kwargs(class_name, fields), arrays, {})


def check_arrays(
    found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], where: str, mend: str
) -> None:
    """Raises InputError unless two tables of shapes are equal; it names what differs."""
    wrong = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    if not wrong:
        return
    name = wrong[0]
    if name not in found:
        words = f"{name} {list(wanted[name])} is missing"
    elif name not in wanted:
        words = f"{name} {list(found[name])} is left over"
    else:
        words = f"{name} has the shape {list(found[name])} instead of {list(wanted[name])}"
    more = f" (and {len(wrong) - 1} more arrays do not fit)" if len(wrong) > 1 else ""
    raise InputError(words + more, where, mend)
