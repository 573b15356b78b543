"""Figures of likelihood before and after training, and of the training itself."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.figures.scores import Tables
from alignment_extraction.figures.style import (
    COLOURS,
    GREY,
    MARKERS,
    category_axis,
    faceted,
    legend,
    tip,
)
from alignment_extraction.settings.studies import ThresholdSettings

_BEFORE, _AFTER = COLOURS[0], COLOURS[3]
PAIR = ["pair_before", "pair_after"]


def pairs_of(table: pl.DataFrame) -> list[tuple[str, str]]:
    """The pairs of models compared, in order."""
    return list(table.select(PAIR).unique(maintain_order=True).iter_rows())


def _present(tables: Tables, name: str) -> pl.DataFrame | None:
    table = tables.get(name)
    return None if table is None or table.is_empty() else table


def counts(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Number of texts above a likelihood threshold, after training against before.

    Only texts that were trained on are counted (all texts, where none are known to be), with the
    chat template around them. The threshold is on the log-likelihood of the whole text.
    """
    table = _present(tables, "likelihood_counts")
    if table is None:
        return None
    members = tables["likelihood"].filter(role="member")["group"].unique()
    if len(members):
        table = table.filter(pl.col("group").is_in(members.to_list()))
    table = table.filter(template=True)
    pairs = pairs_of(table)
    targets = table["target"].unique(maintain_order=True).sort(descending=True).to_list()
    figure, axes = faceted(len(targets), len(pairs), height=2.5, width=5.4)
    for row, target in zip(axes, targets, strict=True):
        for axis, (before, after) in zip(row, pairs, strict=True):
            rows = (
                table.filter(pair_before=before, pair_after=after, target=target)
                .group_by("threshold")
                .agg(pl.col("n", "before", "after").sum())
                .sort("threshold", descending=True)
            )
            places = np.arange(rows.height)
            for name, offset, shade in (("before", -0.2, _BEFORE), ("after", 0.2, _AFTER)):
                bars = axis.bar(places + offset, rows[name], 0.38, color=shade, label=name)
                for bar, entry in zip(bars, rows.iter_rows(named=True), strict=True):
                    share = f"{entry[name]:,} of {entry['n']:,}"
                    tip(bar, f"{name}, at least {entry['threshold']:g} nats: {share}")
                axis.bar_label(bars, padding=1, fontsize=7)
            axis.set_xticks(places, [f"≥ {value:g}" for value in rows["threshold"]])
            axis.grid(False, axis="x")
            axis.margins(y=0.12)
            axis.set_title(f"{before} to {after}, {target}s, n = {max(rows['n'].to_list()):,}")
            axis.set_ylabel(f"{target}s" if axis is row[0] else "")
            axis.set_xlabel("log-likelihood of the text (nats)" if row is axes[-1] else "")
    legend(figure, axes[0][0])
    return figure


