"""Generators and discriminators on disk, in each form that is read or written here.

A folder as the `gan` stage leaves it: `generator.safetensors`, `generator.json` and, for going on
from there, `discriminator.safetensors`, `discriminator.json`. A safetensors file with published
names and layouts (`G_ema.synthesis.b4.const`, ...) beside a JSON file of the same stem with the
options. An official pickle, which is only read. All three become `Saved`, checked in full.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from fairjax.data.cache import file_sha256, write_json
from fairjax.errors import InputError
from fairjax.models.published import (
    build,
    check_arrays,
    export_network,
    import_network,
    shapes,
)
from fairjax.models.published_pickle import NETWORKS, Network, read_pickle
from fairjax.models.safetensors_file import read_safetensors
from fairjax.train.conditions import Numbers
from fairjax.train.weight_files import load_tree, save_tree

FORMS = (
    "Give a finished `gan` stage (RUN/arms/main/gan), an official .pkl, or a .safetensors file "
    "with its .json"
)
G_FIELDS = ("resolution", "image_channels", "z_dim", "w_dim", "mapping_layers", "channel_base",
            "channel_max", "architecture", "conv_clamp", "c_dim")  # fmt: skip
D_FIELDS = ("resolution", "image_channels", "mapping_layers", "channel_base", "channel_max",
            "architecture", "conv_clamp", "c_dim", "mbstd_group", "mbstd_features",
            "mbstd_mode")  # fmt: skip


class Saved(NamedTuple):
    """The networks of a file or folder: fields of ours, parameters as nested dicts of arrays."""

    g_fields: dict[str, Any]
    ema: Any  # moving average of the generator: the one to sample from
    w_avg: np.ndarray  # [w_dim]; of a generator trained here with labels [classes, w_dim]
    buffers: Any = None  # fixed noise, where the file has it
    g: Any = None  # the generator in training, where the file has it
    d_fields: dict[str, Any] | None = None
    d: Any = None
    conditions: dict[str, Any] | None = None  # what the labels mean, where the file says it

    def mean(self) -> np.ndarray:
        """The mean w [w_dim] of all images, by the prior of the classes."""
        if self.w_avg.ndim == 1 or self.conditions is None:
            return self.w_avg
        prior: np.ndarray = np.asarray(self.conditions["prior"])
        return (prior @ self.w_avg).astype(self.w_avg.dtype)


def fields_of(network: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What a folder records of a network of ours."""
    return {name: getattr(network, name) for name in names}


def read(path: Path) -> Saved:
    """Reads any of the three forms.

    Raises:
      InputError: no such file or form, damaged, or arrays that are not those of the options.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError("no such file or folder", str(path), FORMS)
    if path.suffix == ".pkl":
        return from_published(read_pickle(path), str(path))
    if path.suffix == ".safetensors":
        networks, conditions = _read_published(path)
        saved = from_published(networks, str(path))
        try:
            _check_conditions(conditions, saved.g_fields["c_dim"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = str(path.with_suffix(".json"))
            raise InputError(f"no description of labels ({error})", where, FORMS) from error
        return saved._replace(conditions=conditions)
    raise InputError(f"a file of the kind {path.suffix or 'without suffix'!r}", str(path), FORMS)


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder that of the hashes of its weights, in order."""
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()


# The folder of a `gan` stage.


def write_folder(folder: Path, saved: Saved) -> None:
    """Writes what `launch/sample.py` reads, and the discriminator where there is one."""
    parts = {"generator": saved.ema, "mapping_mean": {"w_avg": saved.w_avg}}
    if saved.buffers:
        parts["buffers"] = saved.buffers
    save_tree(folder / "generator.safetensors", jax.device_get(parts))
    described = _described(saved.g_fields, "g_architecture")
    if saved.conditions is not None:
        described["conditions"] = saved.conditions
    write_json(folder / "generator.json", described)
    if saved.d is not None and saved.d_fields is not None:
        save_tree(folder / "discriminator.safetensors", jax.device_get({"discriminator": saved.d}))
        write_json(folder / "discriminator.json", _described(saved.d_fields, "d_architecture"))


def _described(fields: dict[str, Any], architecture: str) -> dict[str, Any]:
    described = dict(fields)
    described[architecture] = described.pop("architecture")
    described["conv_clamp"] = described["conv_clamp"] or 0.0  # as in the config
    return described


def _read_folder(folder: Path) -> Saved:
    fields, conditions, parts = _read_part(folder, "generator", "Generator", G_FIELDS)
    mean = parts.get("mapping_mean", {}).get("w_avg", np.zeros(0))
    known = conditions or {"numbers": None}  # one mean w, unless there are classes
    classes = () if "numbers" in known else (len(known["classes"]),)
    if mean.shape != (*classes, fields["w_dim"]):
        raise InputError("no mean w of the right length", f"{folder}/generator.safetensors", FORMS)
    saved = Saved(fields, parts["generator"], mean, parts.get("buffers"), conditions=conditions)
    if not (folder / "discriminator.json").exists():
        return saved
    fields, _, parts = _read_part(folder, "discriminator", "Discriminator", D_FIELDS)
    return saved._replace(d_fields=fields, d=parts["discriminator"])


