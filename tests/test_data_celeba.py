import shutil
import zipfile

import numpy as np
import pytest
from data_config import config
from make_celeba import NAMES, make

from fairjax.data import celeba, labelled, splits
from fairjax.data.prepare import prepare
from fairjax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("celeba")
    make(folder, 240)
    return folder


def settings(folder, **data):
    base = dict(
        source="celeba", crop="celeba140", group_attributes=("Male",), sets=(("Male",),),
        celeba={"dir": str(folder)},
    )  # fmt: skip
    return config(**{**base, **data})


def run(tmp_path, folder, **data):
    return prepare(settings(folder, **data), tmp_path / "data", lambda line: None)


def test_roles_come_from_the_official_parts(tmp_path, official):
    data = run(tmp_path, official)
    assert data.attribute_names == tuple(NAMES)
    assert len(NAMES) == 40
    assert (NAMES[20], NAMES[8]) == ("Male", "Black_Hair")
    number = {p: int(data.ids[p][:6]) for role in data.roles.values() for p in role}
    bounds = {"train_biased": (1, 144), "train_reference": (1, 144), "ratio_test": (145, 192),
              "judge_fit": (145, 192), "judge_test": (193, 240)}  # fmt: skip
    for role, (low, high) in bounds.items():
        assert len(data.roles[role])
        assert all(low <= number[p] <= high for p in data.roles[role])
    male = {r: np.bincount(data.classes(("Male",), p)).tolist() for r, p in data.roles.items()}
    assert male["train_biased"] == [36, 4]
    assert male["train_reference"] == [10, 10]
    assert male["ratio_test"] == [8, 4]
    assert data.class_names(("Male",)) == ("not Male", "Male")
    positions = np.concatenate(list(data.roles.values()))
    assert len(set(positions.tolist())) == len(positions)


def test_zip_and_folder_give_the_same_pixels_and_labels(tmp_path, official):
    first = run(tmp_path, official)
    other = tmp_path / "extracted"
    other.mkdir()
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        shutil.copy(official / name, other / name)
    with zipfile.ZipFile(official / "img_align_celeba.zip") as archive:
        archive.extractall(other)
    again = run(tmp_path, other)
    assert again.manifest["cache"] != first.manifest["cache"]
    assert again.ids == first.ids
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.attributes, first.attributes)


def test_an_image_that_was_replaced_in_a_folder_is_read_again(tmp_path, official):
    with zipfile.ZipFile(official / "img_align_celeba.zip") as archive:
        archive.extractall(tmp_path / "extracted")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        shutil.copy(official / name, tmp_path / "extracted" / name)
    images = tmp_path / "extracted/img_align_celeba"
    whole = (images / "000007.jpg").read_bytes()
    (images / "000007.jpg").write_bytes(whole[:100])
    with pytest.raises(InputError, match="1 files cannot be used: 000007.jpg"):
        run(tmp_path, tmp_path / "extracted")
    (images / "000007.jpg").write_bytes(whole)
    first = run(tmp_path, tmp_path / "extracted")
    (images / "000007.jpg").write_bytes((images / "000008.jpg").read_bytes())
    data = run(tmp_path, tmp_path / "extracted")
    seventh, eighth = (data.ids.index(name) for name in ("000007.jpg", "000008.jpg"))
    np.testing.assert_array_equal(data.images[seventh], data.images[eighth])
    assert not np.array_equal(first.images[seventh], data.images[seventh])


def test_seed_changes_the_draw_and_any_combination_works(tmp_path, official):
    first, second = (run(tmp_path, official, seed=s) for s in (0, 1))
    assert set(first.training) != set(second.training)
    joint = run(
        tmp_path, official, group_attributes=("Eyeglasses", "Male"), n_biased=12, n_ratio_test=8,
        biased_proportions=(0.5, 0.25, 0.25, 0.0), reference_proportions=(0.5, 0.25, 0.25, 0.0),
        sets=(("Eyeglasses",),),
    )  # fmt: skip
    k = joint.classes(("Eyeglasses", "Male"), joint.roles["train_biased"])
    assert np.bincount(k, minlength=4).tolist() == [6, 3, 3, 0]


def test_small_selections_are_prepared_alone(tmp_path, official):
    data = run(
        tmp_path, official, n_biased=20, n_ratio_test=4, n_judge_fit=4, n_judge_test=4,
        n_metric_reference=4,
    )  # fmt: skip
    assert len(data.images) == len(data.ids) == 20 + 10 + 16


