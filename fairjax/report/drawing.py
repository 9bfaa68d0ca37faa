"""Charts of the report as PNG data URIs, each drawn twice: for a light and for a dark page."""

import base64
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter
from PIL import Image

COLOURS = ("#6b7a8f", "#d1662b", "#2f7fb8", "#3d9170", "#8a63b5", "#b8902a", "#c24d6e", "#4f5bb5")
_LIGHT = {"text": "#3a4250", "line": "#d5d9e0", "strong": "#111827"}
_DARK = {"text": "#c3c9d4", "line": "#3d4554", "strong": "#f3f4f6"}
_DPI = 200


class Picture(NamedTuple):
    """One chart: data URIs for both colour schemes, its width in CSS pixels, and words for it."""

    light: str
    dark: str
    width: int
    alt: str


def save_png(picture: Picture, path: Path) -> None:
    """Writes the light form of a chart, on white, as a PNG file of its own."""
    drawn = Image.open(io.BytesIO(base64.b64decode(picture.light.split(",", 1)[1]))).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    Image.alpha_composite(white, drawn).convert("RGB").save(path)


class Line(NamedTuple):
    """One curve: its label, x and y, an optional interval, and its colour."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def curves(
    lines: Sequence[Line],
    title: str,
    alt: str,
    level: tuple[str, float] | None = None,
    top: float | None = None,
    across: str = "thousand images shown to the discriminator (kimg)",
) -> Picture:
    """Curves over thousands of images, or over what `across` says.

    Args:
      lines: the curves.
      title: what the vertical axis shows.
      alt: the chart in words.
      level: name and height of a dashed horizontal line.
      top: upper end of the vertical axis, which then starts at 0; NaN leaves the end open.
    """

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        for line in lines:
            few = len(line.x) <= 40
            axes.plot(
                line.x,
                line.y,
                color=line.colour,
                label=line.label,
                linewidth=1.7 if few else 1.2,
                marker="o" if few else None,
                markersize=3.4,
            )
        if level is not None:
            axes.axhline(level[1], color=theme["text"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                level[0],
                (1, level[1]),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=theme["text"],
            )
        if top is not None:
            axes.set_ylim(0, None if math.isnan(top) else top)
        axes.set_xlabel(across)
        if len(lines) > 1 or level is not None:
            axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=theme["text"])

    return _picture(draw, title, alt, width=470, height=270)


def scatter(points: Sequence[Line], title: str, across: str, alt: str) -> Picture:
    """Points of several kinds; those of a `Line` have one colour and its label. The vertical axis
    starts at 0, or where a value is negative below it."""
    negative = any(y < 0 for kind in points for y in kind.y)

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        for kind in points:
            axes.scatter(kind.x, kind.y, color=kind.colour, label=kind.label, s=18)
        axes.set_xlabel(across)
        if not negative:
            axes.set_ylim(0, None)
        axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=theme["text"])

    return _picture(draw, title, alt, width=470, height=290)


def weight_histogram(edges: Sequence[float], counts: Mapping[str, Sequence[float]]) -> Picture:
    """Distribution of the weights, one outline per group; log axis where they span a lot.

    Args:
      edges: b + 1 bin edges.
      counts: group name -> b counts.
    """
    limits = np.asarray(edges, np.float64)
    log = bool(limits[0] > 0 and limits[-1] / limits[0] > 20)

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        for index, (name, heights) in enumerate(counts.items()):
            total = max(float(np.sum(heights)), 1.0)
            share = np.asarray(heights, np.float64) / total
            colour = COLOURS[(index + 1) % len(COLOURS)]
            axes.stairs(share, limits, color=colour, linewidth=1.6, label=name)
            axes.stairs(share, limits, color=colour, alpha=0.13, fill=True)
        axes.axvline(1, color=theme["text"], linewidth=1, linestyle=(0, (4, 3)))
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("weight of a training image (dashed: 1)")
        axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=theme["text"])

    alt = "Histogram of the training weights per group: " + ", ".join(counts)
    return _picture(draw, "Weights: share of each group's images", alt, width=470, height=290)


def calibration(parts: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Observed frequency over predicted probability of "reference", before and after.

    Args:
      parts: "before" and "after" -> {"confidence", "frequency", "count"}, one entry per bin.
    """

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        axes.plot([0, 1], [0, 1], color=theme["line"], linewidth=1.2)
        for name, colour in (("before", COLOURS[0]), ("after", COLOURS[1])):
            if part := parts.get(name):
                x, y = (np.asarray(part[key], np.float64) for key in ("confidence", "frequency"))
                count = np.asarray(part.get("count", np.ones(len(x))), np.float64)
                kept = (count > 0) & np.isfinite(x) & np.isfinite(y)
                size = 14 + 70 * count[kept] / max(float(count.max()), 1.0)
                axes.plot(
                    x[kept], y[kept], color=colour, linewidth=1.4, label=f"{name} calibration"
                )
                axes.scatter(x[kept], y[kept], s=size, color=colour, linewidths=0)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("predicted probability of being a reference image")
        axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=theme["text"])

    alt = "Calibration curve of the ratio classifier before and after calibration"
    return _picture(
        draw, "Calibration: observed frequency of reference images", alt, width=470, height=290
    )


