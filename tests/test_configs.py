"""Every file in configs/, with every variant: loads, validates, and lowers without computing."""

import functools
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter

import jax
import pipeline
import pytest
from ml_collections import ConfigDict

from fairjax import config as configuration
from fairjax.errors import InputError
from fairjax.experiments import (
    config_line,
    dry_run,
    fair_generation,
    gan_stage,
    robust_classification,
)
from fairjax.validation import validate

FILES = sorted(path.stem for path in (pipeline.ROOT / "configs").glob("*.py"))
CLASSIFIERS = (
    "avatar_classifier",
    "celeba_blond",
    "coloured_digits",
    "digits_occam",
    "latent_debiasing",
    "waterbirds",
)  # of the other experiment
FILES = [name for name in FILES if name not in CLASSIFIERS]
# What a config cannot know: where the user's images are.
GIVEN = {
    "celeba": {"data.celeba.dir": "DIR"},
    "shapes3d": {"data.shapes3d.file": "3dshapes.h5"},
    "waterbirds": {"data.waterbirds.dir": "DIR"},
    "folder": {"data.folder.biased": ("A",), "data.folder.reference": ("B",)},
}


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, pipeline.ROOT / f"configs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def variants(name: str) -> list[str | None]:
    """The variants of a config, as its own error message lists them."""
    with pytest.raises(InputError) as error:
        module(name).get_config("no such variant")
    return [None, *re.findall(r":(\w+)", error.value.mend)]


def load(name: str, variant: str | None = None) -> ConfigDict:
    config = module(name).get_config(variant) if variant else module(name).get_config()
    for key, value in GIVEN.get(config.data.source, {}).items():
        config.update_from_flattened_dict({key: value})
    return config


ALL = [(name, variant) for name in FILES for variant in variants(name)]


def test_every_config_has_tiny_and_the_full_ones_other_sizes():
    found = {name: {v for n, v in ALL if n == name} for name in FILES}
    assert set(found) >= {"quickstart", "celeba_bias09", "celeba_bias08", "celeba_multi", "folder",
                          "shapes3d"}  # fmt: skip
    assert all("tiny" in v for v in found.values())
    assert all({"128", "256"} <= found[n] for n in FILES if n.startswith("celeba"))


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_loads_and_validates(name, variant):
    config = load(name, variant)
    validate(config)
    config_line.check_form(config)
    assert config.name == (name if variant is None else f"{name}_{variant}")
    if variant in ("128", "256"):
        assert config.data.resolution == int(variant)
    # Each stage once, in an order in which everything is made before it is read.
    plan = list(fair_generation.plan(config))
    assert max(Counter(plan).values()) == 1
    assert plan[0] == "data"
    assert plan[-1] == "report"
    assert len([s for s in plan if s.endswith("/gan")]) == len(config.arms)
    rhythm = gan_stage.rhythm(config)
    assert 1 <= rhythm.log <= rhythm.save <= rhythm.total
    assert 1 <= rhythm.evaluate <= rhythm.total


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_configs_of_classifiers_load_and_validate(name):
    for variant in variants(name):
        config = load(name, variant)
        validate(config)
        config_line.check_form(config)
        plan = list(robust_classification.plan(config))
        assert len([s for s in plan if s.endswith("/fit")]) == len(config.arms)
        said = robust_classification.describe(config)
        assert all(f"arm {arm}: " in said for arm in config.arms)
    assert "tiny" in variants(name)


@pytest.mark.parametrize("name", [*FILES, *CLASSIFIERS])
def test_docstring_names_a_command_that_parses(name):
    commands = re.findall(
        r"python launch/train\.py ([^\n]+(?:\n  --[^\n]+)*)", module(name).__doc__
    )
    assert commands
    for text in commands:
        text = re.sub(r"\s+", " ", text.split(" (")[0] if name != "folder" else text)
        first = text.split()[0]
        assert first.startswith(f"--config=configs/{name}.py"), text


