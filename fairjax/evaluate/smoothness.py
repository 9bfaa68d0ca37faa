"""How evenly images change along paths between latents."""

from collections.abc import Callable, Iterable

import numpy as np

from fairjax.evaluate.figures import Figure

EPSILON = 1e-4  # length of a step, as a share of the way from one w to another


def path_length_figure(
    features: str,
    of: Callable[[np.ndarray], np.ndarray],
    ends: Iterable[tuple[np.ndarray, np.ndarray]],
    epsilon: float = EPSILON,
) -> Figure:
    """`path_length/<features>`: the mean of |f(G(w)) - f(G(w + eps (w' - w)))|^2 / eps^2.

    The perceptual path length in W at the ends of the paths (Karras et al. 2019, section 4.1), in
    the features at hand instead of those of LPIPS: figures in different features do not compare.
    As published, what lies outside the 1st and 99th percentile is left out. Lower is smoother.

    Args:
      of: images float32 [n, H, W, C] on the scale of bytes -> features [n, d].
      ends: pairs of images at w and beside it.
    """
    steps = [np.square((of(at) - of(beside)) / epsilon).sum(-1) for at, beside in ends]
    found = np.concatenate(steps).astype(np.float64)
    low, high = np.percentile(found, (1, 99))
    kept = found[(found >= low) & (found <= high)]
    mean, spread = kept.mean(), 1.96 * kept.std(ddof=1) / np.sqrt(len(kept))
    return Figure(f"path_length/{features}", float(mean), float(mean - spread),
                  float(mean + spread), len(found))  # fmt: skip