def chain(entries: Sequence[tuple[str, float, float, float, str]]) -> Picture:
    """Discrepancies from the data to the generators, one row each.

    Args:
      entries: (label, value, low, high, colour) from top to bottom; NaN ends are not drawn.
    """

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        rows = range(len(entries))
        for row, (_, value, low, high, colour) in zip(rows, entries, strict=True):
            axes.plot([0, value], [row, row], color=colour, linewidth=6, alpha=0.28)
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([low, high], [row, row], color=colour, linewidth=1.8)
            axes.plot([value], [row], "o", color=colour, markersize=6.5)
        axes.set_yticks(list(rows), [entry[0] for entry in entries])
        axes.tick_params(axis="y", labelsize=9, colors=theme["strong"])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=theme["line"], linewidth=0.7)
        axes.set_xlabel("fairness discrepancy against the reference (0 = the same proportions)")

    words = "; ".join(f"{label} {value:.3f}" for label, value, *_ in entries)
    return _picture(draw, "", "Chain of discrepancies: " + words, 960, 92 + 34 * len(entries))


def shares(
    rows: Sequence[tuple[str, float, float, float, str]],
    target: float | None,
    title: str,
    dashed: str = "dashed: the reference",
) -> Picture:
    """Shares, as dots with intervals on a scale from 0 to 100 %.

    Args:
      rows: (label, share, low, high, colour) from top to bottom; NaN ends are not drawn.
      target: where a dashed line stands; None = nowhere. dashed: what it is.
      title: what they are shares of.
    """

    def draw(axes: Axes, theme: Mapping[str, str]) -> None:
        if target is not None:
            axes.axvline(100 * target, color=theme["text"], linewidth=1, linestyle=(0, (4, 3)))
        for row, (_, value, low, high, colour) in enumerate(rows):
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=5, alpha=0.4)
            axes.plot([100 * value], [row], "o", color=colour, markersize=8)
            axes.annotate(
                f"{100 * value:.0f} %",
                (100 * value, row),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=theme["strong"],
            )
        # A long label would leave the scale no room.
        axes.set_yticks(range(len(rows)), [textwrap.fill(row[0], 42) for row in rows])
        axes.tick_params(axis="y", labelsize=9.5, colors=theme["strong"])
        axes.set_ylim(len(rows) - 0.4, -0.75)
        axes.set_xlim(0, 101)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=theme["line"], linewidth=0.7)
        axes.set_xlabel(f"{title}, in % ({dashed}; bars: 95 % intervals)")

    words = "; ".join(f"{label} {100 * value:.0f} %" for label, value, *_ in rows)
    alt = f"{title[0].upper()}{title[1:]}: {words}"
    return _picture(draw, "", alt, 960, 88 + 40 * len(rows))


def _picture(
    draw: Callable[[Axes, Mapping[str, str]], None], title: str, alt: str, width: int, height: int
) -> Picture:
    light, dark = (_render(draw, title, theme, width, height) for theme in (_LIGHT, _DARK))
    return Picture(data_uri(light), data_uri(dark), width, alt)


def _render(
    draw: Callable[[Axes, Mapping[str, str]], None],
    title: str,
    theme: Mapping[str, str],
    width: int,
    height: int,
) -> bytes:
    """A PNG with a clear background, twice the CSS size for sharp screens."""
    quiet: dict[Any, Any] = {
        "font.size": 9,
        "axes.edgecolor": theme["line"],
        "axes.labelcolor": theme["text"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": theme["text"],
        "ytick.color": theme["text"],
        "text.color": theme["text"],
    }
    with matplotlib.rc_context(quiet):
        canvas = Canvas(figsize=(width / 100, height / 100), layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        axes.grid(axis="y", color=theme["line"], linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        draw(axes, theme)
        if title:
            lines = textwrap.fill(title, width // 8)  # about what fits beside each other
            axes.set_title(lines, loc="left", fontsize=10, color=theme["strong"], pad=9)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=_DPI, transparent=True)
    return buffer.getvalue()
