"""What the figures share: fonts, colours, dots with intervals, and SVG that a strict page embeds.

A figure is drawn twice, for a wide page and for a phone, so that its letters stay 12 px high. Ink
is `currentColor` and CSS variables, so that it follows the page into the dark.
"""

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from alignment_extraction.report import wording
from alignment_extraction.report.wording import Estimate

WIDE, NARROW = 980, 326
"""Pixels that a figure takes on a wide page and on a phone."""
INK, GREY, PAPER = "#24292f", "#8c959f", "#ffffff"
_THEMED = {INK: "currentColor", GREY: "var(--axis)", PAPER: "var(--paper)"}
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "alignment-extraction",
    # Letters stay text: they can be searched and read aloud, and take the page's font.
    "svg.fonttype": "none",
}
MARKERS = "osD^vP*X"
Series = tuple[str, str, Sequence[Estimate | None]]
"""A label, a colour, and an estimate for each name."""
_ROW, _EDGE = 24, 92  # pixels of one row of dots, and of what stands around a panel
_TIP = "tip:"


@dataclass(frozen=True)
class Picture:
    """A figure to look at and to take away.

    Attributes:
        name: of its files.
        caption: what it shows and how to read it.
        wide: SVG for a wide page.
        narrow: the same for a phone.
        data: the numbers in it.
    """

    name: str
    caption: str
    wide: str
    narrow: str
    data: pl.DataFrame


def picture(name: str, caption: str, draw: Callable[[int], Figure], data: pl.DataFrame) -> Picture:
    """Draw a figure for a wide page and for a phone.

    Args:
        name: of its files.
        caption: what it shows.
        draw: gives the figure at a width in pixels.
        data: the numbers in it.
    """
    with matplotlib.rc_context(_STYLE):
        wide, narrow = (svg(draw(width), f"{name}-{width}") for width in (WIDE, NARROW))
    return Picture(name, caption, wide, narrow, data)


