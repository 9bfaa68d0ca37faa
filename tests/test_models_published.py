"""Names, layouts and options of published networks."""

import jax.numpy as jnp
import numpy as np
import pytest
from published_networks import D_FIELDS, G_FIELDS, arrays, assert_equal

from fairjax.errors import InputError
from fairjax.models.published import build, export_network, import_network, shapes

# As the published networks of 8 pixels list them; 6 channels, w 7, z 5, 2 mapping layers.
LAYER = {"weight": (6, 6, 3, 3), "bias": (6,), "noise_strength": (), "affine.weight": (6, 7),
         "affine.bias": (6,), "resample_filter": (4, 4)}  # fmt: skip
TORGB = {"weight": (3, 6, 1, 1), "bias": (3,), "affine.weight": (6, 7), "affine.bias": (6,)}
FILTER = {"resample_filter": (4, 4)}


def under(prefix, table):
    return {f"{prefix}.{name}": shape for name, shape in table.items()}


SKIP_G = {
    "mapping.fc0.weight": (7, 5), "mapping.fc0.bias": (7,), "mapping.fc1.weight": (7, 7),
    "mapping.fc1.bias": (7,), "mapping.w_avg": (7,), "synthesis.b4.const": (6, 4, 4),
    **under("synthesis.b4", FILTER), **under("synthesis.b8", FILTER),
    **under("synthesis.b4.conv1", LAYER | {"noise_const": (4, 4)}),
    **under("synthesis.b8.conv0", LAYER | {"noise_const": (8, 8)}),
    **under("synthesis.b8.conv1", LAYER | {"noise_const": (8, 8)}),
    **under("synthesis.b4.torgb", TORGB), **under("synthesis.b8.torgb", TORGB),
}  # fmt: skip
LABEL_G = {
    "mapping.embed.weight": (7, 2),
    "mapping.embed.bias": (7,),
    "mapping.fc0.weight": (7, 12),
}
RESNET_G = {"synthesis.b8.skip.weight": (6, 6, 1, 1), "synthesis.b8.skip.resample_filter": (4, 4)}
CONV = {"weight": (6, 6, 3, 3), "bias": (6,), "resample_filter": (4, 4)}
RGB = {"weight": (6, 3, 1, 1), "bias": (6,), "resample_filter": (4, 4)}
ORIG_D = {
    **under("b8.fromrgb", RGB), **under("b8.conv0", CONV), **under("b8.conv1", CONV),
    **under("b8", FILTER), **under("b4.conv", CONV | {"weight": (6, 7, 3, 3)}),
    "b4.fc.weight": (6, 96), "b4.fc.bias": (6,), "b4.out.weight": (1, 6), "b4.out.bias": (1,),
}  # fmt: skip
RESNET_D = {"b8.skip.weight": (6, 6, 1, 1), "b8.skip.resample_filter": (4, 4)}
LABEL_D = {"mapping.embed.weight": (6, 2), "mapping.embed.bias": (6,), "b4.out.weight": (6, 6),
           "b4.out.bias": (6,)}  # fmt: skip
NO_RGB = [name for name in SKIP_G if name.startswith("synthesis.b4.torgb")]

CASES = [
    ("Generator", {}, SKIP_G),
    ("Generator", {"c_dim": 2}, SKIP_G | LABEL_G),
    ("Generator", {"architecture": "resnet", "conv_clamp": 256.0},
     {k: v for k, v in SKIP_G.items() if k not in NO_RGB} | RESNET_G),
    ("Generator", {"architecture": "orig"}, {k: v for k, v in SKIP_G.items() if k not in NO_RGB}),
    ("Discriminator", {}, ORIG_D | RESNET_D),
    ("Discriminator", {"architecture": "orig", "mbstd_group": 0},
     ORIG_D | {"b4.conv.weight": (6, 6, 3, 3)}),
    ("Discriminator", {"architecture": "skip", "mbstd_group": 2**20},
     ORIG_D | under("b4.fromrgb", RGB)),
    ("Discriminator", {"c_dim": 2, "mapping_layers": 0}, ORIG_D | RESNET_D | LABEL_D),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "names"), CASES)
def test_names_and_shapes_are_the_published_ones_and_come_back_bit_by_bit(kind, changes, names):
    fields = (G_FIELDS if kind == "Generator" else D_FIELDS) | changes
    tree = arrays(kind, fields, 0)
    there = export_network(kind, fields, tree)
    assert {name: array.shape for name, array in there.arrays.items()} == names
    found, back = import_network(there, "file")
    assert found == fields
    assert_equal(back, tree)


def test_layouts():
    tree = arrays("Generator", G_FIELDS, 0)
    there = export_network("Generator", G_FIELDS, tree).arrays
    ours = tree["params"]["synthesis"]
    kernel, published = ours["b8"]["conv0"]["weight"], there["synthesis.b8.conv0.weight"]
    assert kernel[0, 2, 3, 4] == published[4, 3, 0, 2]  # HWIO, OIHW; not turned around
    assert ours["b4"]["const"][1, 2, 3] == there["synthesis.b4.const"][3, 1, 2]
    fc = tree["params"]["mapping"]["fc0"]["weight"]
    assert fc[1, 6] == there["mapping.fc0.weight"][6, 1]
    taps = np.array([1, 3, 3, 1]) / 8
    np.testing.assert_array_equal(there["synthesis.b8.resample_filter"], np.outer(taps, taps))