def _read_part(
    folder: Path, name: str, class_name: str, names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any] | None, Any]:
    """(fields, what the labels mean if it says so, arrays) of one network of a folder."""
    path = folder / f"{name}.json"
    try:
        shape = json.loads(path.read_text())
        shape["architecture"] = shape[f"{name[0]}_architecture"]
        fields = {"c_dim": 0} | {k: shape[k] for k in names if k != "c_dim" or k in shape}
        fields["conv_clamp"] = fields["conv_clamp"] or None
        conditions = shape.get("conditions")
        _check_conditions(conditions, fields["c_dim"])
        ours = build(class_name, fields)
        wanted = shapes(ours)
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
        raise InputError(f"no description of a {name} ({error})", str(path), FORMS) from error
    weights = folder / f"{name}.safetensors"
    parts = load_tree(weights)
    found = {f"params/{k}": v.shape for k, v in flatten_dict(parts.get(name, {}), sep="/").items()}
    if "buffers" in parts:
        flat = flatten_dict(parts["buffers"], sep="/")
        found |= {f"buffers/{k}": v.shape for k, v in flat.items()}
    else:
        wanted = {k: v for k, v in wanted.items() if not k.startswith("buffers/")}
    wanted.pop("w_avg", None)
    check_arrays(found, wanted, str(weights), "Keep both files of one run together")
    return fields, conditions, parts


def _check_conditions(conditions: dict[str, Any] | None, c_dim: int) -> None:
    """Raises an error of some kind where they are not what `write_folder` was given."""
    if conditions is None:
        return
    if not {"classes", "prior", "labels"} <= conditions.keys():
        raise ValueError("its conditions are not those of a generator")
    if "numbers" in conditions:
        scale = np.array(Numbers.of_record(conditions["numbers"]))
        if scale.shape != (4, c_dim - 1) or len(conditions["attributes"]) != c_dim - 1:
            raise ValueError("its numbers are not those of its labels")


# Published names.


def from_published(networks: dict[str, Network], where: str) -> Saved:
    """Networks under published names -> ours, checked.

    Raises:
      InputError: there is no generator, or what `import_network` refuses.
    """
    if not {"G_ema", "G"} & networks.keys():
        raise InputError("it holds no generator", where, FORMS)
    found = {}
    for name, network in networks.items():
        kind = "Discriminator" if name == "D" else "Generator"
        if network.class_name != kind:
            raise InputError(f"{name} is of the class {network.class_name[:40]!r}", where, FORMS)
        found[name] = import_network(network, f"{where}, {name}")
    fields, tree = found.get("G_ema", found.get("G", ({}, {})))
    saved = Saved(fields, tree["params"], tree["w_avg"], buffers=tree["buffers"])
    if "G" in found:
        if found["G"][0] != fields:
            raise InputError("G and G_ema are of different architectures", where, FORMS)
        saved = saved._replace(g=found["G"][1]["params"])
    if "D" in found:
        saved = saved._replace(d_fields=found["D"][0], d=found["D"][1]["params"])
    return saved


def to_published(saved: Saved) -> dict[str, Network]:
    """The inverse; fixed noise that there is none of is drawn from the seed 0."""
    rest = {"w_avg": saved.mean()} | ({"buffers": saved.buffers} if saved.buffers else {})
    networks = {"G_ema": export_network("Generator", saved.g_fields, {"params": saved.ema} | rest)}
    if saved.g is not None:
        networks["G"] = export_network("Generator", saved.g_fields, {"params": saved.g} | rest)
    if saved.d is not None and saved.d_fields is not None:
        networks["D"] = export_network("Discriminator", saved.d_fields, {"params": saved.d})
    return networks


def write_published(
    path: Path, networks: dict[str, Network], conditions: dict[str, Any] | None = None
) -> None:
    """Writes `path` (.safetensors) and, last, the JSON file of the options beside it.

    Of the `conditions` only numbers are kept, which need no mean w of their own.
    """
    arrays = {f"{name}.{key}": array for name, network in networks.items()
              for key, array in network.arrays.items()}  # fmt: skip
    draft = path.with_name(path.name + ".draft")
    save_file(arrays, draft)
    os.replace(draft, path)
    options: dict[str, Any] = {
        name: {"class_name": network.class_name, "init_kwargs": network.init_kwargs}
        for name, network in networks.items()
    }
    if conditions is not None and "numbers" in conditions:
        options["conditions"] = conditions
    write_json(path.with_suffix(".json"), options)


def _read_published(path: Path) -> tuple[dict[str, Network], dict[str, Any] | None]:
    options = path.with_suffix(".json")
    try:
        parts = json.loads(options.read_text())
        conditions = parts.pop("conditions", None)
        described = {
            name: Network(str(part["class_name"]), dict(part["init_kwargs"]), {}, {})
            for name, part in parts.items()
        }
        if not described or not described.keys() <= {*NETWORKS}:
            raise ValueError(f"its networks are not some of {', '.join(NETWORKS)}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"no options of networks ({error})", str(options), FORMS) from error
    for name, array in read_safetensors(path, FORMS).items():
        network, _, key = name.partition(".")
        if network not in described:
            raise InputError(f"{name} is of no network that {options.name} has", str(path), FORMS)
        described[network].arrays[key] = array
    return described, conditions


def flat(tree: Any) -> dict[str, np.ndarray]:
    """A nested dict of arrays by paths such as "synthesis/b8/conv0/bias"."""
    return dict(flatten_dict(tree, sep="/"))


def nested(arrays: dict[str, Any]) -> Any:
    """The inverse of `flat`."""
    return unflatten_dict(arrays, sep="/")
