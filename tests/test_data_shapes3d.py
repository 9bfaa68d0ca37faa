import sys

import h5py
import numpy as np
import pytest
from data_config import config
from make_shapes3d import draw, make
from PIL import Image

from fairjax.augmentations import of_colour
from fairjax.config import defaults
from fairjax.data import shapes3d
from fairjax.data.prepare import prepare
from fairjax.errors import InputError
from fairjax.experiments import weights_stage
from fairjax.validation import cautions, validate

RED_BLUE = ("red floor", "blue floor")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes3d") / "3dshapes.h5"
    make(path, 1200)
    return path


def run(tmp_path, path, keep=(), log=lambda line: None, **settings):
    base = dict(source="shapes3d", crop="none", group_attributes=("floor_hue",), n_biased=30,
                sets=(("floor_hue",),), shapes3d={"file": str(path), "keep": keep})  # fmt: skip
    return prepare(config(**{**base, **settings}), tmp_path / "data", log)


def row_of(name):
    return int(name.removeprefix("3dshapes/"))


def test_values_and_pixels_are_those_of_the_file(tmp_path, official):
    said = []
    data = run(tmp_path, official, resolution=64, log=said.append)
    assert data.attribute_names == tuple(f.name for f in shapes3d.FACTORS)
    assert data.cardinalities == (10, 10, 10, 8, 4, 15)
    with h5py.File(official) as file:
        images, labels = file["images"][:], file["labels"][:]
    for position, name in enumerate(data.ids):
        row = row_of(name)
        np.testing.assert_array_equal(data.images[position], images[row])
        found = [f.numbers[k] for f, k in zip(shapes3d.FACTORS, data.attributes[position],
                                              strict=True)]  # fmt: skip
        np.testing.assert_allclose(found, labels[row])
    assert data.class_names(("shape",)) == ("cube", "cylinder", "sphere", "capsule")
    assert data.class_names(("wall_hue",))[6] == "blue wall"
    assert data.class_names(("scale",))[0] == "scale 0.75"
    assert data.class_names(("orientation",))[-1] == "orientation 30"
    assert "Apache-2.0" in data.manifest["licences"][0]
    assert any("reading" in line for line in said)


def test_the_words_fit_the_colours():
    """A hue is named as a person would name it; the picture's floor has it."""
    floor = dict(zip(shapes3d.FACTORS[0].names, shapes3d.FACTORS[0].numbers, strict=True))
    for name, channel in (("red floor", 0), ("green floor", 1), ("blue floor", 2)):
        picture = draw((floor[name], 0.5, 0.5, 1.0, 0, 0.0))
        assert picture[-1, 0].argmax() == channel


def test_proportions_between_two_kept_values(tmp_path, official):
    data = run(tmp_path, official, RED_BLUE)
    assert data.class_names(("floor_hue",)) == RED_BLUE
    assert data.cardinalities == (2, 10, 10, 8, 4, 15)
    counts = {r: np.bincount(data.classes(("floor_hue",), p), minlength=2).tolist()
              for r, p in data.roles.items()}  # fmt: skip
    assert counts["train_biased"] == [27, 3]
    assert counts["train_reference"] in ([8, 7], [7, 8])
    assert counts["ratio_test"] == [8, 4]
    assert counts["judge_fit"] == [8, 8]
    assert counts["metric_reference"] == [5, 5]
    assert data.manifest["true_ratio"]["ratio"] == pytest.approx([0.5 / 0.9, 5.0])
    with h5py.File(official) as file:
        labels = file["labels"][:]
    for role, positions in data.roles.items():
        hues = {float(labels[row_of(data.ids[p]), 0]) for p in positions}
        assert hues == {0.0, 0.6}, role


