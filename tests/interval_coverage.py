"""How often 95 % intervals hold the truth: python tests/interval_coverage.py [--audits=N]

Simulated audits: a judge with a known confusion matrix is tested on images of its own and then
counts a generator's classes; both are drawn anew in each audit, and `fairness_figures` makes its
intervals from what an audit would have. Beside it the interval of the published correction (CLEAM,
Teo et al. 2023, as its code computes it), which takes the judge's recalls for known and batches,
drawn again and again from one pool of samples, for new samples.

Prints one line for each cell and the cells outside the limits: 93 to 97 % for shares in [.05, .95],
at least 93 % for shares of 0 and for the discrepancy. Judges that are refused are counted apart.
The default of 2,000 audits takes about 40 minutes on one core; with --out it goes on where it
stopped.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairjax.evaluate.fairness import JudgeErrors, discrepancy, fairness_figures, judge_errors

SHARES = {
    2: ((0.5, 0.5), (0.2, 0.8), (0.05, 0.95), (0.0, 1.0)),
    4: ((0.25,) * 4, (0.1, 0.2, 0.3, 0.4), (0.05, 0.05, 0.45, 0.45), (0.0, 0.2, 0.3, 0.5)),
}
RECALLS = (0.7, 0.85, 0.99)
TESTED = (200, 1000, 5000)
SAMPLES = (1000, 10_000)
LIMITS = (0.93, 0.97)
CONCENTRATION = 20.0  # of a soft judge's probabilities around the mean of their class


class Cell(NamedTuple):
    """One kind of audit: classes by their true shares, mean recall of the judge, test images of
    each class, samples, and whether probabilities are averaged instead of decisions counted."""

    shares: tuple[float, ...]
    recall: float
    tested: int
    samples: int
    soft: bool = False


class Coverage(NamedTuple):
    """Shares of the audits that were not refused, and the share that was."""

    of_shares: np.ndarray  # [k]
    of_discrepancy: float
    of_published: float  # of the share of class 0; NaN for more than two classes
    refused: float


def confusion(k: int, recall: float) -> np.ndarray:
    """[k, k]: recalls around the given one, unequal, and errors that fall unevenly."""
    rng = np.random.default_rng(k)
    rows = []
    for i in range(k):
        own = min(0.995, recall + (-1) ** i * min(0.04, (1 - recall) / 2))
        rows.append(np.insert(rng.dirichlet(np.full(k - 1, 2.0)) * (1 - own), i, own))
    return np.stack(rows)


def audit(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, JudgeErrors]:
    """The judge's probabilities for the samples [n, k], and its errors on its test images."""
    k = len(cell.shares)
    matrix = confusion(k, cell.recall)
    if cell.soft:
        rows = [rng.dirichlet(CONCENTRATION * row, size=cell.tested) for row in matrix]
        errors = judge_errors(np.concatenate(rows), np.repeat(np.arange(k), cell.tested))
        counts = rng.multinomial(cell.samples, cell.shares)
        parts = [rng.dirichlet(CONCENTRATION * row, size=count)
                 for row, count in zip(matrix, counts, strict=True)]  # fmt: skip
        return np.concatenate(parts), errors
    counts = np.stack([rng.multinomial(cell.tested, row) for row in matrix])
    decided = rng.multinomial(cell.samples, np.asarray(cell.shares) @ matrix)
    return np.repeat(np.eye(k), decided, axis=0), JudgeErrors(counts, counts / cell.tested)


def published(
    probabilities: np.ndarray, errors: JudgeErrors, rng: np.random.Generator
) -> np.ndarray:
    """(low, high) of the share of class 0 by CLEAM: 30 batches of 400 from one pool, z = 1.96."""
    first, second = np.diag(errors.counts) / errors.counts.sum(1)
    judged = probabilities[:, 0].mean()
    batches = rng.binomial(400, judged, size=30) / 400
    half = 1.96 * batches.std() / np.sqrt(30)
    ends = np.array([batches.mean() - half, batches.mean() + half])
    return (ends - (1 - second)) / (first - (1 - second))


