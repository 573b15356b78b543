"""Figures of what was copied: how many items, which ones, and how closely."""

from typing import Any

import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.extraction.anatomy import KINDS
from alignment_extraction.extraction.headline import (
    CELL,
    cell_label,
    headline_cells,
    headline_part,
    headline_reference,
    pool_seeds,
    readable,
)
from alignment_extraction.figures.scores import Tables
from alignment_extraction.figures.style import (
    COLOURS,
    INK,
    MARKERS,
    METRIC_LABELS,
    PAPER,
    category_axis,
    faceted,
    legend,
    percent,
    percent_axis,
    tip,
)
from alignment_extraction.settings.studies import ThresholdSettings

_METRICS = ("embedding", "verbatim")
_UNITS = {"item": "-", "cluster": (0, (4, 2))}
_TRAITS = {
    "repetitions": "times repeated in training",
    "characters": "length in characters",
    "cluster_size": "near-duplicates (size of cluster)",
}


def coverage(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Distinct corpus items extracted, against the number of generations, up to ten times as many.

    Left of the dotted line, the expectation over random subsets of the run, with the band in which
    95 % of them lie; right of it, the prediction with its 95 % interval. Solid lines count items,
    broken ones clusters of near-duplicates. A curve that still rises says that more generations
    would find more. Groups of which nothing was extracted have no curve.
    """
    table = tables["coverage"].filter(part=headline_part(tables["rates"]))
    if table.is_empty():
        return None
    # The curves are of one seed's generations; those of several seeds are nearly one.
    table = table.filter(pl.col("seed") == table["seed"].min())
    cells = headline_cells(pool_seeds(tables["rates"]))
    cells = cells.join(table.select(CELL).unique(), on=CELL, how="semi", maintain_order="left")
    if cells.is_empty():
        return None
    groups = table["reference"].unique(maintain_order=True).sort().to_list()
    metrics = [metric for metric in _METRICS if metric in table["metric"]]
    figure, axes = faceted(
        len(metrics), cells.height, height=2.6, width=max(2.8, 11.2 / cells.height / 1.3)
    )
    for row, metric in zip(axes, metrics, strict=True):
        for axis, cell in zip(row, cells.iter_rows(named=True), strict=True):
            of_cell = table.filter(*[pl.col(key) == cell[key] for key in CELL], metric=metric)
            for i, group in enumerate(groups):
                for unit, dashes in _UNITS.items():
                    curve = of_cell.filter(reference=group, unit=unit)
                    style: dict[str, Any] = {"color": COLOURS[i % 10], "ls": dashes, "lw": 1.2}
                    label = group if unit == "item" else f"{group}, clusters"
                    axis.plot(curve["samples"], curve["distinct"], label=label, **style)
                    axis.fill_between(
                        curve["samples"],
                        curve["low"],
                        curve["high"],
                        color=COLOURS[i % 10],
                        alpha=0.18 if unit == "item" else 0.08,
                        lw=0,
                    )
            for drawn in of_cell.filter(~pl.col("extrapolated"))["samples"].unique().sort()[-1:]:
                axis.axvline(drawn, color=INK, lw=0.7, ls=":")
            axis.set_title(f"{METRIC_LABELS[metric]}\n{cell_label(cell)}")
            axis.set_xlabel("generations" if row is axes[-1] else "")
            axis.set_ylabel("distinct items extracted" if axis is row[0] else "")
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
    legend(figure, axes[0][0])
    return figure


def most_extracted_group(tables: Tables) -> dict[str, object] | None:
    """The headline cell's group of which the most distinct items were extracted by embedding.

    Gives model, prefix, seed, part, reference; None where nothing was extracted.
    """
    cell = headline_cells(pool_seeds(tables["rates"])).row(0, named=True)
    found = (
        tables["richness"]
        .filter(
            *[pl.col(key) == cell[key] for key in CELL],
            pl.col("distinct") > 0,
            part=headline_part(tables["rates"]),
            metric="embedding",
            unit="item",
        )
        .sort("seed", "distinct", descending=[False, True], maintain_order=True)
    )
    if found.is_empty():
        return None
    keys = ("model", "prefix", "seed", "part", "reference")
    return {key: found[key][0] for key in keys}


def traits(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Share of the corpus items extracted at least once, by what they have in common.

    For the cell with the most generations and the group of which it gave away the most items, with
    95 % intervals. Each band is twice as wide as the one before it. Hollow marks are zeros: none of
    these items was extracted, and the line ends at the highest share that cannot be ruled out.
    """
    group = most_extracted_group(tables)
    if group is None:
        return None
    table = tables["traits"].filter(*[pl.col(key) == value for key, value in group.items()])
    figure, axes = faceted(1, len(_TRAITS), height=2.6, width=3.7)
    for axis, (trait, label) in zip(axes[0], _TRAITS.items(), strict=True):
        bands = table.filter(trait=trait, metric="embedding").sort("band_low")
        for i, metric in enumerate(_METRICS):
            rows = table.filter(trait=trait, metric=metric).sort("band_low")
            shade = COLOURS[(0, 3)[i]]
            places = [place + 0.12 * (2 * i - 1) for place in range(rows.height)]
            axis.plot([], [], MARKERS[i], ms=4, color=shade, label=METRIC_LABELS[metric])
            axis.vlines(places, rows["low"], rows["high"], color=shade, lw=1)
            for place, row in zip(places, rows.iter_rows(named=True), strict=True):
                face = shade if row["extracted"] else PAPER
                (point,) = axis.plot(
                    place, row["rate"], MARKERS[i], ms=4, mfc=face, mec=shade, clip_on=False
                )
                tip(point, f"{row['extracted']:,} of {row['items']:,} = {percent(row['rate'])}")
        names = [
            str(low) if low == high else f"{low}\u2013{high}"
            for low, high in bands.select("band_low", "band_high").iter_rows()
        ]
        counts = [f"{name}\nn = {n:,}" for name, n in zip(names, bands["items"], strict=True)]
        axis.set_xticks(range(len(counts)), counts, fontsize=7)
        axis.set_xlim(-0.5, len(counts) - 0.5)
        axis.set_xlabel(label)
        percent_axis(axis, "y")
    axes[0][0].set_ylabel("items extracted")
    axes[0][0].set_title(f"{group['model']}, prefix {group['prefix']}, {group['reference']}")
    legend(figure, axes[0][0])
    return figure


def kinds(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """What kind of copying the extracted generations are, by cell.

    Verbatim: equal to a corpus text. Templated: the same but for numbers and names, or nearly;
    split by whether its numbers are those of the match. Paraphrased: near by embedding alone. The
    numbers of extracted and of all generations stand beside; intervals are in the report's table.
    Cells of which nothing was extracted are left out.
    """
    reference = headline_reference(tables["rates"])
    table = (
        tables["kinds"]
        .filter(part=headline_part(tables["rates"]), reference=reference)
        .group_by(*CELL, "kind", maintain_order=True)
        .agg(pl.col("n", "extracted", "hits", "numbers_changed").sum())
        .filter(pl.col("extracted") > 0)
    )
    if table.is_empty():
        return None
    cells = table.unique(CELL, keep="first", maintain_order=True).rows(named=True)
    hits = {kind: table.filter(kind=kind) for kind in KINDS}
    templated = hits["templated"]
    segments = {
        "verbatim": hits["verbatim"]["hits"],
        "templated, same numbers": templated["hits"] - templated["numbers_changed"],
        "templated, other numbers": templated["numbers_changed"],
        "paraphrased": hits["paraphrased"]["hits"],
    }
    figure, axes = faceted(1, 1, height=1.2 + 0.32 * len(cells), width=8.5)
    axis = axes[0][0]
    left = [0.0] * len(cells)
    for shade, (label, counts) in zip((3, 1, 5, 0), segments.items(), strict=True):
        shares = [n / cell["extracted"] for n, cell in zip(counts, cells, strict=True)]
        bars = axis.barh(range(len(cells)), shares, 0.7, left, color=COLOURS[shade], label=label)
        for bar, n, cell in zip(bars, counts, cells, strict=True):
            tip(bar, f"{label}: {n:,} of {cell['extracted']:,} extracted")
        left = [a + b for a, b in zip(left, shares, strict=True)]
    for place, cell in enumerate(cells):
        text = f" {cell['extracted']:,} of {cell['n']:,}"
        axis.text(1, place, text, va="center", fontsize=8)
    category_axis(axis, [cell_label(cell) for cell in cells], labelled=True)
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(lambda value, _: percent(value))
    axis.set_xlabel(f"share of the generations extracted, against {readable(reference)}")
    legend(figure, axis)
    return figure
