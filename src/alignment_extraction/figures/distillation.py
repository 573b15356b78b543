"""Figures of the distillation experiment: students side by side, and the curves of RL."""

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignment_extraction.figures.style import (
    COLOURS,
    INK,
    MARKERS,
    category_axis,
    faceted,
    legend,
    percent,
    tip,
)
from alignment_extraction.settings.studies import ThresholdSettings

Tables = Mapping[str, pl.DataFrame]

ARMS = ("start", "original", "extracted", "non-matches", "verified")
ARM_LABELS = {
    "start": "untrained",
    "original": "original data",
    "extracted": "extracted data",
    "non-matches": "extracted, no matches",
    "verified": "extracted, answers verified",
}
FAMILY_LABELS = {"sft": "SFT students", "rl": "RL students"}
_COLOURS = dict(zip(ARMS, (INK, *COLOURS), strict=False))
_SMOOTH = 5  # records that a reward's moving mean is over: a quarter hundred answers say little


def _label(axis: Axes, arm: str) -> tuple[str, str]:
    """Give the legend an entry for students; their colour and marker."""
    shade, mark = _COLOURS[arm], MARKERS[ARMS.index(arm)]
    axis.plot([], [], mark, ms=4, color=shade, label=ARM_LABELS[arm])
    return shade, mark


def _points(axis: Axes, rows: pl.DataFrame, arm: str, places: list[float], measure: str) -> None:
    shade, mark = _label(axis, arm)
    axis.hlines(places, rows["value_low"], rows["value_high"], color=shade, lw=1)
    for place, row in zip(places, rows.iter_rows(named=True), strict=True):
        (point,) = axis.plot(row["value"], place, mark, ms=4, color=shade, clip_on=False, zorder=3)
        shown = percent if measure == "accuracy" else "{:.3g}".format
        low, high = shown(row["value_low"]), shown(row["value_high"])
        tip(point, f"{ARM_LABELS[arm]}: {shown(row['value'])} (95 % interval {low} to {high})")


def students(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Students by what they were trained on: right answers, and loss of the reference answers.

    Students of one row started from one model and had the same number of steps and of rows. Points
    are means over the seeds, bars 95 % intervals over seeds and questions. What the extracted data
    are worth is how near their students come to those of the original data, counted from the
    untrained model. Differences with intervals are in the report's table.
    """
    table = tables.get("distillation")
    if table is None:
        return None
    families = table["family"].unique(maintain_order=True).to_list()
    benchmarks = table["benchmark"].unique(maintain_order=True).to_list()
    figure, axes = faceted(len(families), 2, height=0.7 + 0.55 * len(benchmarks), width=5.2)
    for row, family in zip(axes, families, strict=True):
        for axis, measure in zip(row, ("accuracy", "loss"), strict=True):
            own = table.filter(family=family, measure=measure)
            arms = [arm for arm in ARMS if arm in set(own["arm"])]
            for number, arm in enumerate(arms):
                rows = own.filter(arm=arm)
                shift = (number - (len(arms) - 1) / 2) * 0.8 / len(arms)
                places = [benchmarks.index(name) + shift for name in rows["benchmark"]]
                _points(axis, rows, arm, places, measure)
            counts = dict(zip(own["benchmark"], own["items"], strict=True))
            names = [f"{name!s}\n(n = {counts[name]:,})" for name in benchmarks]
            category_axis(axis, names, labelled=axis is row[0])
            seeds = int(own["seeds"].to_numpy().max())
            axis.set_title(f"{FAMILY_LABELS[family]}, {seeds} seeds" if axis is row[0] else "")
            if measure == "accuracy":
                axis.xaxis.set_major_formatter(lambda value, _: percent(value))
                axis.set_xlim(left=0)
                axis.set_xlabel("right answers" if row is axes[-1] else "")
            else:
                axis.set_xlabel("loss (nats a token)" if row is axes[-1] else "")
    # One legend for all axes: what the first lacks is put into it without a point.
    for arm in [arm for arm in ARMS if arm in set(table.filter(family=families[-1])["arm"])]:
        if ARM_LABELS[arm] not in axes[0][0].get_legend_handles_labels()[1]:
            _label(axes[0][0], arm)
    legend(figure, axes[0][0])
    return figure


def curves(tables: Tables, _: ThresholdSettings) -> Figure | None:
    """Reward and accuracy over the steps of RL, by the questions that it was given.

    Left the mean reward of a step's answers, which is agreement with what the data set says is
    right: for extracted questions that is the model's own answer, often a wrong one. Right the
    share of held-out questions of the same tasks that are answered rightly, by verifier. Lines are
    means over the seeds (of the reward, moving means over five steps), bands reach from the least
    seed to the greatest.
    """
    table = tables.get("distillation_curves")
    if table is None:
        return None
    table = table.filter(family="rl")
    figure, axes = faceted(1, 2, height=3, width=5.2)
    for axis, metric in zip(axes[0], ("reward", "accuracy"), strict=True):
        own = table.filter(metric=metric).sort("arm", "seed", "step")
        if metric == "reward":
            smooth = pl.col("value").rolling_mean(_SMOOTH, min_samples=1).over("arm", "seed")
            own = own.with_columns(value=smooth)
        for arm in [arm for arm in ARMS if arm in set(own["arm"])]:
            steps = (
                own.filter(arm=arm)
                .group_by("step")
                .agg(
                    mean=pl.col("value").mean(),
                    low=pl.col("value").min(),
                    high=pl.col("value").max(),
                )
                .sort("step")
            )
            seeds = own.filter(arm=arm)["seed"].n_unique()
            shade = _COLOURS[arm]
            axis.plot(
                steps["step"], steps["mean"], color=shade, label=f"{ARM_LABELS[arm]} ({seeds})"
            )
            axis.fill_between(steps["step"], steps["low"], steps["high"], color=shade, alpha=0.15)
        axis.set(xlabel="step", ylim=(0, 1))
    axes[0][0].set_ylabel("mean reward (0 to 1)")
    axes[0][1].set_ylabel("right answers, held-out questions")
    axes[0][1].yaxis.set_major_formatter(lambda value, _: percent(value))
    legend(figure, axes[0][0])
    return figure
