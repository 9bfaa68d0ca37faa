"""Starting a GAN from networks on disk instead of from random ones (`gan.init_from`).

The file must be of the architecture of the config, which is checked before anything is computed;
`gan.init_grow` permits a lower resolution, whose blocks are then taken while the new ones, at the
higher resolutions, are fresh. A grown "skip" generator starts as the enlarged old one: the image
layers of its new blocks start from zero.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fairjax.errors import InputError
from fairjax.models.published import check_arrays
from fairjax.models.stylegan2 import block_resolutions, channels
from fairjax.train.conditions import Conditions, Numbers
from fairjax.train.devices import put_replicated
from fairjax.train.gan_state import GanState
from fairjax.train.network_files import Saved, flat, nested, read, sha256

log = logging.getLogger("fairjax")

# Fields of our networks -> the config keys that decide them. The widths and the resolution, which
# may differ without a difference in shapes, are compared apart.
G_KEYS = {"image_channels": "data.channels", "z_dim": "gan.z_dim", "w_dim": "gan.w_dim",
          "c_dim": "the number of labels", "mapping_layers": "gan.mapping_layers",
          "architecture": "gan.g_architecture"}  # fmt: skip
D_KEYS = {"image_channels": "data.channels", "c_dim": "the number of labels",
          "architecture": "gan.d_architecture"}  # fmt: skip
EMBED = "mapping/embed/weight"


class Start(NamedTuple):
    """Parameters by path that replace those of a fresh state, and what the run records of them."""

    g: dict[str, np.ndarray]
    ema: dict[str, np.ndarray]
    d: dict[str, np.ndarray]
    w_avg: np.ndarray
    record: dict[str, Any]
    second: dict[str, np.ndarray] | None = None  # of a frozen second discriminator, if other than d

    def __call__(self, state: GanState) -> GanState:
        """The fresh state with these parameters; optimisers and running means stay fresh."""

        def replaced(fresh: Any, arrays: dict[str, np.ndarray]) -> Any:
            # Copies of their own: a step donates its state.
            return nested(flat(fresh) | {k: put_replicated(np.array(v)) for k, v in arrays.items()})

        second = state.second
        if second is not None and second.optimiser is None:  # frozen: what the first starts from
            second = second.replace(d=replaced(second.d, self.d if self.second is None
                                               else self.second))  # fmt: skip
        return state.replace(
            second=second,
            g=replaced(state.g, self.g),
            ema=replaced(state.ema, self.ema),
            d=replaced(state.d, self.d),
            w_avg=put_replicated(np.array(self.w_avg, np.float32)),
        )


def start_from(
    gan: ConfigDict, g: Any, d: Any, state: GanState, labels: Conditions | None = None
) -> Start:
    """Reads `gan.init_from` and checks it against the networks of the config.

    Args:
      gan: its keys `init_from`, `init_d` and `init_grow` are read.
      g: the generator, d: the discriminator that are trained.
      state: the fresh state or its shapes.
      labels: what the run trains on. Where they are numbers on another scale than those of the
        file, the embeddings are changed so that equal raw values mean the same.

    Raises:
      InputError: the file cannot be read, or is of another architecture; then the message names the
        config keys to change.
    """
    path = Path(gan.init_from)
    saved = read(path)
    problems = _problems(saved.g_fields, g, G_KEYS, gan.init_grow)
    problems += _labels(saved, labels)
    with_d = gan.init_d == "file"
    if with_d:
        if saved.d_fields is None:
            raise InputError("it holds no discriminator", str(path), "Set gan.init_d=fresh")
        keys = D_KEYS | ({"mapping_layers": "the layers behind the label"} if d.c_dim else {})
        problems += _problems(saved.d_fields, d, keys, gan.init_grow)
        theirs, ours = (features if group else 0 for group, features in (
            (saved.d_fields["mbstd_group"], saved.d_fields["mbstd_features"]),
            (d.mbstd_group, d.mbstd_features)))  # fmt: skip
        if theirs != ours:
            problems.append(f"it has {theirs} features of the minibatch standard deviation, the "
                            f"config {ours} (gan.mbstd_group; 0 = none)")  # fmt: skip
    if problems:
        raise InputError(
            "; ".join(dict.fromkeys(problems)),
            f"gan.init_from={path}",
            "Change these keys, or give another file",
        )
    theirs, ours = (_classes(of) for of in (saved.conditions, labels and labels.record()))
    if theirs and ours and theirs != ours:
        log.warning("gan.init_from: its classes are %s, now %s; what the networks learnt of one is "
                    "taken for that of the other at its place", theirs, ours)  # fmt: skip
    if (saved.g_fields["conv_clamp"] or 0) != (g.conv_clamp or 0):
        log.warning("gan.init_from: the networks were trained with gan.conv_clamp=%g, now %g",
                    saved.g_fields["conv_clamp"] or 0, g.conv_clamp or 0)  # fmt: skip
    size = saved.g_fields["resolution"]
    from_ema = saved.g is None
    ema = _taken(saved.ema, state.ema, size, str(path))
    found_g = ema if from_ema else _taken(saved.g, state.g, size, str(path))
    found_d = _taken(saved.d, state.d, size, str(path)) if with_d else {}
    found_g, ema, found_d = (_on_scale(part, saved, labels) for part in (found_g, ema, found_d))
    record = {
        "file": str(path),
        "sha256": sha256(path),
        "resolution": size,
        "generator_in_training": "moving average" if from_ema else "its own weights",
        "generator": _blocks(flat(state.g), ema),
        "discriminator": _blocks(flat(state.d), found_d),
    }
    if g.architecture == "skip":
        for name, leaf in flat(state.g).items():
            if "/torgb/weight" in name and name not in ema:
                found_g, ema = ({**part, name: np.zeros(leaf.shape, np.float32)}
                                for part in (found_g, ema))  # fmt: skip
    # The means of the file's classes, where they are as many; else each starts from that of all.
    same = saved.w_avg.shape == state.w_avg.shape
    mean = saved.w_avg if same else np.broadcast_to(saved.mean(), state.w_avg.shape)
    if not gan.second_from:
        return Start(found_g, ema, found_d, mean, record)
    record["second"] = {"file": gan.second_from, "sha256": sha256(Path(gan.second_from))}
    return Start(
        found_g, ema, found_d, mean, record, _discriminator(gan.second_from, d, state, labels)
    )


def _discriminator(
    name: str, d: Any, state: GanState, labels: Conditions | None
) -> dict[str, np.ndarray]:
    """The discriminator of a file, which must have the architecture and labels of the config's;
    numbers on another scale mean the same to it."""
    path = Path(name)
    saved = read(path)
    if saved.d_fields is None:
        raise InputError("it holds no discriminator", f"gan.second_from={name}", "Give another")
    problems = [*_problems(saved.d_fields, d, D_KEYS, grow=False), *_labels(saved, labels)]
    if problems:
        raise InputError("; ".join(dict.fromkeys(problems)), f"gan.second_from={name}",
                         "Change these keys, or give another file")  # fmt: skip
    found = _taken(saved.d, state.d, saved.d_fields["resolution"], name)
    return _on_scale(found, saved, labels)


def _labels(saved: Saved, labels: Conditions | None) -> list[str]:
    """A problem where the labels of a file are other numbers than those of the config."""
    theirs, ours = _columns(saved.conditions), _columns(labels and labels.record())
    if saved.conditions is None or theirs == ours:
        return []
    return [f"its labels are {theirs}, those of the config {ours} "
            "(gan.condition, gan.condition_form)"]  # fmt: skip


def _on_scale(
    part: dict[str, np.ndarray], saved: Saved, labels: Conditions | None
) -> dict[str, np.ndarray]:
    """The arrays of a network with the embedding of its labels on the scale of ours."""
    if not part or labels is None or labels.numbers is None or saved.conditions is None:
        return part
    old = Numbers.of_record(saved.conditions["numbers"])
    return {**part, EMBED: labels.numbers.adopted(part[EMBED], old)}


def log_start(record: dict[str, Any]) -> None:
    """Says which parts of the networks come from the file."""
    log.info("start from %s (sha256 %s, %d px); the generator in training starts from %s",
             record["file"], record["sha256"][:16], record["resolution"],
             record["generator_in_training"])  # fmt: skip
    for name in ("generator", "discriminator"):
        for kind, blocks in record[name].items():
            if blocks:
                log.info("start: %s, %s: %s", name, kind, ", ".join(blocks))


def _problems(theirs: dict[str, Any], ours: Any, keys: dict[str, str], grow: bool) -> list[str]:
    """Sentences that name the config keys in which a file differs."""
    wants = {field: getattr(ours, field) for field in keys}
    problems = [f"{key} is {wants[field]}, its {field} is {theirs[field]}"
                for field, key in keys.items() if theirs[field] != wants[field]]  # fmt: skip
    small = theirs["resolution"]
    if small > ours.resolution or (small < ours.resolution and not grow):
        also = " (or set gan.init_grow=True)" if small < ours.resolution else ""
        problems.append(f"data.resolution is {ours.resolution}, its resolution is {small}{also}")
    for size in block_resolutions(min(small, ours.resolution)):
        has = channels(size, theirs["channel_base"], theirs["channel_max"])
        needs = channels(size, ours.channel_base, ours.channel_max)
        if has != needs:
            problems.append(
                f"its block of {size} px has {has} channels instead of {needs} "
                f"(gan.channel_base={theirs['channel_base']}, "
                f"gan.channel_max={theirs['channel_max']} there)"
            )
            break
    return problems


def _columns(conditions: dict[str, Any] | None) -> str:
    """Words for labels that are numbers; "classes" for all others, of which nothing is compared."""
    if conditions is None or "numbers" not in conditions:
        return "classes"
    return f"the numbers {', '.join(conditions['attributes'])}"


def _classes(conditions: dict[str, Any] | None) -> str:
    """Words for the classes of labels, in their order; "" without."""
    if conditions is None or "numbers" in conditions:
        return ""
    return f"{', '.join(conditions['classes'])} ({' x '.join(conditions['attributes'])})"


def _block(name: str) -> tuple[str, int]:
    """("synthesis/b8", 8) of "synthesis/b8/conv0/bias"; ("mapping", 0)."""
    parts = name.split("/")
    for i, part in enumerate(parts[:2]):
        if part[0] == "b" and part[1:].isdigit():
            return "/".join(parts[: i + 1]), int(part[1:])
    return parts[0], 0


def _taken(saved: Any, fresh: Any, size: int, where: str) -> dict[str, np.ndarray]:
    """The arrays of a file of `size` pixels that a network takes.

    All of its blocks up to that resolution must be there; what only the end of the smaller network
    had (its image layer at the highest resolution) is left.
    """
    found, wanted = flat(saved), {k: v.shape for k, v in flat(fresh).items()}
    largest = max(_block(name)[1] for name in wanted)
    if size < largest:
        wanted = {name: shape for name, shape in wanted.items() if _block(name)[1] <= size}
        end = ("torgb", "fromrgb")
        found = {name: array for name, array in found.items() if name in wanted
                 or _block(name)[1] != size or not any(e in name for e in end)}  # fmt: skip
    check_arrays({k: v.shape for k, v in found.items()}, wanted, where, "Give another file")
    return found


def _blocks(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, list[str]]:
    names = {_block(name): name in found for name in wanted}
    ordered = sorted(names, key=lambda block: block[1])
    return {
        "taken from the file": [block[0] for block in ordered if names[block]],
        "fresh": [block[0] for block in ordered if not names[block]],
    }