def official_table():
    """Labels of the official sizes; no image is needed to select."""
    sizes = {0: (75_725, 48_139, 18_784, 20_122), 1: (9_752, 5_971, 1_657, 2_487),
             2: (9_000, 6_000, 2_481, 2_481)}  # fmt: skip
    four = np.concatenate([np.repeat(np.arange(4), n) for n in sizes.values()])
    part = np.repeat([0, 1, 2], [sum(n) for n in sizes.values()]).astype(np.int8)
    order = np.random.default_rng(0).permutation(len(four))
    labels = np.stack([four // 2, four % 2], 1).astype(np.int8)[order]
    values = {name: (f"not {name}", name) for name in ("Black_Hair", "Male")}
    ids = tuple(f"{i:06d}.jpg" for i in range(len(four)))
    return labelled.Table(ids, labels, values, part[order], ids, None, None, {}, "")


@pytest.mark.parametrize("setting", ["90_10", "80_20", "multi"])
@pytest.mark.parametrize("perc", [0.1, 1.0])
def test_paper_selection_on_a_table_of_the_official_size(setting, perc):
    table = official_table()
    c = config(
        source="celeba", split="paper", paper_setting=setting, perc=perc, sets=(("Male",),),
        n_ratio_test=500, n_judge_fit=3000, n_judge_test=2000, n_metric_reference=2000,
    )  # fmt: skip
    selection = labelled.select(c, table)
    cut = splits.PAPER[setting, splits.TRAIN]
    roles = selection.roles
    groups = selection.groups
    assert groups == (("Black_Hair", "Male") if setting == "multi" else ("Male",))
    k = table.labels[:, 0] * 2 + table.labels[:, 1] if setting == "multi" else table.labels[:, 1]
    assert tuple(np.bincount(k[roles["train_biased"]]).tolist()) == cut.biased
    each = int(cut.reference[0] * perc)
    assert np.bincount(k[roles["train_reference"]]).tolist() == [each] * len(cut.biased)
    sizes = {role: len(indices) for role, indices in roles.items()}
    assert sizes["ratio_test"] == 500
    assert sizes["judge_fit"] == 3000
    assert sizes["judge_test"] == 2000
    assert sizes["metric_reference"] == 2000
    metric = np.bincount(k[roles["metric_reference"]])
    assert metric.max() - metric.min() <= 1
    everything = np.concatenate(list(roles.values()))
    assert len(set(everything.tolist())) == len(everything)
    assert set(table.part[roles["ratio_test"]]) == {1}
    reference = np.intersect1d(roles["ratio_test"], selection.reference)
    assert len(reference) == 250
    shares = np.array(cut.biased) / sum(cut.biased)
    biased = np.setdiff1d(roles["ratio_test"], reference)
    np.testing.assert_allclose(np.bincount(k[biased]) / 250, shares, atol=1 / 250)


def test_the_impossible_is_refused_with_the_numbers(tmp_path, official):
    with pytest.raises(InputError, match=r"training needs .* 'not Male'.*there are"):
        run(tmp_path, official, n_biased=400)
    with pytest.raises(InputError, match=r"ratio_test needs"):
        run(tmp_path, official, n_ratio_test=400)
    with pytest.raises(InputError, match=r"90_10 split needs \[94509, 40504\]"):
        run(tmp_path, official, split="paper")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_attr_celeba.txt", None, "no file"),
        ("list_attr_celeba.txt", "image_id,Male\n1.jpg,1\n2.jpg,1\n", "does not start with"),
        ("list_attr_celeba.txt", "3\nMale\n000001.jpg 1\n", "says 3 images and lists 1"),
        ("list_attr_celeba.txt", "1\nMale\n000001.jpg 7\n", "line 3"),
        ("list_eval_partition.txt", "000001.jpg 0\n", "lacks 239 images"),
        ("list_eval_partition.txt", "000001.jpg 5\n", "line 1"),
        ("img_align_celeba.zip", None, "neither"),
        ("img_align_celeba.zip", "cut off", "cannot open"),
    ],
)
def test_bad_directories_are_named(tmp_path, official, name, text, message):
    broken = tmp_path / "broken"
    shutil.copytree(official, broken)
    if text is None:
        (broken / name).unlink()
    else:
        (broken / name).write_text(text)
    with pytest.raises(InputError, match=message):
        run(tmp_path, broken)


def test_bad_settings_are_named(tmp_path, official):
    with pytest.raises(InputError, match="Did you mean one of .*'Male'"):
        run(tmp_path, official, group_attributes=("male",))
    with pytest.raises(InputError, match="unknown crop"):
        run(tmp_path, official, crop="face")
    with pytest.raises(InputError, match="no folder given"):
        run(tmp_path, "")
    with pytest.raises(InputError, match="is not a folder"):
        run(tmp_path, tmp_path / "nowhere")


def test_missing_images_are_counted(tmp_path):
    make(tmp_path / "c", 20, as_zip=False)
    (tmp_path / "c/img_align_celeba/000003.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 20 listed images are missing, such as 000003\.jpg"):
        run(tmp_path, tmp_path / "c")


def test_reading_the_lists(official):
    files, names, values = celeba.read_attributes(official / "list_attr_celeba.txt")
    part = celeba.read_partition(official / "list_eval_partition.txt", files)
    assert files[0] == "000001.jpg"
    assert names == list(NAMES)
    assert values.shape == (240, 40)
    assert set(np.unique(values)) == {0, 1}
    assert np.bincount(part).tolist() == [144, 48, 48]