def scatter(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Log-likelihood a token of each text after training against before, with the chat template.

    Above the diagonal, training made the text more likely.
    """
    table = _present(tables, "likelihood")
    if table is None:
        return None
    table = table.filter(pl.col("tokens") > 0, template=True).with_columns(
        pl.col("before", "after") / pl.col("tokens")
    )
    pairs = pairs_of(table)
    targets = table["target"].unique(maintain_order=True).sort(descending=True).to_list()
    groups = table["group"].unique(maintain_order=True).sort().to_list()
    figure, axes = faceted(len(targets), len(pairs), height=3, width=5.4)
    for row, target in zip(axes, targets, strict=True):
        for axis, (before, after) in zip(row, pairs, strict=True):
            rows = table.filter(pair_before=before, pair_after=after, target=target)
            for i, group in enumerate(groups):
                points = rows.filter(group=group)
                axis.scatter(
                    points["before"],
                    points["after"],
                    s=9,
                    lw=0,
                    alpha=0.6,
                    color=COLOURS[i % 10],
                    marker=MARKERS[i % 10],
                    label=f"{group} (n = {points.height:,})",
                    rasterized=True,
                )
            low = float(rows.select(pl.min_horizontal("before", "after").min()).item() or 0)
            axis.plot([low, 0], [low, 0], color=GREY, lw=0.9)
            axis.set_title(f"{before} to {after}, {target}s")
            axis.set_xlabel("before (nats a token)" if row is axes[-1] else "")
            axis.set_ylabel("after (nats a token)" if axis is row[0] else "")
    legend(figure, axes[0][0])
    return figure


def shifts(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Mean change of the log-likelihood a token by group, with 95 % bootstrap intervals.

    The change beyond held-out items (difference in differences) is what training did to its own
    items more than to others like them: right of zero with its whole interval, it is memorisation.
    """
    table = _present(tables, "shifts")
    if table is None:
        return None
    pairs = pairs_of(table)
    lines = table.height / len(pairs) / 2
    figure, axes = faceted(len(pairs), 2, height=0.9 + 0.38 * lines, width=5.4)
    marks = (("shift", "change", _BEFORE), ("excess", "change beyond held-out items", _AFTER))
    for row, (before, after) in zip(axes, pairs, strict=True):
        for axis, template in zip(row, (True, False), strict=True):
            rows = table.filter(pair_before=before, pair_after=after, template=template).sort(
                "target", "group", descending=[True, False]
            )
            names = [
                f"{entry['group']}, {entry['target']}s (n = {entry['n']:,})"
                for entry in rows.iter_rows(named=True)
            ]
            for i, (column, label, shade) in enumerate(marks):
                axis.plot([], [], MARKERS[i], ms=4, color=shade, label=label)
                shown = rows.with_row_index("place").drop_nulls(column)
                places = shown["place"] + (i - 0.5) * 0.3
                axis.hlines(places, shown[f"{column}_low"], shown[f"{column}_high"], color=shade)
                for place, entry in zip(places, shown.iter_rows(named=True), strict=True):
                    (point,) = axis.plot(entry[column], place, MARKERS[i], ms=4, color=shade)
                    interval = f"{entry[f'{column}_low']:+.3f} to {entry[f'{column}_high']:+.3f}"
                    tip(point, f"{label}: {entry[column]:+.3f} nats a token ({interval})")
            axis.axvline(0, color=GREY, lw=0.9)
            category_axis(axis, names, labelled=template)
            where = "with" if template else "without"
            axis.set_title(f"{before} to {after}, {where} the chat template")
            axis.set_xlabel("nats a token" if row is axes[-1] else "")
    legend(figure, axes[0][0])
    return figure


def curves(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Training curves: the loss of each stage, the verifier's mean reward of RL.

    Faint lines are single records, strong ones their moving mean.
    """
    table = _present(tables, "curves")
    if table is None:
        return None
    rewarded = pl.col("stage").is_in(table.filter(metric="reward")["stage"].unique().to_list())
    shown = pl.when(rewarded).then(pl.lit("reward")).otherwise(pl.lit("loss"))
    table = table.filter(pl.col("metric") == shown)
    stages = table["stage"].unique(maintain_order=True).to_list()
    figure, axes = faceted(1, len(stages), height=2.4, width=max(2.8, 11.2 / len(stages) / 1.3))
    for axis, stage in zip(axes[0], stages, strict=True):
        rows = table.filter(stage=stage).sort("step")
        axis.plot(rows["step"], rows["value"], color=_BEFORE, lw=0.8, alpha=0.4)
        smooth = rows["value"].rolling_mean(max(1, rows.height // 15), min_samples=1)
        axis.plot(rows["step"], smooth, color=_BEFORE)
        reward = rows["metric"][0] == "reward"
        axis.set(title=stage, xlabel="step", ylim=(0, 1) if reward else (0, None))
        axis.set_ylabel("mean reward (0 to 1)" if reward else "loss (nats a token)")
    return figure
