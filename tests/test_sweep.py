"""`launch/sweep.py`: what it runs, shares, goes on with and refuses; `report/rows.py` behind it.

The fast tests put a program in the place of launch/train.py that leaves the files of a finished run
at once; tests/test_pipeline_stopped.py has one that trains.
"""

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pipeline
import pytest

from fairjax.errors import InputError
from fairjax.experiments import runs, sweep
from fairjax.experiments.config_line import parse
from fairjax.report import rows as row_files

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

GRID = """
from ml_collections import ConfigDict
from fairjax.config import defaults

SWEEPS = {"both": ("cpu+a", "cpu+b"), "one": ("cpu+a",)}
SEEDS = (0, 1)

def get_config(arg=None):
    config = defaults()
    config.gan.update(kimg=100.0, channel_max=16)
    config.data.perc = 0.5 if arg == "cpu+a" else 1.0
    config.arms = ConfigDict({"equi": {"reweight": "none"}, "weighted": {"reweight": "resample"}})
    return config
"""

# Leaves what a run leaves; ends with the code that a file beside it holds, if there is one.
TRAIN = f"""
import json, sys
from pathlib import Path
sys.path[:0] = [{str(pipeline.ROOT)!r}, {str(pipeline.ROOT / "tests")!r}]
from test_report import whole_run
from fairjax.experiments.config_line import parse

values = parse(sys.argv)
here = Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(values.workdir + "\\n")
if (here / "code").exists():
    sys.exit(int((here / "code").read_text()))
root = Path(values.workdir)
whole_run(root)
(root / "config.json").write_text(json.dumps(values.config.to_dict()))
for name, seconds in (("report", 1), ("arms/equi/gan", 7), ("arms/weighted/gan", 9)):
    (root / name).mkdir(exist_ok=True)
    (root / name / "DONE").write_text(json.dumps({{"seconds": seconds}}))
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    (tmp_path / "grid.py").write_text(GRID)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setattr(runs, "TRAIN", tmp_path / "train.py")
    return tmp_path


def run(grid, *args):
    """(exit code, workdirs that were trained since the last call)."""
    calls = grid / "calls"
    calls.unlink(missing_ok=True)
    given = [f"--config={grid}/grid.py", f"--root={grid}/runs", *args]
    with pytest.raises(SystemExit) as stop:
        sweep.main(["sweep.py", *given])
    made = calls.read_text().splitlines() if calls.exists() else []
    return stop.value.code, [str(Path(m).relative_to(grid / "runs/grid")) for m in made]


def test_every_cell_and_seed_is_run_once_and_leaves_a_row_for_each_method(grid):
    assert run(grid) == (0, ["cpu+a/0", "cpu+b/0", "cpu+a/1", "cpu+b/1"])
    rows = row_files.read_rows(grid / "grid.jsonl")
    found = [(row["cell"], row["seed"], row["method"]) for row in rows]
    assert len(found) == len(set(found)) == 8
    assert ("cpu+b", 1, "weighted") in found
    assert run(grid) == (0, [])  # nothing is left to do
    assert len(row_files.read_rows(grid / "grid.jsonl")) == 8


def test_a_row_holds_the_last_quarter_and_what_it_cost(grid):
    run(grid, "--cells=cpu+a", "--seeds=0")
    equi, weighted = row_files.read_rows(grid / "grid.jsonl")
    stream = grid / "runs/grid/cpu+a/0/arms/weighted/gan/metrics.jsonl"
    key = "fairness_discrepancy/long_hair/hard/corrected/reference"
    lines = [json.loads(line) for line in stream.read_text().splitlines()[:-1]]
    last = [line[key] for line in lines if key in line and line["kimg"] > 75]
    assert len(last) == weighted["evaluations"] == 3
    assert weighted["discrepancy"] == pytest.approx(np.mean(last))
    assert weighted["swing"] == pytest.approx(np.std(last, ddof=1))
    assert len(weighted["curve"]) == 10
    assert weighted["curve"][-1][0] == 100
    assert weighted["seconds"] == {"gan": 9, "run": 17}
    assert weighted["perc"] == 0.5
    assert weighted["figures"]["kid/efficientnet_lite0"][1:] == [0.011, 0.019]
    assert key in weighted["figures"]
    assert equi["chain"]
    assert equi["settings"] == {"gan.kimg": 100.0, "gan.channel_max": 16, "gan.reweight": "none"}
    assert weighted["settings"] == {"gan.kimg": 100.0, "gan.channel_max": 16}


def test_a_cell_that_gets_another_arm_gets_its_row_only(grid):
    run(grid, "--cells=cpu+a", "--seeds=0")
    rows = grid / "grid.jsonl"
    equi, weighted = rows.read_text().splitlines()
    rows.write_text(equi + "\n")  # as it was before the cell had `weighted`
    shutil.rmtree(grid / "runs")
    assert run(grid, "--cells=cpu+a", "--seeds=0") == (0, ["cpu+a/0"])
    again = [json.loads(line)["method"] for line in rows.read_text().splitlines()]
    assert again == ["equi", "weighted"]


def test_the_choice_of_cells_seeds_and_number_of_runs(grid):
    assert run(grid, "--cells=cpu+b", "--seeds=3,0", "--limit=1") == (0, ["cpu+b/3"])
    assert run(grid, "--cells=cpu+b", "--seeds=3,0") == (0, ["cpu+b/0"])
    assert run(grid, "--dry_run") == (0, [])


def test_a_sweep_may_have_seeds_of_its_own(grid):
    (grid / "grid.py").write_text(GRID + "\nSEEDS_OF = {'one': (5,)}\n")
    assert run(grid, f"--config={grid}/grid.py:one") == (0, ["cpu+a/5"])
    assert run(grid, f"--config={grid}/grid.py:one", "--seeds=0") == (0, ["cpu+a/0"])
    assert run(grid, "--limit=1") == (0, ["cpu+b/0"])


@pytest.mark.parametrize("wrong", ["{'on': (5,)}", "{'one': ()}", "{'one': 5}"])
def test_seeds_of_no_sweep_and_no_seeds_are_refused(grid, capsys, wrong):
    (grid / "grid.py").write_text(GRID + f"\nSEEDS_OF = {wrong}\n")
    assert run(grid, f"--config={grid}/grid.py:one") == (2, [])
    assert "SEEDS" in capsys.readouterr().err


def test_a_failed_run_is_told_and_the_others_go_on(grid):
    (grid / "code").write_text("2")
    code, made = run(grid)
    assert code == 1
    assert len(made) == 4
    assert not (grid / "grid.jsonl").exists()
    (grid / "code").unlink()
    damaged = grid / "runs/grid/cpu+b/0/data/DONE"  # launch/train.py refuses it, not the sweep
    damaged.parent.mkdir(parents=True)
    damaged.write_text(json.dumps({"seconds": 1}))
    assert run(grid)[0] == 0
    assert len(row_files.read_rows(grid / "grid.jsonl")) == 8


def test_a_run_that_is_stopped_stops_the_sweep(grid):
    (grid / "code").write_text("143")
    assert run(grid) == (143, ["cpu+a/0"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_run_which_saves_first(grid, number):
    (grid / "train.py").write_text(
        "import signal, sys, time\nfrom pathlib import Path\nhere = Path(__file__).parent\n"
        "def save(number, frame):\n"
        "    time.sleep(1)\n"
        "    with (here / 'saved').open('a') as file:\n        file.write('once')\n"
        "    sys.exit(128 + number)\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, save)\n"
        "(here / 'ready').touch()\ntime.sleep(60)\n"
    )

    def stop_when_ready():
        for _ in range(600):
            if (grid / "ready").exists():
                os.kill(os.getpid(), number)
                return
            time.sleep(0.1)

    thread = threading.Thread(target=stop_when_ready)
    thread.start()
    before = signal.getsignal(number)
    assert run(grid) == (128 + number, [])
    thread.join()
    assert (grid / "saved").read_text() == "once"
    assert signal.getsignal(number) == before


def test_a_run_of_another_process_is_left_to_it(grid):
    claim = grid / "runs/grid/cpu+a/0.claim"
    claim.parent.mkdir(parents=True)
    with claim.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert run(grid) == (0, ["cpu+b/0", "cpu+a/1", "cpu+b/1"])
    assert run(grid) == (0, ["cpu+a/0"])


def test_the_cost_is_that_of_runs_before(grid, caplog):
    run(grid, "--cells=cpu+a", "--seeds=0")
    with caplog.at_level("INFO", "fairjax"):
        run(grid, "--dry_run")
    said = [record.getMessage() for record in caplog.records]
    assert sum("done" in line for line in said) == 1
    assert sum("about 0:17 (as runs before)" in line for line in said) == 1
    assert sum("about 0:17 (from runs of other cells before)" in line for line in said) == 2
    assert any("3 of 4 runs to do, about 0:51" in line for line in said)


def test_a_cell_that_trains_longer_and_wider_is_costed_by_its_arithmetic(grid):
    run(grid, "--cells=cpu+a", "--seeds=0")
    _, module, *_ = sweep.opened(f"{grid}/grid.py")
    config = module.get_config("cpu+b")
    config.gan.kimg = 1000.0  # ten times
    del config.arms["equi"]
    rows = row_files.read_rows(grid / "grid.jsonl")
    seconds, why = runs.cost("cpu+b", config, rows)
    assert seconds == pytest.approx(10 * 8 + 1)  # 7 and 9 s for the two arms, 1 s for the report
    assert why == "from runs of other cells before"
    config.gan.d_width = 4.0
    assert runs.cost("cpu+b", config, rows)[0] > 3 * seconds


def test_the_settings_of_a_row_give_its_config_back():
    _, module, *_ = sweep.opened(str(pipeline.ROOT / "configs/sweeps/paper_grid.py"))
    config = module.get_config("cpu+hairskin+perc0.25")
    row = {"settings": row_files.settings_of(config, "steered")}
    again = row_files.config_of(row)
    assert row_files.changed(row_files.flat(again.to_dict())) == row["settings"]
    assert again.data.biased_proportions == (0.437, 0.063, 0.415, 0.085)
    assert again.gan.penalty_momentum == 0.99
    row["settings"]["gan.a_key_of_before"] = 1
    assert row_files.config_of(row) == again


def test_a_search_and_a_cell_of_one_name_are_refused(tmp_path):
    """They would share folders and rows."""
    text = "SWEEPS, SEEDS, SEARCHES = {'s': ('wide',)}, (0,), {%r: {}}"
    for name in ("wide", "s"):
        (tmp_path / "grid.py").write_text(text % name)
        with pytest.raises(InputError, match=f"'{name}' names a search and a sweep or a cell"):
            sweep.opened(str(tmp_path / "grid.py"))
    (tmp_path / "grid.py").write_text(text % "narrow")
    assert sweep.opened(str(tmp_path / "grid.py"))[2] == "s"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config=nowhere.py"], "no such file"),
        (["--config=GRID:bth"], "no sweep is named 'bth'"),
        (["--config=CONFIG"], "Give it SWEEPS and SEEDS"),
        (["--cells=cpu+c"], "no cell is named 'cpu+c'"),
        (["--seeds=one"], "'one' is no seed"),
        (["--seeds=-1"], "'-1' is no seed"),
        (["--config.seed=1"], "Use --seeds"),
        (["--config.gan.kmig=1"], "gan.kimg"),
        (["--sedes=1"], "unknown flag --sedes"),
    ],
)
def test_bad_input_ends_with_one_line(grid, capsys, args, words):
    names = {"GRID": str(grid / "grid.py"), "CONFIG": f"{pipeline.ROOT}/configs/quickstart.py"}
    for name, value in names.items():
        args = [arg.replace(name, value) for arg in args]
    assert run(grid, *args) == (2, [])
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said


def test_rows_of_another_config_are_refused_before_anything_runs(grid, capsys):
    run(grid, "--cells=cpu+a", "--seeds=0")
    (grid / "grid.py").write_text(GRID.replace("channel_max=16", "channel_max=8"))
    assert run(grid) == (2, [])
    said = capsys.readouterr().err
    assert "cpu+a, seed 0, equi was run with other values of gan.channel_max" in said


def test_a_change_is_made_in_every_run_and_its_rows(grid):
    assert run(grid, "--cells=cpu+a", "--config.gan.kimg=50.0") == (0, ["cpu+a/0", "cpu+a/1"])
    rows = row_files.read_rows(grid / "grid.jsonl")
    assert {row["settings"]["gan.kimg"] for row in rows} == {50.0}
    assert run(grid, "--cells=cpu+a", "--config.gan.kimg=50.0") == (0, [])
    assert run(grid, "--cells=cpu+a") == (2, [])  # the rows are of other values


def test_where_a_machine_keeps_the_official_files_is_no_setting(grid):
    assert run(grid, "--cells=cpu+a", "--seeds=0", "--config.data.celeba.dir=here")[0] == 0
    rows = row_files.read_rows(grid / "grid.jsonl")
    assert not any("celeba" in key for row in rows for key in row["settings"])
    assert run(grid, "--cells=cpu+a", "--seeds=0", "--config.data.celeba.dir=there") == (0, [])


def test_the_real_grid_has_valid_cells():
    path = pipeline.ROOT / "configs/sweeps/paper_grid.py"
    file, module, *_ = sweep.opened(str(path))
    usual = ("equi", "loss", "resample", "steered")
    count = {"cpu": 5, "baselines": 2, "menu": 3, "more": 1, "small": 12, "full": 12, "rivals": 2,
             "long": 2, "beards": 3, "tiny": 2, "confirm": 5, "margin": 1, "steady": 2}  # fmt: skip
    assert count.keys() == module.SWEEPS.keys()
    assert not {*module.SEEDS_OF["confirm"]} & {*module.SEEDS, 0, 1}
    for name, cells in module.SWEEPS.items():
        planned = sweep.jobs(file, cells, [0], Path("runs"))
        assert len({str(config) for _, config in planned}) == len(planned) == count[name]
        if name in ("cpu", "small", "tiny"):
            assert all(job.methods == usual for job, _ in planned)
        if name == "confirm":
            assert all(job.methods == ("equi", "steered") for job, _ in planned)
        if name == "full":
            assert all({*job.methods} == {*usual, "reference", "conditional"} for job, _ in planned)


def test_cells_whose_r1_is_fixed_are_so_at_64_px_too():
    """There R1 follows the margin otherwise."""
    path = pipeline.ROOT / "configs/sweeps/paper_grid.py"
    for name in ("full+more+hair09+perc0.1", "full+long+control+hair09+perc0.1"):
        ((job, config),) = sweep.jobs(path, [name], [0], Path("runs"))
        assert (config.gan.r1_target == 0) == ("control" in name)
    ((_, config),) = sweep.jobs(path, ["full+margin+hair09+perc0.1"], [0], Path("runs"))
    targets = {name: arm.get("r1_target", config.gan.r1_target) for name, arm in
               config.arms.items()}  # fmt: skip
    assert targets == {"equi": 0.6, "loss": 0.6, "equi_weak": 0, "loss_weak": 0,
                       "loss_following": 0.65}  # fmt: skip


def test_the_celeba_configs_run_the_same_grid_at_the_papers_counts():
    file, module, _, cells, _ = sweep.opened(str(pipeline.ROOT / "configs/sweeps/celeba_grid.py"))
    planned = sweep.jobs(file, cells, [0], Path("runs"), ["--config.data.celeba.dir=somewhere"])
    found = {(c.data.paper_setting, c.data.perc, len(c.arms), c.data.split) for _, c in planned}
    assert found == {(setting, perc, 6, "paper") for setting in ("90_10", "80_20", "multi")
                     for perc in (0.1, 0.25, 0.5, 1.0)}  # fmt: skip
    for job, config in planned:
        alone = pipeline.ROOT / f"configs/celeba_{job.cell.split('+')[0]}.py"
        expected = parse(["train.py", f"--config={alone}"]).config
        for tree in ("ratio", "weights", "judge", "gan", "eval"):
            assert config[tree] == expected[tree]
        assert config.data.group_attributes == expected.data.group_attributes
    assert len(module.SEEDS) >= 3
