"""Memory over the number of samples: `python tests/feature_memory.py [--counts=1000,10000,50000]`.

For each count a process draws so many images, looks at them in one pass, and compares them with
1,000 others: KID, Frechet distance, precision, recall, density and coverage. The network has as
many features as Inception-v3 (2048) and is cheap, so that 50,000 images take minutes. What is
printed is the peak of the process's own memory beyond that with 1,000 samples.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np


def images(n, seed):
    rng = np.random.default_rng(seed)
    for start in range(0, n, 100):
        yield rng.integers(0, 256, (min(100, n - start), 64, 64, 3), dtype=np.uint8)


def measure(n):
    import jax

    from fairjax.evaluate.features import Network
    from fairjax.evaluate.quality import overall
    from fairjax.experiments.observed import observe

    projection = jax.random.normal(jax.random.key(0), (16 * 16 * 3, 2048)) / 1e3
    of = jax.jit(lambda x: x[:, ::4, ::4].reshape(len(x), -1) @ projection)
    network = Network("cheap", "cheap", 2048, of)
    ours = observe(images(n, 0), n, {}, [(network, n)])
    theirs = observe(images(1000, 1), 1000, {}, [(network, 1000)])
    figures = list(overall("cheap", ours.measured["cheap"], theirs.measured["cheap"], full=True))
    assert figures[1].n == n
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--counts", default="1000,10000,50000")
    given.add_argument("--one", type=int, help="measure here, print megabytes")
    options = given.parse_args()
    if options.one:
        print(measure(options.one))
        return
    first = None
    for n in map(int, options.counts.split(",")):
        found = subprocess.run([sys.executable, __file__, f"--one={n}"], check=True,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
        peak = float(found.stdout)
        first = peak if first is None else first
        print(f"{n} samples: peak {peak:.0f} MB, {peak - first:+.0f} MB", flush=True)


if __name__ == "__main__":
    main()
