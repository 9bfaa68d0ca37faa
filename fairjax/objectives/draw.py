"""Which examples a step sees: a pure function of (seed, step, table), in NumPy.

Nothing about position is ever saved, and the number of hosts or devices does not change the draw.
"""

from typing import NamedTuple

import numpy as np


class Stratum(NamedTuple):
    """A fixed number of draws, with replacement, from one set of positions.

    `cumulative` is the running sum of the drawing weights [m], or None for uniform draws. `even`
    takes one draw from each of `draws` equal parts of the weights' mass, in the order of positions.
    """

    positions: np.ndarray  # int32 [m]
    draws: int
    cumulative: np.ndarray | None = None
    even: bool = False


Table = tuple[Stratum, ...]


def uniform(positions: np.ndarray, batch: int) -> Table:
    """Every position is equally likely."""
    return (Stratum(_checked(positions), batch),)


def weighted(weights: np.ndarray, batch: int, order: np.ndarray | None = None) -> Table:
    """Position i of [0, n) is drawn in proportion to weights[i] >= 0 (importance resampling).

    Args:
      weights: float [n], not all zero.
      order: [n], any number per position; then each batch has one draw from each 1/batch-th of the
        mass in this order (stratified resampling: Douc and Cappe 2005, section 3.2). The chance of
        a position stays its weight, and the mean order of a batch hardly varies.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1:
        raise ValueError(f"drawing weights must be a vector, found shape {weights.shape}")
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0) and weights.sum() > 0):
        raise ValueError("drawing weights must be finite, not negative, and not all zero")
    positions = np.flatnonzero(weights).astype(np.int32)
    if order is not None:
        positions = positions[np.argsort(np.asarray(order)[positions], kind="stable")]
    return (Stratum(positions, batch, np.cumsum(weights[positions]), order is not None),)


def balanced(sets: list[np.ndarray], batch: int) -> Table:
    """The same number of draws from each set, on average where the batch does not divide."""
    return _shared_out(sets, np.ones(len(sets), int), batch)


def stratified(sets: list[np.ndarray], batch: int) -> Table:
    """From each set as many draws as its size demands, on average where that is no whole number."""
    return _shared_out(sets, np.array([len(s) for s in sets]), batch)


def _shared_out(sets: list[np.ndarray], shares: np.ndarray, batch: int) -> Table:
    """Set i has batch * shares[i] / sum(shares) draws on average.

    The whole number below that is in every batch. What is left of all sets is one more stratum, so
    that each has its chance in every batch and none is left out for ever.
    """
    sets = [_checked(s) for s in sets]
    counts, rest = np.divmod(batch * shares, shares.sum())
    table = [Stratum(s, int(c)) for s, c in zip(sets, counts, strict=True) if c]
    if rest.any():
        mass = np.repeat(rest / [len(s) for s in sets], [len(s) for s in sets])
        left = weighted(mass, batch - int(counts.sum()), np.arange(len(mass)))[0]
        table.append(left._replace(positions=np.concatenate(sets)[left.positions]))
    return tuple(table)


def epochs(seed: int, step: int, sets: list[np.ndarray], batch: int, each: int = 0) -> np.ndarray:
    """Returns int32 [batch]: step n of a walk that takes every position of an epoch once.

    An epoch is a random order of all sets' positions, or with `each` of that many of each set,
    drawn anew, without replacement, for each epoch. What is left at its end is left out.

    Args:
      seed, step: 0 or more; a function of both, as `draw`.
      sets: positions.
      batch: at most the positions of an epoch, else an epoch is repeated within the batch.
      each: images per set; 0 = all.
    """
    size = sum(min(len(s), each) if each else len(s) for s in sets)
    if not size:
        raise ValueError("cannot draw from an empty set of examples")
    steps = max(size // batch, 1)
    epoch, part = divmod(step, steps)
    rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, epoch, 1]))
    chosen = [rng.permutation(s)[:each] if each else s for s in sets]
    order = rng.permutation(np.concatenate(chosen))
    return np.resize(order[part * batch : (part + 1) * batch], batch).astype(np.int32)


def draw(seed: int, step: int, table: Table) -> np.ndarray:
    """Returns int32 [batch], in random order: the same for the same arguments on any machine.

    A counter-based generator (Philox) is set to (seed, step), so step n costs the same as step 0.
    The step is the third of four counter words: steps would only overlap after 2**128 numbers.

    Args:
      seed: 0 or more.
      step: 0 or more.
      table: what is drawn from.
    """
    rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, step, 0]))
    parts = []
    for positions, draws, cumulative, even in table:
        u = rng.random(draws)
        if even:
            u = (np.arange(draws) + u) / draws
        if cumulative is None:
            chosen = np.minimum((u * len(positions)).astype(np.int64), len(positions) - 1)
        else:
            chosen = np.searchsorted(cumulative, u * cumulative[-1], side="right")
            chosen = np.minimum(chosen, len(positions) - 1)
        parts.append(positions[chosen])
    # Without the shuffle a stratum would always fall into the same minibatch-stddev groups.
    return rng.permutation(np.concatenate(parts)).astype(np.int32)


def _checked(positions: np.ndarray) -> np.ndarray:
    if len(positions) == 0:
        raise ValueError("cannot draw from an empty set of examples")
    return np.asarray(positions, np.int32)
