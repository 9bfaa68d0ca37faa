"""Collapsed parts are named: a constant judge, weights on few images, a generator of one image."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fairjax.evaluate.figures import Figure
from fairjax.report.answer import answer
from fairjax.report.collapse import collapsed
from fairjax.report.workdir import Arm, Judge, Run

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)


def run(confusion=((40, 10), (5, 45)), effective=500.0, samples=IMAGES, inside=(0.9, 0.3), **gan):
    shares = np.linspace(*inside, 9)
    stream = [{"kimg": float(i), "real_inside_margin": s} for i, s in enumerate(shares)]
    judge = Judge("hair", ("short", "long"), np.array(confusion), "")
    arm = Arm("main", {"gan.loss": "hinge"} | gan, stream, {}, samples, {}, None, [])
    size = Figure("effective_sample_size/biased", effective, np.nan, np.nan, 1000, "")
    return Run(Path("."), "t", "", {}, "", {}, {}, {"biased": IMAGES}, {}, {size.name: size},
               {"hair": judge}, (arm,))  # fmt: skip


def test_a_sound_run_is_not_blamed():
    """A weak judge, uneven weights and a dull generator are no collapse; nor are logits above 1
    without a margin."""
    dull = (128 + (IMAGES.astype(float) - 128) * 0.3).astype(np.uint8)
    assert collapsed(run(((30, 20), (20, 30)), 20.0, dull)) == []
    assert collapsed(run(inside=(0.0, 0.9))) == []
    assert collapsed(run(inside=(0.9, 0.0), **{"gan.loss": "logistic"})) == []
    assert collapsed(replace(run(), examples={}, judges={}, weight_figures={})) == []


def test_each_collapse_is_named_with_its_figure():
    one = np.repeat(IMAGES[:1], 20, 0)
    one[:, 0, 0] = IMAGES[:, 0, 0]  # 1 of 64 pixels differs
    cases = {
        "The judge of hair is collapsed: it says long of every test image.":
            run(confusion=((0, 50), (0, 50))),
        "The weights rest on few images: those of the 1,000 biased images count as 4.2 (effective "
        "sample size).": run(effective=4.2),
        "The discriminator of main tells almost everything apart: 6% of the reals are inside":
            run(inside=(0.9, 0.0)),
        "The generator of main is collapsed: its samples hardly differ": run(samples=one),
    }  # fmt: skip
    for words, broken in cases.items():
        (sentence,) = collapsed(broken)
        assert sentence.startswith(words)
        assert answer(broken).caveats[0] == sentence
    assert "1.6% of that" in sentence or "1.5% of that" in sentence


def test_a_saturated_discriminator_is_mended_by_what_the_run_does_not_do():
    (fixed,) = collapsed(run(inside=(0.9, 0.0)))
    (following,) = collapsed(run(inside=(0.9, 0.0), **{"gan.r1_target": 0.6}))
    assert fixed.endswith("let it follow that share with gan.r1_target=0.6.")
    assert following.endswith("a smaller gan.r1_kimg.")
