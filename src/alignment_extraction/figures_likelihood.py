"""Figures of likelihood before and after training, and of the training itself."""

from collections.abc import Callable

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.config import ThresholdSettings
from alignment_extraction.figures_style import COLOURS, faceted

PAIR = ["pair_before", "pair_after"]


def _pairs(table: pl.DataFrame) -> list[tuple[str, str]]:
    return list(table.select(PAIR).unique(maintain_order=True).iter_rows())


def counts(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Number of trained-on questions above a likelihood threshold, before and after training."""
    table = tables.get("likelihood_counts")
    if table is None:
        return None
    table = table.filter(target="question", template=True)
    # The paper's bars are of the training set alone.
    trained = table.filter(pl.col("group").str.contains("member"))
    table = trained if trained.height else table
    if table.is_empty():
        return None
    pairs = _pairs(table)
    figure, axes = faceted(1, len(pairs), height=3.2, width=4.2)
    for axis, (before, after) in zip(axes[0], pairs, strict=True):
        rows = (
            table.filter(pair_before=before, pair_after=after)
            .group_by("threshold")
            .agg(pl.col("n", "before", "after").sum())
            .sort("threshold")
        )
        places = np.arange(rows.height)
        axis.bar(places - 0.2, rows["before"], 0.4, color=COLOURS[0], label=f"before ({before})")
        axis.bar(places + 0.2, rows["after"], 0.4, color=COLOURS[3], label=f"after ({after})")
        axis.set_xticks(places, [f"{value:g}" for value in rows["threshold"]], rotation=45)
        axis.set(xlabel="log-likelihood of the whole question at least (nats)")
        axis.set(ylabel="questions", title=f"n = {rows['n'].max():,} questions")
        axis.legend(loc="upper right")
    return figure


def scatter(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Log-likelihood a token after training against before, one point a question."""
    table = tables.get("likelihood")
    if table is None:
        return None
    table = table.filter(pl.col("tokens") > 0, target="question", template=True)
    if table.is_empty():
        return None
    pairs = _pairs(table)
    figure, axes = faceted(1, len(pairs), height=3.6, width=4.2)
    for axis, (before, after) in zip(axes[0], pairs, strict=True):
        rows = table.filter(pair_before=before, pair_after=after)
        for i, group in enumerate(rows["group"].unique(maintain_order=True)):
            points = rows.filter(group=group)
            label = f"{group} (n = {points.height:,})"
            x, y = points["before"] / points["tokens"], points["after"] / points["tokens"]
            axis.scatter(x, y, s=6, lw=0, alpha=0.6, color=COLOURS[i], label=label, rasterized=True)
        low = float(
            (rows.select(pl.min_horizontal("before", "after") / pl.col("tokens"))).min().item()
        )
        axis.plot([low, 0], [low, 0], color="grey", lw=0.8)
        axis.set(xlabel=f"before: {before} (nats a token)", ylabel=f"after: {after} (nats a token)")
        axis.legend(loc="upper left")
    return figure


def shifts(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Mean change of the log-likelihood a token by group, and the excess over held-out items."""
    table = tables.get("shifts")
    if table is None or table.is_empty():
        return None
    pairs = _pairs(table)
    figure, axes = faceted(len(pairs), 2, height=3, width=4.6)
    for row, (before, after) in zip(axes, pairs, strict=True):
        for axis, template in zip(row, (True, False), strict=True):
            rows = table.filter(pair_before=before, pair_after=after, template=template)
            labels = [
                f"{r['group']}\n{r['target']} (n = {r['n']:,})" for r in rows.iter_rows(named=True)
            ]
            places = np.arange(rows.height)
            for offset, name, shade in ((-0.12, "shift", COLOURS[0]), (0.12, "excess", COLOURS[3])):
                shown = rows.with_columns(place=pl.Series(places + offset)).drop_nulls(name)
                value = shown[name].to_numpy()
                errors = np.clip(
                    [value - shown[f"{name}_low"], shown[f"{name}_high"] - value], 0, None
                )
                legend = "change" if name == "shift" else "change beyond held-out items"
                axis.errorbar(
                    value, shown["place"], xerr=errors, fmt="o", ms=4, capsize=2, color=shade,
                    label=legend,
                )  # fmt: skip
            axis.axvline(0, color="grey", lw=0.8)
            axis.set_yticks(places, labels if template else [""] * len(labels))
            axis.set_ylim(rows.height - 0.5, -0.5)
            axis.set_xlabel("nats a token")
            where = "with" if template else "without"
            axis.set_title(f"{before} to {after}, {where} the chat template")
    axes[0][1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def curves(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Training curves: the loss of each stage, the reward of RL."""
    table = tables.get("curves")
    if table is None or table.is_empty():
        return None
    table = table.filter(
        ((pl.col("metric") == "loss") & (pl.col("stage") != "rl"))
        | ((pl.col("metric") == "reward") & (pl.col("stage") == "rl"))
    )
    stages = table["stage"].unique(maintain_order=True).to_list()
    figure, axes = faceted(1, len(stages), height=2.8, width=3)
    for axis, stage in zip(axes[0], stages, strict=True):
        rows = table.filter(stage=stage).sort("step")
        axis.plot(rows["step"], rows["value"], color=COLOURS[0], lw=0.8, alpha=0.5)
        smooth = rows["value"].rolling_mean(max(1, rows.height // 15), min_samples=1)
        axis.plot(rows["step"], smooth, color=COLOURS[3])
        reward = rows["metric"][0] == "reward"
        axis.set(title=stage, xlabel="step", ylabel="reward (0 to 1)" if reward else "loss (nats)")
        axis.set_ylim(bottom=0)
    return figure


LIKELIHOOD_FIGURES: dict[
    str, Callable[[dict[str, pl.DataFrame], ThresholdSettings], Figure | None]
] = {
    "likelihood-counts": counts,
    "likelihood-scatter": scatter,
    "likelihood-shifts": shifts,
    "training-curves": curves,
}
