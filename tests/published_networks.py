"""Small networks with random numbers everywhere, for the tests of files."""

import jax
import numpy as np

from fairjax.models.published import build, shapes
from fairjax.train.network_files import Saved, flat, nested

COMMON = {"resolution": 8, "image_channels": 3, "channel_base": 64, "channel_max": 6, "c_dim": 0,
          "conv_clamp": None}  # fmt: skip
G_FIELDS = COMMON | {"z_dim": 5, "w_dim": 7, "mapping_layers": 2, "architecture": "skip"}
D_FIELDS = COMMON | {"mapping_layers": 8, "architecture": "resnet", "mbstd_group": 4,
                     "mbstd_features": 1, "mbstd_mode": "strided"}  # fmt: skip


def arrays(class_name, fields, seed):
    """Random numbers for every array of a network of ours."""
    draw = np.random.default_rng(seed)
    flat_tree = {path: draw.normal(size=shape).astype(np.float32)
                 for path, shape in shapes(build(class_name, fields)).items()}  # fmt: skip
    return nested(flat_tree)


def saved(g=None, d=None, raw=True):
    """Networks of these fields (changes of the ones above), with a generator in training."""
    g, d = G_FIELDS | (g or {}), D_FIELDS | (d or {})
    ema, other = (arrays("Generator", g, seed) for seed in (1, 2))
    return Saved(g, ema["params"], ema["w_avg"], buffers=ema["buffers"],
                 g=other["params"] if raw else None, d_fields=d,
                 d=arrays("Discriminator", d, 3)["params"])  # fmt: skip


def assert_equal(one, other):
    """Two trees have the same names and the same bits."""
    one, other = flat(jax.device_get(one)), flat(jax.device_get(other))
    assert one.keys() == other.keys()
    for name in one:
        assert np.asarray(one[name]).shape == np.asarray(other[name]).shape, name
        assert np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes(), name