def test_a_change_of_a_leaf_changes_one_stage():
    """The part of the config that a stage records is the part that it reads."""
    base = load("quickstart", "tiny")
    plan = fair_generation.plan(base)
    for key, value, stages in (
        ("eval.samples", 7, ["arms/equi/eval", "arms/weighted/eval"]),
        ("weights.clip", 5.0, ["weights"]),
        ("judge.epochs", 1.0, ["judge/long_hair", "penalty_judge/ratio_2"]),
        ("ratio.epochs", 1.0, ["ratio/fold_0", "ratio/fold_1"]),
        ("ratio.feature_resolution", 64, ["ratio/efficientnet_lite0"]),
        ("ratio.calibration", "none", ["weights"]),
        ("gan.r1_gamma", 9.0, ["arms/equi/gan", "arms/weighted/gan"]),
        ("arms.equi.reweight", "loss", ["arms/equi/gan"]),
        ("data.bias", 0.8, ["data"]),
        ("name", "other", []),
    ):
        changed = load("quickstart", "tiny")
        changed.update_from_flattened_dict({key: value})
        other = fair_generation.plan(changed)
        assert [s for s in plan if plan[s] != other[s]] == stages, key


def test_r1_of_full_size_configs_follows_the_margin_of_the_hinge():
    full = [name for name in FILES if name not in ("quickstart", "feedback")]
    assert {"celeba_bias09", "folder", "shapes3d"} <= {*full}
    grid = module("sweeps/paper_grid").get_config("full+hair09+perc0.1")
    for config in [grid, *(load(name, None) for name in full)]:
        assert (config.gan.loss, config.gan.r1_target) == ("hinge", 0.6), config.name
        assert config.gan.r1_gamma == pytest.approx(0.01 * config.data.resolution**2)


# Totals of the published networks (Karras et al., 2020a), as their own printouts count them.
PUBLISHED = {
    ("g", 64, 2): 22_243_608, ("g", 128, 2): 22_949_277, ("g", 256, 8): 24_767_458,
    ("d", 64): 23_407_361, ("d", 128): 23_882_369, ("d", 256): 24_001_089,
}  # fmt: skip


@pytest.mark.parametrize("variant", [None, "128", "256"])
def test_parameters_are_the_published_numbers(variant):
    config = load("celeba_bias09", variant)
    resolution = config.data.resolution
    _, (state, _, _, _) = dry_run.abstract_gan(config)
    assert dry_run.size(state.d)[0] == PUBLISHED["d", resolution]
    assert dry_run.size(state.ema) == dry_run.size(state.g)
    # Two mapping layers; the table has eight at 256 px: six of 512 x 512 and a bias less.
    g = dry_run.size(state.g)[0]
    missing = 6 * (512 * 512 + 512) if resolution == 256 else 0
    published = PUBLISHED["g", resolution, 8 if missing else 2]
    assert g + missing == published


@functools.cache
def flops(programs: gan_stage.Gan, text: str) -> dict[str, float]:
    """Lowers the programs of a config, once for all configs and arms that share them."""
    lowered = dry_run.lower(ConfigDict(json.loads(text)))
    return {name: dry_run._flops(lowering) for name, lowering in lowered.items()}


def check_lowered(name: str, variant: str | None) -> None:
    config = load(name, variant)
    for arm in config.arms:
        merged = configuration.with_arm(config, arm)
        of = flops(gan_stage.programs(merged), json.dumps(merged.to_dict(), default=list))
        assert set(of) == {"g", "d", "g + path length", "d + r1"}
        assert of["g + path length"] > of["g"] > 0
        assert of["d + r1"] > of["d"] > 0


SAME_PROGRAMS = ("celeba_bias08", "celeba_multi")  # as celeba_bias09
LOWERED_ELSEWHERE = (*SAME_PROGRAMS, "feedback")


@pytest.mark.parametrize("variant", [None, "128", "256"])
def test_the_celeba_configs_share_their_programs(variant):
    first, *others = (load(name, variant) for name in ("celeba_bias09", *SAME_PROGRAMS))
    for other in others:
        assert (other.gan, other.data.resolution, other.data.channels) == (
            first.gan, first.data.resolution, first.data.channels)  # fmt: skip
        for arm in other.arms:
            assert dict(other.arms[arm]) in [dict(tree) for tree in first.arms.values()]


@pytest.mark.slow
def test_small_step_programs_lower():
    check_lowered("quickstart", "tiny")