def test_the_up_kernel_of_a_published_layer_is_stored_in_convolution_orientation():
    # One pixel in, so that the output shows the kernel: published tap (a, b) adds to the pixel
    # (2 r + a, 2 c + b) before the blur. Here the blur's centre of mass tells the tap.
    from fairjax.models.published import our_layout
    from fairjax.models.resample import conv_up

    pixel = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4, 0].set(1.0)
    rows = np.arange(16)
    for a, b in ((0, 2), (2, 0), (1, 1)):
        published = np.zeros((1, 1, 3, 3), np.float32)
        published[0, 0, a, b] = 1
        kernel = jnp.asarray(our_layout("params/synthesis/b8/conv0/weight", published))
        y = np.asarray(conv_up(pixel, kernel))[0, :, :, 0]
        y = y / y.sum()
        assert (y.sum(1) @ rows, y.sum(0) @ rows) == pytest.approx((8 + a - 0.5, 8 + b - 0.5))


@pytest.mark.parametrize(
    ("kind", "changes", "total"),
    [
        ("Generator", {"resolution": 64, "mapping_layers": 2}, 22_243_608),
        ("Generator", {"resolution": 256, "mapping_layers": 8}, 24_767_458),
        ("Discriminator", {"resolution": 64}, 23_407_361),
    ],
)
def test_parameter_totals_are_the_published_ones(kind, changes, total):
    wide = {"channel_base": 16384, "channel_max": 512}
    fields = {"Generator": G_FIELDS | {"z_dim": 512, "w_dim": 512}, "Discriminator": D_FIELDS}[kind]
    found = shapes(build(kind, fields | wide | changes))
    assert sum(int(np.prod(s)) for k, s in found.items() if k.startswith("params/")) == total


def test_arrays_that_do_not_fit_are_named():
    there = export_network("Generator", G_FIELDS, arrays("Generator", G_FIELDS, 0))

    def refused(change):
        changed = there._replace(arrays=dict(there.arrays))
        change(changed.arrays)
        with pytest.raises(InputError) as error:
            import_network(changed, "x.pkl")
        return str(error.value)

    name = "synthesis.b8.conv0.bias"
    assert f"{name} [6] is missing" in refused(lambda a: a.pop(name))
    assert "b8.conv2.bias [6] is left over" in refused(
        lambda a: a.update({"b8.conv2.bias": np.zeros(6, np.float32)})
    )
    assert "the shape [5] instead of [6]" in refused(
        lambda a: a.update({name: np.zeros(5, np.float32)})
    )
    assert "float64" in refused(lambda a: a.update({name: np.zeros(6)}))
    sharp = np.zeros((4, 4), np.float32)
    assert "another filter" in refused(lambda a: a.update({"synthesis.b8.resample_filter": sharp}))


@pytest.mark.parametrize(
    ("kind", "place", "option", "value"),
    [
        ("Generator", "synthesis_kwargs", "activation", "relu"),
        ("Generator", "synthesis_kwargs", "resample_filter", [1, 2, 1]),
        ("Generator", "synthesis_kwargs", "use_noise", False),
        ("Generator", "synthesis_kwargs", "architecture", "dense"),
        ("Generator", "synthesis_kwargs", "conv_clamp", -1),
        ("Generator", "synthesis_kwargs", "conv_clamp", "256"),
        ("Generator", "synthesis_kwargs", "channel_base", 2**40),
        ("Generator", "synthesis_kwargs", "magnitude_ema_beta", 0.5),
        ("Generator", "mapping_kwargs", "lr_multiplier", 0.1),
        ("Generator", "mapping_kwargs", "layer_features", 9),
        ("Generator", "mapping_kwargs", "num_layers", 10**9),
        ("Generator", None, "img_resolution", 48),
        ("Generator", None, "img_resolution", 2**20),
        ("Generator", None, "z_dim", "5"),
        ("Generator", "mapping_kwargs", "num_layers", 65),
        ("Generator", None, "mapping_kwargs", [1]),
        ("Generator", None, "other_kwargs", {}),
        ("Discriminator", "epilogue_kwargs", "activation", "swish"),
        ("Discriminator", "block_kwargs", "activation", "relu"),
        ("Discriminator", "mapping_kwargs", "embed_features", 9),
        ("Discriminator", None, "cmap_dim", 9),
        ("Discriminator", None, "img_channels", 0),
    ],
)
def test_options_that_ours_lack_are_named(kind, place, option, value):
    fields = G_FIELDS if kind == "Generator" else D_FIELDS
    there = export_network(kind, fields, arrays(kind, fields, 0))
    options = there.init_kwargs[place] if place else there.init_kwargs
    options[option] = value
    with pytest.raises(InputError, match=option if option != "img_resolution" else "resolution"):
        import_network(there, "x.pkl")


def test_absurd_options_take_no_memory():
    there = export_network("Discriminator", D_FIELDS, arrays("Discriminator", D_FIELDS, 0))
    there.init_kwargs.update(img_resolution=1024, img_channels=2**20, channel_max=2**20,
                             channel_base=2**20)  # fmt: skip
    with pytest.raises(InputError, match="instead of|is missing"):
        import_network(there, "x.pkl")


def test_idle_options_and_those_of_the_other_repository_are_understood():
    there = export_network("Generator", G_FIELDS, arrays("Generator", G_FIELDS, 0))
    options = dict(there.init_kwargs)
    options |= options.pop("synthesis_kwargs")
    options |= {"fused_modconv_default": "inference_only", "num_fp16_res": 4}
    options.pop("conv_clamp")  # left to its default, which the layers remember
    attributes = {"synthesis.b8.conv1.conv_clamp": 256}
    network = there._replace(init_kwargs=options, attributes=attributes)
    assert import_network(network, "x")[0] == G_FIELDS | {"conv_clamp": 256.0}
