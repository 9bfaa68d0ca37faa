"""Bad input of every kind gets one line: what was found, where, and how to mend it; exit code 2.

Each test goes through the real command. What the command did before stays as it was.
"""

import csv
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import make_celeba
import numpy as np
import pipeline
import pytest
from PIL import Image

from fairjax.data import prepare
from fairjax.experiments import fair_generation
from fairjax.experiments.command import main, parse
from fairjax.experiments.stages import Stages

# ml_collections loads config files in a way that Python 3.12 and later warn of.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

QUICKSTART = "--config=configs/quickstart.py:tiny"
SMALL = (
    pipeline.CONFIG, "--config.weights.true_ratio=True", "--config.data.n_biased=40",
    "--config.data.n_judge_fit=16",
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """`main` belongs to a process of its own: its handlers and settings are taken back."""
    monkeypatch.chdir(pipeline.ROOT)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    cache = jax.config.jax_compilation_cache_dir
    yield
    sys.modules.pop("config_config", None)  # ml_collections would run the next file in this module
    for number, handler in handlers.items():
        signal.signal(number, handler)
    log = logging.getLogger("fairjax")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True
    log.setLevel(logging.NOTSET)
    jax.config.update("jax_compilation_cache_dir", cache)


@pytest.fixture
def refused(capsys):
    """Runs the command; checks the form of its answer; returns the one line."""

    def run(*args: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["launch/train.py", *args])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        lines = said.splitlines()
        errors = [line for line in lines if re.match(r"(\d\d:\d\d:\d\d )?error: ", line)]
        assert errors == lines[-1:], said  # one line, the last; before it only the log
        assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines[:-1]), said
        return errors[0]

    return run


def says(line: str, *words: str) -> None:
    """Asserts that a line holds all the words."""
    assert all(word in line for word in words), line


# ---- The command line and the config: nothing is even begun.

