"""Group proportions of samples and their distance from a target, corrected for the judge's errors.

The fairness discrepancy is the L2 norm of Choi et al. 2020 ("Fair Generative Modeling via Weak
Supervision", eq. 2), || E_reference p(u|x) - E_samples p(u|x) ||. `soft` averages the judge's
probabilities, as the equation is written; `hard` counts its decisions, as the paper's code does.
The correction inverts the judge's confusion matrix: p = C^T s, with C row-normalised (the k-class
form of CLEAM, Teo et al. 2023; also BBSE, Lipton et al. 2018).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.figures import Figure

TOO_WEAK = "judge too weak"
WORST_CONDITION = 20.0


class JudgeErrors(NamedTuple):
    """How the judge errs on labelled images that it was not fitted on.

    Attributes:
      counts: int [k, k], row = true class, column = the class that the judge decides for.
      soft: float [k, k], row i = the judge's mean probability vector over images of true class i.
    """

    counts: np.ndarray
    soft: np.ndarray


def proportions(probabilities: np.ndarray, kind: str) -> np.ndarray:
    """Share of each class among n images; a class that never appears has share 0.

    Args:
      probabilities: [n, k] rows that sum to 1, n >= 1.
      kind: "hard" counts the most probable class, "soft" averages the probabilities.

    Returns:
      float64 [k], sums to 1.
    """
    return _votes(probabilities, kind).mean(axis=0)


def correct(shares: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Undoes the judge's confusion.

    Args:
      shares: [k] as judged.
      confusion: [k, k] row-normalised, row = true class; must be invertible.

    Returns:
      on_simplex: [k] the Euclidean projection of the next on the simplex.
      unclipped: [k] (C^T)^-1 shares; sums to 1, but entries may leave [0, 1].
      outside: whether an entry of unclipped is below 0 (rounding apart).
    """
    unclipped = np.linalg.solve(np.asarray(confusion, np.float64).T, np.asarray(shares, np.float64))
    return project_to_simplex(unclipped), unclipped, bool(unclipped.min() < -1e-9)


def project_to_simplex(point: np.ndarray) -> np.ndarray:
    """The nearest vector [k] with entries >= 0 that sum to 1 (Duchi et al. 2008, fig. 1)."""
    point = np.asarray(point, np.float64)
    descending = np.sort(point)[::-1]
    excess = (np.cumsum(descending) - 1) / np.arange(1, len(point) + 1)
    shift = excess[np.nonzero(descending > excess)[0][-1]]
    return np.maximum(point - shift, 0)


def discrepancy(shares: np.ndarray, target: np.ndarray) -> float:
    """|| shares - target ||_2, between 0 and sqrt(2)."""
    return float(np.linalg.norm(np.asarray(shares, np.float64) - np.asarray(target, np.float64)))


def weakness(confusion: np.ndarray) -> str:
    """Why a row-normalised confusion matrix must not be inverted, or "" where it may be."""
    chance = 1 / len(confusion)
    if not np.isfinite(confusion).all():
        return f"{TOO_WEAK}: a class has no test image"
    if np.diag(confusion).min() <= chance:
        return f"{TOO_WEAK}: finds {np.diag(confusion).min():.2f} of a class, chance {chance:.2f}"
    if (condition := float(np.linalg.cond(confusion))) > WORST_CONDITION:
        return f"{TOO_WEAK}: condition number {condition:.0f} of its confusion matrix"
    return ""


def fairness_figures(
    probabilities: np.ndarray,
    errors: JudgeErrors,
    reference_probabilities: np.ndarray,
    reference_classes: np.ndarray | None,
    attribute: str,
    seed: int = 0,
    draws: int = 1000,
) -> Iterator[Figure]:
    """All fairness figures of one set of samples for one attribute set.

    Yields `share`, `reference_share`, `fairness_discrepancy` and `outside_simplex` figures. The
    target is the reference set as it stands, or uniform. Raw figures compare judged with judged;
    corrected ones use the reference's true labels where they are known, else its corrected shares.

    Intervals are 95 %, from `draws` draws of the samples and of the rows of the confusion matrix,
    and of the reference where its labels are unknown. Counted decisions and confusion rows are
    drawn from a Dirichlet with Jeffreys' 1/2 added (a plain bootstrap would call zero errors in 50
    images certain); rows of `soft`, whose spread is not known, get the widest spread that a
    probability with this mean can have. The interval of a discrepancy is value +- r, r the 95 %
    point of the length of the error vector: by the triangle inequality it covers at least 95 % and
    reaches 0 when nothing differs, where percentiles of a norm would stay above 0. It speaks of one
    trained generator, not of other seeds.

    Args:
      probabilities: [n, k] the judge's probabilities for the samples.
      errors: the judge's errors on `judge_test`.
      reference_probabilities: [m, k] the judge's probabilities for the reference images.
      reference_classes: int [m] true classes (-1 unknown), or None.
      attribute: name of the attribute set, part of the figures' names.
      seed: seed of the draws.
      draws: number of draws.

    Raises:
      ValueError: empty input or shapes that do not fit.
    """
    probabilities = np.asarray(probabilities, np.float64)
    reference_probabilities = np.asarray(reference_probabilities, np.float64)
    n, k = probabilities.shape
    if not n or not len(reference_probabilities):
        raise ValueError("fairness figures need at least one sample and one reference image")
    if reference_probabilities.shape[1] != k or np.shape(errors.counts) != (k, k):
        raise ValueError(f"the samples have {k} classes, the reference or the judge has others")
    labels = None if reference_classes is None else np.asarray(reference_classes)
    known = None if labels is None or not (labels >= 0).any() else labels[labels >= 0]
    truth = None if known is None else np.bincount(known, minlength=k) / len(known)
    rng = np.random.default_rng(seed)
    for kind in ("hard", "soft"):
        judged, judged_draws = _drawn(probabilities, kind, rng, draws)
        target, target_draws = _drawn(reference_probabilities, kind, rng, draws)
        if truth is not None:
            target_draws = np.broadcast_to(target, target_draws.shape)  # the set as it stands
        yield from _compared(
            judged, judged_draws, target, target_draws, n, "", attribute, f"{kind}/raw"
        )
        matrix, matrix_draws = _confusion(errors, kind, rng, draws)
        if note := weakness(matrix):
            yield from _refused(k, n, note, attribute, kind)
            continue
        value, unclipped, outside = correct(judged, matrix)
        inverse_draws = _invert(judged_draws, matrix_draws)
        note = ""
        if outside:
            note = "left the simplex before projection"
        if truth is None:
            target, target_draws = correct(target, matrix)[0], _invert(target_draws, matrix_draws)
        else:
            target, target_draws = truth, np.broadcast_to(truth, target_draws.shape)
        yield from _compared(
            value, inverse_draws, target, target_draws, n, note, attribute, f"{kind}/corrected"
        )
        listed = ", ".join(f"{share:.4f}" for share in unclipped)
        name = f"outside_simplex/{attribute}/{kind}"
        yield Figure(name, float(outside), np.nan, np.nan, n, f"unclipped {listed}")


