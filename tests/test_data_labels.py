import numpy as np
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


def test_cells_that_only_look_like_numbers_are_words(tmp_path):
    _, names = coded(table(tmp_path, "x,g\na,--5\nb,5\nc,\u00b2\nd,5.0\n"))
    assert names == {"g": ("--5", "5", "\u00b2")}


def test_words_for_nothing_are_unknown_and_counted(tmp_path, caplog):
    text = "x,Male,hair,kind\na,1,nan,-1\nb,0,none,0\nc,NA,short,1\nd,,None,2\n"
    with caplog.at_level("INFO", "fairjax"):
        values, names = coded(table(tmp_path, text))
    assert names == {"Male": ("not Male", "Male"), "hair": ("none", "short"),
                     "kind": ("kind 0", "kind 1", "kind 2")}  # fmt: skip
    assert values == [[1, -1, -1], [0, 0, 0], [-1, 1, 1], [-1, -1, 2]]
    assert caplog.messages == [
        "Male: NA taken as unknown: 1 rows",
        "hair: nan taken as unknown: 1 rows",
        "hair: None taken as unknown: 1 rows",
        "kind: -1 taken as unknown: 1 rows",
    ]


@pytest.mark.parametrize("name", ["../../victim/x", "male/female", "a\\b", "..", ".", " "])
def test_a_column_whose_name_would_lead_elsewhere_is_refused(tmp_path, name):
    rows = table(tmp_path, f"file,{name},g\na,1,0\nb,0,1\n")
    with pytest.raises(InputError, match="a column named"):
        coded(rows)
    kept = [{"g": row["g"]} for row in rows.values()]
    assert labels.encode(kept)[1] == {"g": ("not g", "g")}


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
        ("file,g,g\na.png,1,0\n", "has 2 columns 'g'"),
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
    twice = '{"labels": [["a", %d], ["b", 1], ["a", 1]]}'
    assert labels.read_dataset_json(twice % 1, "x") == {"a": {"label": 1}, "b": {"label": 1}}
    with pytest.raises(InputError, match="two different labels of 'a'"):
        labels.read_dataset_json(twice % 0, "x")
    for text in ("[", "[]", '{"labels": [["a", 0.5]]}', '{"labels": [3]}'):
        with pytest.raises(InputError):
            labels.read_dataset_json(text, "x")


def test_columns_of_numbers(tmp_path):
    rows = table(tmp_path, "file,age,height,sex\na,34.5,1e2,m\nb,,-1,w\nc, 7 ,0.5,m\n")
    matched = [*rows.values(), None]
    found = labels.numbers(matched, ["a", "b", "c", "d"], ("height", "age"), "a.csv")
    expected = [[100, 34.5], [-1, np.nan], [0.5, 7], [np.nan, np.nan]]
    np.testing.assert_array_equal(found, expected)
    columns = {"file": ["a", "b"], "age": [34.5, None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    rows = labels.read_table(tmp_path / "a.parquet")
    found = labels.numbers(list(rows.values()), ["a", "b"], ("age",), "a.parquet")
    np.testing.assert_array_equal(found, [[34.5], [np.nan]])


@pytest.mark.parametrize("cell", ["old", "inf", "nan", "1e999", "3,5"])
def test_a_cell_that_is_no_number_is_named_by_file_row_and_column(tmp_path, cell):
    rows = list(table(tmp_path, f'file,age\na,1\nb,"{cell}"\n').values())
    with pytest.raises(InputError) as error:
        labels.numbers(rows, ["biased/a", "biased/b"], ("age",), "t.csv")
    words = (
        f"1 cells of t.csv are no finite numbers: {cell!r} in column 'age' of the row of biased/b"
    )
    assert words in str(error.value)
    with pytest.raises(InputError, match=r"t.csv has no column 'size'. Its columns are \['age'\]"):
        labels.numbers(rows, ["biased/a", "biased/b"], ("size",), "t.csv")


def test_numbers_with_many_values_are_no_attribute(tmp_path):
    text = "file,id,few\n" + "".join(f"{i},{i / 7},{i % 3}\n" for i in range(200))
    rows = list(table(tmp_path, text).values())
    values, names = labels.encode(rows, ("id", "few"))
    assert list(names) == ["few"]
    assert values.shape == (200, 1)
