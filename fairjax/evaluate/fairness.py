"""Group proportions of samples and their distance from a target, corrected for the judge's errors.

The fairness discrepancy is the L2 norm of Choi et al. 2020 ("Fair Generative Modeling via Weak
Supervision", eq. 2), || E_reference p(u|x) - E_samples p(u|x) ||. `soft` averages the judge's
probabilities, as the equation is written; `hard` counts its decisions, as the paper's code does.
The correction inverts the judge's confusion matrix: p = C^T s, with C row-normalised (the k-class
form of CLEAM, Teo et al. 2023; also BBSE, Lipton et al. 2018).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from fairjax.evaluate.figures import Figure, with_width

KINDS = ("hard", "soft")
TOO_WEAK = "judge too weak"
WORST_CONDITION = 20.0


class JudgeErrors(NamedTuple):
    """How the judge errs on labelled images that it was not fitted on.

    Attributes:
      counts: int [k, k], row = true class, column = the class that the judge decides for.
      soft: float [k, k], row i = the judge's mean probability vector over images of true class i.
      soft_covariance: float [k, k, k], [i] = the covariance of these vectors; None where it was not
        kept.
    """

    counts: np.ndarray
    soft: np.ndarray
    soft_covariance: np.ndarray | None = None


def judge_errors(probabilities: np.ndarray, classes: np.ndarray) -> JudgeErrors:
    """The errors of a judge from its probabilities [n, k] for images of true classes [n] >= 0.

    A class without images gets counts of 0 and chance probabilities.
    """
    n, k = probabilities.shape
    counts = np.zeros((k, k), np.int64)
    np.add.at(counts, (classes, probabilities.argmax(-1)), 1)
    rows = [np.asarray(probabilities[classes == i], np.float64) for i in range(k)]
    soft = [row.mean(0) if len(row) else np.full(k, 1 / k) for row in rows]
    covariance = [np.cov(row.T, bias=True) if len(row) else np.zeros((k, k)) for row in rows]
    return JudgeErrors(counts, np.stack(soft), np.stack(covariance))


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


def project_to_simplex(points: np.ndarray) -> np.ndarray:
    """The nearest vectors [.., k] with entries >= 0 that sum to 1 (Duchi et al. 2008, fig. 1)."""
    points = np.asarray(points, np.float64)
    descending = -np.sort(-points, axis=-1)
    excess = (np.cumsum(descending, -1) - 1) / np.arange(1, points.shape[-1] + 1)
    last = (descending > excess).sum(-1, keepdims=True) - 1
    nearest = np.maximum(points - np.take_along_axis(excess, last, -1), 0)
    # What is there already stays to the bit: a share of 0 must not become 1e-17.
    there = (points >= 0).all(-1, keepdims=True) & np.isclose(
        points.sum(-1, keepdims=True), 1, rtol=0, atol=1e-12
    )
    return np.where(there, points, nearest)


def discrepancy(shares: np.ndarray, target: np.ndarray) -> float:
    """|| shares - target ||_2, between 0 and sqrt(2)."""
    return float(np.linalg.norm(np.asarray(shares, np.float64) - np.asarray(target, np.float64)))


def divergence(shares: np.ndarray, target: np.ndarray) -> np.ndarray:
    """KL(shares || target) in nats over the last axis; infinite where a class of the samples has no
    share in the target."""
    return rel_entr(shares, target).sum(-1)


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
    errors: JudgeErrors | None,
    reference_probabilities: np.ndarray,
    reference_classes: np.ndarray | None,
    attribute: str,
    seed: int = 0,
    draws: int = 1000,
    kinds: Sequence[str] = KINDS,
) -> Iterator[Figure]:
    """All fairness figures of one set of samples for one attribute set.

    Yields `share`, `reference_share`, `smallest_share`, `fairness_discrepancy`, `kl` and
    `outside_simplex` figures. The target is the reference set as it stands, or uniform. Raw figures
    compare judged with judged; corrected ones use the reference's true labels where they are known,
    else its corrected shares.

    Intervals are 95 %, from `draws` draws of the samples and of the rows of the confusion matrix,
    and of the reference where its labels are unknown; `tests/interval_coverage.py` measures how
    often they hold the truth. Counted decisions and confusion rows are drawn from a Dirichlet with
    Jeffreys' 1/2 added (a plain bootstrap would call zero errors in 50 images certain); means of
    probabilities from a normal distribution with the same 1/2 in its moments, or, for rows of
    `soft` without a covariance, with the widest spread that a probability with this mean can have.
    Of several networks, also from what these read: the standard error of the mean of their shares,
    times Student's t of members - 1 degrees of freedom. Errors on real images do not
    tell how a judge reads samples; that its networks read them differently does.

    The interval of a discrepancy is value +- r, r the 95 % point of the length of the error vector:
    by the triangle inequality it covers at least 95 % and reaches 0 when nothing differs, where
    percentiles of a norm would stay above 0. That of a divergence has the percentiles of the draws,
    and begins at 0 where that of the discrepancy does; that of the smallest share reaches from the
    smallest lower to the smallest upper end of all shares. They speak of one trained generator, not
    of other seeds.

    Args:
      probabilities: [n, k] the judge's probabilities for the samples; or [n, members, k] those of
        its two networks or more, whose means the shares are made of.
      errors: the judge's errors on `judge_test`; None where nothing is known of them, as with a
        table of labels: these are then taken as true, and a note on each corrected figure says so.
      reference_probabilities: [m, k] the judge's probabilities for the reference images.
      reference_classes: int [m] true classes (-1 unknown), or None.
      attribute: name of the attribute set, part of the figures' names.
      seed: seed of the draws.
      draws: number of draws.
      kinds: which of "hard" and "soft".

    Raises:
      ValueError: empty input or shapes that do not fit.
    """
    said = np.asarray(probabilities, np.float64)
    probabilities = said.mean(1) if said.ndim == 3 else said
    reference_probabilities = np.asarray(reference_probabilities, np.float64)
    n, k = probabilities.shape
    if not n or not len(reference_probabilities):
        raise ValueError("fairness figures need at least one sample and one reference image")
    fits = errors is None or np.shape(errors.counts) == (k, k)
    if reference_probabilities.shape[1] != k or not fits:
        raise ValueError(f"the samples have {k} classes, the reference or the judge has others")
    labels = None if reference_classes is None else np.asarray(reference_classes)
    known = None if labels is None or not (labels >= 0).any() else labels[labels >= 0]
    truth = None if known is None else np.bincount(known, minlength=k) / len(known)
    rng = np.random.default_rng(seed)
    for kind in kinds:
        judged, judged_draws = _drawn(probabilities, kind, rng, draws)
        if said.ndim == 3:
            own = np.random.default_rng((seed, 1))  # the other draws stay what they are
            judged_draws = judged_draws + _read(said, kind, own, draws)
        target, target_draws = _drawn(reference_probabilities, kind, rng, draws)
        if truth is not None:
            target_draws = np.broadcast_to(target, target_draws.shape)  # the set as it stands
        yield from _compared(
            judged, judged_draws, target, target_draws, n, "", attribute, f"{kind}/raw"
        )
        note = ""
        if errors is None:
            matrix, matrix_draws = np.eye(k), np.broadcast_to(np.eye(k), (draws, k, k))
            note = "labels taken as true"
        else:
            matrix, matrix_draws = _confusion(errors, kind, rng, draws)
            if weak := weakness(matrix):
                yield from _refused(k, n, weak, attribute, kind)
                continue
        value, unclipped, outside = correct(judged, matrix)
        inverse_draws = _invert(judged_draws, matrix_draws)
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


def disagreement(votes: np.ndarray) -> np.ndarray:
    """[n, members, k] of two members or more -> for each image the share of the pairs of members
    that decide for different classes, float64 [n]."""
    pairs = itertools.combinations(votes.argmax(-1).T, 2)
    found: np.ndarray = np.mean([a != b for a, b in pairs], axis=0)
    return found


def disagreement_figure(votes: np.ndarray, attribute: str, real: float) -> Figure:
    """`judge_disagreement/<attribute>`: mean of `disagreement` over samples with votes [n, members,
    k]; `real` is that over real images, NaN where there are none."""
    differ = disagreement(votes)
    value, spread = float(differ.mean()), float(1.96 * differ.std() / np.sqrt(len(differ)))
    n, low, high = len(differ), max(value - spread, 0.0), min(value + spread, 1.0)
    note = "on real images unknown" if np.isnan(real) else f"on real images {100 * real:.2g} %"
    name = f"judge_disagreement/{attribute}"
    return Figure(name, value, *with_width(value, low, high, n), n, note)


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
    mean = votes.mean(axis=0)
    if kind == "hard":
        return mean, rng.dirichlet(votes.sum(axis=0) + 0.5, size=draws)
    return mean, _normal(mean, np.cov(votes.T, bias=True), len(votes), rng, draws)


def _read(votes: np.ndarray, kind: str, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Draws [draws, k] of the error of the members' mean share, from votes [n, members, k].

    Each sums to 0: they are combinations of the members' deviations from their mean.
    """
    members = votes.shape[1]
    shares = np.stack([proportions(votes[:, i], kind) for i in range(members)])
    deviations = (shares - shares.mean(0)) / np.sqrt(members * (members - 1))
    spread = rng.standard_normal((draws, members)) @ deviations
    return spread * np.sqrt((members - 1) / rng.chisquare(members - 1, (draws, 1)))