# The others have the networks of one of these at another size, and take minutes.
LOWERED_ALWAYS = (("celeba_bias09", "256"), ("quickstart", None), ("shapes3d", None))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), [
    pytest.param(*x, marks=[pytest.mark.long] * (x not in LOWERED_ALWAYS))
    for x in ALL if x[1] in (None, "128", "256") and x[0] not in LOWERED_ELSEWHERE
])  # fmt: skip
def test_full_size_step_programs_lower(name, variant):
    check_lowered(name, variant)


def test_the_step_keeps_the_shapes_of_its_state():
    """What goes into a step comes out of it: else every step would compile anew."""
    gan, (state, batch, reals, key) = dry_run.abstract_gan(load("quickstart", "tiny"))
    for path_length in (False, True):
        out, _ = jax.eval_shape(
            lambda s, k, p=path_length: gan._g_step(s, k, path_length=p), state, key
        )
        assert jax.tree.map(lambda x: (x.shape, x.dtype), out) == jax.tree.map(
            lambda x: (x.shape, x.dtype), state
        )
    out, _ = jax.eval_shape(lambda *a: gan._d_step(*a, r1=True), state, batch, reals, key)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), out) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )


def test_flops_count_what_an_iteration_runs(monkeypatch):
    """Lazy regularisers count with the share of iterations that run them, and not at all if off."""
    counts = {"g": 10.0, "d": 20.0, "g + path length": 18.0, "d + r1": 52.0}
    config = load("quickstart", "tiny")
    config.gan.update(path_length_every=4, r1_every=16)
    monkeypatch.setattr(dry_run, "_flops", float)
    monkeypatch.setattr(dry_run, "lower", lambda config, used_only: counts)
    assert dry_run.flops_per_iteration(config) == 10 + 8 / 4 + 20 + 32 / 16
    monkeypatch.setattr(dry_run, "lower", lambda c, used_only: {"g": 10.0, "d": 20.0})
    assert dry_run.flops_per_iteration(config) == 30


def test_a_feedback_loop_says_on_what_each_generation_is_trained():
    config = load("feedback")
    said = [dry_run._own_samples(configuration.with_arm(config, arm).gan)
            for arm in configuration.arm_order(config)]  # fmt: skip
    assert said[0] == []
    assert "100 % of the training images, of arm:gen0" in said[1][0]
    assert "of arm:gen1" in said[2][0]
    assert config.data == load("quickstart").data
    # So that its programs are lowered with those of the quickstart.
    equi = gan_stage.programs(configuration.with_arm(load("quickstart"), "equi"))
    for arm in config.arms:
        assert gan_stage.programs(configuration.with_arm(config, arm)) is equi


def test_arms_share_programs_unless_the_step_reads_what_they_differ_in():
    def programs(**changes):
        config = load("quickstart", "tiny")
        config.gan.update(changes)
        return gan_stage.programs(config)

    ways = [{"reweight": way, "resample_share": 0.3} for way in ("none", "resample", "hybrid")]
    assert len({id(programs(**way)) for way in (*ways, {"draws": "stratified"})}) == 1
    rising = {"reweight": "hybrid", "alpha_ramp": 0.5}
    ways = [rising | {"resample_share": 0.3}, rising, rising | {"reweight": "loss"}]
    for way in ways:
        gan = programs(**way)
        assert (gan.gan.reweight, gan.gan.resample_share) == (
            way["reweight"], way.get("resample_share", 0.5))  # fmt: skip


def test_programs_that_never_run_are_not_counted():
    config = load("quickstart", "tiny")
    config.gan.update(path_length_weight=0.0, r1_gamma=0.0)
    assert set(dry_run.lower(config, used_only=True)) == {"g", "d"}


def test_dry_run_prints_and_writes_nothing(tmp_path):
    done = subprocess.run(
        [*pipeline.command(None, f"--config={pipeline.ROOT}/configs/quickstart.py:tiny"),
         "--dry_run", "--config.gan.batch=4"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=pipeline.environment() | {"FAIRJAX_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert '"batch": 4' in done.stdout
    for words in ("arms/weighted/eval", "parameters", "MB on every device", "steps", "80",
                  "estimated time"):  # fmt: skip
        assert words in done.stdout
    assert sys.executable not in done.stdout
