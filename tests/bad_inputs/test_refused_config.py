"""The command line and the config: nothing is even begun."""

import pytest
from answers import QUICKSTART, says

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
    "words for numbers": ([QUICKSTART, "--config.eval.psis=('a',)"], ["eval.psis", "(0.5,0.7)"]),
    "mixed list": ([QUICKSTART, "--config.data.biased_proportions=(0.5,'a')"],
                   ["data.biased_proportions", "'a'"]),
    "flat list of sets": ([QUICKSTART, "--config.judge.attribute_sets=('long_hair',)"],
                          ["judge.attribute_sets", "(('a',),"]),
    "one judge twice": ([QUICKSTART, "--config.judge.attribute_sets=(('a','b'),('b','a'))"],
                        ["judge.attribute_sets", "different sets"]),
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
    "shapes3d without file": (["--config=configs/shapes3d.py:tiny"], ["data.shapes3d.file"]),
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
