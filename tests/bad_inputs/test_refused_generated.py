"""150 malformed configs, command lines and config files, drawn anew from a seed: each is refused.

Values are of a kind that no key of that type can have. `--generated=N` takes another number.
"""

import random
import sys

import pytest
from ml_collections import ConfigDict

from fairjax.config import defaults
from fairjax.experiments import fair_generation

TINY = "--config=configs/quickstart.py:tiny"
WORDS = (
    "abc",
    "",
    "1,5",
    "None",
    "[]",
    "0x",
    "(1,",
    "{1: 2}",
    "--",
    "1 2",
    "\u00e9\u4e2d",
    "%s",
    "\0",
)
NUMBERS = ("nan", "inf", "-inf", "1e999", "-1e999")
MALFORMED = {
    bool: ("maybe", "2.5", "nan", "[]", "yes no", "-"),
    int: (*WORDS, *NUMBERS, "1.5", "9" * 30 + "x", "-" + "9" * 25),
    float: (*WORDS, *NUMBERS, "1.5.5"),
    tuple: ("(1,", "{1: 2", "nan(", "[", "'a", "lambda: 0", "__import__('os')"),
}
# Texts that only name a folder, a file, an attribute or the run; any other is one of some words.
FREE = (
    "dir",
    "file",
    "folder",
    "name",
    "attributes",
    "init_from",
    "second_from",
    "tfds",
    "inception",
    "onnx",
)
CONFIG_FILES = (
    "def get_config(:", "", "get_config = 3", "def get_config(): raise KeyError('x')",
    "def get_config(arg=None): return {{}}", "def get_config(arg=None): return None",
    "import no_such_module", "raise SystemExit(0)", "def get_config(a, b, c): return 1",
    "def get_config(arg=None):\n from fairjax.config import defaults\n c = defaults()\n"
    " c.{key} = object()\n return c",
    "def get_config(arg=None):\n from fairjax.config import defaults\n c = defaults()\n"
    " del c.{key}\n return c",
    "def get_config(arg=None):\n from fairjax.config import defaults\n c = defaults()\n"
    " c.arms = {{'a': {{'{last}': [1, {{}}]}}, 'b/../c': {{}}}}\n return c",
    "1 / 0", "\0\0", "\u00e9" * 30, "x = [" * 300,
)  # fmt: skip


def leaves(tree, prefix=""):
    """(dotted name, value) of every key."""
    for name, value in tree.items():
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


KEYS = [(name, value) for name, value in leaves(defaults()) if not name.startswith("arms.")]


def mistyped(rng, name):
    at = rng.randrange(len(name))
    return name[:at] + rng.choice("qxz_") + name[at:]


def value_case(rng, _):
    while True:
        name, value = rng.choice(KEYS)
        if isinstance(value, str | tuple) and any(word in name for word in FREE):
            continue
        if isinstance(value, str):
            return [
                TINY,
                f"--config.{name}={rng.choice(['abc', 'nan', '0', 'None', '[]', '../x'])}",
            ]
        return [TINY, f"--config.{name}={rng.choice(MALFORMED[type(value)])}"]


def command_case(rng, _):
    name, _ = rng.choice(KEYS)
    return [TINY, *rng.choice([
        [f"--config.{mistyped(rng, name)}=1"],
        [f"--{mistyped(rng, rng.choice(['stage', 'workdir', 'dry_run', 'distributed']))}=1"],
        [f"--stage={mistyped(rng, rng.choice(['gan', 'eval', 'report']))}"],
        [f"--distributed={rng.choice(['yes', '', 'ON?'])}"],
        [rng.choice(["train", "-", "--", "=", "--=", "x=1"]) + "stray"],
        [f"--processes={rng.choice(['two', '-', '1.5', '2'])}"],
        ["--coordinator=host:1", "--processes=2"],
    ])]  # fmt: skip


def file_case(rng, folder):
    name, _ = rng.choice(KEYS)
    path = folder / f"config{rng.randrange(10**9)}.py"
    text = rng.choice(CONFIG_FILES).format(key=name, last=name.rsplit(".", 1)[-1])
    path.write_text(text)
    return [f"--config={path}{rng.choice(['', ':tiny', ':no+such'])}"]


@pytest.mark.faults
def test_each_malformed_input_is_refused_in_one_line(refused, tmp_path, monkeypatch, request):
    """Nothing is computed either, and nothing written into the workdir."""

    def run(*args):
        raise AssertionError("the run began")

    monkeypatch.setattr(fair_generation, "run", run)
    wrong = []
    for number in range(request.config.getoption("generated")):
        rng = random.Random(number)
        case = rng.choices([value_case, command_case, file_case], [7, 2, 2])[0]
        args = case(rng, tmp_path)
        workdir = tmp_path / f"run{number}"
        workdir.mkdir()
        (workdir / "mine.txt").write_text("mine")
        sys.modules.pop("config_config", None)  # in which the config before was run
        try:
            refused(*args, f"--workdir={workdir}")
            assert [f.read_text() for f in workdir.iterdir()] == ["mine"]
        except Exception as error:
            wrong.append((args, repr(error)))
    assert wrong == []
