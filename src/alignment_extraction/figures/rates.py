"""Figures of extraction rates: by prefix, population, quantisation and repetition."""

from typing import Any

import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.extraction.headline import (
    CELL,
    cell_label,
    headline_cells,
    headline_part,
    name_parts,
    one_of_each_family,
    ordered,
    pool_seeds,
    precision_order,
)
from alignment_extraction.extraction.scores import METRICS
from alignment_extraction.figures.scores import Tables, of_headline
from alignment_extraction.figures.style import (
    COLOURS,
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
    """Offset of the i-th of `count` marks that share one line."""
    return (i - (count - 1) / 2) * min(0.2, 0.75 / count)


def prefixes(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate of every model by prefix and metric, with 95 % intervals.

    Hollow marks are zeros: none of the generations reached the threshold, and the line ends at the
    highest rate that this number of generations cannot rule out.
    """
    rates = of_headline(pool_seeds(tables["rates"]), tables["rates"])
    models = rates["model"].unique(maintain_order=True).to_list()
    names = rates["prefix"].unique(maintain_order=True).to_list()
    height = 1.1 + len(models) * max(0.3, 0.13 * len(names))
    figure, axes = faceted(1, len(METRICS), height=height, width=2.8)
    for axis, metric in zip(axes[0], METRICS, strict=True):
        for i, name in enumerate(names):
            rows = rates.filter(metric=metric, prefix=name)
            places = [models.index(model) + _spread(i, len(names)) for model in rows["model"]]
            marker, shade = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
            with_interval(axis, rows, places, shade, name, marker)
        category_axis(axis, models, labelled=axis is axes[0][0])
        axis.set(title=METRIC_LABELS[metric], xlabel="extraction rate")
        percent_axis(axis)
    legend(figure, axes[0][0], "prefix")
    return figure


def populations(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate against every group of the corpus, with 95 % intervals.

    What is found among items that no model was trained on is the rate of false positives. Hollow
    marks are zeros, with the highest rate that they cannot rule out.
    """
    pooled = pool_seeds(tables["rates"])
    rates = pooled.filter(~pl.col("reference").str.starts_with("role:"), part=headline_part(pooled))
    groups = rates["reference"].unique(maintain_order=True).sort().to_list()
    if len(groups) < 2:
        return None
    cells = headline_cells(rates)
    figure, axes = faceted(1, cells.height, height=1.3 + 0.5 * len(groups), width=2.8)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        of_cell = rates.filter(*[pl.col(key) == cell[key] for key in CELL])
        for i, metric in enumerate(METRICS):
            rows = of_cell.filter(metric=metric)
            places = [groups.index(group) + _spread(i, 4) for group in rows["reference"]]
            label = METRIC_LABELS[metric]
            with_interval(axis, rows, places, colour(metric), label, MARKERS[i])
        category_axis(axis, groups, labelled=axis is axes[0][0])
        axis.set(title=f"{cell_label(cell)}\nn = {cell['n']:,}", xlabel="extraction rate")
        percent_axis(axis)
    legend(figure, axes[0][0])
    return figure


def quantisation(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction rate of one model at several quantisations, with 95 % intervals.

    Models whose names differ in their ending alone (`-f16`, `-q8`, `-q4`) are one model here.
    Hollow marks are zeros, with the highest rate that they cannot rule out.
    """
    rates = of_headline(pool_seeds(tables["rates"]), tables["rates"])
    families: dict[str, dict[str, str]] = {}
    for model in rates["model"].unique(maintain_order=True):
        family, kind = name_parts(model)
        if kind:
            families.setdefault(family, {})[kind] = model
    families = {name: kinds for name, kinds in families.items() if len(kinds) > 1}
    if not families:
        return None
    names = rates["prefix"].unique(maintain_order=True).to_list()
    figure, axes = faceted(
        len(families), len(names), height=1.7, width=max(2.0, 11.2 / max(4, len(names)))
    )
    for row, (family, kinds) in zip(axes, families.items(), strict=True):
        order = sorted(kinds, key=precision_order)
        for axis, prefix in zip(row, names, strict=True):
            for i, metric in enumerate(METRICS):
                rows = rates.filter(pl.col("model").is_in(list(kinds.values())))
                rows = rows.filter(metric=metric, prefix=prefix)
                rows = ordered(rows, [kinds[kind] for kind in order], "model")
                places = [
                    order.index(name_parts(model).quantisation or "") + _spread(i, 4)
                    for model in rows["model"]
                ]
                label = METRIC_LABELS[metric]
                with_interval(axis, rows, places, colour(metric), label, MARKERS[i])
            category_axis(axis, order, labelled=axis is row[0])
            axis.set_title(f"{family}, prefix {prefix}")
            percent_axis(axis)
            axis.set_xlabel("extraction rate" if row is axes[-1] else "")
    legend(figure, axes[0][0])
    return figure


def repetitions(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Extraction of items by how often training repeated them, one model of each family.

    Above, the share of items extracted at least once, with 95 % intervals: it grows with the number
    of generations, which is in the legend. Below, hits an item in 1,000 generations, which can be
    compared between models of different numbers, with 95 % intervals over items.
    `-assistant-loss` are models whose loss left the user's turns out.
    """
    table = repeated_items(tables)
    if table.is_empty():
        return None
    rates = pool_seeds(tables["rates"])
    prefix = headline_cells(rates)["prefix"][0]
    models = one_of_each_family(rates, prefix)
    levels = sorted(table["repetitions"].unique().to_list())
    figure, axes = faceted(2, 2, height=2.6, width=5.4)
    for column, metric in enumerate(("embedding", "verbatim")):
        share, hits = axes[0][column], axes[1][column]
        for i, model in enumerate(models):
            rows = table.filter(model=model, metric=metric, prefix=prefix).sort("repetitions")
            spread = _spread(i, len(models))
            places = [levels.index(level) + spread for level in rows["repetitions"]]
            generations = max(rates.filter(model=model, prefix=prefix)["n"].to_list())
            label = f"{model} (n = {generations:,})"
            style: dict[str, Any] = {
                "color": COLOURS[i % 10],
                "marker": MARKERS[i % 10],
                "ms": 4,
                "lw": 1,
            }
            share.plot(places, rows["rate"], label=label, clip_on=False, **style)
            share.vlines(places, rows["low"], rows["high"], color=COLOURS[i % 10], lw=1)
            for place, row in zip(places, rows.iter_rows(named=True), strict=True):
                (point,) = share.plot(place, row["rate"], clip_on=False, **style)
                text = f"{row['extracted']:,} of {row['items']:,} items = {percent(row['rate'])}"
                tip(point, f"{model}, repeated {row['repetitions']} times: {text}")
            columns = ("hits_per_item", "hits_per_item_low", "hits_per_item_high")
            ends = rows.select(pl.col(columns) * 1000 / generations)
            hits.plot(places, ends["hits_per_item"], **style)
            low, high = ends["hits_per_item_low"], ends["hits_per_item_high"]
            hits.vlines(places, low, high, color=COLOURS[i % 10], lw=1)
        share.set(title=METRIC_LABELS[metric] + f", prefix {prefix}", ylim=(0, 1.02))
        share.yaxis.set_major_formatter(lambda value, _: percent(value))
        hits.set_yscale("symlog", linthresh=0.01)
        hits.set_ylim(bottom=0)
        for axis in (share, hits):
            axis.set_xticks(range(len(levels)), [str(level) for level in levels])
        hits.set_xlabel("times repeated in training")
    axes[0][0].set_ylabel("items extracted")
    axes[1][0].set_ylabel("hits an item\nin 1,000 generations")
    legend(figure, axes[0][0])
    return figure


def repeated_items(tables: Tables) -> pl.DataFrame:
    """Rows of the repetitions table for the group with the most levels, of the first seed.

    Empty where no group has two levels.
    """
    table = tables.get("repetitions", pl.DataFrame())
    if table.is_empty():
        return table
    table = table.filter(
        pl.col("seed") == table["seed"].min(), part=headline_part(tables["rates"])
    ).with_columns(levels=pl.col("repetitions").n_unique().over("reference"))
    most = table["levels"].max()
    if table.is_empty() or most == 1:
        return table.clear()
    group = table.filter(levels=most)["reference"][0]
    return table.filter(reference=group).drop("levels")
