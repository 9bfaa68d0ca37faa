import json
import math

import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, read_figures, write_figures


def test_round_trip_keeps_numbers_and_turns_nan_into_null(tmp_path):
    path = tmp_path / "eval" / "metrics.json"
    figures = [Figure("a/b", 0.25, 0.2, 0.3, 100), Figure("c", math.nan, math.nan, 1.0, 3, "why")]
    write_figures(path, figures, {"judge": np.array([[1, 2], [3, 4]]), "worst": math.inf})
    document = json.loads(path.read_text())
    assert document["figures"]["c"] == {
        "value": None,
        "low": None,
        "high": 1.0,
        "n": 3,
        "note": "why",
    }
    assert document["judge"] == [[1, 2], [3, 4]]
    assert document["worst"] is None
    back = read_figures(path)
    assert back["a/b"] == figures[0]
    assert math.isnan(back["c"].value)
    assert back["c"][3:] == (1.0, 3, "why")
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.json"]


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_figures(path, [Figure("a", 1.0, 0.0, 2.0, 1)])
    with pytest.raises(TypeError):
        write_figures(path, [Figure("a", 2.0, 0.0, 2.0, 1)], {"bad": object()})
    assert read_figures(path)["a"].value == 1.0


def test_equal_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two figures are named"):
        write_figures(tmp_path / "m.json", [Figure("a", 1.0, 0.0, 2.0, 1)] * 2)


@pytest.mark.parametrize("text", [
    b"{", b"[]", b"{}", b"\x89PNG", b'{"figures": {"k": "x"}}', b'{"figures": [1]}',
    b'{"figures": {"k": [1]}}', b'{"figures": {"k": {"value": 1, "n": Infinity}}}',
])  # fmt: skip
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "m.json").write_bytes(text)
    with pytest.raises(InputError, match=r"m\.json"):
        read_figures(tmp_path / "m.json")