def _normal(
    mean: np.ndarray, covariance: np.ndarray, n: int, rng: np.random.Generator, draws: int
) -> np.ndarray:
    """Draws [draws, k] of the mean of n probability vectors with this mean and covariance.

    Half a vector at each vertex is added to them; of one-hot vectors the draws then have the
    moments of the Dirichlet distribution with Jeffreys' 1/2, which counted decisions get.
    """
    k, total = len(mean), n + len(mean) / 2
    second = (n * (covariance + np.outer(mean, mean)) + np.eye(k) / 2) / total
    mean = (n * mean + 0.5) / total
    spread = (second - np.outer(mean, mean)) / (total + 1)
    return rng.multivariate_normal(mean, spread, size=draws, method="eigh")


def _confusion(
    errors: JudgeErrors, kind: str, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row-normalised confusion [k, k] and draws [draws, k, k] of it; NaN rows without images."""
    counts = np.asarray(errors.counts, np.float64)
    total = counts.sum(axis=1, keepdims=True)
    rows = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    if kind == "soft":
        rows = np.where(total > 0, np.asarray(errors.soft, np.float64), np.nan)
    spread = errors.soft_covariance
    if kind == "soft" and spread is not None and np.isfinite(rows).all():
        drawn = [_normal(row, spread[i], int(total[i, 0]), rng, draws)
                 for i, row in enumerate(rows)]  # fmt: skip
    else:
        drawn = [rng.dirichlet(row, size=draws)
                 for row in np.where(total > 0, rows * total, 0) + 0.5]  # fmt: skip
    return rows, np.stack(drawn, axis=1)


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
    """The figures of one form, e.g. "hard/raw", of shares and draws that may leave the simplex."""
    k = len(shares)
    for prefix, value, drawn in (
        ("share", shares, share_draws),
        ("reference_share", target, target_draws),
    ):
        low, high = np.clip(np.quantile(drawn, [0.025, 0.975], axis=0), 0, 1)
        # A share of 0 or 1 has its Jeffreys quantiles on one side; the value stays inside.
        low, high = np.minimum(low, value), np.maximum(high, value)
        remark = note if prefix == "share" else ""
        ends = np.stack([value, low, high], axis=1).tolist()
        for index, (own, bottom, top) in enumerate(ends):
            yield Figure(f"{prefix}/{attribute}/{index}/{form}", own, bottom, top, n, remark)
        if prefix == "share":
            own, bottom, top = (min(of) for of in zip(*ends, strict=True))
            remark = f"of class {value.argmin()}"
            yield Figure(f"smallest_share/{attribute}/{form}", own, bottom, top, n, remark)
    uniform = np.full(k, 1 / k)
    inside = project_to_simplex(share_draws)
    for against, goal, goal_draws in (
        ("reference", target, target_draws),
        ("uniform", uniform, uniform),
    ):
        length = discrepancy(shares, goal)
        error = (share_draws - goal_draws) - (shares - goal)
        radius = float(np.quantile(np.linalg.norm(error, axis=1), 0.95))
        name = f"fairness_discrepancy/{attribute}/{form}/{against}"
        yield Figure(name, length, max(0.0, length - radius), length + radius, n, note)
        kl = float(divergence(shares, goal))
        drawn = divergence(inside, project_to_simplex(goal_draws))
        bottom, top = (float(q) for q in np.quantile(drawn, [0.025, 0.975], method="nearest"))
        bottom = 0.0 if length <= radius else min(bottom, kl)
        yield Figure(f"kl/{attribute}/{form}/{against}", kl, bottom, max(top, kl), n, note)


def _refused(k: int, n: int, note: str, attribute: str, kind: str) -> Iterator[Figure]:
    """The corrected figures of a judge whose confusion matrix must not be inverted."""
    names = [f"share/{attribute}/{index}/{kind}/corrected" for index in range(k)]
    names += [f"reference_share/{attribute}/{index}/{kind}/corrected" for index in range(k)]
    names += [f"smallest_share/{attribute}/{kind}/corrected"]
    names += [
        f"{figure}/{attribute}/{kind}/corrected/{against}"
        for figure in ("fairness_discrepancy", "kl")
        for against in ("reference", "uniform")
    ]
    for name in [*names, f"outside_simplex/{attribute}/{kind}"]:
        yield Figure(name, np.nan, np.nan, np.nan, n, note)
