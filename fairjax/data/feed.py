"""Fetches the batches of a run of steps ahead of the device. Which images is decided elsewhere."""

from collections.abc import Callable, Iterator

import grain
import numpy as np


def batches(
    images: np.ndarray,
    indices_of_step: Callable[[int], np.ndarray],
    positions: np.ndarray,
    start: int,
    stop: int,
    *,
    local: slice | None = None,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of the steps start, ..., stop - 1, in order.

    Args:
      images: uint8 `[n, H, W, C]`, usually a memory map.
      indices_of_step: step -> int `[batch]`, positions in the training list; a pure function,
        called from several threads.
      positions: int `[m]`, position in the training list -> position in `images`.
      start: first step; a resumed run starts here with the same batches as an uninterrupted one.
      stop: one past the last step.
      local: this process's part of the global batch; default all of it.
      threads: number of fetching threads.
      ahead: number of batches kept ready.

    Yields:
      {"image": uint8 `[b, H, W, C]`, "index": int32 `[b]`}. Close the iterator (`close()`) to stop
      fetching early.
    """
    if stop <= start:
        return

    def fetch(step: int) -> dict[str, np.ndarray]:
        index = np.asarray(indices_of_step(int(step)))
        index = (index if local is None else index[local]).astype(np.int32)
        return {"image": images[positions[index]], "index": index}

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
    iterator = iter(grain.MapDataset.range(start, stop).map(fetch).to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()
