"""Stages: skipped when done, refused when changed, chained by what they read."""

import json
import shutil

import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.experiments import stages
from fairjax.experiments.stages import Stages, read_arrays, read_json
from fairjax.train import energy

PLAN = {
    "data": {"n": 3},
    "arms/a/gan": {"gan": {"lr": 0.1, "layers": (1, 2)}},
    "arms/b/gan": {"gan": {"lr": 0.2, "layers": (1, 2)}},
    "report": {},
}


def run_all(workdir, plan=PLAN, only=None, outputs=None, fail=None):
    """Runs the four stages; returns the names of those whose body ran."""
    ran = []
    stages = Stages(workdir, plan, only)

    def body(name):
        def made(folder):
            ran.append(name)
            if name == fail:
                raise InputError("no", "here", "mend it")
            (folder / "made").write_text("x")
            return (outputs or {}).get(name)

        return made

    for name in plan:
        gans = [n for n in plan if n.endswith("gan")]
        needs = {"data": [], "report": gans}.get(name, ["data"])
        stages.run(name, needs, body(name))
    return ran


def test_rerun_repeats_nothing(tmp_path):
    assert run_all(tmp_path) == list(PLAN)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert run_all(tmp_path) == []
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamps


def test_done_is_written_last_and_holds_config_inputs_and_output(tmp_path):
    run_all(tmp_path, outputs={"data": {"hash": "h"}})
    record = json.loads((tmp_path / "arms/a/gan/DONE").read_text())
    assert record["config"] == {"gan": {"lr": 0.1, "layers": [1, 2]}}
    assert record["inputs"] == {"data": Stages(tmp_path, PLAN).fingerprint("data")}
    assert json.loads((tmp_path / "data/DONE").read_text())["output"] == {"hash": "h"}
    assert set(record) == {"config", "inputs", "output", "seconds", "joules", "files"}

    def body(folder):
        assert (folder / "STARTED").exists()
        assert not (folder / "DONE").exists()

    Stages(tmp_path / "new", PLAN).run("data", [], body)


def test_what_a_resumed_stage_took_is_what_its_starts_took(tmp_path, monkeypatch):
    """Two that were stopped and one to the end; one that only refused its input counts nothing."""
    now = [0.0]
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(energy, "counters", lambda: {"CPU 0": (now[0] * 5, 1e9)})

    def started(seconds, error=None):
        def body(folder):
            if not isinstance(error, InputError):
                (folder / "state").write_text("")
            now[0] += seconds
            if error is not None:
                raise error

        Stages(tmp_path, PLAN).run("data", [], body)

    for seconds, error in ((70, InputError("x", "y", "z")), (10, KeyboardInterrupt()),
                           (20, OSError())):  # fmt: skip
        with pytest.raises(type(error)):
            started(seconds, error)
    started(30)
    record = json.loads((tmp_path / "data/DONE").read_text())
    assert (record["seconds"], record["joules"]) == (60, {"CPU": 300})


def test_pending(tmp_path):
    assert Stages(tmp_path, PLAN).pending() == list(PLAN)
    run_all(tmp_path, only="data")
    assert Stages(tmp_path, PLAN).pending() == list(PLAN)[1:]
    assert Stages(tmp_path, PLAN, "gan").pending() == ["arms/a/gan", "arms/b/gan"]
    run_all(tmp_path)
    assert Stages(tmp_path, PLAN).pending() == []
    assert Stages(tmp_path, PLAN, "report").pending() == ["report"]


@pytest.mark.parametrize(
    ("only", "names"),
    [("data", ["data"]), ("gan", ["arms/a/gan", "arms/b/gan"]), ("arms/b", ["arms/b/gan"]),
     ("b", ["arms/b/gan"]), ("arms/a/gan", ["arms/a/gan"])],
)  # fmt: skip
def test_only(only, names, tmp_path):
    if only != "data":
        run_all(tmp_path, only="data")
    assert run_all(tmp_path, only=only) == names


def test_only_unknown(tmp_path):
    for wrong in ("", "dat", "gans", "arms/c"):
        with pytest.raises(InputError, match=f"no stage is named '{wrong}'.*arms/a/gan"):
            Stages(tmp_path, PLAN, wrong)


