"""What the figures share: palette, labels, facets, intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

METRICS = ("embedding", "levenshtein", "indel")
METRIC_LABELS = {
    "embedding": "embedding (cosine)",
    "levenshtein": "Levenshtein",
    "indel": "Indel",
    "verbatim": "verbatim",
}
# Okabe and Ito's palette: told apart with every kind of colour blindness, and in print.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
    "#4B3B8F",
    "#A0522D",
    "#2F4F4F",
)
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "savefig.bbox": "tight",
    "svg.hashsalt": "alignment-extraction",
    # Letters as paths: the same picture whatever fonts the reader has.
    "svg.fonttype": "path",
}


def colour(metric: str) -> str:
    """The colour that a metric has in every figure."""
    return COLOURS[[*METRICS, "verbatim"].index(metric)]


def cell_label(cell: Mapping[str, Any]) -> str:
    """How a cell is named: model, prefix, and the seed where it is not 0."""
    seed = f", seed {cell['seed']}" if cell["seed"] else ""
    return f"{cell['model']}, prefix {cell['prefix']}{seed}"


def faceted(
    rows: int, columns: int, height: float = 2.4, width: float = 3.4
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns axes; sizes are of one facet, in inches."""
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def with_interval(
    axis: Axes, rows: pl.DataFrame, places: Sequence[float], shade: str, label: str
) -> None:
    """Points with horizontal intervals at the heights `places`.

    A rate of zero is drawn hollow: only its upper bound says something.
    """
    rate, low, high = (rows[name].to_numpy() for name in ("rate", "low", "high"))
    errors = np.clip([rate - low, high - rate], 0, None)
    axis.errorbar(rate, places, xerr=errors, fmt="none", ecolor=shade, elinewidth=1, capsize=2)
    zero = rows["hits"].to_numpy() == 0
    axis.scatter(
        rate, places, s=16, color=[("white" if z else shade) for z in zero], edgecolors=shade,
        linewidths=1, label=label, zorder=3,
    )  # fmt: skip


def percent_axis(axis: Axes) -> None:
    """Per cent along x, logarithmic above 1 % so that rates of all sizes can be read."""
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set_xlim(-0.0005, 1.3)
    axis.set_xticks([0, 0.01, 0.1, 1])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axis.minorticks_off()
