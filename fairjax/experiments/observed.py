"""One pass over samples: whoever looks at them sees them part by part, and no image is kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.features import Network
from fairjax.evaluate.measured import PART, Measured, Measuring
from fairjax.train.progress import Meter

# uint8 [n, H, W, C] -> numbers [n, ..]; of a judge probabilities [n, k], or those of each of its
# networks [n, members, k]
Score = Callable[[np.ndarray], np.ndarray]


class Observed(NamedTuple):
    """What is known of the samples.

    Attributes:
      first: the first images, for the page, uint8 [.., H, W, C].
      scores: by name, what each score said of all [n, ..]; the mean where several networks did.
      votes: by name, what these said one by one [n, members, k].
      measured: by the name of the network.
    """

    first: np.ndarray
    scores: dict[str, np.ndarray]
    votes: dict[str, np.ndarray]
    measured: dict[str, Measured]


def observe(
    images: Iterable[np.ndarray],
    n: int,
    scores: Mapping[str, Score],
    networks: Sequence[tuple[Network, int]] = (),
    weights: np.ndarray | None = None,
    keep: int = 0,
) -> Observed:
    """Shows n samples to judges and feature networks.

    Args:
      images: uint8 [.., H, W, C], in parts of any size.
      networks: each with the number of first samples that it sees.
      weights: [n] how much each sample counts in what is measured (None: all the same).
      keep: how many of the first images are returned.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    measuring = {network.name: (Measuring(network, min(limit, n), weights), limit)
                 for network, limit in networks}  # fmt: skip
    first: list[np.ndarray] = []
    done = 0
    with Meter("samples measured", n) as meter:
        for part in regrouped(images, PART):
            for name, score in scores.items():
                found[name].append(score(part))
            for one, limit in measuring.values():
                if done < limit:
                    one.add(part[: limit - done])
            if done < keep:
                first.append(part[: keep - done])
            done += len(part)
            meter.update(done)
    said = {name: np.concatenate(parts) for name, parts in found.items()}
    return Observed(
        np.concatenate(first) if first else np.zeros((0,), np.uint8),
        {name: x.mean(1) if x.ndim == 3 else x for name, x in said.items()},
        {name: x for name, x in said.items() if x.ndim == 3},
        {name: one.result() for name, (one, _) in measuring.items()},
    )


def regrouped(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same images in parts of `size`, the last of the rest."""
    waiting: list[np.ndarray] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            whole = np.concatenate(waiting)
            full = len(whole) - len(whole) % size
            yield from np.split(whole[:full], full // size)
            waiting = [whole[full:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
