import shutil

import numpy as np
import pytest
from data_config import config
from make_shapes3d import NUMBERS, draw
from PIL import Image

from fairjax.data import tfds as tfds_source
from fairjax.data.prepare import prepare
from fairjax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return build(tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("tfds"))


def build(package, folder, first=0):
    """A tiny data set in array_record form, written without TensorFlow; `first` is the number of
    its first picture, of 200."""
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = package

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
                    "attributes": {"Male": np.bool_, "size": np.int64},
                    "other": {"Male": np.bool_},
                    "name": np.object_,
                    "negative": tfds.features.Image(shape=(None, None, 3)),
                }
            )
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for key in range(200):
                i = (key + first) % 200
                yield (
                    key,
                    {
                        "image": Image.fromarray(pixels(i)),
                        "kind": i % 3,
                        "attributes": {"Male": i % 2 == 1, "size": 5 + i % 4},
                        "other": {"Male": i % 2 == 0},
                        "name": "b",
                        "negative": Image.fromarray(255 - pixels(i)),
                    },
                )

    builder = Tiny(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return folder


def run(tmp_path, folder, **settings):
    own = dict(
        name="tiny", data_dir=str(folder), split="train",
        attributes=("kind", "attributes/Male", "attributes/size"),
    ) | settings.pop("tfds", {})  # fmt: skip
    base = dict(source="tfds", group_attributes=("Male",), sets=(("Male",),), tfds=own)
    return prepare(config(**{**base, **settings}), tmp_path / "data", lambda line: None)


def test_roles_labels_and_pixels(tmp_path, prepared):
    data = run(tmp_path, prepared)
    agrees(data)
    assert data.attribute_names == ("kind", "Male", "size")
    assert data.cardinalities == (3, 2, 4)
    assert data.class_names(("kind",)) == ("cat", "dog", "owl")
    assert data.manifest["attribute_values"]["size"] == ["size 5", "size 6", "size 7", "size 8"]
    k = data.classes(("Male",), data.roles["train_biased"])
    assert np.bincount(k).tolist() == [36, 4]


def agrees(data):
    """Labels are those of the pictures. array_record shuffles on writing, so a record is
    recognised by its pixels."""
    number = {pixels(i).tobytes(): i for i in range(200)}
    for position in np.concatenate(list(data.roles.values())):
        i = number[data.images[position].tobytes()]
        assert data.attributes[position].tolist() == [i % 3, i % 2, i % 4]


def test_a_data_set_that_was_built_anew_is_read_anew(tmp_path):
    """The same version, folder and counts, with other pictures behind the same records."""
    package = tmp_path / "package"
    package.mkdir()
    for first in (0, 1):
        shutil.rmtree(tmp_path / "tfds", ignore_errors=True)
        build(package, tmp_path / "tfds", first)
        tfds_source._source.cache_clear()
        agrees(run(tmp_path / str(first), tmp_path / "tfds"))


def test_the_name_may_stand_in_the_source(tmp_path, prepared):
    named = run(tmp_path / "a", prepared, source="tfds:tiny", tfds={"name": ""})
    assert named.ids == run(tmp_path / "b", prepared).ids


def test_another_image_feature_gives_its_own_pixels(tmp_path, prepared):
    data = run(tmp_path / "a", prepared)
    negative = run(tmp_path / "b", prepared, tfds={"image": "negative"})
    assert negative.ids == data.ids
    np.testing.assert_array_equal(negative.images, 255 - data.images)


def test_a_damaged_picture_that_was_mended_is_read_again(tmp_path, prepared, monkeypatch):
    broken = lambda data, shape: (_ for _ in ()).throw(ValueError("damaged"))
    with monkeypatch.context() as patched:
        patched.setattr(tfds_source.decode, "decode", broken)
        with pytest.raises(InputError, match="200 files cannot be used"):
            run(tmp_path, prepared)
    assert len(run(tmp_path, prepared).ids) == 200


@pytest.fixture(scope="module")
def prepared_shapes3d(tmp_path_factory):
    """TFDS's own description of `shapes3d` with drawn pictures; (folder, labels by pixels)."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    index = np.stack([rng.integers(0, len(v), 240) for v in NUMBERS], axis=1)
    index[:, 0] = np.repeat([0, 6], 120)
    index = np.unique(index, axis=0)
    names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")

    def examples():
        for i, row in enumerate(index):
            values = [v[k] for v, k in zip(NUMBERS, row, strict=True)]
            labels = {f"label_{name}": k for name, k in zip(names, row, strict=True)}
            measures = {f"value_{name}": v for name, v in zip(names, values, strict=True)}
            yield i, {"image": Image.fromarray(draw(values))} | labels | measures

    folder = tmp_path_factory.mktemp("tfds_shapes3d")
    builder = tfds.builder("shapes3d", data_dir=str(folder), file_format="array_record")
    builder._split_generators = lambda dl_manager: {"train": examples()}
    builder.download_and_prepare()
    pictures = [draw([v[k] for v, k in zip(NUMBERS, row, strict=True)]) for row in index]
    return folder, {p.tobytes(): row for p, row in zip(pictures, index.tolist(), strict=True)}


def test_shapes3d_as_prepared_by_tfds(tmp_path, prepared_shapes3d):
    folder, known = prepared_shapes3d
    settings = dict(
        source="tfds:shapes3d", resolution=64, group_attributes=("label_shape",), n_biased=20,
        sets=(("label_shape",),),
    )  # fmt: skip
    own = dict(name="", attributes=("label_floor_hue", "label_shape", "label_orientation"))
    data = run(tmp_path, folder, tfds=own, **settings)
    assert data.attribute_names == own["attributes"]
    assert data.cardinalities == (10, 4, 15)
    assert data.class_names(("label_floor_hue",))[6] == "label_floor_hue 6"
    k = data.classes(("label_shape",), data.roles["train_biased"])
    assert np.bincount(k).tolist() == [18, 1, 1]
    for image, row in zip(data.images, data.attributes.tolist(), strict=True):
        true = known[image.tobytes()]
        assert row == [true[0], true[4], true[5]]
    own["attributes"] = ("label_shape", "value_wall_hue")
    with pytest.raises(InputError, match="value_wall_hue' of example .* no whole number"):
        run(tmp_path, folder, tfds=own, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tfds": {"name": ""}}, "data.tfds.name"),
        ({"tfds": {"name": "no_such_data"}}, "cannot open 'no_such_data'"),
        ({"tfds": {"split": "nowhere"}}, "cannot open"),
        ({"tfds": {"attributes": ("attributes/Female",)}}, "no feature 'attributes/Female'"),
        ({"tfds": {"attributes": ("attributes/Male", "name")}}, "'name' of example 0 is b'b', no"),
        ({"tfds": {"attributes": ("attributes/Male", "other/Male")}}, "several .* end in 'Male'"),
        ({"tfds": {"image": "kind"}}, "data.tfds.image: 'kind' of tiny is no image"),
        ({"split": "paper"}, "official parts"),
        ({"n_biased": 300}, "training needs"),
    ],
)
def test_bad_settings_are_named(tmp_path, prepared, settings, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, prepared, **settings)
