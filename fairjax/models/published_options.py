"""The options of published StyleGAN2 networks (`init_kwargs`) <-> the fields of our networks.

Options that change no number are passed over; every option that ours do not have is refused by its
name, since a network with other options has other outputs under the same names.
"""

import logging
from typing import Any

from fairjax.errors import InputError
from fairjax.models.published_pickle import Network

log = logging.getLogger("fairjax")

MEND = "Networks with this option cannot be read"
# How a network is computed or was trained; the numbers of the network are the same.
IDLE = ("fp16_channels_last", "channels_last", "fused_modconv_default", "freeze_layers",
        "w_avg_beta", "use_fp16")  # fmt: skip
WHOLE_BATCH = None  # as a group of the minibatch standard deviation


class _Options:
    """Takes options by name; what is left at the end is unknown."""

    def __init__(self, where: str, given: dict[str, Any], **trees: Any):
        self.where = where
        self.left = dict(given)
        for name, tree in trees.items():
            if not isinstance(tree, dict):
                kind = type(tree).__name__
                raise InputError(f"options {name} that are a {kind}", where, MEND)
            self.left |= tree

    def take(self, name: str, default: Any = None) -> Any:
        return self.left.pop(name, default)

    def count(
        self, name: str, default: int | None = None, least: int = 1, most: int = 2**20
    ) -> int:
        """A whole number from `least` to `most`: absurd ones would take hours to build."""
        value = self.take(name, default)
        if type(value) is not int or not least <= value <= most:
            raise InputError(f"the option {name} is {_short(value)}", self.where, MEND)
        return value

    def only(self, name: str, *allowed: Any) -> None:
        """Refuses an option that is given and has another value than these."""
        if name in self.left and self.left.pop(name) not in allowed:
            raise InputError(f"the option {name} is not {allowed[0]}", self.where, MEND)

    def end(self) -> None:
        rest = sorted(name for name in self.left if name not in IDLE)
        if rest:
            raise InputError(
                f"unknown option {', '.join(rest)[:200]}",
                self.where,
                "Only networks of StyleGAN2 can be read",
            )


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float | None) else "no number"


def _common(options: _Options, network: Network, layer: str) -> dict[str, Any]:
    """What both networks have. Where an option was left to its default, which differs between the
    repositories, the attributes of the layers tell."""
    resolution = options.count("img_resolution")
    if resolution < 8 or resolution & (resolution - 1) or resolution > 1024:
        raise InputError(f"a resolution of {resolution}", options.where,
                         "Powers of two from 8 to 1024 can be read")  # fmt: skip
    attributes = network.attributes
    top = layer.format(resolution)
    clamp = options.take("conv_clamp", attributes.get(f"{top}.conv1.conv_clamp"))
    if clamp is not None and (type(clamp) not in (int, float) or not 0 < clamp < float("inf")):
        raise InputError(f"the option conv_clamp is {_short(clamp)}", options.where, MEND)
    in_half = sum(v is True for k, v in attributes.items() if k.endswith(".use_fp16"))
    half = options.take("num_fp16_res", in_half)
    if half:
        log.info("%s: its %s highest resolutions were trained in float16; here they are float32 "
                 "(gan.half_resolutions trains in bfloat16)", options.where, half)  # fmt: skip
    options.only("activation", "lrelu")
    options.only("resample_filter", [1, 3, 3, 1], (1, 3, 3, 1))
    fields = {
        "resolution": resolution,
        "image_channels": options.count("img_channels"),
        "channel_base": options.count("channel_base", 32768),
        "channel_max": options.count("channel_max", 512),
        "c_dim": options.count("c_dim", least=0),
        "architecture": options.take("architecture"),
        "conv_clamp": None if clamp is None else float(clamp),
    }
    if fields["architecture"] not in ("skip", "resnet", "orig"):
        raise InputError(f"the option architecture is {_short(fields['architecture'])}",
                         options.where, MEND)  # fmt: skip
    if fields["channel_base"] < resolution:
        raise InputError("the option channel_base is below the resolution", options.where, MEND)
    return fields


