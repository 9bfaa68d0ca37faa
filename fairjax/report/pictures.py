"""Which charts the report shows, and from which numbers each is drawn."""

import math
from collections.abc import Callable

import numpy as np

from fairjax.evaluate.figures import main_figure
from fairjax.report import drawing, words
from fairjax.report.rows import KIDS
from fairjax.report.workdir import Arm, Run, insufficient

_POINTS = 100  # points of a curve that the page can show


def colour_of(run: Run, arm: Arm) -> str:
    return drawing.COLOURS[run.arms.index(arm) % len(drawing.COLOURS)]


def headline(run: Run) -> drawing.Picture | None:
    """The share of the over-represented class in the biased data and in each arm's samples."""
    judge = run.judges.get(run.main_set)
    if judge is None:
        return None
    index = words.shown_class(run)
    name = judge.classes[index]
    rows: list[tuple[str, float, float, float, str]] = []
    biased, target = (
        words.role_share(run, f"train_{part}", name) for part in ("biased", "reference")
    )
    if biased is not None:
        rows.append(("biased data", biased, math.nan, math.nan, "#9aa3b2"))
    for arm in run.arms:
        share = words.share_of(arm, run.main_set, index)
        if share is not None and not insufficient(run, arm, run.main_set):
            label = f"{arm.name} ({words.kind_of_arm(arm)})"
            rows.append((label, share.value, share.low, share.high, colour_of(run, arm)))
    return (
        drawing.shares(rows, target, f"share of {name}")
        if len(rows) > (biased is not None)
        else None
    )


def weight_histogram(run: Run) -> drawing.Picture | None:
    histogram = run.weights.get("histogram") or {}
    counts = histogram.get("counts") or {}
    if not counts or not histogram.get("edges"):
        return None
    groups = {name: heights for name, heights in counts.items() if name != "all"}
    return drawing.weight_histogram(histogram["edges"], groups or counts)


def calibration(run: Run) -> drawing.Picture | None:
    parts = run.weights.get("calibration") or {}
    return drawing.calibration(parts) if parts.get("before") or parts.get("after") else None


def chain(run: Run) -> drawing.Picture | None:
    """From the union of the data over the weighted data to each generator, one attribute set."""
    entries: list[tuple[str, float, float, float, str]] = []
    for link in run.weights.get("chain") or []:
        if run.main_set and link.get("attribute") not in (None, "", run.main_set):
            continue
        value, low, high = (
            math.nan if link.get(key) is None else float(link[key])
            for key in ("value", "low", "high")
        )
        if math.isfinite(value):
            name = str(link.get("name", "")).replace("_", " ")
            entries.append((f"data: {name}", value, low, high, "#9aa3b2"))
    key = main_figure(run.main_set)
    for arm in run.arms:
        figure = arm.figures.get(key)
        if figure is not None and not insufficient(run, arm, run.main_set):
            name = f"generator: {arm.name}"
            entries.append((name, figure.value, figure.low, figure.high, colour_of(run, arm)))
    return drawing.chain(entries) if entries else None


def curves(run: Run) -> list[drawing.Picture]:
    """Curves over kimg: discrepancy and quality first, then what explains them."""
    union = next(
        (
            float(link["value"])
            for link in run.weights.get("chain") or []
            if "union" in str(link.get("name", ""))
            and link.get("attribute") in (None, "", run.main_set)
            and link.get("value") is not None
        ),
        None,
    )
    fair = _first_logged(
        run,
        [
            f"fairness_discrepancy/{run.main_set}/hard/{form}/reference"
            for form in ("corrected", "raw")
        ],
    )
    logged = {name for arm in run.arms for line in arm.stream for name in line}
    others = sorted(name for name in logged if name.startswith("kid/") and "heldout" not in name)
    kid = _first_logged(run, [*KIDS, *others])
    charts = [
        _chart(
            run,
            fair,
            "Fairness discrepancy against the reference",
            level=None if union is None else ("union of the data", union),
            top=math.nan,
        )
        if fair
        else None,
        _chart(run, kid, f"KID in {kid.split('/')[1]} features") if kid else None,
        _chart(run, "real_inside_margin", "Share of reals inside the margin, D(x) < 1", top=1.02),
        _chart(run, "r1/gamma", "Strength of R1, gamma"),
        _chart(run, "loss/g", "Generator loss"),
        _drawn(run, "Discriminator loss, real + fake", _discriminator_loss),
    ]
    return [chart for chart in charts if chart is not None]


