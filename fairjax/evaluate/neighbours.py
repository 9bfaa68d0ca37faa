"""Which training image is nearest to each sample, and whether samples are too near."""

import numpy as np

from fairjax.evaluate.figures import Figure, with_width

ENOUGH_HELD_OUT = 50
_ROWS = 1024


def nearest(samples: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training image of each sample, by Euclidean distance between features.

    Args:
      samples: [n, d] features.
      training: [N, d] features, N >= 1.

    Returns:
      int64 [n] row of `training` (the first of equals), float64 [n] distance.

    Raises:
      ValueError: no training image, or different d.
    """
    samples, training = np.asarray(samples), np.asarray(training)
    if not len(training) or samples.shape[1] != training.shape[1]:
        raise ValueError(f"cannot compare {samples.shape} with {training.shape}")
    # |x - y|^2 = |x|^2 - 2 x.y + |y|^2 in float32 is exact enough to find the nearest once the mean
    # is gone, not to state its distance (an exact copy would not come out as 0): that is recomputed
    # from the pair.
    centre = training.mean(axis=0, dtype=np.float64)
    known, wanted = ((x - centre).astype(np.float32) for x in (training, samples))
    squared = np.sum(known * known, axis=1)
    index = np.concatenate(
        [
            np.argmin(squared - 2 * (wanted[i : i + _ROWS] @ known.T), axis=1)
            for i in range(0, len(samples), _ROWS)
        ]
        or [np.zeros(0, np.int64)]
    )
    difference = samples.astype(np.float64) - training[index].astype(np.float64)
    return index, np.linalg.norm(difference, axis=1)


def memorisation_figure(
    name: str,
    sample_distances: np.ndarray,
    held_out_distances: np.ndarray,
    seed: int = 0,
    draws: int = 1000,
) -> Figure:
    """Share of samples that are nearer to a training image than 95 % of new real images are.

    The threshold is the 5th percentile of the distances from held-out real images to their nearest
    training image, so a generator that draws new images like the held-out ones has about 0.05; one
    that copies has up to 1. The 95 % interval draws samples and held-out images anew.

    Args:
      name: e.g. `memorisation/efficientnet_lite0`.
      sample_distances: [n] distances of the samples to their nearest training image, n >= 1.
      held_out_distances: [m] the same for real images that were not trained on, m >= 1.
      seed: seed of the draws.
      draws: number of draws.

    Returns:
      the figure; with fewer than 50 held-out images its note says "insufficient evidence".

    Raises:
      ValueError: one of the two is empty.
    """
    own, held_out = np.asarray(sample_distances), np.asarray(held_out_distances)
    if not len(own) or not len(held_out):
        raise ValueError("memorisation needs at least one sample and one held-out image")
    rng = np.random.default_rng(seed)
    value = float(np.mean(own < np.quantile(held_out, 0.05)))
    drawn = [
        np.mean(rng.choice(own, len(own)) < np.quantile(rng.choice(held_out, len(held_out)), 0.05))
        for _ in range(draws)
    ]
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    note = ""
    if len(held_out) < ENOUGH_HELD_OUT:
        note = f"insufficient evidence: {len(held_out)} held-out images, {ENOUGH_HELD_OUT} needed"
    return Figure(name, value, *with_width(value, low, high, len(own)), len(own), note)