def test_needed_stage_must_be_done(tmp_path):
    with pytest.raises(InputError, match="--stage=gan: stage data is not finished"):
        run_all(tmp_path, only="gan")


def test_changed_config_is_refused_by_name(tmp_path):
    run_all(tmp_path)
    changed = PLAN | {"arms/a/gan": {"gan": {"lr": 0.3, "layers": (1, 2, 3), "new": None}}}
    with pytest.raises(InputError) as error:
        Stages(tmp_path, changed)
    assert "stage arms/a/gan was run with gan.lr = 0.1, now 0.3" in str(error.value)
    assert "gan.layers = [1, 2], now [1, 2, 3]" in str(error.value)
    assert "arms/b" not in str(error.value)


def test_a_stage_made_before_a_key_existed_is_one_made_with_its_default(tmp_path):
    run_all(tmp_path)
    newer = lambda value: PLAN | {"arms/a/gan": {"gan": PLAN["arms/a/gan"]["gan"] | {"new": value}}}
    defaults = {"gan": {"lr": 0.5, "new": (3, 4)}}
    assert Stages(tmp_path, newer((3, 4)), None, defaults).pending() == []
    other = Stages(tmp_path / "other", newer((3, 4)), None, defaults)
    assert other.take_over([tmp_path]) == ["data", "arms/a/gan", "arms/b/gan"]
    with pytest.raises(InputError, match=r"gan.new = \[3, 4\], now \[5\]"):
        Stages(tmp_path, newer((5,)), None, defaults)
    with pytest.raises(InputError, match="gan.lr = 0.1, now 0.5"):
        Stages(tmp_path, PLAN | {"arms/a/gan": {"gan": {"lr": 0.5, "layers": (1, 2)}}}, None,
               defaults)  # fmt: skip


def test_a_tuple_is_the_list_that_json_makes_of_it(tmp_path):
    run_all(tmp_path)
    Stages(tmp_path, PLAN | {"arms/a/gan": {"gan": {"lr": 0.1, "layers": [1, 2]}}})


def test_begun_stage_may_change_only_while_it_has_made_nothing(tmp_path):
    with pytest.raises(InputError, match="mend it"):
        run_all(tmp_path, fail="data")
    changed = PLAN | {"data": {"n": 4}}
    Stages(tmp_path, changed)
    (tmp_path / "data/checkpoints").mkdir()
    with pytest.raises(InputError, match="n = 3, now 4"):
        Stages(tmp_path, changed)


def test_changed_input_is_refused(tmp_path):
    run_all(tmp_path, outputs={"data": {"hash": "one"}})
    (tmp_path / "data/DONE").unlink()
    with pytest.raises(
        InputError, match="stage arms/a/gan was finished on another version of data"
    ):
        run_all(tmp_path, outputs={"data": {"hash": "two"}})


def test_changed_input_of_a_begun_stage_is_refused(tmp_path):
    """Half of a training on old weights and half on new ones would be neither."""
    outputs = {"data": {"hash": "one"}}
    run_all(tmp_path, outputs=outputs)
    (tmp_path / "arms/a/gan/DONE").unlink()  # "made" stays, as checkpoints would
    (tmp_path / "data/DONE").unlink()
    with pytest.raises(InputError, match="stage arms/a/gan was begun on another version of data"):
        run_all(tmp_path, outputs={"data": {"hash": "two"}})
    assert (tmp_path / "arms/a/gan/made").exists()
    (tmp_path / "data/DONE").unlink()
    assert run_all(tmp_path, outputs=outputs)[:2] == ["data", "arms/a/gan"]


def test_same_output_made_again_is_no_change(tmp_path):
    """Deleting a stage's folder repeats that stage only, when it makes the same as before."""
    run_all(tmp_path, outputs={"data": {"hash": "one"}})
    (tmp_path / "data/DONE").unlink()
    assert run_all(tmp_path, outputs={"data": {"hash": "one"}}) == ["data"]


def test_fingerprint_follows_the_whole_chain(tmp_path):
    """The same stage config behind other data has another fingerprint."""
    prints = []
    for n in (3, 4):
        plan = PLAN | {"data": {"n": n}}
        run_all(tmp_path / str(n), plan)
        prints.append(Stages(tmp_path / str(n), plan).fingerprint("arms/a/gan"))
    run_all(tmp_path / "again")
    assert prints[0] != prints[1]
    assert prints[0] == Stages(tmp_path / "again", PLAN).fingerprint("arms/a/gan")


