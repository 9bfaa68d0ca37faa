"""The rule launch -> experiments -> {train, evaluate, report} -> {models, objectives, data}."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ("errors", "config", "presets", "augmentations", "validation", "classifier_config",
          "gan_validation", "classifier_validation", "classifier_presets")  # fmt: skip
ROOMS = ("data", "objectives", "models", "train", "evaluate", "report", "experiments")
FLOOR = ("models", "objectives", "data")
# What each room may import besides itself and the shared files. Rooms of one floor do not know each
# other, except that the report reads the figures that `evaluate` writes.
MAY = {
    "": ("experiments",),  # fairjax/__init__.py, the interface in Python
    "launch": ("experiments",),
    "configs": (),
    "experiments": ("train", "evaluate", "report", *FLOOR),
    "train": FLOOR,
    "evaluate": FLOOR,
    "report": ("evaluate", *FLOOR),
    "models": (),
    "objectives": (),
    "data": (),
    "errors": (),
    "config": (),
    "presets": (),
    "augmentations": (),
    "validation": (),
    "classifier_config": (),
    "classifier_validation": (),
    "gan_validation": (),
    "classifier_presets": (),
}
ONLY = {"objectives": {"jax", "numpy", "optax"}}
NEVER = {"data": {"jax", "flax", "optax", "orbax"}, "report": {"jax", "flax"}}
ORBAX = "fairjax/train/checkpoints.py"


def room_of(path):
    parts = path.parts
    if parts[0] != "fairjax":
        return parts[0]
    return "" if parts[1] == "__init__.py" else parts[1].removesuffix(".py")


def imported(source):
    """(dotted name, line) of every import of a file, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def broken(path, source):
    """Sentences, one for each import of the file that breaks a rule."""
    room = room_of(path)
    for name, line in imported(source):
        top, _, rest = name.partition(".")
        where = f"{path}:{line} imports {name}"
        if top == "fairjax":
            target = rest.split(".")[0]
            allowed = (room, *SHARED, *MAY.get(room, ()))
            if target in ROOMS and target not in allowed:
                yield f"{where}: {room} may import {', '.join(allowed)}"
        elif top == "orbax" and path.as_posix() != ORBAX:
            yield f"{where}: only {ORBAX} imports orbax"
        elif top in NEVER.get(room, ()):
            yield f"{where}: {room} never imports {top}"
        elif room in ONLY and top not in ONLY[room] and top not in sys.stdlib_module_names:
            yield f"{where}: {room} imports only {', '.join(sorted(ONLY[room]))}"


def sources():
    for folder in ("fairjax", "launch", "configs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def test_every_file_keeps_the_direction():
    files = list(sources())
    assert len(files) > 50
    problems = [sentence for path, source in files for sentence in broken(path, source)]
    assert not problems, "\n" + "\n".join(problems)


def test_every_room_has_its_rule():
    rooms = {room_of(path) for path, _ in sources()} - {""}
    assert rooms <= set(MAY)


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("fairjax/train/x.py", "from fairjax.experiments import keys", "train may import"),
        ("fairjax/data/x.py", "import fairjax.models.resnet", "data may import"),
        ("fairjax/evaluate/x.py", "from fairjax import train", "evaluate may import"),
        ("fairjax/models/x.py", "def f():\n  from fairjax.data import cache", "models may import"),
        ("fairjax/config.py", "from fairjax.data import splits", "config may import"),
        ("launch/x.py", "from fairjax.train import loop", "launch may import"),
        ("fairjax/data/x.py", "import jax.numpy as jnp", "data never imports jax"),
        ("fairjax/train/loop.py", "import orbax.checkpoint", "only fairjax/train/checkpoints.py"),
        ("fairjax/objectives/x.py", "import flax", "objectives imports only jax, numpy, optax"),
    ],
)
def test_the_rule_notices(path, source, rule):
    (sentence,) = broken(Path(path), source)
    assert sentence.startswith(path)
    assert source.split()[-1].split(".")[-1] in sentence or "jax.numpy" in sentence
    assert rule in sentence


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fairjax/train/checkpoints.py", "import orbax.checkpoint as ocp"),
        ("fairjax/train/x.py", "from fairjax.errors import InputError"),
        ("fairjax/objectives/x.py", "import math\nimport optax\nfrom fairjax import config"),
        ("fairjax/experiments/x.py", "from fairjax.data import cache"),
        ("launch/x.py", "from fairjax.experiments.command import main"),
    ],
)
def test_the_rule_permits(path, source):
    assert not list(broken(Path(path), source))
