"""Fair image generation and robust classification in JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairjax.experiments.handover import Handed
    from fairjax.experiments.loaded import Loaded

__version__ = "0.1.0"


def load(path: str) -> "Loaded":
    """A trained generator: `fairjax.load("runs/RUN/arms/weighted/gan").sample(16)`.

    Args:
      path: the folder of a finished `gan` stage, a .safetensors file with its .json, or an official
        StyleGAN2 .pkl (nothing in it is executed).

    Raises:
      InputError: a file is missing or damaged, or of another kind.
    """
    from fairjax.experiments.loaded import Loaded

    return Loaded.of(path)


def predictions(
    path: str,
    *,
    label: str = "label",
    score: str | None = None,
    decision: str | None = None,
    positive: str | None = None,
    threshold: float = 0.5,
    features: str | None = None,
) -> "Handed":
    """A classifier's predictions, for other libraries: `MetricFrame(metrics=selection_rate,
    **fairjax.predictions("runs/RUN/arms/erm").fairlearn("colour"))`.

    Args:
      path: the folder of a trained arm, of which the columns and features are known, or a table
        (.csv, .parquet) with one row an example.
      label: column of the true class. score: of the probability of the positive class. decision: of
        the class decided for; without it, a score of at least `threshold` decides for the positive.
      positive: the positive class; None where it is 1 or yes.
      features: NPZ with features [rows, d].

    Raises:
      InputError: a file or a column is missing, or holds other things.
    """
    from fairjax.experiments.handover import Handed

    return Handed.of(path, label, score, decision, positive, threshold, features)
