"""Figures of membership by likelihood, and of predicted against observed verbatim hits."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignment_extraction.figures.likelihood import PAIR
from alignment_extraction.figures.scores import Tables
from alignment_extraction.figures.style import (
    COLOURS,
    GREY,
    MARKERS,
    PAPER,
    category_axis,
    faceted,
    legend,
    percent,
    percent_axis,
    tip,
)
from alignment_extraction.likelihoods.membership import ATTACKS, FALSE_POSITIVE_RATE
from alignment_extraction.settings.studies import ThresholdSettings

ATTACK_LABELS = {
    "loss": "loss",
    "ref": "loss against the model before (ref)",
    "zlib": "loss over compressed size (zlib)",
    "min_k": "Min-K %",
    "min_k_plus_plus": "Min-K%++",
}
_SIDES = {
    "after": ("model after training", COLOURS[3]),
    "before": ("model before training", COLOURS[0]),
}
_LEAST = 1e-4  # where hits of 0 are drawn


def attacks(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """How well a model's likelihoods tell questions it was trained on from held-out ones.

    Left the area under the ROC curve (0.5 is chance), right the share of members found at a false
    positive rate of 1 %, with the chat template around the question; 95 % intervals. The model
    before training never saw the members: what it tells apart is a difference between the two
    sets, and no membership.
    """
    table = tables.get("membership")
    if table is None:
        return None
    table = table.filter("template", target="question")
    keys = [*PAIR, "group", "control"]
    comparisons = table.select(keys).unique(maintain_order=True)
    if comparisons.is_empty():
        return None
    figure, axes = faceted(len(comparisons), 2, height=2.4, width=5.4)
    for row, comparison in zip(axes, comparisons.iter_rows(named=True), strict=True):
        rows = table.filter(**comparison)
        for axis, quantity in zip(row, ("auc", "tpr"), strict=True):
            for i, (side, (label, shade)) in enumerate(_SIDES.items()):
                _dots(axis, rows.filter(side=side), quantity, (i - 0.5) * 0.3, label, shade)
            category_axis(
                axis, [ATTACK_LABELS[name] for name in ATTACKS], labelled=quantity == "auc"
            )
        first = rows.row(0, named=True)
        row[0].axvline(0.5, color=GREY, lw=0.9)
        row[0].set_xlim(0, 1.02)
        row[0].set_xlabel("AUC")
        row[0].set_title(
            f"{comparison['pair_before']} to {comparison['pair_after']}: {comparison['group']} "
            f"(n = {first['members']:,})"
        )
        row[1].axvline(FALSE_POSITIVE_RATE, color=GREY, lw=0.9)
        percent_axis(row[1])
        row[1].set_xlabel("true positive rate at a false positive rate of 1 %")
        row[1].set_title(f"against {comparison['control']} (n = {first['held_out']:,})")
    legend(figure, axes[0][0])
    return figure


def _dots(
    axis: Axes, rows: pl.DataFrame, quantity: str, offset: float, label: str, shade: str
) -> None:
    axis.plot([], [], "o", ms=4, color=shade, label=label)
    for row in rows.iter_rows(named=True):
        place = ATTACKS.index(row["attack"]) + offset
        low, high = row[f"{quantity}_low"], row[f"{quantity}_high"]
        axis.hlines(place, low, high, color=shade, lw=1)
        (point,) = axis.plot(row[quantity], place, "o", ms=4, color=shade, clip_on=False, zorder=3)
        value = (
            f"AUC {row['auc']:.3f} ({low:.3f} to {high:.3f})"
            if quantity == "auc"
            else f"{percent(row['tpr'])} ({percent(low)} to {percent(high)}) of members, with "
            f"{row['false_positives']} of {row['held_out']:,} held-out items"
        )
        tip(point, f"{ATTACK_LABELS[row['attack']]}, {label}: {value}")


def discoverable(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Verbatim hits that likelihoods predict, against those that samples of the model hold.

    Left each item's expected hits (n p, binned) against the observed mean, with 95 % intervals; on
    the diagonal the prediction is right, and a bin without any hit is drawn hollow at the bottom.
    Right the distinct items that n samples are expected to contain, up to 10 times those drawn,
    with the range of 95 %; marks are what the samples drawn contain. Cells of which nothing is
    expected, and nothing was found, are left out.
    """
    bins, growth = tables.get("discoverable_calibration"), tables.get("discoverable")
    if bins is None or growth is None or growth.is_empty():
        return None
    cell = ["model", "prefix", "seed"]
    cells = (
        growth.group_by(*cell, "drawn", maintain_order=True)
        .agg(pl.max_horizontal("expected_distinct", "distinct").max().alias("most"))
        .filter(pl.col("most") >= 0.5)
    )
    if cells.is_empty():
        return None
    groups = growth["reference"].unique(maintain_order=True).to_list()
    figure, axes = faceted(len(cells), 2, height=3, width=5.4)
    for row, about in zip(axes, cells.iter_rows(named=True), strict=True):
        where = {name: about[name] for name in cell}
        for i, group in enumerate(groups):
            shade, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            _bins(row[0], bins.filter(reference=group, **where), group, shade, marker)
            _growth(row[1], growth.filter(reference=group, **where), group, shade, marker)
        top = max(10.0, *row[0].get_ylim())
        row[0].plot([_LEAST, top], [_LEAST, top], color=GREY, lw=0.9)
        row[0].set(xscale="log", yscale="log", xlim=(_LEAST, top), ylim=(_LEAST / 2, top))
        row[0].set_xlabel(f"expected hits an item in {about['drawn']:,} samples")
        row[0].set_ylabel("observed hits an item")
        row[0].set_title(f"{about['model']}, prefix {about['prefix']}, seed {about['seed']}")
        row[1].set(xscale="log", xlabel="samples n", ylim=(0, None))
        row[1].set_ylabel("distinct items, verbatim")
        row[1].axvline(about["drawn"], color=GREY, lw=0.9)
        row[1].set_title(f"drawn: n = {about['drawn']:,}")
    legend(figure, axes[0][0])
    return figure


