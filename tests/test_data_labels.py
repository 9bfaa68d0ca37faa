import pyarrow
import pyarrow.parquet
import pytest

from fairjax.data import labels
from fairjax.errors import InputError


def table(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return labels.read_table(tmp_path / "a.csv")


def coded(rows):
    values, names = labels.encode(list(rows.values()))
    return values.tolist(), names


def test_csv_of_integers_strings_and_gaps(tmp_path):
    rows = table(tmp_path, "file,sex,tone,old\na.png,man,3,1\nb.png,woman,1,\nsub/c.png,,7,0\n")
    values, names = coded(rows)
    assert names == {
        "sex": ("man", "woman"),
        "tone": ("tone 1", "tone 3", "tone 7"),
        "old": ("not old", "old"),
    }
    assert values == [[0, 1, 1], [1, 0, -1], [-1, 2, 0]]


def test_minus_one_is_unknown_unless_it_means_no(tmp_path):
    values, names = coded(table(tmp_path, "x,Male,kind\na,-1,-1\nb,1,0\nc,1,2\n"))
    assert names == {"Male": ("not Male", "Male"), "kind": ("kind 0", "kind 2")}
    assert values == [[0, -1], [1, 0], [1, 1]]


def test_parquet_equals_csv(tmp_path):
    columns = {"g": [1, 0, None], "file": ["a", "b", "c"], "s": ["x", None, "y"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    rows = labels.read_table(tmp_path / "a.parquet")
    same = table(tmp_path, "g,file,s\n1,a,x\n0,b,\n,c,y\n")
    assert coded(rows) == coded(same)
    assert list(rows) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("file\na.png\n", "columns"),
        ("file,g\na.png\n", "row 2"),
        ("file,g\na.png,1\na.png,0\n", "two different rows"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        table(tmp_path, text)


def test_missing_and_unreadable_tables_are_named(tmp_path):
    with pytest.raises(InputError, match="no file"):
        labels.read_table(tmp_path / "b.csv")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot read"):
        labels.read_table(tmp_path / "b.parquet")


def test_a_column_of_names_is_refused(tmp_path):
    text = "file,id\n" + "".join(f"{i}.png,name{i}\n" for i in range(200))
    with pytest.raises(InputError, match="'id' has 200 different values"):
        coded(table(tmp_path, text))


def test_match_prefers_the_more_exact_name_and_counts_the_rest():
    rows = {"biased/a.png": {"g": 1}, "a.png": {"g": 0}, "z.png": {"g": 0}}
    keys = [("biased/a.png", "a.png"), ("judge/a.png", "a.png"), ("judge/b.png", "b.png")]
    matched, unused = labels.match(rows, keys)
    assert matched == [{"g": 1}, {"g": 0}, None]
    assert unused == 1
    with pytest.raises(InputError, match="fits 'biased/a.png' and 'judge/a.png'"):
        labels.match({"a.png": {"g": 0}}, keys)
    with pytest.raises(InputError, match="no row fits"):
        labels.match({"q.png": {"g": 0}}, keys)


def test_stylegan_labels():
    rows = labels.read_dataset_json('{"labels": [["a.png", 2], ["b.png", 0]]}', "x")
    assert rows == {"a.png": {"label": 2}, "b.png": {"label": 0}}
    rows = labels.read_dataset_json('{"labels": [["a.png", [0, 1]]]}', "x")
    assert rows == {"a.png": {"label_0": 0, "label_1": 1}}
    assert labels.read_dataset_json('{"labels": null}', "x") == {}
    for text in ("[", "[]", '{"labels": [["a", 0.5]]}', '{"labels": [3]}'):
        with pytest.raises(InputError):
            labels.read_dataset_json(text, "x")
