"""`launch/compare.py`: rows in, tables and charts out; every figure is in them."""

import html
import json
import re

import numpy as np
import pytest

from fairjax.errors import InputError
from fairjax.experiments import compare
from fairjax.report import rows as row_files


def row(cell, seed, method, discrepancy, kid=4.0):
    return {
        "cell": cell, "seed": seed, "method": method, "attribute": "long_hair",
        "perc": float(cell.rpartition("perc")[2]), "kimg": 4.0, "discrepancy": discrepancy,
        "swing": 0.02, "evaluations": 4,
        "curve": [[1.0, 0.5, 3.0], [3.0, 0.3, 1.0], [4.0, discrepancy, 0.9]],
        "figures": {
            "kid/efficientnet_lite0": [kid, kid - 0.1, kid + 0.1],
            "kid/efficientnet_lite0/heldout_biased": [9.0, None, None],
            "kid/efficientnet_lite0/long_hair/0": [kid + 2, None, None],
            "kid/efficientnet_lite0/long_hair/1": [kid + 4, None, None],
        },
        "chain": {"union of both sets, unweighted": 0.377},
        "ratio": {"bayes_gap/ratio_test": [0.0123, 0.01, 0.02]},
        "seconds": {"gan": 1.0, "run": 2.0}, "settings": {},
    }  # fmt: skip


ROWS = [
    row(f"cpu+hair+perc{p}", seed, method, value + 0.01 * seed, kid)
    for p in ("0.1", "1.0")
    for seed in (0, 1)
    for method, value, kid in (("equi", 0.4, 4.0), ("resample", 0.1, 3.0))
]