def coverage(cell: Cell, audits: int, seed: int = 0, draws: int = 1000) -> Coverage:
    """How often the intervals of `audits` simulated audits hold the truth."""
    k, kind = len(cell.shares), "soft" if cell.soft else "hard"
    rng = np.random.default_rng(seed)
    reference, classes = np.eye(k), np.arange(k)
    truth = discrepancy(np.asarray(cell.shares), np.full(k, 1 / k))
    names = [f"share/a/{i}/{kind}/corrected" for i in range(k)]
    held, held_discrepancy, held_published, done = np.zeros(k), 0, 0, 0
    for number in range(audits):
        probabilities, errors = audit(cell, rng)
        found = {
            figure.name: figure
            for figure in fairness_figures(
                probabilities, errors, reference, classes, "a", number, draws, kinds=(kind,)
            )
        }
        far = found[f"fairness_discrepancy/a/{kind}/corrected/reference"]
        if not np.isfinite(far.value):
            continue
        done += 1
        held += [found[name].low <= share <= found[name].high
                 for name, share in zip(names, cell.shares, strict=True)]  # fmt: skip
        held_discrepancy += far.low <= truth <= far.high
        if k == 2 and not cell.soft:
            low, high = published(probabilities, errors, rng)
            held_published += low <= cell.shares[0] <= high
    done = max(done, 1)
    by_published = held_published / done if k == 2 and not cell.soft else np.nan
    return Coverage(held / done, held_discrepancy / done, by_published, 1 - done / audits)


def fails(cell: Cell, found: Coverage, noise: float = 0.0) -> list[str]:
    """What lies outside the limits, these widened by `noise`."""
    low, high = LIMITS[0] - noise, LIMITS[1] + noise
    wrong = [
        f"share {share}: {value:.3f}"
        for share, value in zip(cell.shares, found.of_shares, strict=True)
        if value < low or (value > high and 0.05 <= share <= 0.95)
    ]
    if found.of_discrepancy < low:
        wrong.append(f"discrepancy: {found.of_discrepancy:.3f}")
    return wrong


def cells() -> Iterator[Cell]:
    """All cells: counted decisions, then averaged probabilities on small sets."""
    for soft, sizes in ((False, (TESTED, SAMPLES)), (True, (TESTED[:2], SAMPLES[:1]))):
        for shares in SHARES.values():
            for recall, tested, samples in itertools.product(RECALLS, *sizes):
                yield from (Cell(of, recall, tested, samples, soft) for of in shares)


def main() -> None:
    """Prints the table; exit code 1 if a cell is outside the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="JSON lines to which cells are added; those that "
                        "it has with as many audits are not run again")  # fmt: skip
    given = parser.parse_args()
    lines = given.out.read_text().splitlines() if given.out and given.out.exists() else []
    kept = {line["cell"]: line for line in map(json.loads, lines) if line["audits"] == given.audits}
    wanted = [*cells()]
    left = len([cell for cell in wanted if str(tuple(cell)) not in kept])
    print(f"{left} of {len(wanted)} cells to run, about {left * given.audits * 0.006 / 60:.0f} min")
    print("kind  shares  recall  test images a class  samples | coverage of the shares, of the "
          "discrepancy, of the published interval, refused")  # fmt: skip
    outside = 0
    for cell in wanted:
        line = kept.get(str(tuple(cell)))
        if line is None:
            found = coverage(cell, given.audits)
            line = {"cell": str(tuple(cell)), "audits": given.audits,
                    "found": [np.asarray(value).tolist() for value in found]}  # fmt: skip
            if given.out:
                with given.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        shares, *rest = line["found"]
        wrong = fails(cell, Coverage(np.asarray(shares), *rest))
        outside += bool(wrong)
        print(
            "soft" if cell.soft else "hard", cell.shares, cell.recall, cell.tested, cell.samples,
            "|", np.round(shares, 3).tolist(), *(f"{value:.3f}" for value in rest),
            f"<-- {'; '.join(wrong)}" if wrong else "", flush=True,
        )  # fmt: skip
    print(f"{outside} cells outside the limits; the error of a coverage is "
          f"{np.sqrt(0.95 * 0.05 / given.audits):.3f}")  # fmt: skip
    sys.exit(bool(outside))


if __name__ == "__main__":
    main()