def test_report_follows_what_it_shows(tmp_path):
    """A stage without config is made again when asked for, or when an input was made again."""
    run_all(tmp_path)
    assert run_all(tmp_path, only="report") == ["report"]
    (tmp_path / "arms/b/gan/DONE").unlink()
    assert run_all(tmp_path) == ["arms/b/gan", "report"]
    more = {k: PLAN[k] for k in ("data", "arms/a/gan", "arms/b/gan")}
    more |= {"arms/c/gan": {"gan": {}, "seed": 1}, "report": {}}
    assert run_all(tmp_path, more) == ["arms/c/gan", "report"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"config": {}, "inputs": {}}'])
def test_damaged_record(text, tmp_path):
    run_all(tmp_path)
    (tmp_path / "data/DONE").write_text(text)
    with pytest.raises(InputError, match=r"data/DONE: not a record.*Delete the folder"):
        Stages(tmp_path, PLAN)


def test_read_arrays(tmp_path):
    path = tmp_path / "stage" / "a.npz"
    path.parent.mkdir()
    np.savez(path, x=np.arange(1000), y=np.ones(2))
    assert read_arrays(path, "x")["x"].sum() == 499500
    assert read_arrays(path, "x").keys() == {"x"}
    whole = path.read_bytes()
    with pytest.raises(InputError, match=r"a.npz: gone or damaged.*Delete the folder .*stage"):
        read_arrays(path, "z")
    for cut in (0, 10, 300, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="gone or damaged"):
            read_arrays(path, "x")
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(InputError, match="gone or damaged"):
        read_arrays(path, "x")
    path.unlink()
    with pytest.raises(InputError, match="gone or damaged"):
        read_arrays(path, "x")


def test_read_json(tmp_path):
    path = tmp_path / "a.json"
    for text in (b"", b"{", b"\xff\xfe"):
        path.write_bytes(text)
        with pytest.raises(InputError, match="gone or damaged"):
            read_json(path)
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("recorded", [False, True])
def test_checkpoints_of_a_part_of_a_stage_may_be_deleted(tmp_path, recorded):
    """`recorded`: their hashes are in DONE, as versions before wrote it."""
    work, other = tmp_path / "run", tmp_path / "other"
    own = "member_1/checkpoints/3/sha256.json"

    def body(folder):
        for name in (own, "member_1/checkpoints_aside/1/x.json", "member_1/measured.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")

    Stages(work, PLAN).run("data", [], body)
    record = json.loads((work / "data/DONE").read_text())
    assert list(record["files"]) == ["member_1/measured.json"]
    if recorded:
        record["files"][own] = "hash"
        (work / "data/DONE").write_text(json.dumps(record))
    shutil.rmtree(work / "data/member_1/checkpoints")
    Stages(work, PLAN).check("data")
    assert Stages(other, PLAN).take_over([work]) == ["data"]
    (work / "data/member_1/measured.json").write_text("[]")
    with pytest.raises(InputError, match="measured.json: not what the stage wrote"):
        Stages(work, PLAN).check("data")
    assert Stages(tmp_path / "third", PLAN).take_over([work]) == []


@pytest.mark.parametrize("name", ["x.npz", "x.csv"])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_file_of_a_finished_stage_is_refused_by_name(tmp_path, harm, name):
    def body(folder):
        (folder / "deep").mkdir(exist_ok=True)
        np.savez(folder / "deep/x.npz", x=np.arange(9))
        (folder / "deep/x.csv").write_text("id,decision\n0,1\n1,0\n")

    def run(name, needs):
        Stages(tmp_path, PLAN, name).run(name, needs, body)

    run("data", [])
    path = tmp_path / "data/deep" / name
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole if harm == "flip" else whole[:-9])
    if harm == "gone":
        path.unlink()
    for stage, needs in (("data", []), ("arms/a/gan", ["data"])):
        with pytest.raises(InputError, match=f"{path}.*elete.*{tmp_path}/data and rerun"):
            run(stage, needs)
    assert not (tmp_path / "arms").exists()