def panels(width: int, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure of one panel for each height (px): side by side if it is wide, else in a column."""
    wide = width == WIDE
    shape = (1, len(heights)) if wide else (len(heights), 1)
    figure = Figure(figsize=(width / 72, (max(heights) if wide else sum(heights)) / 72))
    ratios = None if wide else list(heights)
    return figure, list(figure.subplots(*shape, squeeze=False, height_ratios=ratios).flat)


def legend(figure: Figure, axis: Axes) -> None:
    """One legend above all panels, from the labels of `axis`."""
    handles, labels = axis.get_legend_handles_labels()
    width = figure.get_figwidth() * 72
    ncols = 5 if round(width) == WIDE else 2
    figure.legend(
        handles, labels, loc="outside upper left", ncols=ncols, borderaxespad=0.1,
        handletextpad=0.4, columnspacing=1.2, handlelength=1.4,
    )  # fmt: skip


def dots(
    axis: Axes,
    names: Sequence[str],
    series: Sequence[Series],
    unit: str,
    *,
    zero: float | None = 0,
    dodge: bool = True,
) -> None:
    """Points with horizontal 95 % intervals: the one way in which estimates are drawn.

    An estimate of zero is drawn hollow. What points mean is also written in tooltips.

    Args:
        axis: where to.
        names: down the left side, the first on top.
        series: label, colour and an estimate for each name, or None.
        unit: of `wording.interval`.
        zero: where a line stands for "no effect"; None for no line.
        dodge: draw series beside each other; without, every name has one series alone.
    """
    scale = 100 if unit in ("rate", "points") else 1
    for number, (label, colour, estimates) in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * 0.7 / len(series) * dodge
        marker = MARKERS[number % len(MARKERS)]
        axis.plot([], [], marker, ms=7, color=colour, label=label)
        for place, found in enumerate(estimates):
            if found is None or np.isnan(found.value):
                continue
            bounds = (scale * found.low, scale * found.high)
            axis.plot(bounds, [place + shift] * 2, color=colour, lw=1.6, solid_capstyle="butt")
            (point,) = axis.plot(
                scale * found.value, place + shift, marker, ms=7, mec=colour, mew=1.4, zorder=3,
                mfc=colour if found.value else PAPER, clip_on=False,
            )  # fmt: skip
            name = names[place].replace("\n", ", ")
            point.set_gid(f"{_TIP}{name}, {label}: {wording.interval(found, unit)}")
    if zero is not None:
        axis.axvline(scale * zero, color=INK, lw=0.8)
    _names(axis, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.locator_params(axis="x", nbins=5)
    if unit in ("rate", "points"):
        end = " %" if unit == "rate" else ""
        axis.xaxis.set_major_formatter(
            FuncFormatter(lambda v, _: f"{v:g}{end}".replace("-", "\u2212"))
        )


def _names(axis: Axes, names: Sequence[str]) -> None:
    """Names down the left side; of two lines the second is a tick of its own.

    Letters take the page's font, so that matplotlib cannot align lines of different lengths.
    """
    lines = [shorten(name).split("\n") for name in names]
    axis.set_yticks(range(len(names)), [first for first, *_ in lines])
    figure = axis.get_figure()
    if figure is not None and any(len(pair) > 1 for pair in lines):
        axis.yaxis.remove_overlapping_locs = False
        axis.set_yticks(range(len(names)), [pair[-1] for pair in lines], minor=True)
        axis.tick_params(axis="y", which="minor", length=0)
        scale = figure.dpi_scale_trans
        for text in axis.get_yticklabels(which="major"):
            text.set_verticalalignment("bottom")
            text.set_transform(text.get_transform() + ScaledTranslation(0, 1 / 72, scale))
        for text in axis.get_yticklabels(which="minor"):
            text.set_verticalalignment("top")
            text.set_transform(text.get_transform() + ScaledTranslation(0, -1 / 72, scale))


def dot_picture(
    name: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[str], Sequence[Series]]],
    unit: str,
    label: str,
    data: pl.DataFrame,
    *,
    zero: float | None = 0,
    also: Callable[[Axes], None] | None = None,
) -> Picture:
    """A figure of `dots`, one panel for each group: title, names and series.

    Args:
        name: of its files.
        caption: what it shows.
        groups: title, names and series of each panel.
        unit: of `wording.interval`.
        label: of the x axes.
        data: the numbers in it.
        zero: of `dots`.
        also: draws more into each panel.
    """

    def draw(width: int) -> Figure:
        heights = []
        for _, names, series in groups:
            lines = max(name.count("\n") for name in names) + 1
            heights.append(_EDGE + 20 + len(names) * max(_ROW * (1 + lines) / 2, 13 * len(series)))
        figure, axes = panels(width, heights)
        for axis, (title, names, series) in zip(axes, groups, strict=True):
            dots(axis, names, series, unit, zero=zero)
            axis.set(title=title, xlabel=label)
            if also:
                also(axis)
        legend(figure, axes[0])
        return figure

    return picture(name, caption, draw, data)


def shorten(text: str, most: int = 26) -> str:
    """`text`, each line cut to so many characters."""
    lines = (
        line if len(line) <= most else f"{line[: most - 1]}\u2026" for line in text.split("\n")
    )
    return "\n".join(lines)


def line(
    axis: Axes, x: Any, y: Any, colour: str, label: str, marker: str = "", style: str = "-"
) -> None:
    """A line in a panel with its label."""
    axis.plot(x, y, style, color=colour, label=label, lw=2, marker=marker, ms=5)


def percent_axis(axis: Axes, which: str = "y") -> None:
    """Ticks in per cent; the data are rates."""
    form = FuncFormatter(lambda value, _: f"{100 * value:g} %".replace("-", "\u2212"))
    getattr(axis, f"{which}axis").set_major_formatter(form)


def power_of_ten(exponent: float) -> str:
    """10⁶, 10⁻⁵."""
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def power_axis(axis: Axes) -> None:
    """A logarithmic x axis of numbers of samples, ticks as 10, 1,000, 10^6."""

    def text(value: float, _: int) -> str:
        return f"{value:,.0f}" if value < 1e4 else power_of_ten(np.log10(value))

    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(text))
    axis.minorticks_off()


_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG without style sheets or style attributes, and without a size of its own.

    A page whose content security policy forbids inline styles can embed it. Ids begin with `name`,
    so that several figures can stand on one page; tooltips become `<title>` elements.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = _STYLE_ATTRIBUTE.sub(_presentation, text)
    text = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", text)
    # Only what is referred to needs an id.
    text = re.sub(r'<(g|image)((?: [a-z:]+="[^"]*")*?) id="[^"]*"', r"<\1\2", text)
    text = text.replace(' id="', f' id="{name}-').replace('href="#', f'href="#{name}-')
    text = text.replace("url(#", f"url(#{name}-")
    for colour, themed in _THEMED.items():
        text = text.replace(f'"{colour}"', f'"{themed}"')
    text = re.sub(r'<svg ([^>]*?)height="[\d.]+pt"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)width="([\d.]+)pt"', r'<svg \1width="\2"', text, count=1)
    # Coordinates to a tenth of a pixel are enough, and half the size.
    text = re.sub(r"(\d+\.\d)\d{2,}", r"\1", text)
    root = 'font-family="sans-serif" stroke-linejoin="round" stroke-linecap="butt"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg", f"<svg {root}", 1))


def _presentation(match: re.Match[str]) -> str:
    """`style="fill: red; stroke: none"` as attributes of their own."""
    found = {}
    for part in html.unescape(match[1]).split(";"):
        key, _, value = (piece.strip() for piece in part.partition(":"))
        if key == "font":  # the shorthand is no presentation attribute
            size = re.search(r"([\d.]+)px", value)
            found["font-size"] = size[1] if size else "12"
        elif key and key != "font-family":
            found[key] = value
    if found.get("fill") == "#000000":
        found["fill"] = INK
    return "".join(f' {key}="{html.escape(value)}"' for key, value in found.items())
