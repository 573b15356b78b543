"""Figures of a study, drawn from the tables in its results folder.

Every figure is an SVG that reads without the code: axes with units, 95 % intervals, numbers of
generations. The same tables give the same bytes.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.config import ThresholdSettings
from alignment_extraction.figures_likelihood import LIKELIHOOD_FIGURES
from alignment_extraction.figures_style import (
    COLOURS,
    METRIC_LABELS,
    METRICS,
    STYLE,
    cell_label,
    colour,
    faceted,
    percent_axis,
    with_interval,
)
from alignment_extraction.files import atomic_path

SCORE_COLUMNS = {"embedding": "cosine", "levenshtein": "levenshtein_best", "indel": "indel_best"}
CELL = ["model", "prefix", "seed"]


def headline_reference(table: pl.DataFrame) -> str:
    """What rates are first read against: members where the truth is known."""
    known = set(table["reference"])
    for role in ("member", "unknown", "control", "held-out"):
        if f"role:{role}" in known:
            return f"role:{role}"
    return str(table["reference"][0])


def headline_cells(rates: pl.DataFrame, count: int = 4) -> pl.DataFrame:
    """The cells with the most generations, at most `count`: columns model, prefix, seed, n."""
    return (
        rates.group_by(CELL, maintain_order=True)
        .agg(pl.col("n").max())
        .sort("n", descending=True, maintain_order=True)
        .head(count)
    )


def histograms(tables: dict[str, pl.DataFrame], thresholds: ThresholdSettings) -> Figure | None:
    """Distribution of the three scores in the headline cells, the memorised region shaded."""
    cells = headline_cells(tables["rates"])
    reference = headline_reference(tables["rates"])
    figure, axes = faceted(cells.height, 3)
    for row, cell in enumerate(cells.iter_rows(named=True)):
        scores = tables["scores"].filter(
            *[pl.col(key) == cell[key] for key in CELL], reference=reference, part="question"
        )
        for column, metric in enumerate(METRICS):
            axis = axes[row][column]
            values = scores[SCORE_COLUMNS[metric]].drop_nulls().clip(0, 1).to_numpy()
            threshold = thresholds.embedding if metric == "embedding" else thresholds.string
            axis.axvspan(threshold, 1, color=COLOURS[3], alpha=0.15, lw=0)
            axis.hist(values, bins=50, range=(0, 1), color=colour(metric))
            axis.set(xlim=(0, 1), title=cell_label(cell) + f"\nn = {cell['n']:,}")
            axis.set_xlabel(f"{METRIC_LABELS[metric]} (memorised from {threshold:g})")
            axis.set_ylabel("generations" if column == 0 else "")
            missing = scores.height - len(values)
            if missing:
                axis.text(0.02, 0.95, f"{missing:,} below 0.5", transform=axis.transAxes, va="top")
    return figure


def scatter(tables: dict[str, pl.DataFrame], thresholds: ThresholdSettings) -> Figure | None:
    """Embedding score against Levenshtein similarity to the same match, coloured by length."""
    cells = headline_cells(tables["rates"])
    reference = headline_reference(tables["rates"])
    figure, axes = faceted(1, cells.height, height=3.6)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        scores = tables["scores"].filter(
            *[pl.col(key) == cell[key] for key in CELL], reference=reference, part="question"
        )
        # More points than can be told apart only make the file large.
        scores = scores.sample(min(2000, scores.height), seed=0)
        points = axis.scatter(
            scores["levenshtein"],
            scores["cosine"],
            c=scores["characters"],
            cmap="viridis",
            s=6,
            lw=0,
            rasterized=True,
        )
        axis.axhline(thresholds.embedding, color="grey", lw=0.8, ls="--")
        axis.axvline(thresholds.string, color="grey", lw=0.8, ls="--")
        axis.set(xlim=(0, 1.02), ylim=(-0.1, 1.02), xlabel="Levenshtein similarity")
        axis.set(title=cell_label(cell) + f"\n{scores.height:,} of n = {cell['n']:,}")
        axis.set_ylabel("cosine" if axis is axes[0][0] else "")
        figure.colorbar(points, ax=axis, label="characters" if axis is axes[0][-1] else None)
    return figure


def sweep(tables: dict[str, pl.DataFrame], thresholds: ThresholdSettings) -> Figure | None:
    """Extraction rate against threshold, with the operating points."""
    cells = headline_cells(tables["rates"])
    reference = headline_reference(tables["rates"])
    figure, axes = faceted(1, cells.height, height=3.4)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        of_cell = [pl.col(key) == cell[key] for key in CELL]
        curves = tables["sweep"].filter(*of_cell, reference=reference, part="question")
        for metric in METRICS:
            curve = curves.filter(metric=metric)
            axis.plot(
                curve["threshold"], curve["rate"], color=colour(metric), label=METRIC_LABELS[metric]
            )
            threshold = thresholds.embedding if metric == "embedding" else thresholds.string
            axis.axvline(threshold, color=colour(metric), lw=0.6, ls=":")
        axis.set(xlabel="threshold", title=cell_label(cell) + f"\nn = {cell['n']:,}")
        # Logarithmic above one generation in n, linear below, so that zero has a place.
        axis.set_yscale("symlog", linthresh=1 / cell["n"])
        axis.set_ylim(0, 1.2)
        axis.set_ylabel("extraction rate" if axis is axes[0][0] else "")
    axes[0][0].legend(loc="lower left")
    return figure


def prefixes(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Extraction rate by prefix, model and metric, with Wilson intervals."""
    rates = tables["rates"].filter(reference=headline_reference(tables["rates"]), part="question")
    models = rates["model"].unique(maintain_order=True).to_list()
    names = rates["prefix"].unique(maintain_order=True).to_list()
    metrics = [*METRICS, "verbatim"]
    figure, axes = faceted(1, len(metrics), height=1 + 0.32 * len(models) * 1.6, width=3.2)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for i, name in enumerate(names):
            rows = rates.filter(metric=metric, prefix=name).group_by("model").first()
            places = [
                models.index(model) + (i - (len(names) - 1) / 2) * 0.18 for model in rows["model"]
            ]
            with_interval(axis, rows, places, COLOURS[i], name)
        axis.set_yticks(range(len(models)), models if axis is axes[0][0] else [""] * len(models))
        axis.set_ylim(len(models) - 0.5, -0.5)
        axis.set(title=METRIC_LABELS[metric], xlabel="extraction rate")
        percent_axis(axis)
    axes[0][-1].legend(title="prefix", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def populations(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Extraction rate of the headline cells against every group of the corpus."""
    cells = headline_cells(tables["rates"])
    rates = tables["rates"].filter(~pl.col("reference").str.starts_with("role:"), part="question")
    groups = rates["reference"].unique(maintain_order=True).to_list()
    if len(groups) < 2:
        return None
    figure, axes = faceted(1, cells.height, height=1.2 + 0.4 * len(groups), width=3.2)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        of_cell = rates.filter(*[pl.col(key) == cell[key] for key in CELL])
        for i, metric in enumerate([*METRICS, "verbatim"]):
            rows = of_cell.filter(metric=metric)
            places = [groups.index(group) + (i - 1.5) * 0.18 for group in rows["reference"]]
            with_interval(axis, rows, places, colour(metric), METRIC_LABELS[metric])
        axis.set_yticks(range(len(groups)), groups if axis is axes[0][0] else [""] * len(groups))
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.set(title=cell_label(cell) + f"\nn = {cell['n']:,}", xlabel="extraction rate")
        percent_axis(axis)
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def coverage(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Expected number of distinct corpus items extracted, against the number of generations."""
    table = tables["coverage"].filter(part="question")
    if table.is_empty():
        return None
    cells = headline_cells(tables["rates"])
    figure, axes = faceted(1, cells.height, height=3.2)
    for axis, cell in zip(axes[0], cells.iter_rows(named=True), strict=True):
        curves = table.filter(*[pl.col(key) == cell[key] for key in CELL])
        curves = curves.group_by("metric", "samples").agg(pl.col("distinct").sum()).sort("samples")
        for metric in [*METRICS, "verbatim"]:
            curve = curves.filter(metric=metric)
            axis.plot(
                curve["samples"],
                curve["distinct"],
                color=colour(metric),
                label=METRIC_LABELS[metric],
            )
        axis.set(xlabel="generations", title=cell_label(cell))
        axis.set_ylabel("distinct items extracted" if axis is axes[0][0] else "")
    axes[0][0].legend(loc="upper left")
    return figure


def repetitions(tables: dict[str, pl.DataFrame], _: ThresholdSettings) -> Figure | None:
    """Share of the trained-on items extracted, by how often training repeated them."""
    if "repetitions" not in tables or tables["repetitions"].is_empty():
        return None
    table = tables["repetitions"].filter(
        pl.col("reference").str.contains("member"), part="question"
    )
    table = table.filter(pl.col("repetitions").n_unique().over("reference") > 1)
    prefix = "user" if "user" in table["prefix"].to_list() else table["prefix"][0]
    models = table["model"].unique(maintain_order=True).to_list()
    figure, axes = faceted(1, 2, height=3.4)
    for axis, metric in zip(axes[0], ("embedding", "verbatim"), strict=True):
        for i, model in enumerate(models):
            rows = (
                table.filter(model=model, metric=metric, prefix=prefix)
                .group_by("repetitions")
                .first()
                .sort("repetitions")
            )
            errors = [rows["rate"] - rows["low"], rows["high"] - rows["rate"]]
            axis.errorbar(
                rows["repetitions"],
                rows["rate"],
                [e.clip(0).to_list() for e in errors],
                marker="o",
                ms=3,
                lw=1,
                capsize=2,
                color=COLOURS[i % len(COLOURS)],
                label=model,
            )
        axis.set_xscale("log", base=4)
        axis.set(
            xlabel="repetitions in training", title=f"{METRIC_LABELS[metric]}, prefix {prefix}"
        )
        axis.set(ylabel="share of items extracted", ylim=(-0.02, 1.02))
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


Drawer = Callable[[dict[str, pl.DataFrame], ThresholdSettings], Figure | None]
FIGURES: dict[str, Drawer] = {
    "histograms": histograms,
    "scatter": scatter,
    "sweep": sweep,
    "prefixes": prefixes,
    "populations": populations,
    "coverage": coverage,
    "repetitions": repetitions,
    **LIKELIHOOD_FIGURES,
}


def draw(
    tables: dict[str, pl.DataFrame], thresholds: ThresholdSettings, folder: Path
) -> list[Path]:
    """Draw every figure that the tables have the data for.

    Args:
        tables: the study's tables by name (see `results.TABLES`), `scores` among them; also
            `curves` and `accuracy` where the workflow trained the models.
        thresholds: operating points.
        folder: where NAME.svg goes; what an earlier run left there is removed.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    written = []
    with matplotlib.rc_context(STYLE):
        for name, drawer in FIGURES.items():
            figure = drawer(tables, thresholds)
            if figure is None:
                continue
            with atomic_path(folder / f"{name}.svg") as partial:
                figure.savefig(partial, format="svg", metadata={"Date": None})
            written.append(folder / f"{name}.svg")
    return written