def _bins(axis: Axes, rows: pl.DataFrame, group: str, shade: str, marker: str) -> None:
    axis.plot([], [], marker, ms=4, color=shade, label=group)
    for row in rows.iter_rows(named=True):
        x = max(row["expected"], _LEAST)
        axis.vlines(x, max(row["low"], _LEAST / 2), max(row["high"], _LEAST), color=shade, lw=1)
        face = shade if row["hits"] else PAPER
        y = max(row["observed"], _LEAST)
        (point,) = axis.plot(x, y, marker, ms=4, mfc=face, mec=shade, mew=1, zorder=3)
        tip(
            point,
            f"{group}: {row['items']:,} items, {row['expected']:.3g} expected hits each, "
            f"{row['observed']:.3g} observed ({row['low']:.3g} to {row['high']:.3g})",
        )


def _growth(axis: Axes, rows: pl.DataFrame, group: str, shade: str, marker: str) -> None:
    axis.plot(rows["samples"], rows["expected_distinct"], color=shade, lw=1)
    axis.fill_between(
        rows["samples"].to_numpy(),
        rows["distinct_low"].to_numpy(),
        rows["distinct_high"].to_numpy(),
        color=shade,
        alpha=0.15,
        lw=0,
    )
    for row in rows.drop_nulls("distinct").iter_rows(named=True):
        (point,) = axis.plot(row["samples"], row["distinct"], marker, ms=5, color=shade, zorder=3)
        bounds = f"{row['distinct_low']:,} to {row['distinct_high']:,}"
        tip(
            point,
            f"{group}: {row['distinct']:,} of {row['items']:,} items seen, "
            f"{np.round(row['expected_distinct'], 1)} expected ({bounds})",
        )