def truncation(run: Run) -> list[drawing.Picture]:
    """Over psi: the share of the class that the biased set has most of, and KID."""
    judge, charts = run.judges.get(run.main_set), []
    wanted: list[tuple[str, str, tuple[str, float] | None]] = [
        ("kid/random_conv", "KID in random_conv features", None)
    ]
    if judge is not None:
        index = words.shown_class(run)
        name = judge.classes[index]
        target = words.role_share(run, "train_reference", name)
        level = None if target is None else ("reference", target)
        wanted.insert(
            0, (f"share/{run.main_set}/{index}/hard/corrected", f"Share of {name}", level)
        )
    for figure, title, level in wanted:
        lines = []
        for arm in run.arms:
            found = {float(psi or 1): f.value for key, f in arm.figures.items()
                     for psi, rest in [words.of_psi(key)] if rest == figure}  # fmt: skip
            points = [(psi, y) for psi, y in sorted(found.items()) if math.isfinite(y)]
            if len(points) > 1:
                x, y = map(list, zip(*points, strict=True))
                lines.append(drawing.Line(arm.name, x, y, colour_of(run, arm)))
        if lines:
            alt = f"{title} over psi: " + ", ".join(
                f"{line.label} {line.y[0]:.3g} at {line.x[0]:g}, {line.y[-1]:.3g} at 1"
                for line in lines)  # fmt: skip
            across = "truncation psi (1 = none)"
            charts.append(drawing.curves(lines, title, alt, level, top=math.nan, across=across))
    return charts


def dro(run: Run) -> list[drawing.Picture]:
    """The weights q of the groups, per DRO arm: what such an arm aims at."""
    charts = []
    for arm in run.arms:
        keys = sorted({key for line in arm.stream for key in line if key.startswith("q/")})
        lines = []
        for index, key in enumerate(keys):
            colour = drawing.COLOURS[(index + 1) % len(drawing.COLOURS)]
            x, y = _series(arm, _logged(key))
            lines.append(drawing.Line(key.removeprefix("q/"), x, y, colour))
        if lines:
            title = f"Weight q of each group, arm {arm.name}"
            charts.append(drawing.curves(lines, title, title, top=1.02))
    return charts


def _logged(name: str) -> Callable[[dict[str, float]], float | None]:
    return lambda line: line.get(name)


def _discriminator_loss(line: dict[str, float]) -> float | None:
    if "loss/d_real" not in line or "loss/d_fake" not in line:
        return None
    return line["loss/d_real"] + line["loss/d_fake"]


def _first_logged(run: Run, names: list[str]) -> str:
    """The first name that some stream holds a finite value of, or ""."""
    for name in names:
        if any(math.isfinite(line.get(name, math.nan)) for arm in run.arms for line in arm.stream):
            return name
    return ""


def _chart(
    run: Run,
    name: str,
    title: str,
    level: tuple[str, float] | None = None,
    top: float | None = None,
) -> drawing.Picture | None:
    return _drawn(run, title, _logged(name), level, top)


def _drawn(
    run: Run,
    title: str,
    value: Callable[[dict[str, float]], float | None],
    level: tuple[str, float] | None = None,
    top: float | None = None,
) -> drawing.Picture | None:
    lines = []
    for arm in run.arms:
        x, y = _series(arm, value)
        if len(x):
            lines.append(drawing.Line(arm.name, x, y, colour_of(run, arm)))
    if not lines:
        return None
    ends = ", ".join(f"{line.label} ends at {line.y[-1]:.3g}" for line in lines)
    return drawing.curves(lines, title, f"{title} over kimg: {ends}", level, top=top)


def _series(
    arm: Arm, value: Callable[[dict[str, float]], float | None]
) -> tuple[list[float], list[float]]:
    """kimg and values where both are logged; long streams as means of equal blocks."""
    pairs = [(line["kimg"], value(line)) for line in arm.stream if "kimg" in line]
    kept = np.array([(x, y) for x, y in pairs if y is not None and math.isfinite(y)], np.float64)
    if not len(kept):
        return [], []
    blocks = np.array_split(kept, min(len(kept), _POINTS))
    x, y = np.stack([block.mean(axis=0) for block in blocks]).T
    return x.tolist(), y.tolist()
