"""TensorFlow networks of StyleGAN2 files -> options, names and layouts of the PyTorch ones.

Read are files of the repositories stylegan2 (configurations e and f) and stylegan2-ada: a tuple of
G, D and the averaged G, each with its options, its variables, the name of the function that builds
it and, as text, the program in which that function is; the text is never looked at. Facts (defaults
included) from those repositories and from the official conversion in stylegan2-ada-pytorch, from
which this one differs where that one says other numbers than the TensorFlow network: the first
repository forms minibatch statistics of 4 images unless told otherwise. Flows in: what the machine
of `published_pickle` read. Flows out: class, options and arrays of a `Network`.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fairjax.models.inert_pickle import Budget, Refused, shown
from fairjax.models.published_numpy import Array

Converted = tuple[str, dict[str, Any], dict[str, np.ndarray]]  # the first fields of a `Network`

# The functions that build a network and its parts tell the repository, and so the defaults.
FIRST, ADA = "stylegan2", "stylegan2-ada"
BUILDERS = {
    ("G_main", "G_mapping", "G_synthesis_stylegan2"): FIRST,
    ("G_main", "G_mapping", "G_synthesis"): ADA,
    ("D_stylegan2",): FIRST,
    ("D_main",): ADA,
}
PARTS: dict[str, tuple[str, ...]] = {
    "Generator": ("mapping", "synthesis"),
    "Discriminator": (),
}

# Options by their TensorFlow name: where PyTorch has them. Defaults are named where they differ.
_SIZE = {"label_size": "c_dim", "resolution": "img_resolution", "num_channels": "img_channels"}
_WIDTH = {"fmap_base": "channel_base", "fmap_max": "channel_max", "num_fp16_res": "num_fp16_res",
          "conv_clamp": "conv_clamp", "architecture": "architecture", "nonlinearity": "activation",
          "resample_kernel": "resample_filter"}  # fmt: skip
OPTIONS = {
    "Generator": _SIZE | {"latent_size": "z_dim", "dlatent_size": "w_dim"}
    | {k: f"synthesis_kwargs {v}" for k, v in _WIDTH.items()} | {
        "use_noise": "synthesis_kwargs use_noise", "mapping_layers": "mapping_kwargs num_layers",
        "mapping_fmaps": "mapping_kwargs layer_features",
        "mapping_lrmul": "mapping_kwargs lr_multiplier",
        "mapping_nonlinearity": "mapping_kwargs activation",
        "label_fmaps": "mapping_kwargs embed_features"},
    "Discriminator": _SIZE | _WIDTH | {
        "mapping_layers": "mapping_kwargs num_layers", "mapping_fmaps": "cmap_dim",
        "mapping_lrmul": "mapping_kwargs lr_multiplier",
        "mbstd_group_size": "epilogue_kwargs mbstd_group_size",
        "mbstd_num_features": "epilogue_kwargs mbstd_num_channels"},
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "Generator": {"latent_size": 512, "dlatent_size": 512},
    "Discriminator": {"mapping_layers": 0, "mapping_lrmul": 0.1},
}
# These must have the value at which the network is one of ours; `IDLE` ones change no number.
FIXED: dict[str, Any] = {
    "fmap_decay": 1, "fmap_min": 1, "fmap_const": None, "normalize_latents": True, "score_size": 1,
    "score_max": 1, "use_pagan": False, "use_spectral_norm": False, "adaptive_dropout": 0,
}  # fmt: skip
IDLE = {"truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val",
        "dlatent_avg_beta", "w_avg_beta", "style_mixing_prob", "randomize_noise", "fused_modconv",
        "dtype", "structure", "dlatent_broadcast", "mapping_func", "synthesis_func",
        "freeze_layers", "augment_strength", "pagan_num", "pagan_fade"}  # fmt: skip

# Variables: pattern -> PyTorch name, whose layers are then in lower case and without "_up" and
# "_down". "N" stands for a number, "R" for a resolution above 4, "L" for what a layer has.
_NAMES = {
    "Generator": {
        "dlatent_avg": "mapping.w_avg", "mapping/LabelEmbed/L": r"mapping.embed.\1",
        "mapping/Dense(N)/L": r"mapping.fc\1.\2", "synthesis/4x4/Const/const": "synthesis.b4.const",
        "synthesis/4x4/Conv/L": r"synthesis.b4.conv1.\1",
        "synthesis/4x4/ToRGB/L": r"synthesis.b4.torgb.\1",
        r"synthesis/(R)x\1/(Conv0_up|Conv1|ToRGB|Skip)/L": r"synthesis.b\1.\2.\3"}
    | {f"synthesis/noise{i}": f"synthesis.b{2 ** ((i + 5) // 2)}.conv{1 - i % 2}.noise_const"
       for i in range(17)},
    "Discriminator": {
        "LabelEmbed/L": r"mapping.embed.\1", "Mapping(N)/L": r"mapping.fc\1.\2",
        r"(R)x\1/(FromRGB|Conv0|Conv1_down|Skip)/L": r"b\1.\2.\3",
        r"4x4/(FromRGB|Conv)/L": r"b4.\1.\2", "4x4/Dense0/L": r"b4.fc.\1",
        "Output/L": r"b4.out.\1"},
}  # fmt: skip
_MARKS = {"N": "([0-9]{1,2})", "R": "(8|16|32|64|128|256|512|1024)",
          "L": "((?:mod_)?(?:weight|bias)|noise_strength)"}  # fmt: skip


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\((N|R)\)|(?<=/)(L)$", lambda m: _MARKS[m[1] or m[2]], text))


NAMES = {kind: [(_pattern(text), name) for text, name in table.items()]
         for kind, table in _NAMES.items()}  # fmt: skip


class Stored:
    """What an object of `dnnlib.tflib.network.Network` is read as; its state follows."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None


