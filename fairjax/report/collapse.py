"""What has collapsed in a run, in words: a judge, the weights, a discriminator, a generator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairjax.report.rows import QUARTER
from fairjax.report.workdir import Arm, Run

FEW = 0.01  # effective share of the biased images below which the weights use hardly any of them
FLAT = 0.1  # of the training images' variety, below which a generator makes one image
# Share of reals inside the hinge's margin below which hardly any is left to weight: at 0.02 a
# generator of 64 px made one kind of image. Weights can wear off well above it, at 0.4 (README).
LITTLE = 0.25


def collapsed(run: Run) -> list[str]:
    """Sentences, one for each part whose figures are worthless; [] where there is none."""
    arms = (s for arm in run.arms for s in (*_discriminator(arm), *_generator(run, arm)))
    return [*_judges(run), *_weights(run), *arms]


def _judges(run: Run) -> list[str]:
    return [
        f"The judge of {judge.name} is collapsed: it says "
        f"{judge.classes[int(judge.confusion.sum(0).argmax())]} of every test image."
        for judge in run.judges.values()
        if judge.confusion is not None and judge.confusion.sum() > 0
        and np.count_nonzero(judge.confusion.sum(0)) == 1
    ]  # fmt: skip


def _weights(run: Run) -> list[str]:
    figure = run.weight_figures.get("effective_sample_size/biased")
    if figure is None or figure.n == 0 or figure.value >= FEW * figure.n:
        return []
    return [f"The weights rest on few images: those of the {figure.n:,} biased images count as "
            f"{figure.value:,.1f} (effective sample size)."]  # fmt: skip


def _discriminator(arm: Arm) -> list[str]:
    loss, target = arm.settings.get("gan.loss"), float(arm.settings.get("gan.r1_target") or 0)
    return tells_apart(arm.name, arm.stream, loss, target)


def tells_apart(
    name: str, stream: Sequence[Mapping[str, Any]], loss: str | None, r1_target: float
) -> list[str]:
    """[a sentence] where hardly any real is left inside the hinge's margin, D(x) < 1; else [].

    Args:
      name: of the arm.
      stream: its records so far, as in `metrics.jsonl`; the last quarter of them counts.
      loss: `gan.loss`; only the hinge has a margin.
      r1_target: `gan.r1_target`; what is advised depends on it.
    """
    logged = [(line["kimg"], line["real_inside_margin"]) for line in stream
              if "real_inside_margin" in line]  # fmt: skip
    if not logged or loss != "hinge":
        return []
    inside = float(np.mean([share for kimg, share in logged if kimg > QUARTER * logged[-1][0]]))
    if inside >= LITTLE:
        return []
    mend = "let it follow that share with gan.r1_target=0.6"
    if r1_target > 0:
        mend = "let it follow that share faster with a smaller gan.r1_kimg"
    return [f"The discriminator of {name} tells almost everything apart: {inside:.0%} of the "
            "reals are inside its margin over the last quarter of its steps so far, so that "
            "weights have little left to scale and the generator little to learn from. Raise "
            f"gan.r1_gamma, or {mend}."]  # fmt: skip


def _generator(run: Run, arm: Arm) -> list[str]:
    """By the spread of the pixels over images, compared with that of the training images."""
    reals = [images for images in run.examples.values() if len(images) > 1]
    if arm.samples is None or len(arm.samples) < 2 or not reals:
        return []
    ours, theirs = _variety(arm.samples), _variety(np.concatenate(reals))
    if ours >= FLAT * theirs:
        return []
    return [f"The generator of {arm.name} is collapsed: its samples hardly differ (the spread of "
            f"their pixels is {ours / theirs:.1%} of that of the training images)."]  # fmt: skip


def _variety(images: np.ndarray) -> float:
    return float(np.asarray(images, np.float64).std(0).mean())