def test_the_true_ratio_weighs_the_groups_to_the_reference_shares(tmp_path, official):
    """The bound for the estimate: 27 x 5/9 = 3 x 5."""
    data = run(tmp_path, official, RED_BLUE)
    tree = defaults()
    tree.data.source, tree.weights.true_ratio = "shapes3d", True
    tree.data.group_attributes, tree.judge.attribute_sets = ("floor_hue",), (("floor_hue",),)
    (tmp_path / "weights").mkdir()
    weights_stage.make_weights(tmp_path, tree, data, tmp_path / "weights")
    weight, _ = weights_stage.load_weights(tmp_path, data)
    biased = data.domain[data.training] == 0
    k = data.classes(("floor_hue",), data.training[biased])
    assert weight[biased][k == 0].sum() == pytest.approx(15)
    assert weight[biased][k == 1].sum() == pytest.approx(15)


def test_the_order_of_kept_values_is_that_of_the_classes(tmp_path, official):
    data = run(tmp_path, official, ("blue floor", "red floor"))
    k = data.classes(("floor_hue",), data.roles["train_biased"])
    assert np.bincount(k).tolist() == [27, 3]
    assert data.class_names(("floor_hue",))[0] == "blue floor"


def test_any_factor_and_any_shares(tmp_path, official):
    data = run(
        tmp_path, official, group_attributes=("shape",), sets=(("shape",), ("wall_hue", "shape")),
        biased_proportions=(0.7, 0.1, 0.1, 0.1),
    )  # fmt: skip
    k = data.classes(("shape",), data.roles["train_biased"])
    assert np.bincount(k).tolist() == [21, 3, 3, 3]
    assert data.class_names(("wall_hue", "shape"))[3] == "red wall, capsule"


def test_other_sizes_and_gray_go_through_the_same_decoding(tmp_path, official):
    data = run(tmp_path, official, resolution=16, channels=1)
    with h5py.File(official) as file:
        picture = Image.fromarray(file["images"][row_of(data.ids[3])])
    small = picture.resize((16, 16), Image.Resampling.LANCZOS).convert("L")
    np.testing.assert_array_equal(data.images[3][..., 0], np.asarray(small))


@pytest.mark.parametrize(
    "layout",
    [{"chunks": None, "compression": None}, {"chunks": (7, 64, 64, 3)},
     {"chunks": (100, 8, 8, 1)}],
)  # fmt: skip
def test_blocks_of_any_layout_are_read_once(tmp_path, layout, monkeypatch):
    path = tmp_path / "other.h5"
    make(path, 250, floors=(0, 6), **layout)
    read = []
    load = shapes3d._block.__wrapped__

    class Counted:
        def __init__(self):
            self.last = (None, None)

        def __call__(self, *key):
            if self.last[0] != key:
                self.last = (key, load(*key))
                read.append(len(self.last[1]))
            return self.last[1]

        def cache_clear(self):
            read.append("cleared")

    monkeypatch.setattr(shapes3d, "_block", Counted())
    data = run(tmp_path, path, RED_BLUE, resolution=64)
    assert read.pop() == "cleared"
    assert sum(read) == 250
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data.images, file["images"][:])


def test_a_few_images_of_many_are_read_alone(tmp_path):
    path = tmp_path / "3dshapes.h5"
    make(path, 600)
    data = run(tmp_path, path, n_biased=20, n_ratio_test=4, n_judge_fit=4, n_judge_test=4,
               n_metric_reference=4)  # fmt: skip
    assert len(data.images) == 20 + 10 + 16


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, array in datasets.items():
            file[name] = array
    return path


IMAGES = np.zeros((3, 64, 64, 3), np.uint8)
LABELS = np.array([[0.1, 0.2, 0.3, 0.75, 1.0, 30.0]] * 3)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"images": IMAGES}, r"has \['images'\] and no 'labels'"),
        ({"labels": LABELS}, r"has \['labels'\] and no 'images'"),
        ({"images": IMAGES[:, :32], "labels": LABELS}, r"images has the shape \[3, 32, 64, 3\]"),
        ({"images": IMAGES[:2], "labels": LABELS}, r"\[2, 64, 64, 3\] instead of"),
        ({"images": IMAGES, "labels": LABELS[:, :5]}, r"labels has the shape \[3, 5\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"images has the shape \[0,"),
        ({"images": IMAGES / 255.0, "labels": LABELS}, "images are float64"),
        ({"images": IMAGES, "labels": LABELS.astype("S8")}, "labels .S8"),
        ({"images": IMAGES, "labels": LABELS + 0.05}, "row 0 of labels has floor_hue 0.15"),
        ({"images": IMAGES, "labels": LABELS * np.nan}, "row 0 of labels has floor_hue nan"),
    ],
)
def test_files_of_another_form_are_named(tmp_path, datasets, message):
    path = write(tmp_path / "wrong.h5", **datasets)
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path, path)
    assert "data.shapes3d.file" in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(InputError, match="no file .*nowhere"):
        run(tmp_path, tmp_path / "nowhere.h5")
    with pytest.raises(InputError, match="is a folder"):
        run(tmp_path, tmp_path)
    with pytest.raises(InputError, match="no file given"):
        run(tmp_path, "")
    (tmp_path / "text.h5").write_text("not this")
    with pytest.raises(InputError, match=r"cannot read .*text\.h5"):
        run(tmp_path, tmp_path / "text.h5")