def _votes(probabilities: np.ndarray, kind: str) -> np.ndarray:
    """float64 [n, k]: one-hot decisions ("hard") or the probabilities themselves ("soft")."""
    if kind == "soft":
        return np.asarray(probabilities, np.float64)
    if kind == "hard":
        return np.eye(np.shape(probabilities)[1])[np.argmax(probabilities, axis=1)]
    raise ValueError(f'kind must be "hard" or "soft", not {kind!r}')


def _drawn(
    probabilities: np.ndarray, kind: str, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shares [k] and draws [draws, k] of them over the sampling of the images."""
    votes = _votes(probabilities, kind)
    if kind == "hard":
        return votes.mean(axis=0), rng.dirichlet(votes.sum(axis=0) + 0.5, size=draws)
    resampled = [
        votes[rng.integers(len(votes), size=len(votes))].mean(axis=0) for _ in range(draws)
    ]
    return votes.mean(axis=0), np.stack(resampled)


def _confusion(
    errors: JudgeErrors, kind: str, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row-normalised confusion [k, k] and draws [draws, k, k] of it; NaN rows without images."""
    counts = np.asarray(errors.counts, np.float64)
    total = counts.sum(axis=1, keepdims=True)
    rows = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    if kind == "soft":
        rows = np.where(total > 0, np.asarray(errors.soft, np.float64), np.nan)
    pseudo = np.where(total > 0, rows * total, 0) + 0.5
    return rows, np.stack([rng.dirichlet(row, size=draws) for row in pseudo], axis=1)


def _invert(shares: np.ndarray, confusions: np.ndarray) -> np.ndarray:
    """(C^T)^-1 p for each draw: [draws, k] and [draws, k, k] -> [draws, k], not projected."""
    return np.linalg.solve(np.swapaxes(confusions, 1, 2), shares[:, :, None])[:, :, 0]


def _compared(
    shares: np.ndarray,
    share_draws: np.ndarray,
    target: np.ndarray,
    target_draws: np.ndarray,
    n: int,
    note: str,
    attribute: str,
    form: str,
) -> Iterator[Figure]:
    """The share, reference share and discrepancy figures of one form, e.g. "hard/raw"."""
    k = len(shares)
    for prefix, value, drawn in (
        ("share", shares, share_draws),
        ("reference_share", target, target_draws),
    ):
        low, high = np.clip(np.quantile(drawn, [0.025, 0.975], axis=0), 0, 1)
        for index in range(k):
            # A share of 0 or 1 has its Jeffreys quantiles on one side; the value stays inside.
            own, bottom, top = float(value[index]), float(low[index]), float(high[index])
            name = f"{prefix}/{attribute}/{index}/{form}"
            remark = note if prefix == "share" else ""
            yield Figure(name, own, min(bottom, own), max(top, own), n, remark)
    uniform = np.full(k, 1 / k)
    for against, goal, goal_draws in (
        ("reference", target, target_draws),
        ("uniform", uniform, uniform),
    ):
        length = discrepancy(shares, goal)
        error = (share_draws - goal_draws) - (shares - goal)
        radius = float(np.quantile(np.linalg.norm(error, axis=1), 0.95))
        name = f"fairness_discrepancy/{attribute}/{form}/{against}"
        yield Figure(name, length, max(0.0, length - radius), length + radius, n, note)


def _refused(k: int, n: int, note: str, attribute: str, kind: str) -> Iterator[Figure]:
    """The corrected figures of a judge whose confusion matrix must not be inverted."""
    names = [f"share/{attribute}/{index}/{kind}/corrected" for index in range(k)]
    names += [f"reference_share/{attribute}/{index}/{kind}/corrected" for index in range(k)]
    names += [
        f"fairness_discrepancy/{attribute}/{kind}/corrected/{against}"
        for against in ("reference", "uniform")
    ]
    for name in [*names, f"outside_simplex/{attribute}/{kind}"]:
        yield Figure(name, np.nan, np.nan, np.nan, n, note)
