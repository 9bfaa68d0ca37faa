"""The published configurations, against the table of the reference, number by number."""

import pytest

from fairjax.config import defaults, variant, variants
from fairjax.errors import InputError
from fairjax.presets import auto
from fairjax.validation import validate

COLUMNS = ("kimg", "batch", "mbstd_group", "channel_base", "learning_rate_g", "r1_gamma",
           "ema_kimg", "ema_rampup", "mapping_layers")  # fmt: skip
ROWS = {
    "stylegan2": (25000, 32, 4, 32768, 0.002, 10, 10, 0, 8),
    "paper256": (25000, 64, 8, 16384, 0.0025, 1, 20, 0, 8),
    "paper512": (25000, 64, 8, 32768, 0.0025, 0.5, 20, 0, 8),
    "paper1024": (25000, 32, 4, 32768, 0.002, 2, 10, 0, 8),
    "cifar": (100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2),
}
RESOLUTIONS = {"paper256": 256, "paper512": 512, "paper1024": 1024, "cifar": 32}


def load(name):
    config = variant(defaults(), name, variants())
    validate(config)
    return config


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_the_table(name):
    config = load(name)
    assert tuple(config.gan[key] for key in COLUMNS) == ROWS[name]
    assert config.gan.learning_rate_d == config.gan.learning_rate_g
    assert config.data.resolution == RESOLUTIONS.get(name, defaults().data.resolution)
    gan = config.gan
    assert (gan.half_resolutions, gan.conv_clamp, gan.loss) == (4, 256, "logistic")
    assert (gan.beta1, gan.beta2, gan.r1_every, gan.path_length_every) == (0, 0.99, 16, 4)
    special = (0, 0, "orig") if name == "cifar" else (2, 0.9, "resnet")
    assert (gan.path_length_weight, gan.style_mixing, gan.d_architecture) == special


@pytest.mark.parametrize(
    ("resolution", "devices", "batch", "gamma", "ema"),
    [(64, 1, 32, 0.0256, 10), (128, 1, 32, 0.1024, 10), (256, 8, 64, 0.2048, 20)],
)
def test_auto_follows_the_resolution_and_the_devices(resolution, devices, batch, gamma, ema):
    found = auto(resolution, devices)
    assert (found.batch, found.ema_kimg, found.mbstd) == (batch, ema, 4)
    assert found.gamma == pytest.approx(gamma)
    assert (found.ramp, found.mapping_layers, found.kimg) == (0.05, 2, 25000)
    assert (found.channel_base, found.learning_rate) == (16384, 0.0025)


def test_auto_at_the_largest_sizes():
    found = auto(1024, 1)
    assert (found.batch, found.mbstd, found.learning_rate) == (4, 4, 0.002)
    assert found.channel_base == auto(512).channel_base == 32768
    assert auto(1024, 8).batch == 32  # four images for each device
    assert auto(512).learning_rate == 0.0025


def test_variants_are_joined_from_left_to_right():
    config = load("128+auto")
    assert (config.data.resolution, config.name) == (128, "fair_generation_128_auto")
    assert config.gan.r1_gamma == pytest.approx(0.1024)
    assert load("256+auto8").gan.r1_gamma == pytest.approx(0.2048)
    tiny = load("paper256+tiny")
    assert (tiny.data.resolution, tiny.gan.loss, tiny.gan.batch) == (16, "logistic", 8)
    with pytest.raises(InputError, match="variant 'hug' does not exist"):
        load("128+hug")