COMMAND_LINES = {
    "no config": ([], ["no config", "--config=configs/quickstart.py"]),
    "missing file": (["--config=configs/nope.py"], ["configs/nope.py", "no such file"]),
    "missing file, two words": (["--config", "configs/nope.py"], ["configs/nope.py", "no such"]),
    "a folder": (["--config=configs"], ["--config=configs", "Give a Python file"]),
    "unknown variant": (["--config=configs/quickstart.py:tinny"], ["'tinny'", ":tiny"]),
    "mistyped key": ([QUICKSTART, "--config.gan.kimgg=3"], ["config.gan.kimgg", "config.gan.kimg"]),
    "mistyped section": ([QUICKSTART, "--config.gann.kimg=3"], ["config.gann.kimg", "gan.kimg"]),
    "unknown arm": ([QUICKSTART, "--config.arms.eqi.reweight=none"],
                    ["config.arms.eqi.reweight", "config.arms.equi.reweight"]),
    "word for number": ([QUICKSTART, "--config.gan.kimg=many"], ["config.gan.kimg", "'many'"]),
    "fraction for int": ([QUICKSTART, "--config.gan.batch=2.5"], ["config.gan.batch", "'2.5'"]),
    "word for bool": ([QUICKSTART, "--config.data.skip_bad_files=maybe"],
                      ["data.skip_bad_files", "maybe"]),
    "number for section": ([QUICKSTART, "--config.gan=3"], ["config.gan", "3", "dict"]),
    "override without value": ([QUICKSTART, "--config.gan.kimg"], ["config.gan.kimg", "Missing"]),
    "unknown flag": ([QUICKSTART, "--workdri=x"], ["--workdri", "workdir"]),
    "stray argument": ([QUICKSTART, "stray"], ["'stray'", "--name=value"]),
    "wrong choice": ([QUICKSTART, "--distributed=maybe"], ["maybe", "auto|on|off"]),
    "unknown stage": ([QUICKSTART, "--stage=gam"], ["'gam'", "arms/equi/gan", "report"]),
    "mixed list": ([QUICKSTART, "--config.data.biased_proportions=(0.5,'a')"],
                   ["data.biased_proportions", "'a'"]),
    "flat list of sets": ([QUICKSTART, "--config.judge.attribute_sets=('long_hair',)"],
                          ["judge.attribute_sets", "(('a',),"]),
    "shares do not sum to one": ([QUICKSTART, "--config.data.biased_proportions=(0.5,0.6)"],
                                 ["data.biased_proportions", "0.6", "sum to 1"]),
    "batch and mbstd": ([QUICKSTART, "--config.gan.batch=6"],
                        ["gan.mbstd_group (=4)", "divisor of the 6"]),
    "infinite": ([QUICKSTART, "--config.gan.kimg=inf"], ["gan.kimg (=inf)", "finite"]),
    "not a number": ([QUICKSTART, "--config.gan.learning_rate_g=nan"], ["learning_rate_g (=nan)"]),
    "negative seed": ([QUICKSTART, "--config.seed=-1"], ["seed (=-1)", "0 or more"]),
    "a path as name": ([QUICKSTART, "--config.name=../x"], ["name (='../x')", "folder"]),
    "no arms": ([QUICKSTART, "--config.arms={}"], ["arms", "at least one"]),
    "celeba without folder": (["--config=configs/celeba_bias09.py:tiny"], ["data.celeba.dir"]),
    "folders not given": (["--config=configs/folder.py"], ["data.folder.biased", "reference"]),
    "the paper's split elsewhere": ([QUICKSTART, "--config.data.split=paper"],
                                    ["data.split (='paper')", "celeba"]),
    "true ratio elsewhere": (["--config=configs/folder.py", "--config.weights.true_ratio=True"],
                             ["weights.true_ratio", "avatars"]),
    "groups without attributes": (
        ["--config=configs/folder.py", "--config.data.folder.biased=a",
         "--config.data.folder.reference=b", "--config.gan.groups=attributes"],
        ["gan.groups (='attributes')", "ratio_bins"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_command_line(name, refused, tmp_path):
    args, words = COMMAND_LINES[name]
    workdir = tmp_path / "run"
    says(refused(f"--workdir={workdir}", *args), *words)
    assert not workdir.exists()


def test_several_problems_are_reported_at_once(refused):
    line = refused(QUICKSTART, "--config.gan.batch=0", "--config.gan.loss=wgan",
                   "--config.data.resolution=33", "--config.ratio.folds=1",
                   "--config.data.perc=2.0", "--config.gan.kimg=-1")  # fmt: skip
    says(line, "6 problem", "gan.batch (=0)", "'wgan'", "hinge or logistic",
         "data.resolution (=33)", "ratio.folds (=1)", "data.perc (=2.0)",
         "gan.kimg (=-1")  # fmt: skip


CONFIG_FILES = {
    "syntax": ("def get_config(:\n", ["SyntaxError", "line 1"]),
    "name error": ("def get_config(arg=None):\n    return kimg\n", ["'kimg'", "line 2"]),
    "missing module": ("import fairjaxx\n", ["'fairjaxx'", "line 1"]),
    "no get_config": ("x = 1\n", ["get_config"]),
    "a plain dict": ("def get_config(arg=None):\n    return {}\n", ["dict", "defaults()"]),
    "a mistyped key": (
        "from fairjax.config import defaults\n\n\ndef get_config(arg=None):\n"
        "    config = defaults()\n    config.gan.kimgg = 3\n    return config\n",
        ["config.gan.kimgg", "config.gan.kimg"],
    ),
    "a wrong type": (
        "from fairjax.config import defaults\n\n\ndef get_config(arg=None):\n"
        "    config = defaults()\n    config.gan.batch = 'a'\n    return config\n",
        ["'batch'", "int", "line 6"],
    ),
    "an arm with an unknown key": (
        "from ml_collections import ConfigDict\nfrom fairjax.config import defaults\n\n\n"
        "def get_config(arg=None):\n    config = defaults()\n"
        "    config.arms = ConfigDict({'a': {'rewight': 'loss'}})\n    return config\n",
        ["arms.a.rewight", "gan.reweight"],
    ),
    "an arm that is a word": (
        "from ml_collections import ConfigDict\nfrom fairjax.config import defaults\n\n\n"
        "def get_config(arg=None):\n    config = defaults()\n"
        "    config.arms = ConfigDict({'a': 'loss'})\n    return config\n",
        ["arms.a", "'loss'", "dict"],
    ),
    "an arm with a wrong type": (
        "from ml_collections import ConfigDict\nfrom fairjax.config import defaults\n\n\n"
        "def get_config(arg=None):\n    config = defaults()\n"
        "    config.arms = ConfigDict({'a': {'kimg': 'many'}})\n    return config\n",
        ["arms.a.kimg (='many')", "float"],
    ),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_config_file(name, refused, tmp_path):
    text, words = CONFIG_FILES[name]
    (tmp_path / "mine.py").write_text(text)
    says(refused(f"--config={tmp_path / 'mine.py'}"), *words)


# ---- The data: the stage stops before anything is made.


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


def test_groups_without_labels(refused, folders, tmp_path):
    """The group of an image is asked for, and no table of labels was given."""
    args = [arg for arg in folders if not arg.startswith("--stage")]
    args += ["--config.gan.groups=attributes", "--config.data.group_attributes=('sex',)"]
    main(["launch/train.py", *args, "--stage=data"])
    work = tmp_path / "run"
    pretend(work, "ratio/fold_0", "ratio/fold_1", "weights", args=tuple(args))
    dataset = prepare.load(work / "data")
    ones = np.ones(len(dataset.training))
    np.savez(work / "weights/weights.npz", weight=ones, log_ratio=ones,
             id=[dataset.ids[i] for i in dataset.training],
             manifest=dataset.manifest["hash"])  # fmt: skip
    says(refused(*args, "--stage=gan"), "'sex'", "no attributes")


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


# ---- A workdir that is damaged, or was begun in another way.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A run whose data and weights are made; nothing is trained (the ratio is the true one)."""
    os.chdir(pipeline.ROOT)
    workdir = tmp_path_factory.mktemp("prepared") / "run"
    for stage in ("data", "weights"):
        main(["launch/train.py", *SMALL, f"--workdir={workdir}", f"--stage={stage}"])
    return workdir


@pytest.fixture
def work(prepared, tmp_path) -> Path:
    """A copy of the prepared run, to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


def pretend(workdir: Path, *names: str, args: tuple[str, ...] = SMALL) -> None:
    """Writes DONE of stages that did nothing."""
    config = parse(["launch/train.py", *args]).config
    plan = fair_generation.plan(config)
    for name in names:
        needs = ["data"]
        if name == "weights":
            needs += [n for n in plan if n.startswith("ratio/")]
        if name.startswith("arms/"):
            needs += ["weights", *(n for n in plan if n.startswith("judge/"))]
        Stages(workdir, plan, name).run(name, needs, lambda folder: None)


def test_finished_stage_with_another_config(refused, work):
    line = refused(*SMALL, f"--workdir={work}", "--config.data.bias=0.8", "--config.seed=3")
    says(line, "stage data", "data.bias = 0.9, now 0.8", "seed = 0, now 3", "another --workdir")
    assert json.loads((work / "config.json").read_text())["seed"] == 0


def test_begun_gan_with_another_shape(refused, work):
    folder = work / "arms/main/gan"
    pretend(work, "judge/long_hair", "arms/main/gan")
    (folder / "checkpoints").mkdir()
    (folder / "DONE").unlink()
    line = refused(*SMALL, f"--workdir={work}", "--config.gan.channel_max=8")
    says(line, "stage arms/main/gan", "gan.channel_max = 4, now 8")


def test_damaged_done(refused, work):
    for text in ("", "{", "[]", "null", "{}", '{"config": {}}'):
        (work / "weights/DONE").write_text(text)
        line = refused(*SMALL, f"--workdir={work}")
        says(line, str(work / "weights/DONE"), "Delete", "rerun")
    (work / "weights/DONE").write_bytes(b"\xff\xfe")
    says(refused(*SMALL, f"--workdir={work}"), str(work / "weights/DONE"))


def test_stage_before_its_inputs(refused, work, tmp_path):
    says(refused(*SMALL, f"--workdir={work}", "--stage=gan"),
         "stage judge/long_hair is not finished", "Run it first")  # fmt: skip
    says(refused(*SMALL, f"--workdir={tmp_path / 'new'}", "--stage=weights"),
         "stage data is not finished")  # fmt: skip


def test_input_changed_after_a_stage(refused, work):
    """The weights were computed on other data than now lies there."""
    record = json.loads((work / "data/DONE").read_text())
    record["output"]["manifest"] = "another"
    (work / "data/DONE").write_text(json.dumps(record))
    says(refused(*SMALL, f"--workdir={work}"), "stage weights", "another version of data")


JUDGED_BY_NOBODY = (*SMALL, "--config.judge.attribute_sets=()")


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory) -> Path:
    """As `prepared`, without a judge, so that the GAN stage can be reached at once."""
    os.chdir(pipeline.ROOT)
    workdir = tmp_path_factory.mktemp("unjudged") / "run"
    for stage in ("data", "weights"):
        main(["launch/train.py", *JUDGED_BY_NOBODY, f"--workdir={workdir}", f"--stage={stage}"])
    return workdir


@pytest.mark.parametrize(
    "damage",
    ["other images", "other data", "nan", "negative", "zero", "short", "cut", "gone", "key"],
)
def test_weights_that_do_not_fit(damage, refused, unjudged, tmp_path):
    work = Path(shutil.copytree(unjudged, tmp_path / "run"))
    path = work / "weights/weights.npz"
    arrays = dict(np.load(path))
    if damage == "other images":
        arrays["id"] = arrays["id"][::-1]
    elif damage == "other data":
        arrays["manifest"] = np.array("another")
    elif damage == "nan":
        arrays["weight"][3] = np.nan
    elif damage == "negative":
        arrays["weight"][3] = -1
    elif damage == "zero":
        arrays["weight"][:] = 0
    elif damage == "short":
        arrays["weight"] = arrays["weight"][1:]
    elif damage == "key":
        del arrays["weight"]
    np.savez(path, **arrays)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "gone":
        path.unlink()
    line = refused(*JUDGED_BY_NOBODY, f"--workdir={work}", "--stage=gan")
    says(line, str(path), "elete")
    assert not (work / "arms/main/gan/checkpoints").exists()


def test_cut_generator(refused, unjudged, tmp_path):
    work = Path(shutil.copytree(unjudged, tmp_path / "run"))
    pretend(work, "arms/main/gan", args=JUDGED_BY_NOBODY)
    path = work / "arms/main/gan/generator.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    line = refused(*JUDGED_BY_NOBODY, f"--workdir={work}", "--stage=eval")
    says(line, str(path), "Delete", "rerun")
    assert not (work / "arms/main/eval/metrics.json").exists()


def test_cut_judge(refused, work):
    pretend(work, "judge/long_hair")
    folder = work / "judge/long_hair"
    (folder / "summary.json").write_text(json.dumps(
        {"confusion": [[9, 1], [1, 9]], "soft_confusion": [[0.9, 0.1], [0.1, 0.9]]}))  # fmt: skip
    (folder / "network.safetensors").write_bytes(b"cut")
    line = refused(*SMALL, f"--workdir={work}", "--stage=gan")
    says(line, str(folder / "network.safetensors"), "Delete", "rerun")


def test_manifest_changed_by_hand(work, capsys):
    """Not an error: what the data stage made is made again, with the same hash."""
    path = work / "data/manifest.json"
    before = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"short hair"', '"no hair"'))
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=data"])
    shutil.rmtree(work / "weights")
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=weights"])
    assert "the manifest was changed" in capsys.readouterr().err
    assert json.loads(path.read_text())["hash"] == before["hash"]


def test_cut_image_cache_is_drawn_anew(work, tmp_path, monkeypatch, capsys):
    """Not an error: a damaged cache of avatars is noticed and drawn again."""
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "cache"))
    again = tmp_path / "again"
    args = ["launch/train.py", *SMALL, "--stage=data"]
    main([*args, f"--workdir={tmp_path / 'first'}"])
    (images,) = (tmp_path / "cache").glob("avatars-*/images.u8")
    whole = images.read_bytes()
    images.write_bytes(whole[:1000])
    main([*args, f"--workdir={again}"])
    assert "are damaged" in capsys.readouterr().err
    assert next((tmp_path / "cache").glob("avatars-*/images.u8")).read_bytes() == whole


# ---- The machine around the run.


def test_workdir_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    says(refused(*SMALL, f"--workdir={tmp_path / 'file'}"), str(tmp_path / "file"), "folder")
    assert (tmp_path / "file").read_text() == "mine"
    says(refused(*SMALL, f"--workdir={tmp_path / 'file/run'}"), str(tmp_path / "file/run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_workdir_not_writable(refused, tmp_path):
    tmp_path.chmod(0o500)
    says(refused(*SMALL, f"--workdir={tmp_path / 'run'}"), str(tmp_path / "run"), "permission")
    tmp_path.chmod(0o700)


def test_cache_folder_is_a_file(refused, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRJAX_CACHE", str(tmp_path / "file"))
    says(refused(*SMALL, f"--workdir={tmp_path / 'run'}"), str(tmp_path / "file"))


def test_workdir_in_use(refused, work):
    (work / "lock").write_text("4711\n")
    with (work / "lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        says(refused(*SMALL, f"--workdir={work}"), str(work), "another run", "4711", "Wait")
    main(["launch/train.py", *SMALL, f"--workdir={work}", "--stage=data"])


def alone(*args: str, **env: str) -> str:
    """The answer of a process of its own."""
    done = subprocess.run(
        [sys.executable, "launch/train.py", *args], cwd=pipeline.ROOT, text=True,
        env=pipeline.environment() | env, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_cluster_that_is_not_there(tmp_path):
    line = alone(*SMALL, "--distributed=on", f"--workdir={tmp_path / 'run'}")
    says(line, "--distributed=on", "--distributed=off")
    assert not (tmp_path / "run").exists()


def test_device_that_is_not_there(tmp_path):
    line = alone(*SMALL, f"--workdir={tmp_path / 'run'}", JAX_PLATFORMS="abacus")
    says(line, "JAX_PLATFORMS", "abacus", "cpu")


def test_batch_not_divisible_by_devices(tmp_path):
    line = alone(*SMALL, "--config.ratio.batch=14", "--config.gan.batch=12",
                 f"--workdir={tmp_path / 'run'}",
                 XLA_FLAGS="--xla_force_host_platform_device_count=4")  # fmt: skip
    says(line, "ratio.batch (=14)", "2 x 4 devices", "3 images per device")
