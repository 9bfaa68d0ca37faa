"""The Python interface to a trained generator; `fairjax.load` makes one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairjax.experiments.judge_stage import read_judge
from fairjax.experiments.sample import balanced, draw
from fairjax.experiments.saved_generator import Trained, fingerprint, load_generator


@dataclass(frozen=True)
class Loaded:
    """A generator that draws images.

    Attributes:
      trained: its network, parameters, mean style and labels.
      resolution: pixels of a side. channels: 1, 3 or 4.
      classes: names of its labels; () without.
      fingerprint: of its parameters, the same in each form of file.
    """

    trained: Trained
    resolution: int
    channels: int
    classes: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, path: str | Path) -> "Loaded":
        """Reads a generator; see `fairjax.load`."""
        trained = load_generator(Path(path))
        names = (trained.conditions or {}).get("classes", ())
        return cls(trained, trained.net.resolution, trained.net.image_channels, tuple(names),
                   fingerprint(trained))  # fmt: skip

    def sample(self, n: int, *, balance: str | Path | None = None, **options: Any) -> np.ndarray:
        """n images uint8 [n, H, W, C]; image i is a function of the seed and i alone.

        Args:
          balance: RUN/judge/ATTRIBUTES: equally many of each class that this judge sees.
          options: `seed`, `psi`, `centre`, `cutoff`, `noise`, `only`, `label`, `batch`, as
            `python launch/sample.py --help` explains them (`only` is --class).

        Raises:
          InputError: an option that this generator has not, or a class that is too rare.
        """
        if balance is None:
            return draw(self.trained, n=n, **options)[0]
        judge = read_judge(Path(balance), f"balance={balance}")
        return balanced(self.trained, judge, n, **options)[0]