def set_state(target: Stored, state: Any) -> None:
    """Takes the state of a network; raises Refused unless it is the first one, and a dict."""
    if target.state is not None or type(state) is not dict:
        raise Refused("a network with another state than usual")
    target.state = state


def networks(data: tuple[Any, ...], budget: Budget) -> dict[str, Converted]:
    """The networks of a file by name; arrays are copies, values of options are not yet checked.

    Raises Refused at anything but such networks: another builder (StyleGAN1, configurations a to
    d), a growth that goes on, an option or a variable of an unknown name.
    """
    if len(data) != 3:
        raise Refused(f"it holds a tuple of {len(data)} instead of three networks")
    found = dict(zip(("G", "D", "G_ema"), data, strict=True))
    return {name: _convert(name, stored, budget) for name, stored in found.items()}


def _convert(name: str, stored: Any, budget: Budget) -> Converted:
    kind = "Discriminator" if name == "D" else "Generator"
    states = {"": _state(name, stored)}
    components = states[""]["components"]
    for part in PARTS[kind]:
        states[f"{part}/"] = _state(f"{name}, {part}", components.get(part))
    built = tuple(state["build_func_name"] for state in states.values())
    if built not in BUILDERS or len(components) != len(PARTS[kind]):
        raise Refused(f"{name} is built by {shown(', '.join(built))}: neither StyleGAN2 of "
                      "configuration e or f nor StyleGAN2-ADA")  # fmt: skip
    options: dict[str, Any] = {}
    for state in reversed(states.values()):  # the whole overrides its parts
        options |= state["static_kwargs"]
    arrays: dict[str, np.ndarray] = {}
    for prefix, state in states.items():
        for variable, value in _variables(name, state):
            if prefix + variable == "lod":
                if value.size != 1 or value != 0:
                    raise Refused(f"{name} still grows: its level of detail is not 0")
                continue
            key = _published_name(kind, prefix + variable)
            if key is None or key in arrays:
                raise Refused(f"{name} has the variable {shown(prefix + variable)}, which is "
                              f"{'a second one' if key else 'none of StyleGAN2'}")  # fmt: skip
            budget.spend(value.nbytes)
            arrays[key] = np.array(_published_layout(key, value), order="C")
    return kind, _options(name, kind, BUILDERS[built], options), arrays


def _state(name: str, stored: Any) -> dict[str, Any]:
    state = stored.state if isinstance(stored, Stored) else None
    if state is None:
        raise Refused(f"{name} is no network")
    types = {"build_func_name": str, "static_kwargs": dict, "variables": list}
    state = {"components": {}} | state
    for key, kind in (types | {"components": dict}).items():
        if type(state.get(key)) is not kind:
            raise Refused(f"{name} has no {key}")
    return state


def _variables(name: str, state: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for item in state["variables"]:
        variable, value = item if type(item) is tuple and len(item) == 2 else (None, None)
        if isinstance(value, Array):
            value = value.values
        elif type(value) is float:  # single numbers are no arrays
            value = np.array(value, np.float32)
        if type(variable) is not str or not isinstance(value, np.ndarray):
            raise Refused(f"{name} has a variable without a name or without numbers")
        yield variable, value


def _published_name(kind: str, variable: str) -> str | None:
    for pattern, name in NAMES[kind]:
        match = pattern.fullmatch(variable)
        if match:
            name = match.expand(name).lower().replace("_up.", ".").replace("_down.", ".")
            return name.replace(".mod_", ".affine.")
    return None


def _published_layout(key: str, array: np.ndarray) -> np.ndarray:
    if key.endswith((".const", ".noise_const")):  # stored as a batch of one, noise of one channel
        for _ in range(1 if key.endswith(".const") else 2):
            array = array[0] if array.shape[:1] == (1,) else array
        return array
    if key.endswith(".affine.bias"):
        return array + 1  # added when the network runs
    if not key.endswith(".weight"):
        return array
    if array.ndim == 4:
        up = key.startswith("synthesis.") and key.endswith(".conv0.weight")
        # That of the upsampling convolution is turned around against the PyTorch one.
        return (array[::-1, ::-1] if up else array).transpose(3, 2, 0, 1)
    return array.T


def _options(name: str, kind: str, source: str, given: dict[str, Any]) -> dict[str, Any]:
    given = {"label_size": 0, "resolution": 1024, "num_channels": 3} | DEFAULTS[kind] | given
    if kind == "Discriminator":
        given.setdefault("mbstd_group_size", 4 if source == FIRST else None)
        if source == FIRST and given["mbstd_group_size"] in (0, 1):
            given |= {"mbstd_group_size": None, "mbstd_num_features": 0}  # left out
        if given.get("architecture") == "skip" and given.get("conv_clamp") is not None:
            # This one clips what the image adds at 4 pixels; the PyTorch one and ours do not.
            raise Refused(f"{name} has the option conv_clamp with the architecture skip")
    if type(given.get("fmap_base")) is int:
        given["fmap_base"] *= 2
    found: dict[str, Any] = {}
    for option, value in given.items():
        if option in IDLE or (option in FIXED and value == FIXED[option]):
            continue
        if option not in OPTIONS[kind]:
            raise Refused(f"{name} has the option {shown(str(option))}, which cannot be read")
        *places, key = OPTIONS[kind][option].split()
        (found.setdefault(places[0], {}) if places else found)[key] = value
    return found
