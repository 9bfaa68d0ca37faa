"""What a compiled program predicts of many devices: a model of time spent in all-reduces.

A prediction from published bandwidths, not a measurement. Devices are joined in islands (a TPU pod,
a node of GPUs). An all-reduce of B bytes over n devices moves 2 (n - 1) / n B out of each of them
(Patarasuk and Yuan 2009); over several islands each device reduces its share of B between them.
"""

from typing import NamedTuple


class Hardware(NamedTuple):
    """A kind of device and its links, each per device and in one direction."""

    name: str
    rate: float  # FLOP/s that a step program is assumed to sustain
    island: int  # devices that the inner links join
    inside: float  # bytes/s within an island
    between: float  # bytes/s to other islands
    latency: float  # seconds of an all-reduce, whatever its size: assumed


# The share of the published bfloat16 peak that a mean iteration had on one H100 (README: 242 of 989
# TFLOP/s at 256 px), assumed for the others too.
SHARE = 242 / 989

# Peaks and links as published by the makers (Google Cloud's pages of v5e and v5p, NVIDIA's
# of the H100 SXM: NVLink 900 GB/s both ways, one 400 Gb/s adapter for each GPU).
HARDWARE = (
    Hardware("TPU v5e, ICI", SHARE * 197e12, 256, 200e9, 3.1e9, 50e-6),
    Hardware("TPU v5p, ICI", SHARE * 459e12, 6144, 600e9, 6.2e9, 50e-6),
    Hardware("H100, NVLink and InfiniBand", SHARE * 989e12, 8, 450e9, 50e9, 100e-6),
)


def all_reduce_seconds(hardware: Hardware, devices: int, number: float, size: float) -> float:
    """Seconds of `number` all-reduces of `size` bytes in all; 0 for one device."""
    if devices < 2:
        return 0.0
    inner = min(devices, hardware.island)
    return (number * hardware.latency + moved(inner, size) / hardware.inside
            + moved(devices / inner, size / inner) / hardware.between)  # fmt: skip


def moved(devices: float, size: float) -> float:
    """Bytes that each of the devices sends in an all-reduce of `size` bytes along a ring."""
    return 2 * (devices - 1) / devices * size


def efficiency(compute: float, sent: float) -> tuple[float, float]:
    """Images/s over devices x images/s of one of them at the same batch per device.

    Args:
      compute: seconds of a step on one device. sent: seconds of its all-reduces.

    Returns:
      (nothing of them, as much as possible of them) hidden behind the computation.
    """
    return compute / (compute + sent), compute / max(compute, sent)
