"""The published StyleGAN2 configurations as changes of a config: `configs/folder.py:paper256`.

Source: the training configurations of StyleGAN2 with adaptive augmentation (Karras et al. 2020b,
table in appendix C, and "auto" of its release). A preset sets the networks, the objective (logistic
loss), the optimiser and the rhythm; which images are drawn and how they are weighted stays as it
is. Where the authors compute the four highest resolutions in float16, bfloat16 is used here.
"""

from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

Change = Callable[[ConfigDict], None]


class Preset(NamedTuple):
    """One row of the table; `resolution` 0 keeps that of the config, `ramp` 0 is no ramp."""

    resolution: int
    kimg: float
    batch: int
    mbstd: int
    channel_base: int
    learning_rate: float
    gamma: float
    ema_kimg: float
    ramp: float
    mapping_layers: int


WIDE, NARROW = 32768, 16384  # feature maps x resolution

TABLE = {
    "stylegan2": Preset(0, 25000, 32, 4, WIDE, 0.002, 10, 10, 0, 8),
    "paper256": Preset(256, 25000, 64, 8, NARROW, 0.0025, 1, 20, 0, 8),
    "paper512": Preset(512, 25000, 64, 8, WIDE, 0.0025, 0.5, 20, 0, 8),
    "paper1024": Preset(1024, 25000, 32, 4, WIDE, 0.002, 2, 10, 0, 8),
    "cifar": Preset(32, 100000, 64, 32, WIDE, 0.0025, 0.01, 500, 0.05, 2),
}


def published_gamma(resolution: int, batch: int) -> float:
    """R1's strength in "auto", for the logistic loss."""
    return 0.0002 * resolution**2 / batch


def auto(resolution: int, devices: int = 1) -> Preset:
    """The row that follows from the resolution and the number of devices."""
    batch = max(min(devices * min(4096 // resolution, 32), 64), devices)
    return Preset(
        resolution=resolution,
        kimg=25000,
        batch=batch,
        mbstd=min(batch // devices, 4),
        channel_base=WIDE if resolution >= 512 else NARROW,
        learning_rate=0.002 if resolution >= 1024 else 0.0025,
        gamma=published_gamma(resolution, batch),
        ema_kimg=batch * 10 / 32,
        ramp=0.05,
        mapping_layers=2,
    )


def apply(config: ConfigDict, preset: Preset) -> None:
    """Writes a row, and what all rows share, into a config."""
    if preset.resolution:
        config.data.resolution = preset.resolution
    config.gan.update(
        kimg=float(preset.kimg),
        batch=preset.batch,
        mbstd_group=preset.mbstd,
        mapping_layers=preset.mapping_layers,
        channel_base=preset.channel_base,
        channel_max=512,
        z_dim=512,
        w_dim=512,
        g_architecture="skip",
        d_architecture="resnet",
        half_resolutions=4,
        conv_clamp=256.0,
        loss="logistic",
        r1_gamma=float(preset.gamma),
        r1_target=0.0,
        r1_every=16,
        path_length_weight=2.0,
        path_length_every=4,
        style_mixing=0.9,
        learning_rate_g=preset.learning_rate,
        learning_rate_d=preset.learning_rate,
        decay_from=1.0,
        beta1=0.0,
        beta2=0.99,
        ema_kimg=float(preset.ema_kimg),
        ema_rampup=float(preset.ramp),
        log_every_kimg=4.0,
        save_every_kimg=200.0,
        sample_every_kimg=200.0,
    )
    config.eval.features_during = True


def _row(name: str) -> Change:
    def change(config: ConfigDict) -> None:
        apply(config, TABLE[name])
        if name == "cifar":
            config.gan.update(path_length_weight=0.0, style_mixing=0.0, d_architecture="orig")

    return change


def _auto(devices: int) -> Change:
    return lambda config: apply(config, auto(config.data.resolution, devices))


def presets() -> dict[str, Change]:
    """Variant name -> change. `auto` is for one device, `auto8` for eight."""
    found = {f"auto{'' if n == 1 else n}": _auto(n) for n in (1, 2, 4, 8)}
    return found | {name: _row(name) for name in TABLE}
