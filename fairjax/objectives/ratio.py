"""Density ratios: classifier logits in, importance weights and their diagnostics out (NumPy).

Logits are log p(reference | x) / p(biased | x) of a classifier trained on balanced batches, so
exp(logit) is the density ratio p_ref(x) / p_bias(x) itself (Choi et al., 2020, section 3.3).
"""

import numpy as np


def importance_weights(
    logits: np.ndarray,
    is_reference: np.ndarray,
    *,
    alpha: float = 1.0,
    clip: float = 0.0,
    clip_quantile: float = 1.0,
    normalise: bool = True,
) -> np.ndarray:
    """Weight of every training image.

    Args:
      logits: calibrated log ratio [n].
      is_reference: bool [n]; these images have weight 1, whatever their logit.
      alpha: w = ratio ** alpha; 0 = equal weights, 1 = the full ratio.
      clip: w above it is cut to it, before weights are normalised, after which the largest may be
        above it; 0 = none.
      clip_quantile: weights above this quantile of the biased images' are cut down to it.
      normalise: divide by the mean on the biased set, whose expectation is 1 at alpha = 1.

    Returns:
      float64 [n], finite.

    Raises:
      ValueError: a logit is not finite, or the two arguments differ in shape.
    """
    _same_shape(logits, is_reference)
    if not np.all(np.isfinite(logits)):
        raise ValueError(f"{np.sum(~np.isfinite(logits))} density-ratio logits are not finite")
    w = np.exp(np.clip(alpha * np.asarray(logits, np.float64), -50, 50))
    if clip:
        w = np.minimum(w, clip)
    biased = ~np.asarray(is_reference, bool)
    if clip_quantile < 1 and biased.any():
        w = np.minimum(w, np.quantile(w[biased], clip_quantile))
    if normalise and biased.any():
        w = w / w[biased].mean()
    return np.where(biased, w, 1.0)


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 (Kish, 1965), in images."""
    return float(np.sum(weights) ** 2 / np.sum(np.square(weights)))


def log_losses(logits: np.ndarray, is_reference: np.ndarray) -> np.ndarray:
    """Binary cross-entropy per example in nats, [n] -> [n]."""
    _same_shape(logits, is_reference)
    sign = np.where(is_reference, 1.0, -1.0)
    return np.logaddexp(0, -sign * np.asarray(logits, np.float64))


def balanced_log_loss(logits: np.ndarray, is_reference: np.ndarray) -> tuple[float, float]:
    """(mean over both sets with equal mass, standard error), in nats; chance is ln 2.

    Logits are [m], or [folds, m] for the mean log-loss of several networks on the same m images.
    """
    losses = np.mean([log_losses(one, is_reference) for one in np.atleast_2d(logits)], axis=0)
    return _balanced_mean(losses, is_reference)


def log_loss_gap(
    logits: np.ndarray, true_logits: np.ndarray, is_reference: np.ndarray
) -> tuple[float, float]:
    """(balanced log-loss of `logits` minus that of `true_logits` [m], standard error), in nats.

    The difference is taken image by image, so that its error is far smaller than that of either.
    """
    losses = np.mean([log_losses(one, is_reference) for one in np.atleast_2d(logits)], axis=0)
    return _balanced_mean(losses - log_losses(true_logits, is_reference), is_reference)


def _balanced_mean(values: np.ndarray, is_reference: np.ndarray) -> tuple[float, float]:
    """(mean over both sets with equal mass, standard error) of values [m]."""
    reference = np.asarray(is_reference, bool)
    sides = [values[reference], values[~reference]]
    value = 0.5 * sum(float(s.mean()) for s in sides)
    error = 0.5 * np.sqrt(sum(float(s.var(ddof=1)) / len(s) for s in sides))
    return value, float(error)


def bayes_log_loss(biased: np.ndarray, reference: np.ndarray) -> float:
    """Smallest possible balanced log-loss when the sets differ in group shares only.

    Choi et al., 2020, theorem 1 with gamma = 1; shares [k] that sum to 1.
    """
    b, r = np.asarray(biased, np.float64), np.asarray(reference, np.float64)

    def part(shares: np.ndarray) -> float:
        there = shares > 0
        return float(np.sum(shares[there] * np.log(shares[there] / (b + r)[there])))

    return -0.5 * (part(r) + part(b))


def concordance(estimates: np.ndarray, truth: np.ndarray) -> float:
    """Share of the pairs of different true values whose estimates lie in their order; ties count
    half, so 0.5 is chance. NaN where all true values are equal.

    Of two values it is the area under the ROC curve. A true ratio takes one value per group, and
    then no rank correlation can come near 1, however good the estimate.

    Args:
      estimates: [n].
      truth: [n], of few different values.
    """
    parts = [np.sort(np.asarray(estimates)[truth == value]) for value in np.unique(truth)]
    right, pairs = 0.0, 0
    for above, high in enumerate(parts):
        for low in parts[:above]:
            ends = (np.searchsorted(low, high, side) for side in ("left", "right"))
            right += float(sum(end.sum() for end in ends)) / 2
            pairs += len(low) * len(high)
    return right / pairs if pairs else float("nan")


def reliability(
    logits: np.ndarray, is_reference: np.ndarray, bins: int = 10
) -> dict[str, list[float]]:
    """Reliability table over equal-width bins of p(reference | x), both sets with equal mass.

    Returns:
      {"confidence": mean p, "frequency": share of reference images, "count": examples, "mass":
      share of the mass}, one entry per bin that holds examples. Giving the sets equal mass restores
      the prior of the training batches, without which odds look miscalibrated.
    """
    _same_shape(logits, is_reference)
    p = np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))
    reference = np.asarray(is_reference, bool)
    mass = np.where(reference, 0.5 / max(reference.sum(), 1), 0.5 / max((~reference).sum(), 1))
    which = np.minimum((p * bins).astype(int), bins - 1)
    table: dict[str, list[float]] = {"confidence": [], "frequency": [], "count": [], "mass": []}
    for b in range(bins):
        inside = which == b
        if inside.any():
            total = mass[inside].sum()
            table["confidence"].append(float(np.sum(mass[inside] * p[inside]) / total))
            table["frequency"].append(float(np.sum(mass[inside & reference]) / total))
            table["count"].append(int(inside.sum()))
            table["mass"].append(float(total))
    return table


def calibration_error(table: dict[str, list[float]]) -> float:
    """Expected calibration error of a `reliability` table (Naeini et al., 2015)."""
    gap = np.abs(np.subtract(table["confidence"], table["frequency"]))
    return float(np.sum(np.asarray(table["mass"]) * gap))


def _same_shape(logits: np.ndarray, is_reference: np.ndarray) -> None:
    """[n] against [n, 1] would silently broadcast to [n, n]."""
    if np.shape(logits) != np.shape(is_reference):
        raise ValueError(
            f"logits {np.shape(logits)} and is_reference {np.shape(is_reference)} differ in shape"
        )
