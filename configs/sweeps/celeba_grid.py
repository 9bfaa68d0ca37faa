"""The paper's grid on CelebA: methods x setting x size of the reference set x seeds, at its counts.

Command: python launch/sweep.py --config=configs/sweeps/celeba_grid.py --config.data.celeba.dir=DIR
One run: python launch/train.py --config=configs/sweeps/celeba_grid.py:bias09+perc0.1
  --config.data.celeba.dir=DIR
Tables:  python launch/compare.py configs/sweeps/celeba_grid.jsonl
Laptop:  the same with celeba_grid.py:tiny. Figures and time at full size: not run.

The settings are configs/celeba_bias09.py, celeba_bias08.py and celeba_multi.py; the methods of a
run are those of paper_grid.py and the baselines of the paper.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from fairjax.config import celeba, tiny, variant

HERE = Path(__file__).parent
GRID = runpy.run_path(str(HERE / "paper_grid.py"))
SETTINGS = ("bias09", "bias08", "multi")
SWEEPS = {
    "full": tuple(f"{setting}+{perc}" for setting in SETTINGS for perc in GRID["PERCS"]),
    "tiny": tuple(f"{setting}+perc0.5+tiny" for setting in SETTINGS),
}
SEEDS = (0, 1, 2)


def setting(name: str):
    """That of the config with this name."""

    def change(config: ConfigDict) -> None:
        own = config.name
        config.update(runpy.run_path(str(HERE.parent / f"celeba_{name}.py"))["get_config"]())
        config.name = own

    return change


def get_config(arg: str | None = None) -> ConfigDict:
    changes = {name: setting(name) for name in SETTINGS} | {"tiny": tiny}
    changes |= {name: GRID["perc"](float(name[4:])) for name in GRID["PERCS"]}
    config = celeba()
    config.name = "celeba_grid"
    config = variant(config, arg, changes)
    config.arms = ConfigDict(GRID["METHODS"] | GRID["BASELINES"])
    return config
