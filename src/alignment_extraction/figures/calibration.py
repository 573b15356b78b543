"""Figure of calibrated thresholds: extraction rate against false positive rate."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from alignment_extraction.extraction.headline import of_headline_cells
from alignment_extraction.figures.scores import Tables
from alignment_extraction.figures.style import (
    GREY,
    METRIC_LABELS,
    PAPER,
    SCORED_METRICS,
    colour,
    faceted,
    legend,
    percent,
    percent_axis,
    tip,
)
from alignment_extraction.settings.studies import ThresholdSettings

_LEAST = 0.001  # where the horizontal axis begins


def calibration(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate at the threshold of each false positive rate, with 95 % intervals.

    The negatives are all held-out rows of the corpus, weighted by length. On the dashed line
    generations are extracted as often as held-out text is by chance; above it more often. Circles
    are the fixed thresholds, at the share of held-out rows that reach them; hollow ones stand at
    the left edge, where less than 0.1 % do. A curve begins where the held-out rows are enough to
    tell.
    """
    if "calibration_curves" not in tables or tables["calibration_curves"].is_empty():
        return None
    curves = of_headline_cells(tables, "calibration_curves")
    fixed = of_headline_cells(tables, "calibration").filter(
        pl.col("false_positive_rate").is_null(), held_out="role:held-out", length_band="all"
    )
    if curves.is_empty():
        return None
    cells = curves["cell"].unique(maintain_order=True).to_list()
    figure, axes = faceted(1, len(cells), height=2.9, width=max(2.8, 11.2 / max(3, len(cells))))
    for axis, cell in zip(axes[0], cells, strict=True):
        axis.plot([_LEAST, 1], [_LEAST, 1], color=GREY, lw=1, ls="--")
        for metric in SCORED_METRICS:
            curve = curves.filter(cell=cell, metric=metric).sort("false_positive_rate")
            x, shade = curve["false_positive_rate"].to_numpy(), colour(metric)
            axis.plot(x, curve["rate"].to_numpy(), color=shade, label=METRIC_LABELS[metric])
            low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
            axis.fill_between(x, low, high, color=shade, alpha=0.2, lw=0)
            for point in fixed.filter(cell=cell, metric=metric).iter_rows(named=True):
                _mark(axis, point, shade)
        counts = fixed.filter(cell=cell)
        n, held_out = counts["n"][0], counts["held_out_rows"][0]
        axis.set_title(f"{cell}\nn = {n:,}, held-out rows: {held_out:,}")
        axis.set_xscale("log")
        axis.set_xlim(_LEAST, 1)
        axis.set_xticks([0.001, 0.01, 0.1, 1])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axis.xaxis.set_minor_locator(NullLocator())
        percent_axis(axis, "y")
        axis.set_xlabel("false positive rate")
    axes[0][0].set_ylabel("extraction rate")
    legend(figure, axes[0][0])
    return figure


def _mark(axis: Axes, point: Mapping[str, Any], shade: str) -> None:
    """A circle at the fixed threshold of one metric; `point` is its row of calibration."""
    place = max(point["control"], _LEAST)
    face = shade if point["control"] >= _LEAST else PAPER
    (circle,) = axis.plot(
        place, point["rate"], "o", ms=4, mfc=face, mec=shade, clip_on=False, zorder=3
    )
    tip(
        circle,
        f"{METRIC_LABELS[point['metric']]} at {point['threshold']}: {percent(point['rate'])} of "
        f"the generations, {percent(point['control'])} of the held-out rows",
    )
