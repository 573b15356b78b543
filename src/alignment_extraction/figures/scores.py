"""Figures of the scores themselves: their distributions, one against another, and thresholds."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from alignment_extraction.extraction.headline import (
    CELL,
    cell_label,
    headline_cells,
    headline_part,
    headline_reference,
    pool_seeds,
    readable,
)
from alignment_extraction.extraction.scores import SCORE, threshold_of
from alignment_extraction.figures.style import (
    COLOURS,
    GREY,
    METRIC_LABELS,
    SCORED_METRICS,
    colour,
    faceted,
    legend,
    percent,
    percent_axis,
)
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson

Tables = Mapping[str, pl.DataFrame]

_BINS = np.linspace(0, 1, 51)
_SHADE = COLOURS[3]
_POINTS = 2000  # of one scatter; more cannot be told apart


def of_headline(table: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """Rows of `table` for the part and the reference that are shown first."""
    return table.filter(part=headline_part(rates), reference=headline_reference(rates))


def histograms(tables: Tables, thresholds: ThresholdSettings) -> Figure | None:
    """Distribution of the three scores in the cells with the most generations.

    The shaded region is what counts as memorised; the count axis is logarithmic, so that a few
    generations there can be seen. String scores are to each metric's own best match.
    """
    scores = of_headline(tables["scores"], tables["rates"])
    cells = headline_cells(of_headline(pool_seeds(tables["rates"]), tables["rates"]))
    figure, axes = faceted(cells.height, 3, height=1.9, width=3.7)
    for row, cell in zip(axes, cells.iter_rows(named=True), strict=True):
        of_cell = scores.filter(*[pl.col(key) == cell[key] for key in CELL])
        for axis, metric in zip(row, SCORED_METRICS, strict=True):
            values = of_cell[SCORE[metric]].drop_nulls().clip(0, 1).to_numpy()
            threshold = threshold_of(metric, thresholds)
            axis.axvspan(threshold, 1, color=_SHADE, alpha=0.15, lw=0)
            axis.hist(values, bins=_BINS.tolist(), color=colour(metric))
            reached = int((values >= threshold - 1e-6).sum())
            share = f"{percent(reached / cell['n'])} from {threshold:g}"
            axis.set_title(
                f"{cell_label(cell)}, n = {cell['n']:,}" if metric == SCORED_METRICS[0] else ""
            )
            axis.text(0.98, 1.02, share, transform=axis.transAxes, ha="right", color=_SHADE)
            # Limits come first: none can be found on a logarithmic axis where all bins are empty.
            axis.set(xlim=(0, 1), ylim=(0.7, 1.5 * cell["n"]))
            axis.set_yscale("log")
            if missing := of_cell.height - len(values):
                why = (
                    "without text" if metric == "embedding" else "below 0.5,\nnot searched further"
                )
                text = f"{missing:,} {why}"
                axis.text(0.02, 0.95, text, transform=axis.transAxes, va="top")
            if axis is row[0]:
                axis.set_ylabel("generations")
            if row is axes[-1]:
                axis.set_xlabel(METRIC_LABELS[metric])
    return figure


def distributions(tables: Tables, thresholds: ThresholdSettings) -> Figure | None:
    """Distribution of the three scores for every model (rows) and prefix (columns).

    Outlines give the share of generations in each bin on a logarithmic axis; the shaded region
    begins at the threshold of the embedding score.
    """
    scores = of_headline(tables["scores"], tables["rates"])
    models = scores["model"].unique(maintain_order=True).to_list()
    prefixes = scores["prefix"].unique(maintain_order=True).to_list()
    # The histograms show a single model's cells, larger.
    if len(models) < 2:
        return None
    figure, axes = faceted(len(models), len(prefixes), height=1.15, width=11 / len(prefixes))
    for i, model in enumerate(models):
        for j, prefix in enumerate(prefixes):
            axis = axes[i][j]
            of_cell = scores.filter(model=model, prefix=prefix)
            axis.axvspan(thresholds.embedding, 1, color=_SHADE, alpha=0.15, lw=0)
            for metric in SCORED_METRICS:
                values = of_cell[SCORE[metric]].drop_nulls().clip(0, 1).to_numpy()
                shares = np.histogram(values, _BINS)[0] / max(1, of_cell.height)
                axis.stairs(shares, _BINS, color=colour(metric), label=METRIC_LABELS[metric])
            axis.set(xlim=(0, 1), ylim=(5e-5, 1.5))
            axis.set_yscale("log")
            axis.set_yticks([1e-4, 1e-2, 1])
            axis.minorticks_off()
            axis.set_title(f"{model}, {prefix}, n = {of_cell.height:,}", fontsize=8, pad=3)
            axis.tick_params(labelsize=7, labelbottom=i == len(models) - 1, labelleft=j == 0)
    figure.supxlabel("score", fontsize=9)
    figure.supylabel("share of generations in a bin", fontsize=9)
    legend(figure, axes[0][0])
    return figure


def scatter(tables: Tables, thresholds: ThresholdSettings) -> Figure | None:
    """Embedding score against Levenshtein similarity to the same match, coloured by length.

    Dashed lines are the thresholds. What lies above the horizontal line and left of the vertical
    one is memorised in meaning but missed by string comparison.
    """
    rates = tables["rates"]
    scores = of_headline(tables["scores"], rates)
    cells = headline_cells(of_headline(pool_seeds(rates), rates))
    longest = scores["characters"].quantile(0.99) or 1
    figure, axes = faceted(1, cells.height, height=3.1, width=max(2.8, 11.2 / cells.height / 1.3))
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        of_cell = scores.filter(*[pl.col(key) == cell[key] for key in CELL])
        shown = of_cell.sample(min(_POINTS, of_cell.height), seed=0)
        points = axis.scatter(
            shown["levenshtein"],
            shown["cosine"],
            c=shown["characters"],
            vmin=0,
            vmax=longest,
            cmap="viridis",
            s=7,
            lw=0,
            rasterized=True,
        )
        axis.axhline(thresholds.embedding, color=GREY, lw=0.9, ls="--")
        axis.axvline(thresholds.string, color=GREY, lw=0.9, ls="--")
        bottom = min(0.0, float(scores["cosine"].min() or 0))  # type: ignore[arg-type]
        axis.set(xlim=(0, 1.03), ylim=(bottom, 1.03), xlabel="Levenshtein similarity")
        axis.set_title(f"{cell_label(cell)}\n{shown.height:,} of n = {cell['n']:,}")
        axis.set_ylabel("embedding score (cosine)" if axis is axes[0][0] else "")
    bar = figure.colorbar(points, ax=axes[0], label="length (characters)", pad=0.01, aspect=25)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    return figure


def sweep(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate against the threshold of each metric, with 95 % intervals.

    The axis of rates is logarithmic above one generation in n and linear below, so that zero has a
    place on it. Dots mark the thresholds that the rates in this report use.
    """
    rates = tables["rates"]
    curves = of_headline(tables["sweep"], rates)
    points = of_headline(pool_seeds(rates), rates)
    cells = headline_cells(points)
    figure, axes = faceted(1, cells.height, height=3, width=max(2.8, 11.2 / cells.height / 1.3))
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        of_cell = [pl.col(key) == cell[key] for key in CELL]
        for metric in SCORED_METRICS:
            curve = (
                curves.filter(*of_cell, metric=metric)
                .group_by("threshold")
                .agg(hits=(pl.col("rate") * pl.col("n")).sum(), n=pl.col("n").sum())
                .sort("threshold")
            )
            band = wilson(curve["hits"], curve["n"])
            point = points.filter(*of_cell, metric=metric).row(0, named=True)
            shade = colour(metric)
            steps = curve["threshold"].to_numpy()
            axis.plot(steps, band.estimate, color=shade, label=METRIC_LABELS[metric])
            axis.fill_between(steps, band.low, band.high, color=shade, alpha=0.2, lw=0)
            axis.plot(point["threshold"], point["rate"], "o", ms=5, color=shade, clip_on=False)
        percent_axis(axis, "y")
        axis.set_yscale("symlog", linthresh=1 / cell["n"])
        ticks = [0, *[t for t in (0.0001, 0.001, 0.01, 0.1, 1) if t >= 1 / cell["n"]]]
        axis.set(yticks=ticks, xlabel="threshold", ylim=(-0.15 / cell["n"], 1.25))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{cell_label(cell)}\nn = {cell['n']:,}")
        axis.set_ylabel("extraction rate" if axis is axes[0][0] else "")
    figure.suptitle(f"against {readable(headline_reference(rates))}", x=0.99, ha="right", size=9)
    legend(figure, axes[0][0])
    return figure