def test_a_damaged_block_stops_by_name(tmp_path, official):
    data = bytearray(official.read_bytes())
    with h5py.File(official) as file:
        chunks = file["images"].id
        parts = [chunks.get_chunk_info(i) for i in range(chunks.get_num_chunks())]
    parts = [part for part in parts if part.chunk_offset[0] == 500]
    about = max(parts, key=lambda part: part.size)
    at = about.byte_offset + about.size // 2
    data[at : at + 20] = b"\xff" * 20
    broken = tmp_path / "broken.h5"
    broken.write_bytes(data)
    with pytest.raises(InputError, match=r"3dshapes/\d+: damaged \(images from 500 to 999\)"):
        run(tmp_path, broken)
    data = run(tmp_path, broken, skip_bad_files=True)
    assert not any(row_of(data.ids[p]) in range(500, 1000) for r in data.roles.values() for p in r)


def test_missing_h5py_says_how_to_install_it(tmp_path, official, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"h5py is not installed.*\[shapes3d\]"):
        run(tmp_path, official)


def test_bad_settings_are_named(tmp_path, official):
    with pytest.raises(InputError, match=r"group_attributes: unknown .*Did you mean.*'floor_hue'"):
        run(tmp_path, official, group_attributes=("floor_hues",))
    with pytest.raises(InputError, match=r"judge.attribute_sets: unknown attribute 'colour'"):
        run(tmp_path, official, sets=(("colour",),))
    with pytest.raises(InputError, match="unknown value 'blue flor'.*'blue floor'"):
        run(tmp_path, official, ("red floor", "blue flor"))
    with pytest.raises(InputError, match="Name each value once"):
        run(tmp_path, official, ("red floor", "red floor"))
    with pytest.raises(InputError, match=r"'floor_hue' has no second value besides \['red floor'"):
        run(tmp_path, official, ("red floor",))
    with pytest.raises(InputError, match="training needs .* 'red floor'.*there are"):
        run(tmp_path, official, RED_BLUE, n_biased=400)
    with pytest.raises(InputError, match="official parts"):
        run(tmp_path, official, split="paper")
    make(tmp_path / "blue.h5", 20, floors=(6,))
    with pytest.raises(InputError, match=r"no image has \['red floor'\]"):
        run(tmp_path, tmp_path / "blue.h5", ("red floor",))


def test_the_config_is_checked_before(tmp_path):
    tree = defaults()
    tree.data.source = "shapes3d"
    with pytest.raises(InputError, match="data.shapes3d.file"):
        validate(tree)
    tree.data.shapes3d.file = "3dshapes.h5"
    validate(tree)
    tree.data.group_attributes = ("orientation",)
    tree.judge.attribute_sets = (("shape", "orientation"),)
    with pytest.raises(InputError, match=r"2 problem.*ratio.flip.*orientation.*judge.flip"):
        validate(tree)
    tree.ratio.flip = tree.judge.flip = False
    tree.weights.true_ratio = True
    validate(tree)
    assert any("of the training images' labels" in line for line in cautions(tree))


def test_hues_are_colours_for_the_augmentations():
    assert of_colour(f.name for f in shapes3d.FACTORS) == ["floor_hue", "wall_hue", "object_hue"]
