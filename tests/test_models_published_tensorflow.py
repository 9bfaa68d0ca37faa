"""TensorFlow files of StyleGAN2: what is read from them, and what is refused."""

import functools
import os
import pickle
import re

import make_published as published
import make_published_tf as make
import numpy as np
import pytest
from make_published_tf import ADA, FIRST
from published_networks import assert_equal, saved

from fairjax.errors import InputError
from fairjax.experiments import convert
from fairjax.models.published_pickle import read_pickle
from fairjax.train import network_files
from fairjax.train.network_files import flat, nested

NO_MAPPING = {"mapping_layers": 0}


def networks(g=None, d=None):
    """Small networks whose style biases stay the same bits when 1 is subtracted and added."""
    found = saved(g, NO_MAPPING | (d or {}))

    def rounded(tree):
        return nested({path: np.round(array * 1024) / np.float32(1024)
                       if path.endswith("affine/bias") else array
                       for path, array in flat(tree).items()})  # fmt: skip

    return found._replace(ema=rounded(found.ema), g=rounded(found.g))


@functools.cache
def standard():
    return networks()


def write(path, content):
    path.write_bytes(content)
    return path


CASES = {
    "first": (FIRST, {}, {}, {}),  # groups of 4 are its default
    "first, resnet and skip, no statistics": (
        FIRST, {"architecture": "resnet"}, {"architecture": "skip", "mbstd_group": 0},
        {"mbstd_group_size": 0}),
    "first, orig, 2 statistics": (
        FIRST, {"architecture": "orig"},
        {"architecture": "orig", "mbstd_group": 2, "mbstd_features": 2},
        {"mbstd_group_size": 2, "mbstd_num_features": 2}),
    "ada, the whole batch": (ADA, {}, {"mbstd_group": 2**20}, {}),
    "ada, labels, clamp, half": (
        ADA, {"c_dim": 2, "conv_clamp": 256.0}, {"c_dim": 2, "conv_clamp": 256.0},
        {"mbstd_group_size": 4, "num_fp16_res": 4}),
    "ada, gray, no statistics": (
        ADA, {"image_channels": 1}, {"image_channels": 1, "mbstd_group": 0},
        {"mbstd_num_features": 0}),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_a_file_gives_the_networks_it_was_written_from_bit_by_bit(tmp_path, case):
    repository, g, d, options = CASES[case]
    there = networks(g, d)
    found = network_files.read(
        write(tmp_path / "net.pkl", make.content(there, repository, **options))
    )
    assert (found.g_fields, found.d_fields) == (there.g_fields, there.d_fields)
    for name in ("ema", "g", "d", "buffers"):
        assert_equal(getattr(found, name), getattr(there, name))
    assert found.w_avg.tobytes() == there.w_avg.tobytes()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_protocol_is_read_and_no_text_is_run(tmp_path, protocol):
    marker = tmp_path / "run"
    content = make.content(standard(), FIRST, protocol, f"open({str(marker)!r}, 'w')")
    found = read_pickle(write(tmp_path / "net.pkl", content))
    assert set(found) == {"G_ema", "G", "D"}
    assert not marker.exists()


def test_layouts(tmp_path):
    there = make.parts(networks({"architecture": "resnet"}))
    found = read_pickle(write(tmp_path / "net.pkl", published.dumps(there)))
    stored = dict(there[0].components["synthesis"].variables)
    arrays = found["G"].arrays
    up, plain = (f"synthesis.b8.{layer}.weight" for layer in ("conv0", "conv1"))
    assert arrays[up][4, 3, 0, 2] == stored["8x8/Conv0_up/weight"][2, 0, 3, 4]  # turned around
    assert arrays[plain][4, 3, 0, 2] == stored["8x8/Conv1/weight"][0, 2, 3, 4]
    np.testing.assert_array_equal(
        arrays["synthesis.b8.conv1.affine.bias"], stored["8x8/Conv1/mod_bias"] + 1
    )
    for i, layer in enumerate(("b4.conv1", "b8.conv0", "b8.conv1")):
        noise = arrays[f"synthesis.{layer}.noise_const"]
        np.testing.assert_array_equal(noise, stored[f"noise{i}"][0, 0])


def test_options_that_are_left_to_their_defaults(tmp_path):
    for repository, group in ((FIRST, 4), (ADA, None)):
        g, d, ema = make.parts(standard(), repository)
        for net in (g, *g.components.values(), d):
            net.static_kwargs.clear()
        found = read_pickle(write(tmp_path / "net.pkl", published.dumps((g, d, ema))))
        size = {"c_dim": 0, "img_resolution": 1024, "img_channels": 3}
        assert found["G"].init_kwargs == size | {"z_dim": 512, "w_dim": 512}
        assert found["D"].init_kwargs == size | {
            "mapping_kwargs": {"num_layers": 0, "lr_multiplier": 0.1},
            "epilogue_kwargs": {"mbstd_group_size": group},
        }


def test_it_converts_to_what_the_pytorch_file_does(tmp_path, capsys):
    there, files = standard(), {}
    contents = {"tf": make.content(there, FIRST),
                "torch": published.content(network_files.to_published(there))}  # fmt: skip
    for name, content in contents.items():
        source, out = write(tmp_path / f"{name}.pkl", content), tmp_path / name
        convert.main(["launch/convert.py", f"--source={source}", f"--out={out}"])
        assert "its discriminator, 8 px" in capsys.readouterr().out
        files[name] = {file.name: file.read_bytes() for file in out.iterdir()}
    assert len(files["tf"]) == 4
    assert files["tf"] == files["torch"]


# What is refused: changes of the three networks, and what the message names.


def renamed(net, old, new):
    net.variables = [(new if name == old else name, value) for name, value in net.variables]


def set_variable(net, name, value):
    net.variables = [item for item in net.variables if item[0] != name] + [(name, value)]


def options(net, **changes):
    net.static_kwargs |= changes


def synthesis(net):
    return net.components["synthesis"]


ONES = np.ones(6, np.float32)
REFUSED = {
    "an unknown variable": (
        lambda g, d, e: set_variable(synthesis(g), "8x8/Conv2/bias", ONES), "8x8/Conv2/bias"),
    "a variable in another part": (
        lambda g, d, e: set_variable(g, "4x4/Conv/bias", ONES), "4x4/Conv/bias, which is none"),
    "a variable of a layer that is not there": (
        lambda g, d, e: set_variable(synthesis(e), "16x16/Conv1/bias", ONES),
        "synthesis.b16.conv1.bias .* is left over"),
    "a missing variable": (
        lambda g, d, e: d.variables.pop(), "is missing"),
    "a variable twice": (
        lambda g, d, e: d.variables.append(d.variables[0]), "a second one"),
    "another shape": (
        lambda g, d, e: set_variable(d, "Output/bias", np.ones(2, np.float32)),
        r"b4.out.bias has the shape \[2\] instead of \[1\]"),
    "a constant of two images": (
        lambda g, d, e: set_variable(
            synthesis(g), "4x4/Const/const", np.ones((2, 6, 4, 4), np.float32)),
        r"b4.const has the shape \[2, 6, 4, 4\]"),
    "another type": (
        lambda g, d, e: set_variable(d, "Output/bias", np.ones(1)), "b4.out.bias is float64"),
    "text as a variable": (
        lambda g, d, e: set_variable(d, "Output/bias", "1"), "without numbers"),
    "objects as a variable": (
        lambda g, d, e: set_variable(d, "Output/bias", np.array([None])), "the type O8"),
    "big-endian numbers": (
        lambda g, d, e: set_variable(d, "Output/bias", np.ones(1, ">f4")), "big-endian"),
    "columns first": (
        lambda g, d, e: set_variable(
            d, "Output/weight", np.asfortranarray(np.ones((6, 2), np.float32))), "another order"),
    "an option that ours lack": (
        lambda g, d, e: options(g, fmap_decay=2), "G has the option fmap_decay"),
    "an unknown option": (
        lambda g, d, e: options(d, minibatch_magic=1), "D has the option minibatch_magic"),
    "another filter": (
        lambda g, d, e: options(e, resample_kernel=None), "resample_filter"),
    "another rate of the mapping": (
        lambda g, d, e: options(e, mapping_lrmul=0.1), "lr_multiplier"),
    "an option that is an array": (
        lambda g, d, e: options(d, architecture=ONES), "an option of the type"),
    "a clip in a skip discriminator": (
        lambda g, d, e: options(d, architecture="skip", conv_clamp=256), "conv_clamp"),
    "growth": (
        lambda g, d, e: set_variable(g, "lod", np.float32(2.5)), "level of detail"),
    "labels of the first repository": (
        lambda g, d, e: set_variable(g.components["mapping"], "LabelConcat/weight", ONES),
        "LabelConcat/weight, which is none"),
    "StyleGAN1": (
        lambda g, d, e: vars(g).update(build_func_name="G_style"),
        "G is built by G_style, .*configuration e or f"),
    "configuration d": (
        lambda g, d, e: vars(synthesis(g)).update(build_func_name="G_synthesis_stylegan_revised"),
        "stylegan_revised"),
    "a discriminator as a generator": (
        lambda g, d, e: vars(g).update(vars(d)), "G, mapping is no network"),
    "a part within itself": (
        lambda g, d, e: g.components.update(synthesis=g), "built by G_main, G_mapping, G_main"),
    "one part too many": (
        lambda g, d, e: d.components.update(more=g), "D is built by"),
    "a network without variables": (
        lambda g, d, e: vars(d).pop("variables"), "D has no variables"),
    "a network without a state": (
        lambda g, d, e: vars(d).clear(), "D is no network"),
}  # fmt: skip


def refused(path, content):
    with pytest.raises(InputError) as error:
        network_files.read(write(path, content))
    said = str(error.value)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) < 700
    return said


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_no_such_network_is_named(tmp_path, case):
    change, words = REFUSED[case]
    there = make.parts(standard(), FIRST)
    change(*there)
    assert re.search(words, refused(tmp_path / "bad.pkl", published.dumps(there)))


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class RawArray:
    """An array with another state than the one that its numbers have."""

    def __init__(self, **changes):
        self.state = {"version": 1, "shape": (1,), "type": np.dtype("<f4"), "columns": False,
                      "data": bytes(4)} | changes  # fmt: skip

    def __reduce__(self):
        return *ONES.__reduce__()[:2], tuple(self.state.values())