def _mapping(network: Network, where: str, width: int) -> int:
    """Checks the options of a mapping network; its number of layers."""
    options = _Options(where, {}, mapping_kwargs=network.init_kwargs.get("mapping_kwargs", {}))
    layers = options.count("num_layers", 8, least=0, most=64)
    for name in ("embed_features", "layer_features"):
        options.only(name, None, width)
    options.only("activation", "lrelu")
    rate = options.take("lr_multiplier", 0.01)
    if layers and rate != 0.01:
        raise InputError(f"the option lr_multiplier is {_short(rate)}", where, MEND)
    options.end()
    return layers


def generator_fields(network: Network, where: str) -> dict[str, Any]:
    """Published options -> fields of `Generator`; raises InputError at one that it lacks."""
    given = {k: v for k, v in network.init_kwargs.items() if not k.endswith("_kwargs")}
    tree = network.init_kwargs.get("synthesis_kwargs", {})
    options = _Options(where, {"architecture": "skip"} | given, synthesis_kwargs=tree)
    fields = _common(options, network, "synthesis.b{}")
    fields |= {"z_dim": options.count("z_dim"), "w_dim": options.count("w_dim")}
    options.only("use_noise", True)
    options.only("kernel_size", 3)
    _no_other_tree(network, where, "mapping_kwargs", "synthesis_kwargs")
    options.end()
    return fields | {"mapping_layers": _mapping(network, where, fields["w_dim"])}


def discriminator_fields(network: Network, where: str) -> dict[str, Any]:
    """Published options -> fields of `Discriminator`; raises InputError at one that it lacks."""
    kwargs = network.init_kwargs
    given = {k: v for k, v in kwargs.items() if not k.endswith("_kwargs")}
    tree = kwargs.get("block_kwargs", {})
    options = _Options(where, {"architecture": "resnet"} | given, block_kwargs=tree)
    fields = _common(options, network, "b{}")
    last = min(fields["channel_base"] // 4, fields["channel_max"])
    options.only("cmap_dim", None, last if fields["c_dim"] else 0)
    _no_other_tree(network, where, "block_kwargs", "mapping_kwargs", "epilogue_kwargs")
    options.end()
    end = _Options(where, {}, epilogue_kwargs=kwargs.get("epilogue_kwargs", {}))
    features = end.count("mbstd_num_channels", 1, least=0)
    group = WHOLE_BATCH
    if end.left.get("mbstd_group_size", 4) is not None:
        group = end.count("mbstd_group_size", 4)
    end.take("mbstd_group_size")
    end.only("activation", "lrelu")
    end.end()
    return fields | {
        "mapping_layers": _mapping(network, where, last),
        # A group of more images than there are is the whole batch.
        "mbstd_group": 0 if not features else 2**20 if group is WHOLE_BATCH else group,
        "mbstd_features": features or 1,
        "mbstd_mode": "strided",
    }


def _no_other_tree(network: Network, where: str, *known: str) -> None:
    other = [k for k in network.init_kwargs if k.endswith("_kwargs") and k not in known]
    if other:
        raise InputError(f"unknown option {other[0][:80]}", where, MEND)


def init_kwargs(class_name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of ours -> the options of stylegan2-ada-pytorch, complete and explicit."""
    f = fields
    size = {"c_dim": f["c_dim"], "img_resolution": f["resolution"],
            "img_channels": f["image_channels"]}  # fmt: skip
    width = {"channel_base": f["channel_base"], "channel_max": f["channel_max"],
             "num_fp16_res": 0, "conv_clamp": f["conv_clamp"],
             "architecture": f["architecture"]}  # fmt: skip
    mapping = {"mapping_kwargs": {"num_layers": f["mapping_layers"]}}
    if class_name == "Generator":
        latent = {"z_dim": f["z_dim"], "w_dim": f["w_dim"]}
        return latent | size | mapping | {"synthesis_kwargs": width}
    group = f["mbstd_group"]
    epilogue = {
        "mbstd_num_channels": f["mbstd_features"] if group else 0,
        "mbstd_group_size": group if 0 < group < 2**20 else WHOLE_BATCH,
    }
    return size | width | mapping | {"block_kwargs": {}, "epilogue_kwargs": epilogue}