def written(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    row_files.append_rows(path, rows)
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "grid.jsonl"
    row_files.append_rows(path, ROWS[:4])
    row_files.append_rows(path, ROWS[4:])
    return path


def lines(text, *parts):
    return [line for line in text.splitlines() if all(part in line for part in parts)]


def page_of(folder):
    return html.unescape((folder / "index.html").read_text()).replace("\u00a0", " ")


def test_tables_and_charts(file, tmp_path, capsys):
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    said = capsys.readouterr().out
    assert said == (tmp_path / "out/tables.md").read_text() + f"\npage: {tmp_path}/out/index.html\n"
    (line,) = lines(said, "cpu+hair+perc0.1", "| resample |", "| 2 |", " % |")
    assert "| 0.105 [" in line  # the mean of 0.10 and 0.11
    assert "| 74 [" in line  # 1 - 0.105 / 0.405
    assert "| 0.75 [0.75, 0.75] |" in line
    assert "| 0.86 [0.86, 0.86] |" in line  # (3 + 3) / (4 + 3): the mean of both classes
    (pooled,) = lines(said, "| cpu+hair | resample | 2 | 4 |")
    assert "| 74 [" in pooled
    (chain,) = lines(said, "| cpu+hair+perc1.0 | - | 0.377 | - | 0.405 | 0.105 |")
    assert "0.012" in chain
    assert "cpu+hair+perc1.0: on the front of discrepancy and KID: resample" in said
    (lasting,) = lines(said, "| cpu+hair+perc0.1 | equi | 2 | 4 |")
    assert lasting.endswith("| 0.253 [0.100, 0.406] | 0.90 (random_conv) |")
    charts = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert charts == {
        "discrepancy_kimg_cpu+hair+perc0.1.png", "discrepancy_kimg_cpu+hair+perc1.0.png",
        "kid_kimg_cpu+hair+perc0.1.png", "kid_kimg_cpu+hair+perc1.0.png",
        "discrepancy_perc_cpu+hair.png", "kid_perc_cpu+hair.png", "pareto_cpu+hair.png",
    }  # fmt: skip


def test_the_best_kid_of_the_training_tells_whether_images_still_get_better(tmp_path, capsys):
    """Not a mean over two kinds of features: runs with the better one speak for all."""
    file = tmp_path / "rows.jsonl"
    better = row("a+perc0.1", 1, "equi", 0.4) | {
        "curve": [[1.0, 0.5, 9.0], [3.0, 0.3, 4.0], [4.0, 0.4, 2.0]],
        "curve_kid": "kid/efficientnet_lite0",
    }
    row_files.append_rows(file, [row("a+perc0.1", 0, "equi", 0.4), better])
    compare.main(["compare.py", str(file)])
    (lasting,) = lines(capsys.readouterr().out, "| a+perc0.1 | equi | 2 | 4 |")
    assert lasting.endswith("| 0.50 (efficientnet_lite0) |")


def test_kids_of_different_networks_are_never_compared(tmp_path, capsys):
    """The best one that all rows of a group have, or none; other groups keep their own."""
    rows = [dict(row) for row in ROWS]
    for i, (name, value) in enumerate([("inception", 1.0), ("inception", 0.5), ("dino", 0.1)]):
        rows[i]["figures"] = rows[i]["figures"] | {
            f"kid/{name}": [value] * 3, f"kid/{name}/long_hair/0": [value] * 3,
        }  # fmt: skip
    other = [row("b+perc1.0", seed, method, 0.3) | {"figures": {"kid/inception": [kid] * 3}}
             for seed in (0, 1) for method, kid in (("equi", 2.0), ("resample", 1.0))]  # fmt: skip
    nothing = [dict(one, cell="c+perc1.0", swing=0.1) for one in other]
    nothing[0]["figures"] = {"kid/efficientnet_lite0": [4.0] * 3}
    compare.main(["compare.py", str(written(tmp_path, [*rows, *other, *nothing]))])
    said = capsys.readouterr().out
    ratios = {"cpu+hair+perc0.1": "| 0.75 [0.75, 0.75] | 0.86", "b+perc1.0": "| 0.50 [0.50",
              "c+perc1.0": "| - | - |"}  # fmt: skip
    for cell, ratio in ratios.items():
        first = lines(said, f"| {cell} | resample | 2 |")[0]  # of all tables that of the methods
        assert ratio in first, first


def test_the_page_answers_first_and_needs_no_other_file(file, tmp_path):
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert "resample repeats less of the bias than equi" in page
    assert "0.105 [0.041, 0.169]" in page  # t interval of 0.10 and 0.11
    assert "cpu+hair: resample has 74 [" in page
    assert "(4 pairs of runs); its KID is 0.75 [0.75, 0.75] times as large" in page
    assert page.count("<img") == 7  # the charts
    assert len(re.findall(r"<td[^>]*>cpu\+hair\+perc0.1</td>", page)) == 2 + 1 + 2 + 4  # 4 runs
    assert not re.search(r"(src|href|srcset)=\"(?!data:|#)", page)


def test_one_pair_is_no_proof_and_a_worse_method_is_called_so(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [row("a+perc0.1", 0, "equi", 0.2), row("a+perc0.1", 0, "loss", 0.1),
            *(row(f"b+perc{p}", s, m, v + 0.01 * s) for p in (0.1, 1.0) for s in (0, 1)
              for m, v in (("equi", 0.1), ("loss", 0.2)))]  # fmt: skip
    row_files.append_rows(file, rows[:2])
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert "No method is proven to repeat less of the bias than equi" in page
    assert "a: loss has 50 % less discrepancy than equi (one pair of runs, so no interval)" in page
    row_files.append_rows(file, rows[2:])
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert "No method is proven" in page
    assert re.search(r"b: loss has 95 \[\d+, \d+\] % more discrepancy", page)


def test_one_pair_that_is_worse_stands_against_a_proof(tmp_path):
    file = tmp_path / "rows.jsonl"
    better = [row("a+perc0.1", s, m, v + 0.01 * s) for s in (0, 1)
              for m, v in (("equi", 0.4), ("loss", 0.1))]  # fmt: skip
    row_files.append_rows(file, better)
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    assert "loss repeats less of the bias than equi" in page_of(tmp_path / "out")
    row_files.append_rows(
        file, [row("b+perc0.1", 0, "equi", 0.1), row("b+perc0.1", 0, "loss", 0.3)]
    )
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    assert "No method is proven" in page_of(tmp_path / "out")


def test_a_folder_shows_its_samples_and_is_the_run_of_its_row(tmp_path, monkeypatch):
    """The same run as a row of a sweep and as a folder counts once, under the name of its cell."""
    folder = tmp_path / "run"
    (folder / "arms/equi/eval").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), np.uint8)
    np.savez(folder / "arms/equi/eval/samples.npz", images=images)
    (folder / "config.json").write_text('{"name": "grid", "seed": 3, "arms": {"equi": {}}}')
    file = tmp_path / "rows.jsonl"
    found = row("cpu+hair+perc0.1", 3, "equi", 0.4) | {"date": "2026-11-26 15:55"}
    row_files.append_rows(file, [found])
    monkeypatch.setattr(row_files, "rows_of", lambda folder: [found | {"cell": "grid"}])
    compare.main(["compare.py", str(file), str(folder), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert "grid, seed 3" in page
    assert 'alt="first samples of equi"' in page
    assert '<td class="">cpu+hair+perc0.1</td>' in page
    assert ">grid<" not in page


def test_folders_of_one_name_and_seed_are_told_apart(tmp_path, monkeypatch, capsys):
    """By their names; one in the folder of a sweep by its cell; other methods belong together."""
    found = {"a": [("equi", 0.4), ("loss", 0.2)], "b": [("equi", 0.3), ("loss", 0.3)],
             "other": [("resample", 0.1)], "grid/cpu+perc0.5/3": [("equi", 0.7)]}  # fmt: skip
    for name in found:
        (tmp_path / name).mkdir(parents=True)

    def rows_of(folder):
        own = found[str(folder.relative_to(tmp_path))]
        return [row("perc0.5", 3, method, value) | {"cell": "grid"} for method, value in own]

    monkeypatch.setattr(row_files, "rows_of", rows_of)
    monkeypatch.chdir(tmp_path)
    compare.main(["compare.py", *(str(tmp_path / name) for name in found)])
    said = capsys.readouterr().out
    assert lines(said, f"| {tmp_path}/a | loss | 1 | 0.200 |", "| 50 % |")
    assert lines(said, f"| {tmp_path}/b | loss | 1 | 0.300 |", "| 0 % |")
    assert lines(said, "| cpu+perc0.5 | equi | 1 | 0.700 |")
    compare.main(["compare.py", str(tmp_path / "a"), str(tmp_path / "other")])
    assert lines(capsys.readouterr().out, "| grid | resample | 1 | 0.100 |", "| 75 % |")


def test_classifiers_of_two_cells_that_began_together_both_count(tmp_path, capsys):
    wanted = ("cell", "seed", "method", "attribute", "seconds", "settings")
    figures = {f"{of}_accuracy/{part}": [0.8, 0.7, 0.9] for of in ("worst_group", "average")
               for part in ("train", "test")}  # fmt: skip
    measured = {"worst_group": 0.8, "average": 0.9, "date": "2026-11-28 10:00", "figures": figures}
    rows = [
        {key: row(cell, 0, method, 0.0)[key] for key in wanted} | measured
        for cell in ("easy+perc1.0", "hard+perc1.0")
        for method in ("erm", "group_dro")
    ]
    compare.main(["compare.py", str(written(tmp_path, rows))])
    said = capsys.readouterr().out
    assert lines(said, "| easy+perc1.0 |", "| erm |")
    assert lines(said, "| hard+perc1.0 |", "| erm |")


def test_three_runs_of_which_one_did_nothing_are_no_proof(tmp_path):
    """The bootstrap's interval reaches from one run to the other; the t test has p = 0.11."""
    rows = [row("a+perc0.1", seed, method, value)
            for seed, pair in enumerate([(0.5, 0.03), (0.48, 0.07), (0.49, 0.4)])
            for method, value in zip(("equi", "loss"), pair, strict=True)]  # fmt: skip
    compare.main(["compare.py", str(written(tmp_path, rows)), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert re.search(r"a: loss has 66 \[18, 94\] % less discrepancy", page)
    assert "No method is proven to repeat less of the bias than equi" in page


def test_kids_within_classes_are_of_the_classes_that_both_runs_have(tmp_path, capsys):
    rows = [row("a+perc0.1", 0, "equi", 0.4), row("a+perc0.1", 0, "loss", 0.2)]
    rows[0]["figures"] |= {"kid/efficientnet_lite0/long_hair/0": [8.0] * 3,
                           "kid/efficientnet_lite0/long_hair/1": [4.0] * 3}  # fmt: skip
    rows[1]["figures"] |= {"kid/efficientnet_lite0/long_hair/1": [5.0] * 3}
    del rows[1]["figures"]["kid/efficientnet_lite0/long_hair/0"]
    compare.main(["compare.py", str(written(tmp_path, rows))])
    assert lines(capsys.readouterr().out, "| a+perc0.1 | loss | 1 |")[0].endswith("| 1.25 |")


def test_a_kid_that_is_missing_or_near_0_is_no_ratio_and_no_front(tmp_path, capsys):
    rows = [row("a+perc0.1", seed, m, v, kid) for seed in (0, 1)
            for m, v, kid in (("equi", 0.4, -0.001), ("loss", 0.2, 0.02))]  # fmt: skip
    bare = [one | {"cell": "b+perc0.1", "figures": {}, "swing": 0.1} for one in rows]
    compare.main(["compare.py", str(written(tmp_path, [*rows, *bare])), f"--out={tmp_path}/out"])
    said = capsys.readouterr().out
    assert "| - | " in lines(said, "| a+perc0.1 | loss | 2 |")[0]
    assert "a+perc0.1: on the front of discrepancy and KID: equi, loss" in said
    assert "b+perc0.1: on the front" not in said
    page = page_of(tmp_path / "out")
    assert "b: loss has 50 [50, 50] % less discrepancy than equi (2 pairs of runs)." in page
    assert ">nan<" not in page


def test_what_has_no_row_is_not_run_and_what_has_no_value_is_no_evidence(tmp_path, capsys):
    grid = tmp_path / "grid.py"
    grid.write_text(
        "from fairjax.config import ConfigDict, defaults\n"
        "SWEEPS, SEEDS = {'s': ('cpu+hair+perc1.0', 'cpu+hair+perc0.5')}, (0,)\n"
        "def get_config(arg):\n"
        "  config = defaults()\n"
        "  config.arms = ConfigDict({'equi': {}, 'resample': {}, 'loss': {}})\n"
        "  return config\n"
    )
    file = tmp_path / "rows.jsonl"
    unmeasured = row("cpu+hair+perc1.0", 0, "loss", None)
    row_files.append_rows(file, [*ROWS, unmeasured])
    compare.main(["compare.py", str(file), f"--config={grid}"])
    said = capsys.readouterr().out
    assert len(lines(said, "| cpu+hair+perc0.5 |", "not run")) == 3
    assert not lines(said, "perc0.1")
    assert lines(said, "| cpu+hair+perc1.0 | loss | 1 | insufficient evidence |")


def test_a_later_row_of_the_same_run_replaces_the_earlier(file, capsys):
    row_files.append_rows(file, [row("cpu+hair+perc0.1", 0, "resample", 0.2)])
    compare.main(["compare.py", str(file)])
    (line,) = lines(capsys.readouterr().out, "cpu+hair+perc0.1", "| resample |", "| 2 |", " % |")
    assert "| 0.155 [" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1 is no row"),
        (json.dumps(ROWS[0]) + "\n{}", "line 2 is no row (it lacks cell"),
        ("7", "line 1 is no row"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        row_files.read_rows(path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "nothing to compare"),
        (["nowhere.jsonl"], "cannot be read"),
        (["FILE", "--baseline=equl"], "no run of 'equl'"),
        (["FILE", "--bse=1"], "unknown flag"),
        (["FOLDER"], "no finished run"),
    ],
)
def test_bad_input_ends_with_one_line(file, tmp_path, capsys, args, words):
    names = {"FILE": str(file), "FOLDER": str(tmp_path)}
    with pytest.raises(SystemExit) as stop:
        compare.main(["compare.py", *(names.get(arg, arg) for arg in args)])
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said


def test_three_methods_are_listed_and_no_interval_of_a_distance_goes_below_0(tmp_path):
    file = tmp_path / "rows.jsonl"
    methods = (("equi", 0.4), ("a", 0.1), ("b", 0.1), ("c", 0.1))
    found = [row("x+perc0.1", s, m, v + 0.05 * s) for s in (0, 1) for m, v in methods]
    row_files.append_rows(file, found)
    compare.main(["compare.py", str(file), f"--out={tmp_path}/out"])
    page = page_of(tmp_path / "out")
    assert "a, b and c repeat less of the bias than equi" in page
    assert "0.125 [0.000, 0.443]" in page
