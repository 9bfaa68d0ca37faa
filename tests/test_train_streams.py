import json

import pytest

from fairjax.train import streams
from fairjax.train.streams import Streams


def write(folder, start, steps, **kwargs):
    with Streams(folder, start, **kwargs) as out:
        for step in steps:
            out.write(step, step / 100, {"loss/g": step / 3, "bad": float("nan")})


def test_one_json_object_a_line(tmp_path):
    write(tmp_path / "gan", 0, [1, 2])
    first, second = (tmp_path / "gan/metrics.jsonl").read_text().splitlines()
    record = json.loads(second)
    assert record.pop("time") > 1e9
    assert record == {"step": 2, "kimg": 0.02, "loss/g": 2 / 3, "bad": None}
    assert json.loads(first)["step"] == 1
    assert streams.read(tmp_path / "gan/metrics.jsonl")[0]["step"] == 1


def test_reopening_cuts_back_to_the_step(tmp_path):
    write(tmp_path, 0, [1, 2, 3, 4])
    write(tmp_path, 2, [3])
    record = streams.read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in record] == [1, 2, 3]
    write(tmp_path, 0, [])
    assert streams.read(tmp_path / "metrics.jsonl") == []


def test_a_line_cut_short_is_dropped(tmp_path):
    write(tmp_path, 0, [1, 2])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-10])
    assert [line["step"] for line in streams.read(path)] == [1]
    write(tmp_path, 2, [3])
    assert [line["step"] for line in streams.read(path)] == [1, 3]


def test_a_kill_while_cutting_back_keeps_the_record(tmp_path, monkeypatch):
    write(tmp_path, 0, [1, 2])

    def killed(*args):
        raise InterruptedError("at the worst moment")

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(InterruptedError):
        Streams(tmp_path, 1)
    assert [line["step"] for line in streams.read(tmp_path / "metrics.jsonl")] == [1, 2]


def test_only_the_lead_writes(tmp_path):
    write(tmp_path, 0, [1, 2], enabled=False)
    assert list(tmp_path.iterdir()) == []
    assert streams.read(tmp_path / "metrics.jsonl") == []


def test_tensorboard_gets_the_finite_values(tmp_path):
    from tensorboardX import proto

    write(tmp_path, 0, [7])
    (path,) = tmp_path.glob("events.*")
    data, scalars, at = path.read_bytes(), [], 0
    while at < len(data):  # length, its check sum, the event, its check sum
        size = int.from_bytes(data[at : at + 8], "little")
        event = proto.event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
        scalars += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        at += size + 16
    assert scalars == [(7, "loss/g", pytest.approx(7 / 3))]


def test_lines_that_cannot_be_read_are_lost_with_a_warning(tmp_path, caplog):
    with Streams(tmp_path, 0) as out:
        for step in (1, 2, 3):
            out.write(step, step / 1000, {"loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(one + two.replace(b'"step": 2', b'"step": x') + three + b"\xff\0more")
    streams.cut_back(tmp_path, 3)
    assert [line["step"] for line in streams.read(path)] == [1, 3]
    assert path.read_bytes() == one + three
    (line,) = [r.message for r in caplog.records if "damaged" in r.message]
    assert str(path) in line
    assert "1 lines are lost" in line


@pytest.mark.parametrize("lost", ["all", "the last"])
def test_lines_that_are_missing_are_told(tmp_path, caplog, lost):
    """Each checkpoint has a line before it: a record that ends earlier has lost some."""
    path = tmp_path / "metrics.jsonl"
    whole = ['{"step": 1}\n', '{"step": 2}\n']
    path.write_text("".join(whole))
    streams.cut_back(tmp_path, 2)
    assert "damaged" not in caplog.text
    if lost == "all":
        path.unlink()
    else:
        path.write_text(whole[0])
    streams.cut_back(tmp_path, 2)
    assert f"{path} is damaged: lines before step 2 are missing" in caplog.text
