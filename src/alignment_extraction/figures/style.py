"""What the figures share: palette, facets, intervals, and SVG that a strict page may embed."""

import html
import io
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from alignment_extraction.extraction.scores import METRICS, SCORE
from alignment_extraction.files import atomic_path

SCORED_METRICS = tuple(SCORE)
"""All metrics but `verbatim`."""
METRIC_LABELS = {
    "embedding": "embedding (cosine)",
    "levenshtein": "Levenshtein",
    "indel": "Indel",
    "verbatim": "verbatim",
}
# Okabe and Ito's palette: told apart with every kind of colour blindness, and in print.
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#7f7f7f",
    "#4b3b8f",
    "#a0522d",
    "#2f4f4f",
)
MARKERS = "osD^vP*X<>"
INK, GREY, PAPER = "#24292f", "#8c959f", "#ffffff"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 150,
    "svg.hashsalt": "alignment-extraction",
    # Letters stay text: they can be searched and read aloud, and take the page's font.
    "svg.fonttype": "none",
}
_TIP, _SERIES, _LEGEND = "tip:", "series:", "legend:"
_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')


def colour(metric: str) -> str:
    """The colour that a metric has in every figure."""
    return COLOURS[METRICS.index(metric)]


def percent(value: float | None) -> str:
    """A share as per cent with three significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    return f"{float(f'{100 * value:.3g}'):g} %"


def faceted(
    rows: int, columns: int, height: float, width: float, *, share_x: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns axes; sizes are of one facet, in inches."""
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x)
    return figure, [list(row) for row in axes]


def legend(figure: Figure, axis: Axes, title: str | None = None) -> None:
    """One legend for all facets, in a row above them, from the labels of `axis`."""
    handles, series = axis.get_legend_handles_labels()
    labels = [f"{title} {label}" if title else label for label in series]
    made = figure.legend(handles, labels, loc="outside upper left", ncols=5, borderaxespad=0.2)
    for text, name in zip(made.get_texts(), series, strict=True):
        text.set_gid(_LEGEND + name)


def tip(artist: Artist, text: str) -> None:
    """Text shown when a reader points at `artist` (the SVG's own tooltip)."""
    artist.set_gid(_TIP + text)


def with_interval(
    axis: Axes, rows: pl.DataFrame, places: Sequence[float], shade: str, label: str, marker: str
) -> None:
    """Points with horizontal intervals at the heights `places`.

    A rate of zero is drawn hollow: only its upper bound says something.

    Args:
        axis: where to.
        rows: with n, hits (null of a weighted rate), rate, low, high.
        places: one for each row.
        shade: colour.
        label: in the legend and the tooltips.
        marker: matplotlib's.
    """
    axis.plot([], [], marker, ms=4, color=shade, label=label)
    bars = axis.hlines(places, rows["low"], rows["high"], color=shade, lw=1)
    bars.set_gid(_SERIES + label)
    for row, place in zip(rows.iter_rows(named=True), places, strict=True):
        face = shade if row["rate"] else PAPER
        (point,) = axis.plot(
            row["rate"], place, marker, ms=4, mfc=face, mec=shade, mew=1, clip_on=False, zorder=3
        )
        interval = f"95 % interval {percent(row['low'])} to {percent(row['high'])}"
        counted = "" if row["hits"] is None else f"{row['hits']:,} of {row['n']:,} = "
        tip(point, f"{label}: {counted}{percent(row['rate'])}, {interval}")


def percent_axis(axis: Axes, which: str = "x") -> None:
    """Per cent, logarithmic above 1 % so that rates of all sizes, and zero, can be read."""
    getattr(axis, f"set_{which}scale")("symlog", linthresh=0.01)
    getattr(axis, f"set_{which}lim")(-0.0006, 1.25)
    getattr(axis, f"set_{which}ticks")([0, 0.01, 0.1, 1])
    axes = getattr(axis, f"{which}axis")
    axes.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.set_minor_locator(NullLocator())


def category_axis(axis: Axes, names: Sequence[str], *, labelled: bool) -> None:
    """Names down the left side, the first on top; facets to the right repeat none."""
    axis.set_yticks(range(len(names)), names if labelled else [""] * len(names))
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    for place in np.arange(0.5, len(names) - 1):
        axis.axhline(place, color=GREY, lw=0.5, alpha=0.3)


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG without style sheets or style attributes.

    A page whose content security policy forbids inline styles can embed it. Ids begin with `name`,
    so that several figures can stand on one page; tooltips become `<title>` elements. What belongs
    to a name in the legend has it as `data-series`, and the name itself as `data-legend`.
    """
    for axis in figure.axes:
        for artist in (*axis.lines, *axis.collections):
            label = str(artist.get_label())
            if artist.get_gid() is None and label and not label.startswith("_"):
                artist.set_gid(_SERIES + label)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = _STYLE_ATTRIBUTE.sub(_presentation, text)
    legend = re.findall(rf'<g id="{_LEGEND}([^"]*)">', text)
    text = re.sub(rf'<g id="{_LEGEND}([^"]*)">', r'<g data-legend="\1">', text)
    text = re.sub(rf'<g id="{_SERIES}([^"]*)">', r'<g data-series="\1">', text)
    text = re.sub(rf'<g id="{_TIP}([^"]*)">', partial(_tip_group, legend), text)
    # Only what is referred to needs an id.
    text = re.sub(r'<(g|image)((?: [a-z:]+="[^"]*")*?) id="[^"]*"', r"<\1\2", text)
    text = text.replace(' id="', f' id="{name}-').replace('href="#', f'href="#{name}-')
    text = text.replace("url(#", f"url(#{name}-")
    root = 'font-family="sans-serif" stroke-linejoin="round" stroke-linecap="butt"'
    return text.replace("<svg", f"<svg {root}", 1)


def _tip_group(legend: Sequence[str], match: re.Match[str]) -> str:
    """A group with its tooltip, of the series whose name in the legend the tooltip begins with."""
    text = match[1]
    names = [name for name in legend if re.match(rf"{re.escape(name)}[:,]", text)]
    series = f' data-series="{max(names, key=len)}"' if names else ""
    return f'<g class="tip"{series}><title>{text}</title>'


def _presentation(match: re.Match[str]) -> str:
    """`style="fill: red; stroke: none"` as attributes of their own."""
    pairs = (part.split(":", 1) for part in html.unescape(match[1]).split(";") if ":" in part)
    return "".join(
        f' {key.strip()}="{html.escape(value.strip())}"'
        for key, value in pairs
        if key.strip() != "font-family"
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, named by the file's stem; the same figure gives the same bytes."""
    with atomic_path(path) as partial:
        partial.write_text(svg(figure, path.stem), encoding="utf-8")
