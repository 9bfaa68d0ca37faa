"""The data: the stage stops before anything is made."""

import csv
import json
import shutil
from pathlib import Path

import make_celeba
import make_shapes3d
import numpy as np
import pytest
from answers import QUICKSTART, says
from PIL import Image

from fairjax.experiments import data_stage
from fairjax.experiments.command import main
from fairjax.experiments.config_line import parse


def test_impossible_proportions(refused, celeba, tmp_path):
    line = refused("--config=configs/celeba_bias09.py:tiny", f"--config.data.celeba.dir={celeba}",
                   f"--workdir={tmp_path / 'run'}")  # fmt: skip
    says(line, "data.n_biased", "training needs 276 'not Male', 84 'Male'; there are", "at most")
    assert not (tmp_path / "run/data/manifest.json").exists()


def test_a_refused_value_can_be_mended_in_the_same_workdir(refused, celeba, tmp_path):
    args = ["--config=configs/celeba_bias09.py:tiny", f"--workdir={tmp_path / 'run'}"]
    for wrong in ("/nowhere", "/elsewhere"):
        says(refused(*args, f"--config.data.celeba.dir={wrong}"), wrong, "is not a folder")


@pytest.fixture(scope="module")
def celeba(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    make_celeba.make(folder, 20)
    return folder


def test_paper_split_of_a_small_celeba(refused, celeba):
    line = refused("--config=configs/celeba_bias09.py", f"--config.data.celeba.dir={celeba}",
                   f"--workdir={celeba / 'run'}")  # fmt: skip
    says(line, "90_10", "[94509, 40504]", 'data.split="proportions"')


def test_celeba_files_missing(refused, celeba, tmp_path):
    args = ("--config=configs/celeba_bias09.py:tiny", f"--workdir={tmp_path / 'run'}")
    says(refused(*args, f"--config.data.celeba.dir={tmp_path / 'no'}"), str(tmp_path / "no"))
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba.zip"):
        folder = tmp_path / f"without {name}"
        shutil.copytree(celeba, folder, ignore=shutil.ignore_patterns(name, "run"))
        says(refused(*args, f"--config.data.celeba.dir={folder}"), str(folder), name)


def test_celeba_list_cut_off(refused, celeba, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(celeba, folder, ignore=shutil.ignore_patterns("run"))
    path = folder / "list_attr_celeba.txt"
    path.write_text(path.read_text()[:-200])
    line = refused("--config=configs/celeba_bias09.py:tiny", f"--config.data.celeba.dir={folder}",
                   f"--workdir={tmp_path / 'run'}")  # fmt: skip
    says(line, str(path), "Use the file as published")


def test_shapes3d_file_missing_or_of_another_form(refused, tmp_path):
    args = ("--config=configs/shapes3d.py:tiny", f"--workdir={tmp_path / 'run'}")
    path = tmp_path / "3dshapes.h5"
    given = f"--config.data.shapes3d.file={path}"
    says(refused(*args, given), "no file", str(path), "data.shapes3d.file")
    path.write_text("<html>not found</html>")
    says(refused(*args, given), "cannot read", str(path), "download it anew")
    make_shapes3d.make(path, 30)
    says(refused(*args, given, "--config.data.shapes3d.keep=('red flor','blue floor')"),
         "data.shapes3d.keep", "'red flor'", "'red floor'")  # fmt: skip
    says(refused(*args, given), "data.n_biased", "training needs 276 'red floor'", "at most")
    assert not (tmp_path / "run/data/manifest.json").exists()


def test_unknown_attribute(refused, celeba, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    line = refused("--config=configs/celeba_bias09.py:tiny", f"--config.data.celeba.dir={celeba}",
                   "--config.judge.attribute_sets=(('male',),)", workdir)  # fmt: skip
    says(line, "'male'", "judge.attribute_sets", "'Male'")
    line = refused(QUICKSTART, "--config.data.group_attributes=('hair',)", workdir)
    says(line, "'hair'", "data.group_attributes", "long_hair")


def test_wrong_number_of_shares(refused, tmp_path):
    line = refused(QUICKSTART, "--config.data.reference_proportions=(0.2,0.3,0.5)",
                   f"--workdir={tmp_path / 'run'}")  # fmt: skip
    says(line, "data.reference_proportions", "3 shares", "2 groups")


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value)
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path) -> tuple[str, ...]:
    """Arguments of a run on two folders of images; the images differ."""
    for i in range(12):
        picture(tmp_path / f"biased/{i}.png", i)
        picture(tmp_path / f"reference/{i}.png", 100 + i)
    return ("--config=configs/folder.py:tiny", f"--workdir={tmp_path / 'run'}", "--stage=data",
            f"--config.data.folder.biased={tmp_path / 'biased'}",
            f"--config.data.folder.reference={tmp_path / 'reference'}")  # fmt: skip


def test_folder_missing_or_empty(refused, folders, tmp_path):
    says(refused(*folders, f"--config.data.folder.biased={tmp_path / 'gone'}"),
         "data.folder.biased", str(tmp_path / "gone"), "does not exist")  # fmt: skip
    (tmp_path / "empty").mkdir()
    says(refused(*folders, f"--config.data.folder.reference={tmp_path / 'empty'}"),
         "data.folder.reference", "is empty", "PNG")  # fmt: skip
    (tmp_path / "empty/notes.txt").write_text("x")
    says(refused(*folders, f"--config.data.folder.reference={tmp_path / 'empty'}"), "no image file")


def test_a_cut_zip_instead_of_a_folder(refused, folders, tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK\x03\x04 cut off")
    says(refused(*folders, f"--config.data.folder.biased={tmp_path / 'images.zip'}"),
         "images.zip", "neither a folder nor a zip")  # fmt: skip


def test_undecodable_image(refused, folders, tmp_path):
    path = tmp_path / "biased/3.png"
    path.write_bytes(path.read_bytes()[:100])
    says(refused(*folders), "biased/3.png", "skip_bad_files")
    assert not (tmp_path / "run/data/manifest.json").exists()
    main(["launch/train.py", *folders, "--config.data.skip_bad_files=True"])
    manifest = json.loads((tmp_path / "run/data/manifest.json").read_text())
    assert len(manifest["bad_files"]) == 1
    assert manifest["bad_files"][0].startswith("biased/3.png")


def test_reference_too_small(refused, folders, tmp_path):
    for i in range(3, 12):
        (tmp_path / f"reference/{i}.png").unlink()
    says(refused(*folders), "data.folder.reference", "only 3 different images", "at least 4")


def labels(path: Path, head: list[str], rows: list[list[str]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return f"--config.data.folder.attributes={path}"


def test_reference_too_small_for_the_folds(refused, folders, tmp_path):
    for i in range(4, 12):
        (tmp_path / f"reference/{i}.png").unlink()
    args = [arg for arg in folders if not arg.startswith("--stage")]
    line = refused(*args)
    says(line, "no image of the reference set is left to train fold", "Give more images")


@pytest.mark.parametrize(
    "named", ["data.group_attributes=('sex',)", "judge.attribute_sets=(('sex',),)"]
)
def test_attributes_without_labels(refused, folders, named):
    """An attribute is named, and no table of labels was given."""
    says(refused(*folders, f"--config.{named}"), named.partition("=")[0], "'sex'", "no attributes")


def test_images_that_changed_under_a_run(refused, folders, tmp_path, monkeypatch):
    """The prepared images are gone, and what lies in the folder now is something else.

    However often the command is given: what the run began with is not replaced.
    """
    args = [arg for arg in folders if not arg.startswith("--stage")]
    main(["launch/train.py", *folders])
    began = (tmp_path / "run/data/manifest.json").read_bytes()
    picture(tmp_path / "biased/0.png", 700)
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "empty cache"))
    for _ in range(2):
        line = refused(*args, "--stage=ratio")
        says(line, str(tmp_path / "run/data"), "no longer those", "differ: roles",
             "another --workdir")  # fmt: skip
        assert (tmp_path / "run/data/manifest.json").read_bytes() == began
    # A whole manifest, of other images than those in DONE.
    main(["launch/train.py", *folders, f"--workdir={tmp_path / 'other'}"])
    for name in ("manifest.json", "index.npz"):
        shutil.copy(tmp_path / "other/data" / name, tmp_path / "run/data" / name)
    says(refused(*args, "--stage=ratio"), "no longer those", "another --workdir")


def test_a_copy_of_the_images_is_as_good(folders, tmp_path, monkeypatch):
    """A node with its own copy: other times of the files, and so another place in the cache."""
    main(["launch/train.py", *folders])
    config = parse(["launch/train.py", *folders]).config
    began = data_stage.loaded(config, tmp_path / "run/data")
    shutil.copytree(tmp_path / "biased", tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "biased")
    (tmp_path / "copy").rename(tmp_path / "biased")
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "empty cache"))
    again = data_stage.loaded(config, tmp_path / "run/data")
    np.testing.assert_array_equal(again.images, began.images)
    assert again.manifest == began.manifest


