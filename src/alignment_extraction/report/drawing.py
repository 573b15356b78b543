"""How figures are drawn: dots with intervals, curves with bands, and SVG for a strict page.

A figure is drawn twice, for a wide page and for a phone, so that its letters stay 12 px high. Ink
is `currentColor` and CSS variables, so that it follows the page into the dark.
"""

import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from alignment_extraction.report.rendering import HERE
from alignment_extraction.report.wording import interval
from alignment_extraction.statistics import Interval
from alignment_extraction.vocabulary import ROLE_COLOURS

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


class Panel(NamedTuple):
    """Which estimates of a frame are drawn, and how: an entry of figures.toml.

    Names make dots with 95 % intervals, numbers make curves with 95 % bands.
    """

    series: str  # column; each of its values has a colour of its own
    at: str  # column of the names or numbers that the estimates stand along
    value: str  # column; its bounds are `{value}_low` and `{value}_high`, or else `low` and `high`
    label: str  # of the x axis
    title: str = ""
    unit: str = "rate"  # of `wording.interval`
    split: str = ""  # column that makes a panel of each of its values
    marks: Sequence[float] = ()  # places of dotted lines across curves


class Picture(NamedTuple):
    """A figure to look at and to take away: SVG for a wide page and for a phone, its numbers."""

    wide: str
    narrow: str
    data: pl.DataFrame


def picture(
    name: str, data: pl.DataFrame, panels: Sequence[Panel], styles: Mapping[str, Any]
) -> Picture | None:
    """Draw panels, beside each other on a wide page and in a column on a phone.

    Ids in the SVG begin with the name. Panels without numbers are left out; without any, None.
    """
    drawn = [found for panel in panels for found in _rows(data, panel)]
    if not drawn:
        return None
    with style.context(HERE / "templates" / "report.mplstyle"):
        wide, narrow = (
            _svg(_figure(drawn, styles, width), f"{name}-{width}") for width in (WIDE, NARROW)
        )
    return Picture(wide, narrow, data)


def _rows(data: pl.DataFrame, panel: Panel) -> Iterator[tuple[Panel, pl.DataFrame]]:
    """A panel, or its parts, with its known numbers: series, at, value, low, high."""
    own = f"{panel.value}_" if f"{panel.value}_low" in data.columns else ""
    columns = [panel.series, panel.at, panel.value, f"{own}low", f"{own}high"]
    names = ("series", "at", "value", "low", "high")
    for (title,), part in data.group_by(panel.split or pl.lit(panel.title), maintain_order=True):
        rows = part.select(pl.col(c).alias(n) for c, n in zip(columns, names, strict=True))
        rows = rows.drop_nulls(["series", "value"]).filter(pl.col("value").is_not_nan())
        if rows.height:
            yield panel._replace(title=str(title)), rows.fill_null(math.nan)


def _series(
    rows: pl.DataFrame, panel: Panel, styles: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, pl.DataFrame]]:
    """Label, colour, kind of line and rows of each series, in the order of the styles."""
    known, others = styles.get(panel.series, {}), itertools.cycle(styles["others"])
    keys = rows["series"].unique(maintain_order=True).to_list()
    for key in sorted(keys, key=[*known, *keys].index):
        label, colour, *line = known.get(key) or (key, next(others))
        own = rows.filter(pl.col("series") == key).drop("series")
        yield label, ROLE_COLOURS.get(colour, colour), "".join(line) or "-", own


def _figure(
    drawn: Sequence[tuple[Panel, pl.DataFrame]], styles: Mapping[str, Any], width: int
) -> Figure:
    wide, heights, draw = width == WIDE, [], []
    for _, rows in drawn:
        counts, curved = rows["at"].value_counts()["count"], rows["at"].dtype.is_numeric()
        dots = _EDGE + len(counts) * max(_ROW, 13 * int(counts.to_numpy().max()))
        heights.append(_CURVES if curved else dots)
        draw.append(_curves if curved else _dots)
    figure = Figure(figsize=(width / 72, (max(heights) if wide else sum(heights)) / 72))
    shape = (1, len(drawn)) if wide else (len(drawn), 1)
    ratios = None if wide else heights
    axes = list(figure.subplots(*shape, squeeze=False, height_ratios=ratios).flat)
    for axis, into, (panel, rows) in zip(axes, draw, drawn, strict=True):
        into(axis, rows, panel, styles)
        axis.set(title=panel.title, xlabel=panel.label)
    # Curves over powers of ten leave room in their own panel.
    if own := [axis for axis in axes if axis.get_xscale() == "log"]:
        own[0].legend(fontsize=11, loc="best")
    else:
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=5 if wide else 2, borderaxespad=0.1)
    return figure


