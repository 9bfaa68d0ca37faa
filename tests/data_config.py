"""A small experiment config for the tests of the data stage."""

from typing import Any

from ml_collections import ConfigDict

SMALL = dict(
    resolution=16, n_biased=40, n_ratio_test=12, n_judge_fit=16, n_judge_test=12,
    n_metric_reference=10,
)  # fmt: skip


def config(
    sets: tuple[tuple[str, ...], ...] = (("long_hair",),),
    seed: int = 0,
    numbers: tuple[str, ...] = (),
    **data: Any,
) -> ConfigDict:
    """Returns a config with the sections that the data stage reads, sized by SMALL."""
    sections = {
        "folder": dict(
            biased=(), reference=(), judge=(), attributes="", holdout=0.1, metric_share=0.2,
            judge_test_share=0.4,
        ),
        "celeba": {"dir": ""},
        "shapes3d": {"file": "", "keep": ()},
        "tfds": {"name": "", "data_dir": "", "split": "train", "image": "image", "attributes": ()},
    }  # fmt: skip
    for name, section in sections.items():
        section.update(data.pop(name, {}))
    tree = dict(
        source="avatars", channels=3, crop="center", group_attributes=("long_hair",),
        split="proportions", paper_setting="90_10", perc=0.5, bias=0.9, biased_proportions=(),
        reference_proportions=(), skip_bad_files=False,
    )  # fmt: skip
    return ConfigDict(
        {
            "seed": seed,
            "judge": {"attribute_sets": sets},
            "gan": {"condition": numbers, "condition_form": "numbers"},
            "arms": {"main": {}},
            "data": {**tree, **SMALL, **sections, **data},
        }
    )
