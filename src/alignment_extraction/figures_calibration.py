"""Figure of calibrated thresholds: extraction rate against false positive rate."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from alignment_extraction.config import ThresholdSettings
from alignment_extraction.figures_scores import Tables
from alignment_extraction.figures_style import (
    GREY,
    METRIC_LABELS,
    METRICS,
    PAPER,
    colour,
    faceted,
    legend,
    percent,
    percent_axis,
    tip,
)
from alignment_extraction.headline import readable
from alignment_extraction.report_calibration import of_headline_cells

_LEAST = 0.001  # where the horizontal axis begins


def calibration(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate at the threshold of each false positive rate, with 95 % intervals.

    One row for each group of held-out rows, which are the negatives. On the dashed line generations
    are extracted as often as held-out text is by chance; above it more often. Circles are the fixed
    thresholds, at the share of held-out rows that reach them; hollow ones stand at the left edge
    where that share is less than 0.1 %. A curve begins where the held-out rows are enough to tell.
    """
    if "calibration_curves" not in tables or tables["calibration_curves"].is_empty():
        return None
    curves = of_headline_cells(tables, "calibration_curves")
    fixed = of_headline_cells(tables, "calibration").filter(
        pl.col("false_positive_rate").is_null(), pl.col("held_out").is_not_null(), length_band="all"
    )
    if curves.is_empty():
        return None
    cells = curves["cell"].unique(maintain_order=True).to_list()
    groups = curves["held_out"].unique(maintain_order=True).to_list()
    figure, axes = faceted(
        len(groups), len(cells), height=2.3, width=max(2.8, 11.2 / max(4, len(cells)))
    )
    for row, group in zip(axes, groups, strict=True):
        for axis, cell in zip(row, cells, strict=True):
            axis.plot([_LEAST, 1], [_LEAST, 1], color=GREY, lw=1, ls="--")
            for metric in METRICS:
                shade = colour(metric)
                curve = curves.filter(cell=cell, held_out=group, metric=metric)
                x = curve["false_positive_rate"].to_numpy()
                axis.plot(x, curve["rate"], color=shade, label=METRIC_LABELS[metric])
                low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
                axis.fill_between(x, low, high, color=shade, alpha=0.2, lw=0)
                for point in fixed.filter(cell=cell, held_out=group, metric=metric).iter_rows(
                    named=True
                ):
                    seen = point["control"] >= _LEAST
                    (mark,) = axis.plot(
                        max(point["control"], _LEAST),
                        point["rate"],
                        "o",
                        ms=4,
                        mfc=shade if seen else PAPER,
                        mec=shade,
                        clip_on=False,
                        zorder=3,
                    )
                    text = f"{METRIC_LABELS[metric]} at {point['threshold']}: "
                    text += f"{percent(point['rate'])} of the generations, "
                    tip(mark, text + f"{percent(point['control'])} of the held-out rows")
            counts = fixed.filter(cell=cell, held_out=group)
            title = f"{cell}\nn = {counts['n'][0]:,}, held-out rows: {counts['held_out_rows'][0]:,}"
            axis.set_title(title)
            axis.set_xscale("log")
            axis.set_xlim(_LEAST, 1)
            axis.set_xticks([0.001, 0.01, 0.1, 1])
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
            axis.xaxis.set_minor_locator(NullLocator())
            percent_axis(axis, "y")
            axis.set_xlabel("false positive rate" if row is axes[-1] else "")
            axis.set_ylabel(f"extraction rate\n{readable(group)}" if axis is row[0] else "")
    legend(figure, axes[0][0])
    return figure