def _dots(axis: Axes, rows: pl.DataFrame, panel: Panel, styles: Mapping[str, Any]) -> None:
    """An estimate of zero is drawn hollow. What points mean is also written in tooltips."""
    names = rows["at"].unique(maintain_order=True).to_list()
    series = list(_series(rows, panel, styles))
    room = 0.7 / len(series) if rows["at"].is_duplicated().any() else 0
    for number, (label, colour, _, own) in enumerate(series):
        marker, shift = _MARKERS[number % len(_MARKERS)], room * (number - (len(series) - 1) / 2)
        axis.plot([], [], marker, ms=7, color=colour, label=label)
        for name, value, *ends in own.iter_rows():
            y = names.index(name) + shift
            axis.plot(ends, [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            inner = colour if value else PAPER
            (point,) = axis.plot(
                value, y, marker, ms=7, mec=colour, mew=1.4, zorder=3, mfc=inner, clip_on=False
            )
            said = interval(Interval(value, *ends), panel.unit)
            point.set_gid(f"{_TIP}{name}, {label}: {said}")
    axis.axvline(0, color=INK, lw=0.8)
    short = [n if len(n) <= _LONGEST else f"{n[: _LONGEST - 1]}\u2026" for n in names]
    axis.set_yticks(range(len(short)), short)
    axis.set_ylim(len(short) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.locator_params(axis="x", nbins=5)
    if panel.unit == "rate":
        axis.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def _curves(axis: Axes, rows: pl.DataFrame, panel: Panel, styles: Mapping[str, Any]) -> None:
    for label, colour, line, own in _series(rows, panel, styles):
        x, value, low, high = own.sort("at").to_numpy().T
        axis.plot(x, value, line, color=colour, label=label, lw=2, ms=5)
        axis.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    for place in panel.marks:
        axis.axvline(place, color=INK, lw=0.8, ls=":")
    if (rows["at"] >= 100 * rows["at"].to_numpy().min()).any():
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(_power))
        axis.minorticks_off()
    if panel.unit == "rate":
        axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if (rows["low"] < 0).any():
        axis.axhline(0, color=INK, lw=0.8)
    else:
        axis.set_ylim(bottom=0)


def _power(value: float, _: Any) -> str:
    """10, 1,000, 10⁶."""
    if value < 1e4:
        return f"{value:,.0f}"
    return "10" + f"{value:.0e}".split("+")[1].lstrip("0").translate(_RAISED)


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _svg(figure: Figure, name: str) -> str:
    """The figure as SVG without style sheets or style attributes, and without a height of its own.

    A page whose content security policy forbids inline styles can embed it. Ids begin with `name`,
    so that several figures can stand on one page; tooltips become `<title>` elements.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern, new in (
        (r"(?s)<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", ""),
        (r" font-family: [^;]+;", ""),
        (r' style="([^"]*)"', lambda found: _ATTRIBUTE.sub(r' \1="\2"', found[1])),
        (rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>"),
        (r'( id="|href="#|url\(#)', rf"\1{name}-"),
        (r' width="([\d.]+)pt" height="[\d.]+pt"', r' width="\1"'),
        # Coordinates to a tenth of a pixel are enough, and half the size.
        (r"(\d+\.\d)\d{2,}", r"\1"),
        (r"^<svg", '<svg font-family="sans-serif" stroke-linejoin="round" stroke-linecap="butt"'),
    ):
        text = re.sub(pattern, new, text)
    for colour, themed in _THEMED.items():
        text = text.replace(f'"{colour}"', f'"{themed}"')
    return text


_ATTRIBUTE = re.compile(r" ?([a-z-]+): ([^;]+);?")
