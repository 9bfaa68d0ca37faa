"""What follows from figures: limits that they keep or break, and which moved since a baseline."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scipy.special import ndtri  # scipy.stats takes long to import, and --help waits for it

from fairjax.config import nearest
from fairjax.errors import InputError
from fairjax.evaluate.figures import Figure, read_figures

PASS, FAIL, OPEN = "pass", "fail", "insufficient evidence"
Z = 1.96  # half the width of a 95 % interval in standard errors
WANTED = 'Write {"<figure>": {"min": x, "max": y}}; one of the two is enough'


class Verdict(NamedTuple):
    """A figure beside its limits; `minimum` or `maximum` is infinite where there is none."""

    figure: Figure
    minimum: float
    maximum: float
    verdict: str  # PASS, FAIL or OPEN


class Moved(NamedTuple):
    """A figure that is not what it was; `errors` is the difference in standard errors."""

    name: str
    before: Figure
    now: Figure
    errors: float


def read_limits(path: Path) -> dict[str, tuple[float, float]]:
    """Figure name -> (minimum, maximum) of a JSON file.

    Raises:
      InputError: no such file, not JSON of this form, or a minimum above its maximum.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON ({error})", f"--limits={path}", WANTED) from error
    limits = {}
    for name, entry in document.items() if isinstance(document, dict) else ():
        known = isinstance(entry, dict) and entry and set(entry) <= {"min", "max"}
        values = [*entry.values()] if known else [None]
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise InputError(f"{name!r}: {entry!r}", f"--limits={path}", WANTED)
        low, high = float(entry.get("min", -math.inf)), float(entry.get("max", math.inf))
        if low > high:
            raise InputError(f"{name!r}: the minimum is above the maximum", f"--limits={path}",
                             "Exchange them")  # fmt: skip
        limits[name] = (low, high)
    if not limits:
        raise InputError("no limit in it", f"--limits={path}", WANTED)
    return limits


def check_names(limits: Iterable[str], known: Collection[str], where: str) -> None:
    """Raises InputError where a limit names a figure that cannot come; it has the nearest names."""
    for name in limits:
        if name not in known:
            raise InputError(f"no figure {name!r}", where, nearest(name, list(known)))


def judged(
    figures: Mapping[str, Figure], limits: Mapping[str, tuple[float, float]]
) -> list[Verdict]:
    """Each limited figure with its verdict.

    A figure passes where its whole 95 % interval keeps the limits and fails where none of it does;
    between these, and where it could not be measured, there is insufficient evidence. A figure
    without an interval is taken at its value.
    """
    found = []
    for name, (minimum, maximum) in limits.items():
        figure = figures.get(name, Figure(name, math.nan, math.nan, math.nan, 0, "not measured"))
        low, high = _ends(figure)
        verdict = OPEN
        if low >= minimum and high <= maximum:
            verdict = PASS
        elif high < minimum or low > maximum:
            verdict = FAIL
        found.append(Verdict(figure, minimum, maximum, verdict))
    return found


def moved(before: Mapping[str, Figure], now: Mapping[str, Figure]) -> tuple[list[Moved], int]:
    """(figures that moved, number of figures compared), the farthest first.

    A figure moved where old and new value differ by more than the two intervals allow: the ends
    that face each other are taken as 1.96 standard errors, the errors of both add up in squares,
    and the threshold is Bonferroni's for 5 % over all figures compared, so that nothing is reported
    in 19 of 20 audits of an unchanged generator. Figures without intervals are not compared.
    """
    pairs = [(before[n], now[n]) for n in now if n in before and _known(before[n], now[n])]
    if not pairs:
        return [], 0
    threshold = float(-ndtri(0.025 / len(pairs)))
    found = []
    for old, new in pairs:
        up = new.value > old.value
        halves = (old.high - old.value, new.value - new.low) if up else (
            old.value - old.low, new.high - new.value)  # fmt: skip
        error = math.hypot(*halves) / Z
        gap = abs(new.value - old.value)
        errors = gap / error if error > 0 else math.inf if gap > 0 else 0.0
        if errors > threshold:
            found.append(Moved(new.name, old, new, errors))
    return sorted(found, key=lambda m: -m.errors), len(pairs)


def read_baseline(path: Path) -> dict[str, Figure]:
    """The figures of an earlier `metrics.json`; raises InputError where it is none."""
    if not path.is_file():
        raise InputError("no such file", f"--baseline={path}", "Give the metrics.json of an audit")
    return read_figures(path)


def exit_code(found: Collection[str], changed: bool) -> int:
    """Of an audit: 1 where a limit is broken, else 3 where evidence is insufficient for one, else 4
    where figures moved, else 0."""
    if FAIL in found:
        return 1
    return 3 if OPEN in found else 4 if changed else 0


def as_json(verdicts: list[Verdict], changed: list[Moved], compared: int) -> dict[str, Any]:
    """What `metrics.json` keeps of both; infinite limits become null there."""
    return {
        "limits": [
            {"figure": v.figure.name, "min": v.minimum, "max": v.maximum, "verdict": v.verdict}
            for v in verdicts
        ],
        "moved": [{"figure": m.name, "before": m.before.value, "now": m.now.value,
                   "standard_errors": m.errors} for m in changed],
        "compared": compared,
    }  # fmt: skip


def _ends(figure: Figure) -> tuple[float, float]:
    """The interval, with the value for an end that is none; NaN where nothing was measured. An
    infinite end stays: the figure may be as large as that."""
    low, high = (figure.value if math.isnan(end) else end for end in (figure.low, figure.high))
    return low, high


def _known(*figures: Figure) -> bool:
    return all(math.isfinite(v) for f in figures for v in (f.value, f.low, f.high))
