"""Accuracies of a classifier by group, each with an interval."""

from collections.abc import Iterator

import numpy as np

from fairjax.data.groups import Grouping
from fairjax.evaluate.figures import Figure
from fairjax.evaluate.manifold import wilson
from fairjax.evaluate.rates import (
    Groups,
    amplification_figure,
    confusion,
    everybody,
    gap_figures,
    train_weighted,
)
from fairjax.evaluate.scores import score_distance_figures, score_figures


def group_figures(
    decided: np.ndarray, target: np.ndarray, groups: Grouping, shares: np.ndarray, part: str
) -> Iterator[Figure]:
    """Average, worst-group, worst-class and group accuracies of one set of examples.

    Intervals are 95 %: Wilson's for a proportion; for the average weighted as in training a normal
    one with the variances of the groups' rates, each with Jeffreys' 1/2 added. That of the worst
    group is the Wilson interval of the group that came out worst: it does not know that the
    smallest of several was picked, which makes it look worse than it is.

    Args:
      decided: int [n], classes that were decided for. target: int [n], the truth.
      groups: of these examples.
      shares: float [k], of each of the groups among the training images. Waterbirds' "average
        accuracy" weights the groups' accuracies by them (Sagawa et al., 2020, appendix C.1).
      part: "test", "validation" or "train", the end of every name.
    """
    right = np.asarray(decided) == target
    sets = groups.sets()
    rates = np.array([right[members].mean() for members in sets])
    worst = int(rates.argmin())
    name, sizes = groups.names[worst], groups.sizes
    yield wilson(f"worst_group_accuracy/{part}", right[sets[worst]])._replace(note=f"of {name}")
    yield wilson(f"average_accuracy/{part}", right)
    if shares.sum() > 0:
        counts = np.array([right[members].sum() for members in sets])
        yield train_weighted(f"average_accuracy/{part}/train_weighted", shares, counts, sizes)
    of_class = [right[target == c] for c in np.unique(target)]
    yield wilson(f"worst_class_accuracy/{part}", min(of_class, key=lambda r: r.mean()))
    for g, members in enumerate(sets):
        yield wilson(f"accuracy/{groups.names[g]}/{part}", right[members])


def exit_figures(left_by: np.ndarray, exits: int, groups: Grouping, part: str) -> Iterator[Figure]:
    """Share of the images that leave a network by each exit: of all, and of each group.

    Args:
      left_by: int [n], which exit each image leaves by. exits: the last one's number.
      groups: of these images. part: "test" or "train", the end of every name.
    """
    everyone = np.arange(len(left_by))
    for who, members in (("all", everyone), *zip(groups.names, groups.sets(), strict=True)):
        for j in range(1, exits + 1):
            yield wilson(f"exit/{j}/{who}/{part}", left_by[members] == j)


def label_shares(target: np.ndarray, protected: np.ndarray, k: int) -> np.ndarray:
    """[k, 2], of the positives and negatives of each protected group among all examples.

    Args:
      target: int [n], 1 = positive. protected: int [n] in [0, k), -1 = unknown, not counted.
    """
    known = protected >= 0
    cells = protected[known] * 2 + (target[known] != 1)
    counts = np.bincount(cells, minlength=2 * k).reshape(k, 2)
    return counts / max(1, int(known.sum()))


def fairness_figures(
    target: np.ndarray, logits: np.ndarray, groups: Groups, shares: np.ndarray
) -> Iterator[Figure]:
    """How differently the protected groups are decided on, of a target of two classes.

    `equal_opportunity_difference` (the DEO of Ramaswamy et al. 2021), `equalized_odds_difference`,
    `bias_amplification`, `score_kl`, `average_precision/all/all`.

    Args:
      target: int [n], 1 = positive. logits: [n, 2].
      shares: [k, 2], as of `label_shares` of the training images. Bias amplification is that of
        examples with these shares: where the examples themselves are even over target and groups,
        there is no bias to amplify.
    """
    truth, decided = target == 1, logits.argmax(-1) == 1
    scores = 1 / (1 + np.exp(np.clip(logits[:, 0] - logits[:, 1], -500, 500).astype(np.float64)))
    counts = confusion(truth, decided, groups.of, len(groups.names))
    yield from (figure for figure in gap_figures(counts, groups)
                if figure.name.startswith(("equal_opportunity", "equalized_odds")))  # fmt: skip
    yield amplification_figure(counts, groups, shares=shares)
    yield from score_distance_figures(truth, scores, groups)
    yield from (figure for figure in score_figures(truth, scores, everybody(len(truth)))
                if figure.name.startswith("average_precision"))  # fmt: skip


def constant_class(decided: np.ndarray) -> int | None:
    """The class that a collapsed classifier always decides for; None where it knows several."""
    found = np.unique(decided)
    return int(found[0]) if len(found) == 1 else None