def test_a_table_of_labels_that_changed_is_told(folders, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    names = [f"reference/{file.name}" for file in sorted((tmp_path / "reference").iterdir())]
    write = lambda flip: table.write_text(
        "file,sex\n" + "".join(f"{name},{(i + flip) % 2}\n" for i, name in enumerate(names))
    )
    write(0)
    args = ["launch/train.py", *folders, f"--config.data.folder.attributes={table}"]
    main(args)
    config = parse(args).config
    data_stage.loaded(config, tmp_path / "run/data")
    assert "has changed" not in capsys.readouterr().err
    write(1)
    data_stage.loaded(config, tmp_path / "run/data")
    assert f"{table} has changed" in capsys.readouterr().err


def test_images_of_a_run_are_prepared_again_where_only_the_cache_is_gone(
    folders, tmp_path, monkeypatch
):
    main(["launch/train.py", *folders])
    there = {name: (tmp_path / "run/data" / name).read_bytes() for name in
             ("manifest.json", "index.npz")}  # fmt: skip
    config = parse(["launch/train.py", *folders]).config
    before = data_stage.loaded(config, tmp_path / "run/data").images.copy()
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "empty cache"))
    (tmp_path / "run/data/manifest.json").write_bytes(b"\xff" + there["manifest.json"])
    again = data_stage.loaded(config, tmp_path / "run/data")
    np.testing.assert_array_equal(again.images, before)
    for name, content in there.items():  # mended
        assert (tmp_path / "run/data" / name).read_bytes() == content


