"""Rows of papers as variants, against the published tables, number by number; one is run."""

import importlib.util

import pipeline
import pytest
from make_celeba import make

from fairjax.classifier_config import with_arm
from fairjax.classifier_presets import PRESETS
from fairjax.errors import InputError
from fairjax.evaluate.figures import read_figures
from fairjax.experiments import command, robust_classification, runs
from fairjax.validation import validate

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

FILES = {"waterbirds": "waterbirds", "celeba": "celeba_blond"}

# Sagawa et al. 2020, appendix C.2 and tables 1 and 2: l2, rate, epochs, C, average, worst group.
REGIMES = {
    ("waterbirds", "table1_erm"): (1e-4, 1e-3, 300, 0, 97.3, 60.0),
    ("waterbirds", "table1_dro"): (1e-4, 1e-3, 300, 0, 97.4, 76.9),
    ("waterbirds", "table1_erm_l2"): (1.0, 1e-5, 300, 0, 95.7, 21.3),
    ("waterbirds", "table1_dro_l2"): (1.0, 1e-5, 300, 0, 96.6, 84.6),
    ("waterbirds", "table1_erm_early"): (1e-4, 1e-3, 1, 0, 93.8, 6.7),
    ("waterbirds", "table1_dro_early"): (1e-4, 1e-3, 1, 0, 93.2, 86.0),
    ("waterbirds", "table2_dro_c"): (1.0, 1e-5, 300, 2, 93.7, 90.5),
    ("celeba", "table1_erm"): (1e-4, 1e-4, 50, 0, 94.8, 41.1),
    ("celeba", "table1_dro"): (1e-4, 1e-4, 50, 0, 94.7, 41.1),
    ("celeba", "table1_erm_l2"): (0.1, 1e-5, 50, 0, 95.8, 37.8),
    ("celeba", "table1_dro_l2"): (0.1, 1e-5, 50, 0, 93.5, 86.7),
    ("celeba", "table1_erm_early"): (1e-4, 1e-4, 1, 0, 94.6, 25.0),
    ("celeba", "table1_dro_early"): (1e-4, 1e-4, 1, 0, 91.8, 88.3),
    ("celeba", "table2_dro_c"): (0.1, 1e-5, 50, 3, 93.4, 87.8),
}


def load(data, variant):
    path = pipeline.ROOT / f"configs/{FILES[data]}.py"
    spec = importlib.util.spec_from_file_location(FILES[data], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    config.data[data].dir = "DIR"
    return config


@pytest.mark.parametrize(("data", "row"), REGIMES)
def test_the_regimes_of_group_dro(data, row):
    name = f"gdro_{row}"
    config = load(data, name)
    validate(config)
    assert list(config.arms) == [name]
    fit = with_arm(config, name).fit
    decay, rate, epochs, c, average, worst = REGIMES[data, row]
    assert (fit.weight_decay, fit.learning_rate, fit.epochs) == (decay, rate, epochs)
    assert (fit.model, fit.width, fit.stem, config.data.resolution) == (
        "resnet50", 64, "imagenet", 224)  # fmt: skip
    assert (fit.optimiser, fit.momentum, fit.batch, fit.select) == ("sgd", 0.9, 128, "last")
    robust = "_dro" in row
    assert (fit.objective, fit.sampler) == (("group_dro", "balanced") if robust else
                                            ("mean", "epoch"))  # fmt: skip
    assert fit.dro_c == (c,)
    assert (fit.dro_eta, fit.dro_start) == (0.01, "uniform")
    found = PRESETS[data][name]
    assert (float(found.average), float(found.worst), found.run) == (average, worst, "not run")


@pytest.mark.parametrize("data", FILES)
def test_other_rows_balance_and_choose_as_published(data):
    config = load(data, "subpop_crt")
    validate(config)
    fit = with_arm(config, "subpop_crt").fit  # with the attribute known it balances its groups
    assert (fit.head, fit.head_balance, fit.groups) == ("crt", "groups", "both")
    last = {"waterbirds": ["dfr"], "celeba": [n for n in PRESETS["celeba"] if "source_sgd" in n]}
    for name in last[data]:
        assert with_arm(load(data, name), name).fit.select == "last"
    if data == "celeba":  # lambda 0.1 for each class, where ours is halved
        fit = with_arm(load(data, "sd_table2"), "sd_table2").fit
        assert (fit.spectral / 2, tuple(fit.spectral_gamma)) == (0.1, (0.44, 2.5))


@pytest.mark.parametrize(("data", "images", "epochs"), [("waterbirds", 4795, 300),
                                                        ("celeba", 162_770, 50)])  # fmt: skip
def test_steps_are_those_of_the_images_that_are_trained_on(data, images, epochs):
    config = load(data, "gdro_table1_erm")
    steps = round(epochs * images / 128)
    assert f"about {steps:,} steps of 128 images" in robust_classification.describe(config)
    seconds, _ = runs.cost("cell", config, [])
    assert seconds == pytest.approx(steps * runs.ASSUMED_STEP)
    config.data.update(source="folder", split="proportions")
    said = robust_classification.describe(config)
    assert f"{epochs} epochs, in steps of 128 images; how many is known once" in said
    seconds, why = runs.cost("cell", config, [])
    assert seconds == 0
    assert "images are not counted yet" in why


def test_rows_join_as_arms_and_become_small_by_tiny():
    config = load("celeba", "gdro_table1_erm+subpop_dfr+tiny")
    validate(config)
    assert set(config.arms) == {"gdro_table1_erm", "subpop_dfr"}
    for arm in config.arms:
        assert with_arm(config, arm).fit.epochs == 4
        assert with_arm(config, arm).fit.batch == 32
    assert config.arms.subpop_dfr.head == "dfr"
    with pytest.raises(InputError, match="'source_adam' is of 128 pixels"):
        load("celeba", "gdro_table1_erm+source_adam")


@pytest.mark.parametrize("data", FILES)
def test_the_list_names_every_row_and_says_that_none_was_run(data, capsys):
    file = f"{pipeline.ROOT}/configs/{FILES[data]}.py"
    command.main(["train.py", f"--config={file}:list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f":{name}" for name in PRESETS[data]]
    assert all(" not run " in line for line in lines[1:-1])
    (line,) = [line for line in lines if line.startswith(":gdro_table3_dro ")]
    assert ("91.4" if data == "waterbirds" else "88.9") in line


def test_a_config_without_rows_says_so(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["train.py", f"--config={pipeline.ROOT}/configs/coloured_digits.py:list"])
    assert stop.value.code == 2
    assert "no published rows of data.source=digits" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_a_row_runs_on_files_in_the_official_form(tmp_path):
    """The adjusted group DRO of table 2, tiny, by a small network; the words of the row hold."""
    make(tmp_path / "celeba", n=300)
    config = load("celeba", "gdro_table2_dro_c+tiny")
    config.data.celeba.dir = str(tmp_path / "celeba")
    config.arms.gdro_table2_dro_c.update(model="cnn", stem="small")
    validate(config)
    robust_classification.run(config, tmp_path / "run")
    found = read_figures(tmp_path / "run/arms/gdro_table2_dro_c/eval/metrics.json")
    names = [name for name in found if name.startswith("accuracy/") and name.endswith("/test")]
    assert len(names) >= 3  # blond men are rare here too
    assert all("Blond_Hair" in name and "Male" in name for name in names)
    assert found["average_accuracy/validation"].n == 60
