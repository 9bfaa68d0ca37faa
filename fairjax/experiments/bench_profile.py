"""Where the time of the step programs goes: `launch/bench.py --profile=FOLDER`."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData
from rich.table import Table

from fairjax.errors import InputError

SHOWN = 12  # operations of a program in the table
# What an operation is, by the name of its kernel or instruction; the first that fits.
KINDS = (
    ("convolutions", r"conv(?!ert)|[fdw]grad|fprop"),
    ("matrix products", r"gemm|cublas|nvjet|\bdot"),
    ("copies and transposes", r"copy|transpose|memcpy|memset"),
    ("element-wise, sums, slices", r""),
)
LOOPS = re.compile(r"(while|conditional)(\.|$)")
STEPS = 2  # of each program


class Operation(NamedTuple):
    """An operation of a compiled program, or a kernel that a device ran for it."""

    name: str
    ms: float  # all its runs together, per step
    share: float  # of the time of all operations of the program


def profile(
    steps: Callable[[str, int], float], programs: Sequence[str], folder: str
) -> dict[str, list[Operation]]:
    """Traces a few steps of each program -> program -> operations, the longest first.

    The traces stay below `folder`, one folder a program, for TensorBoard or xprof.

    Raises InputError if a trace holds no operation.
    """
    found = {}
    for program in programs:
        path = Path(folder) / program
        with jax.profiler.trace(str(path)):
            steps(program, STEPS)
        traces = sorted(path.glob("**/*.xplane.pb"), key=lambda p: p.stat().st_mtime)
        times = operations(ProfileData.from_file(str(traces[-1]))) if traces else Counter()
        total = sum(times.values())
        if not total:
            raise InputError("the profiler saw no operation of this backend", str(path),
                             "Leave --profile out")  # fmt: skip
        found[program] = [
            Operation(name, ns / STEPS / 1e6, ns / total) for name, ns in times.most_common()
        ]
    return found


def operations(data: Any) -> "Counter[str]":
    """Nanoseconds by operation: kernels on a device, the executor's operations on a CPU."""
    times: Counter[str] = Counter()
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                stats = {name: value for name, value in event.stats}
                op = str(stats.get("hlo_op", ""))
                # On a CPU a loop's own event spans those of its body.
                if op and not event.name.startswith("end: ") and not LOOPS.match(op):
                    name = op if event.name == op else f"{op} ({event.name[:60]})"
                    times[name] += int(event.duration_ns)
    return times


def kinds(operations: Sequence[Operation]) -> list[Operation]:
    """The operations of a program added up by `KINDS`, the longest first."""
    sums: dict[str, Operation] = {}
    for operation in operations:
        name = "all " + next(kind for kind, words in KINDS if re.search(words, operation.name))
        ms, share = sums[name][1:] if name in sums else (0.0, 0.0)
        sums[name] = Operation(name, ms + operation.ms, share + operation.share)
    return sorted(sums.values(), key=lambda kind: -kind.ms)


def table(found: dict[str, list[Operation]]) -> Table:
    """What each program does by kind, and its longest operations."""
    shown = Table(title="where the time goes: operations of the compiled programs, per step")
    for name in ("program", "operation", "ms", "share"):
        shown.add_column(name, justify="left" if name in ("program", "operation") else "right")
    for program, found_here in found.items():
        for i, operation in enumerate([*kinds(found_here), *found_here[:SHOWN]]):
            shown.add_row(program if i == 0 else "", operation.name, f"{operation.ms:.2f}",
                          f"{100 * operation.share:.1f} %")  # fmt: skip
        rest = found_here[SHOWN:]
        if rest:
            ms, share = (sum(part) for part in zip(*(o[1:] for o in rest), strict=True))
            shown.add_row("", f"{len(rest)} others", f"{ms:.2f}", f"{100 * share:.1f} %")
        shown.add_section()
    return shown
