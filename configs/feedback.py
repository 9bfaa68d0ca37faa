"""A feedback loop: each generator trains on samples of the one before it. Does its bias grow?

Command: python launch/train.py --config=configs/feedback.py
Data and networks are those of `quickstart.py`. Arms: `gen0` trains on the plain union of both sets,
`gen1` on as many samples of `gen0`, `gen2` on samples of `gen1`. With --config.gan.own_share=0.5
half of the images stay real, the same ones in each generation.
The page has the discrepancy of each generation with its interval, in its answer and in the table of
figures, one arm for each generation; memorisation is that of the real training images.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from fairjax.config import tiny, variant


def get_config(arg: str | None = None) -> ConfigDict:
    quickstart = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))
    config: ConfigDict = quickstart["get_config"]()
    config.name = "feedback"
    config.gan.reweight = "none"
    config.arms = ConfigDict(
        {"gen0": {}, "gen1": {"own_from": "arm:gen0"}, "gen2": {"own_from": "arm:gen1"}}
    )
    return variant(config, arg, {"tiny": tiny})
