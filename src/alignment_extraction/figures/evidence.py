"""Figures beside the rates: controls, the search audit, temperatures, two embedders."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from alignment_extraction.extraction.headline import control_name
from alignment_extraction.extraction.scores import METRICS
from alignment_extraction.figures.scores import Tables, of_headline
from alignment_extraction.figures.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    METRIC_LABELS,
    category_axis,
    colour,
    faceted,
    legend,
    percent,
    percent_axis,
    tip,
    with_interval,
)
from alignment_extraction.settings.studies import ThresholdSettings


def _spread(i: int, count: int) -> float:
    return (i - (count - 1) / 2) * 0.18


def controls(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rates of the cells with the most generations, and of their controls.

    The first line is the model itself; the others are what coincidence gives, or, for other
    prefixes, what the model gives without this one. Lines are 95 % intervals; hollow marks are
    zeros, with the highest rate that their number of generations cannot rule out.
    """
    table = tables.get("controls", pl.DataFrame())
    if table.is_empty():
        return None
    cells = table.select("model", "prefix", "seed").unique(maintain_order=True)
    names = table.with_columns(
        name=pl.Series([control_name(row) for row in table.iter_rows(named=True)])
    )
    lines = ["the cell itself", *names["name"].unique(maintain_order=True)]
    figure, axes = faceted(
        1, cells.height, height=1.2 + 0.4 * len(lines), width=max(3.2, 11.2 / max(3, cells.height))
    )
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        own = names.filter(**cell)
        for i, metric in enumerate(METRICS):
            rows = own.filter(metric=metric)
            others = rows.select(
                "name",
                *[pl.col(f"control_{c}").alias(c) for c in ("n", "hits", "rate", "low", "high")],
            )
            itself = rows.head(1).select(
                pl.lit(lines[0]).alias("name"), "n", "hits", "rate", "low", "high"
            )
            rows = pl.concat([itself, others])
            places = [lines.index(name) + _spread(i, 4) for name in rows["name"]]
            label = METRIC_LABELS[metric]
            with_interval(axis, rows, places, colour(metric), label, MARKERS[i])
        category_axis(axis, lines, labelled=axis is axes[0][0])
        axis.set(
            title=f"{cell['model']}, prefix {cell['prefix']}\nn = {own['n'][0]:,}",
            xlabel="extraction rate",
        )
        percent_axis(axis)
    legend(figure, axes[0][0])
    return figure


def temperatures(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate by sampling temperature, with 95 % intervals.

    One model and prefix each; at low temperatures a model repeats what it finds likeliest, at high
    ones it leaves what it learnt. Hollow marks are zeros, with the highest rate that they cannot
    rule out.
    """
    if "conditions" not in tables or tables["conditions"].is_empty():
        return None
    table = of_headline(tables["conditions"], tables["rates"]).filter(
        pl.col("temperature").n_unique().over("model", "first_prefix", "seed") > 1
    )
    models = table["model"].unique(maintain_order=True).sort().to_list()
    if not models:
        return None
    levels = sorted(table["temperature"].drop_nulls().unique().to_list())
    figure, axes = faceted(1, len(models), height=0.9 + 0.55 * len(levels), width=3.7)
    for axis, model in zip(axes[0], models, strict=True):
        for i, metric in enumerate(METRICS):
            rows = table.filter(model=model, metric=metric)
            places = [levels.index(value) + _spread(i, 4) for value in rows["temperature"]]
            with_interval(axis, rows, places, colour(metric), METRIC_LABELS[metric], MARKERS[i])
        category_axis(axis, [f"{level:g}" for level in levels], labelled=axis is axes[0][0])
        prefix = table.filter(model=model)["first_prefix"][0]
        axis.set(title=f"{model}, prefix {prefix}", xlabel="extraction rate")
        percent_axis(axis)
    axes[0][0].set_ylabel("temperature")
    legend(figure, axes[0][0])
    return figure


def search_audit(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Recall of Annoy against its speed, by number of trees and search_k.

    Each line is one number of trees, each mark one search_k, which its tooltip names. Vertical
    lines are 95 % intervals of the recall, horizontal ones the slowest and fastest of three passes.
    The dashed line is the speed of exact search: to the left of it the index gains nothing.
    """
    if "search_audit" not in tables:
        return None
    table = tables["search_audit"].join(
        tables["search_speed"].drop("queries"), on=["trees", "search_k"], how="left"
    )
    exact = tables["search_speed"].filter(pl.col("trees").is_null())["queries_per_second"].item()
    figure, axes = faceted(1, 2, height=3.0, width=5.4)
    names = ("recall_at_1", "recall_at_10")
    for axis, name in zip(axes[0], names, strict=True):
        for i, trees in enumerate(table["trees"].unique().sort()):
            rows = table.filter(trees=trees).sort("queries_per_second")
            _recall_line(axis, rows, name, COLOURS[i % 10], MARKERS[i % 10], f"{trees} trees")
        axis.axvline(exact, color=GREY, ls="--", lw=1, label="exact search")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(
            title=f"recall@{name.rpartition('_')[2]}, {table['queries'][0]:,} queries",
            xlabel="queries a second",
        )
        axis.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes[0][0].set_ylabel("recall")
    legend(figure, axes[0][0])
    return figure


def _recall_line(
    axis: Axes, rows: pl.DataFrame, name: str, shade: str, marker: str, label: str
) -> None:
    x, y = rows["queries_per_second"], rows[name]
    axis.plot(x, y, color=shade, lw=1, marker=marker, ms=4, label=label)
    axis.vlines(x, rows[f"{name}_low"], rows[f"{name}_high"], color=shade, lw=1)
    axis.hlines(y, rows["slowest"], rows["fastest"], color=shade, lw=1)
    for row in rows.iter_rows(named=True):
        (point,) = axis.plot(row["queries_per_second"], row[name], marker, ms=4, color=shade)
        interval = f"{percent(row[f'{name}_low'])} to {percent(row[f'{name}_high'])}"
        tip(point, f"{label}, search_k {row['search_k']}: {percent(row[name])} ({interval})")


def embedders(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rates under two embedders, each at thresholds of its own, with 95 % intervals.

    At one false positive rate two good embedders should find alike; at the fixed threshold their
    rates are not comparable. Hollow marks are zeros, with the highest rate that they cannot rule
    out.
    """
    if "embedders" not in tables:
        return None
    table = tables["embedders"].drop_nulls("rate")
    cells = table.select("model", "prefix", "seed").unique(maintain_order=True)
    names = table["embedder"].unique(maintain_order=True).to_list()
    rates = table["false_positive_rate"].unique(maintain_order=True).to_list()
    levels = sorted(rates, key=lambda rate: -(rate or 2))
    labels = [
        "fixed threshold" if r is None else f"at {percent(r)} false positives" for r in levels
    ]
    figure, axes = faceted(1, cells.height, height=1.1 + 0.45 * len(levels), width=4.2)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        own = table.filter(**cell)
        for i, name in enumerate(names):
            rows = own.filter(embedder=name)
            places = [levels.index(r) + _spread(i, 2) for r in rows["false_positive_rate"]]
            with_interval(axis, rows, places, (COLOURS[0], INK)[i % 2], name, MARKERS[i])
        category_axis(axis, labels, labelled=axis is axes[0][0])
        n = own["n"][0]
        axis.set(
            title=f"{cell['model']}, prefix {cell['prefix']}\nn = {n:,}", xlabel="extraction rate"
        )
        percent_axis(axis)
    legend(figure, axes[0][0])
    return figure