def test_label_tables(refused, folders, tmp_path):
    path = tmp_path / "labels.csv"
    missing = f"--config.data.folder.attributes={tmp_path / 'none.csv'}"
    says(refused(*folders, missing), "none.csv", "data.folder.attributes", "CSV or Parquet")
    says(refused(*folders, labels(path, ["file"], [["0.png"]])), "labels.csv", "attribute column")
    says(refused(*folders, labels(path, ["name", "sex"], [["a.png", "1"]])),
         "no row fits an image", "'a.png'", "bare file name")  # fmt: skip
    says(refused(*folders, labels(path, ["file", "sex"], [["0.png", "1", "2"]])),
         "row 2", "3 columns instead of 2")  # fmt: skip
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 no")
    says(refused(*folders, f"--config.data.folder.attributes={tmp_path / 'labels.parquet'}"),
         "labels.parquet", "Save it anew")  # fmt: skip


def test_judge_images_without_labels(refused, folders, tmp_path):
    picture(tmp_path / "judge/0.png", 500)
    says(refused(*folders, f"--config.data.folder.judge={tmp_path / 'judge'}"),
         "data.folder.judge", "without attributes")  # fmt: skip


def test_a_label_that_the_table_lacks(refused, folders, tmp_path):
    table = labels(tmp_path / "labels.csv", ["file", "sex"],
                   [[f"biased/{i}.png", str(i % 2)] for i in range(12)])  # fmt: skip
    says(refused(*folders, table, "--config.judge.attribute_sets=(('gender',),)"),
         "'gender'", "'sex'", "judge.attribute_sets")  # fmt: skip


def test_labels_that_should_be_numbers(refused, folders, tmp_path):
    """A word, a gap and a wrong column stop the data stage; mended, it goes on in the same run."""
    rows = [[f"{name}/{i}.png", f"{i + 0.5}"] for name in ("biased", "reference")
            for i in range(12)]  # fmt: skip
    args = (*folders, labels(tmp_path / "a.csv", ["file", "age"], rows),
            "--config.gan.condition_form=numbers")  # fmt: skip
    age = "--config.gan.condition=('age',)"
    says(refused(*args, "--config.gan.condition=('size',)"), "a.csv", "'size'", "['age']")
    labels(tmp_path / "a.csv", ["file", "age"], [["biased/0.png", "old"], *rows[1:]])
    says(refused(*args, age), "a.csv", "'old'", "column 'age'", "row of biased/0.png", "34.5")
    labels(tmp_path / "a.csv", ["file", "age"], [[name, ""] for name, _ in rows[:-1]] + rows[-1:])
    says(refused(*args, age), "a.csv", "training images have an empty cell", "no 'age'", "Fill")
    labels(tmp_path / "a.csv", ["file", "age"], rows)
    main(["launch/train.py", *args, age])
    assert (tmp_path / "run/data/DONE").exists()
