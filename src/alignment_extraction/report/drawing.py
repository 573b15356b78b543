"""How figures are drawn: dots with intervals, curves with bands, and SVG for a strict page.

A figure is drawn twice, for a wide page and for a phone, so that its letters stay 12 px high. Ink
is `currentColor` and CSS variables, so that it follows the page into the dark.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alignment_extraction.report import wording
from alignment_extraction.report.rendering import HERE
from alignment_extraction.report.wording import Estimate

WIDE, NARROW = 980, 326
"""Pixels that a figure takes on a wide page and on a phone."""
INK, GREY, PAPER = "#24292f", "#8c959f", "#ffffff"
_THEMED = {INK: "currentColor", GREY: "var(--axis)", PAPER: "var(--paper)"}
"""As in report.mplstyle."""
_MARKERS = "osD^vP*X"
_ROW, _CURVES, _EDGE = 24, 236, 112
"""Pixels of a row of dots, of a panel of curves, and of what stands around dots."""
_LONGEST = 30
_TIP = "tip:"


class Series(NamedTuple):
    """Estimates of one kind.

    Attributes:
        label: in the legend.
        colour: of its marks.
        points: one estimate for each name or place of its panel, or None.
        line: of curves, as matplotlib writes it; `|` marks the bounds of dots alone.
    """

    label: str
    colour: str
    points: Sequence[Estimate | None]
    line: str = "-"


class Panel(NamedTuple):
    """Dots with 95 % intervals beside names, or curves with 95 % bands over numbers.

    Attributes:
        names: down the left side, the first on top; numbers along the x axis for curves.
        series: what is drawn.
        label: of the x axis.
        title: of the panel.
        unit: of `wording.interval`.
        zero: whether a line stands for "no effect".
        marks: places of dotted lines across curves.
    """

    names: Sequence[Any]
    series: Sequence[Series]
    label: str
    title: str = ""
    unit: str = "rate"
    zero: bool = True
    marks: Sequence[float] = ()

    @property
    def curves(self) -> bool:
        """Whether its names are numbers."""
        return not isinstance(self.names[0], str)

    @property
    def abreast(self) -> int:
        """The most points that one name has."""
        drawn = [one.points for one in self.series if one.line != "|"]
        return max(
            sum(found is not None for found in points) for points in zip(*drawn, strict=True)
        )

    @property
    def powers(self) -> bool:
        """Whether its numbers span powers of ten."""
        return self.curves and max(self.names) >= 100 * min(self.names)


class Picture(NamedTuple):
    """A figure to look at and to take away: SVG for a wide page and for a phone, its numbers."""

    wide: str
    narrow: str
    data: pl.DataFrame


def picture(name: str, panels: Sequence[Panel], data: pl.DataFrame) -> Picture:
    """Draw panels, beside each other on a wide page and in a column on a phone.

    Args:
        name: that ids in the SVG begin with.
        panels: at least one.
        data: the numbers in it.
    """
    with style.context(HERE / "templates" / "report.mplstyle"):
        wide, narrow = (_svg(_figure(panels, width), f"{name}-{width}") for width in (WIDE, NARROW))
    return Picture(wide, narrow, data)


def _figure(panels: Sequence[Panel], width: int) -> Figure:
    wide = width == WIDE
    heights = [
        _CURVES if p.curves else _EDGE + len(p.names) * max(_ROW, 13 * p.abreast) for p in panels
    ]
    figure = Figure(figsize=(width / 72, (max(heights) if wide else sum(heights)) / 72))
    shape = (1, len(panels)) if wide else (len(panels), 1)
    ratios = None if wide else heights
    axes = list(figure.subplots(*shape, squeeze=False, height_ratios=ratios).flat)
    for axis, panel in zip(axes, panels, strict=True):
        _curves(axis, panel) if panel.curves else _dots(axis, panel)
        axis.set(title=panel.title, xlabel=panel.label)
    # Curves over powers of ten leave room in their own panel.
    if own := [axis for axis, panel in zip(axes, panels, strict=True) if panel.powers]:
        own[0].legend(fontsize=11, loc="best")
    elif [one.label for one in panels[0].series] != list(panels[0].names):
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=5 if wide else 2, borderaxespad=0.1)
    return figure


def _dots(axis: Axes, panel: Panel) -> None:
    """An estimate of zero is drawn hollow. What points mean is also written in tooltips."""
    scale = 100 if panel.unit in ("rate", "points") else 1
    for number, (label, colour, estimates, line) in enumerate(panel.series):
        shift = (
            (number - (len(panel.series) - 1) / 2) * 0.7 / len(panel.series) * (panel.abreast > 1)
        )
        marker = line if line == "|" else _MARKERS[number % len(_MARKERS)]
        axis.plot([], [], marker, ms=7, color=colour, label=label)
        for place, found in enumerate(estimates):
            if found is None or np.isnan(found.value):
                continue
            y, bounds = place + shift, (scale * found.low, scale * found.high)
            if line == "|":
                axis.plot(bounds, [y, y], "|", color=colour, ms=14)
                continue
            axis.plot(bounds, [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            (point,) = axis.plot(
                scale * found.value, y, marker, ms=7, mec=colour, mew=1.4, zorder=3,
                mfc=colour if found.value else PAPER, clip_on=False,
            )  # fmt: skip
            text = wording.interval(found, panel.unit)
            point.set_gid(f"{_TIP}{panel.names[place]}, {label}: {text}")
    if panel.zero:
        axis.axvline(0, color=INK, lw=0.8)
    short = [n if len(n) <= _LONGEST else f"{n[: _LONGEST - 1]}\u2026" for n in panel.names]
    axis.set_yticks(range(len(short)), short)
    axis.set_ylim(len(short) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter(_number(1, " %" if panel.unit == "rate" else ""))


def _curves(axis: Axes, panel: Panel) -> None:
    lowest = 0.0
    for label, colour, estimates, line in panel.series:
        known = [(x, *e) for x, e in zip(panel.names, estimates, strict=True) if e is not None]
        x, value, low, high = np.array(known, np.float64).T
        lowest = min(lowest, np.nanmin(low))
        axis.plot(x, value, line, color=colour, label=label, lw=2, ms=5)
        axis.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    for place in panel.marks:
        axis.axvline(place, color=INK, lw=0.8, ls=":")
    if panel.powers:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(_power))
        axis.minorticks_off()
    if panel.unit == "rate":
        axis.yaxis.set_major_formatter(_number(100, " %"))
    if lowest < 0:
        axis.axhline(0, color=INK, lw=0.8)
    else:
        axis.set_ylim(bottom=0)


def _number(scale: float, sign: str) -> FuncFormatter:
    """Ticks as the page writes numbers."""
    return FuncFormatter(lambda value, _: f"{scale * value:g}{sign}".replace("-", "\u2212"))


def _power(value: float, _: Any) -> str:
    """10, 1,000, 10⁶, 10⁻⁵."""
    if 1 <= value < 1e4:
        return f"{value:,.0f}"
    return "10" + f"{np.log10(value):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')


def _svg(figure: Figure, name: str) -> str:
    """The figure as SVG without style sheets or style attributes, and without a size of its own.

    A page whose content security policy forbids inline styles can embed it. Ids begin with `name`,
    so that several figures can stand on one page; tooltips become `<title>` elements.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern, new in (
        (r"(?s)\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", ""),
        (_STYLE_ATTRIBUTE, _presentation),
        (rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>"),
        # Only what is referred to needs an id.
        (r'<(g|image)((?: [a-z:]+="[^"]*")*?) id="[^"]*"', r"<\1\2"),
        (r'( id="|href="#|url\(#)', rf"\1{name}-"),
        (r'(<svg [^>]*?)height="[\d.]+pt"', r"\1"),
        (r'(<svg [^>]*?width="[\d.]+)pt"', r'\1"'),
        # Coordinates to a tenth of a pixel are enough, and half the size.
        (r"(\d+\.\d)\d{2,}", r"\1"),
        (r"\n\s*", "\n"),
        (r"^<svg", '<svg font-family="sans-serif" stroke-linejoin="round" stroke-linecap="butt"'),
    ):
        text = re.sub(pattern, new, text)
    for colour, themed in _THEMED.items():
        text = text.replace(f'"{colour}"', f'"{themed}"')
    return text


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
