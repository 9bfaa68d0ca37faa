"""How much arithmetic a training step needs: a closed form, whatever the compiler makes of it.

It is that of direct sums: a rate by it may pass that of the machine's products where a form does
with fewer (`models/winograd.py`).

Counted are the multiply-accumulates of convolutions and dense layers; one is 2 FLOP. A convolution
that doubles or halves the size counts at its smaller side, where its products are (the zeros that a
dilated form inserts are no work). Not counted: resampling filters, demodulation, noise,
activations, losses, optimisers, a second discriminator, the judge of a penalty.

A phase is a number of passes per image, with G = mapping + synthesis forward and D = one forward of
the discriminator. The gradient of a network with respect to inputs and weights is two more passes,
with respect to inputs alone one more; a gradient through such an input gradient (R1, path length)
differentiates forward and backward pass again:

  g            3 G + 2 D        gradient of the generator through the discriminator
  path length  6 synthesis + 3 mapping, on half the batch
               forward, input gradient, and twice two for the gradient through both
  d            1 G + 6 D        fakes without gradient; reals and fakes, three passes each
  r1           6 D              as path length, in the discriminator on the reals

With style mixing the mapping runs twice for every image. The last pass of the first layers, the
gradient of the image in `d`, is counted although it is not needed (below 0.1 %).
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from fairjax.config import d_widths
from fairjax.models.stylegan2 import block_resolutions, channels

PHASES = ("g", "path_length", "d", "r1")


class Macs(NamedTuple):
    """Multiply-accumulates of one forward pass per image."""

    mapping: int
    synthesis: int
    discriminator: int


def forward_macs(config: ConfigDict) -> Macs:
    """The networks of a config (an arm applied), per image."""
    gan, size = config.gan, config.data.resolution
    dims = [gan.z_dim] + [gan.w_dim] * gan.mapping_layers
    mapping = sum(a * b for a, b in zip(dims, dims[1:], strict=False))
    return Macs(
        mapping,
        _synthesis(gan, size, config.data.channels),
        _discriminator(gan, size, config.data.channels),
    )


def _synthesis(gan: ConfigDict, resolution: int, image: int) -> int:
    total, before = 0, 0
    for size in block_resolutions(resolution):
        wide = channels(size, gan.channel_base, gan.channel_max)
        if before:  # conv0 doubles the size; affine makes a style for each input channel
            total += (size // 2) ** 2 * 9 * before * wide + gan.w_dim * before
            if gan.g_architecture == "resnet":
                total += (size // 2) ** 2 * before * wide
        total += size**2 * 9 * wide * wide + gan.w_dim * wide
        if gan.g_architecture == "skip" or size == resolution:
            total += size**2 * wide * image + gan.w_dim * wide
        before = wide
    return total


def _discriminator(gan: ConfigDict, resolution: int, image: int) -> int:
    widths = d_widths(gan)

    def width(size: int) -> int:
        return channels(size, *widths)

    total = 0
    for size in block_resolutions(resolution)[1:]:
        wide, out, half = width(size), width(size // 2), (size // 2) ** 2
        if gan.d_architecture == "skip" or size == resolution:
            total += size**2 * image * wide
        total += size**2 * 9 * wide * wide + half * 9 * wide * out
        if gan.d_architecture == "resnet":
            total += half * wide * out
    last = width(4)
    if gan.d_architecture == "skip":
        total += 16 * image * last
    seen = last + (1 if gan.mbstd_group else 0)
    return total + 16 * 9 * seen * last + 16 * last * last + last


def phase_flop(config: ConfigDict) -> dict[str, float]:
    """FLOP of one run of each phase, and "iteration": their mean over the lazy rhythm."""
    gan = config.gan
    mapping, synthesis, d = forward_macs(config)
    mapping *= 2 if gan.style_mixing > 0 else 1
    g = mapping + synthesis
    half = max(gan.batch // 2, 1)
    of = {
        "g": 2.0 * gan.batch * (3 * g + 2 * d),
        "path_length": 2.0 * half * (6 * synthesis + 3 * mapping),
        "d": 2.0 * gan.batch * (g + 6 * d),
        "r1": 2.0 * gan.batch * 6 * d,
    }
    return of | {"iteration": iteration(gan, of)}


def iteration(gan: ConfigDict, of: dict[str, float]) -> float:
    """Cost of a mean iteration from the costs of its phases; a phase that is off costs nothing."""
    path = of["path_length"] / gan.path_length_every if gan.path_length_weight > 0 else 0.0
    r1 = of["r1"] / gan.r1_every if gan.r1_gamma > 0 else 0.0
    return of["g"] + path + of["d"] + r1