@pytest.mark.parametrize(
    "changes",
    [{"shape": (2**62,)}, {"shape": (2**31,) * 8}, {"shape": (-1,)}, {"shape": ("1",)},
     {"shape": [1]}, {"shape": (1,) * 9}, {"shape": (0, 2**62), "data": b""}, {"data": bytes(3)},
     {"data": "text"}, {"type": "f4"}, {"columns": 1}, {"more": 1}],
)  # fmt: skip
def test_an_array_whose_parts_do_not_fit_is_refused(tmp_path, changes):
    there = make.parts(standard(), FIRST)
    set_variable(there[1], "Output/bias", RawArray(**changes))
    assert "not a readable network file" in refused(tmp_path / "bad.pkl", published.dumps(there))


def test_one_large_array_under_many_names_takes_no_memory(tmp_path):
    g, d, ema = make.parts(standard())
    large = np.ones(100_000, np.float32)
    d.variables = [(f"Mapping{i}/bias", large) for i in range(100)]
    path = tmp_path / "bad.pkl"
    assert "more numbers than it holds" in refused(path, published.dumps((g, d, ema)))


def test_other_names_other_tuples_and_damage(tmp_path):
    path, marker = tmp_path / "bad.pkl", tmp_path / "attacked"
    g, d, ema = make.parts(standard(), FIRST)
    set_variable(d, "Output/bias", Attack(marker))
    attack = published.dumps((g, d, ema), 2)
    assert "system, which is no part of a network" in refused(path, attack)
    with published.published_modules():
        pickle.loads(attack)  # it works where nobody looks
    assert marker.exists()
    assert "a tuple of 2" in refused(path, published.dumps((g, ema)))
    assert "is no network" in refused(path, published.dumps((1, 2, 3)))
    content = make.content(standard(), FIRST)
    for end in range(100, len(content), len(content) // 30):
        assert "bad.pkl" in refused(path, content[:end])
