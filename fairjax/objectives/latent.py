"""Steps in latent space that set some attributes and keep others (NumPy)."""

import numpy as np


def solve(
    w: np.ndarray, normals: np.ndarray, offsets: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """The nearest latents with these signed scores: w + A^T (A A^T)^-1 (s - A w - b).

    One solve sets, keeps or flips any number of attributes; for two of them, with one kept and the
    other negated, it is the closed form of Ramaswamy et al. 2021 (eq. 4).

    Args:
      w: latents [n, d].
      normals: A [k, d], of the attributes' separating planes, linearly independent.
      offsets: b [k]; the score of a latent is A w + b.
      scores: s [n, k], what the scores shall be.

    Returns:
      float64 [n, d].
    """
    w, a = np.asarray(w, np.float64), np.asarray(normals, np.float64)
    missing = scores - (w @ a.T + offsets)
    return w + missing @ np.linalg.solve(a @ a.T, a)
