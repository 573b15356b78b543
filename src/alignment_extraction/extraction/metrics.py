"""A study's numbers as nested dictionaries: all in metrics.json, the first in headline.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from alignment_extraction.extraction import scores
from alignment_extraction.extraction.calibration_tables import headline_numbers
from alignment_extraction.extraction.headline import (
    CELL,
    headline_cells,
    headline_part,
    pool_seeds,
)


def rates(rate_table: pl.DataFrame, ratio_table: pl.DataFrame) -> dict[str, Any]:
    """Rates as nested dictionaries: model > prefix > seed-N > part > reference > metric > number.

    `embedding_ratio` is how many times more the embedding found than a string metric.
    """
    metrics: dict[str, Any] = {}
    names = ["n", "hits", "rate", "low", "high", "mean_score", "embedding_ratio"]
    ratios = ratio_table.select(*scores.KEYS, "metric", embedding_ratio="ratio")
    table = rate_table.join(ratios, on=[*scores.KEYS, "metric"], how="left", maintain_order="left")
    for row in table.iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}")
        _put(metrics, (*keys, row["part"], row["reference"], row["metric"]), row, names)
    return metrics


def headline(rate_table: pl.DataFrame) -> dict[str, Any]:
    """Rates of the cells and the part that the report shows first, few enough to read as a list.

    Keys: model > prefix > role > metric > rate, low, high; seeds are pooled.
    """
    pooled = pool_seeds(rate_table.filter(part=headline_part(rate_table)))
    roles = pooled.filter(pl.col("reference").str.starts_with("role:"))
    metrics: dict[str, Any] = {}
    cells = headline_cells(pooled).select(CELL)
    for row in cells.join(roles, on=CELL, maintain_order="left").iter_rows(named=True):
        keys = (row["model"], row["prefix"], row["reference"].removeprefix("role:"), row["metric"])
        _put(metrics, keys, row, ["rate", "low", "high"])
    return metrics


def calibration(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """`headline_numbers` as nested dictionaries, keyed as `rates` keys its own."""
    metrics: dict[str, Any] = {}
    table = headline_numbers(tables)
    names = [name for name in table.columns if name not in (*scores.KEYS, "metric")]
    for row in table.iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}")
        _put(metrics, (*keys, row["part"], row["reference"], row["metric"]), row, names)
    return metrics


def likelihood(shifts: pl.DataFrame) -> dict[str, Any]:
    """Mean shifts as nested dictionaries: pair > target > with(out)-template > group > number."""
    names = ["n", "before", "after", "shift", "shift_low", "shift_high"]
    names += ["excess", "excess_low", "excess_high"]
    metrics: dict[str, Any] = {}
    for row in shifts.iter_rows(named=True):
        template = "with-template" if row["template"] else "without-template"
        pair = f"{row['pair_before']}_{row['pair_after']}"
        _put(metrics, (pair, row["target"], template, row["group"]), row, names)
    return metrics


def membership(table: pl.DataFrame) -> dict[str, Any]:
    """Attacks as nested dictionaries.

    Keys: pair > target > with(out)-template > group > control > side > attack > number.
    """
    names = ["members", "held_out", "auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high"]
    metrics: dict[str, Any] = {}
    for row in table.iter_rows(named=True):
        template = "with-template" if row["template"] else "without-template"
        pair = f"{row['pair_before']}_{row['pair_after']}"
        keys = (pair, row["target"], template, row["group"], row["control"])
        _put(metrics, (*keys, row["side"], row["attack"]), row, names)
    return metrics


def discoverable(table: pl.DataFrame) -> dict[str, Any]:
    """Predictions for the samples drawn, and for the most: model > prefix > seed-N > group > n."""
    cell = [*scores.CELL_KEYS, "reference"]
    names = table.columns[len(cell) :]
    most = pl.col("samples") == pl.col("samples").max().over(cell)
    metrics: dict[str, Any] = {}
    for row in table.filter((pl.col("samples") == pl.col("drawn")) | most).iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}", row["reference"])
        _put(metrics, (*keys, f"n-{row['samples']}"), row, names)
    return metrics


def richness(table: pl.DataFrame) -> dict[str, Any]:
    """Richness as nested dictionaries: cell > part > group > metric > unit > number.

    Of the metrics the embedding and verbatim, in groups of which something was extracted.
    """
    chosen = table.filter(pl.col("metric").is_in(["embedding", "verbatim"]), pl.col("hits") > 0)
    return _nested(chosen, [*scores.KEYS, "metric", "unit"])


def kinds(table: pl.DataFrame) -> dict[str, Any]:
    """Kinds of copying as nested dictionaries: cell > part > reference > kind > number."""
    return _nested(table, [*scores.KEYS, "kind"])


EVIDENCE: dict[str, tuple[list[str], list[str]]] = {
    "controls": ([*scores.KEYS, "metric", "kind", "control"], ["difference", "control_rate"]),
    "search_audit": (["trees", "search_k"], ["recall_at_1", "recall_at_10", "rate", "missed"]),
    "contamination_rates": ([*scores.KEYS, "metric", "rows"], ["rate"]),
    "embedders": ([*scores.KEYS, "embedder", "false_positive_rate"], ["rate", "threshold"]),
    "embedder_agreement": (
        [*scores.KEYS, "false_positive_rate"],
        ["agree", "kappa", "correlation"],
    ),
}
"""The tables beside the rates whose numbers metrics.json holds, with what tells rows apart, and the
numbers: each with its low and high end."""

_SHORT_ENDS = {"rate": ("low", "high"), "control_rate": ("control_low", "control_high")}


def evidence(name: str, table: pl.DataFrame) -> dict[str, Any]:
    """A table of `EVIDENCE` as nested dictionaries.

    A false positive rate of null is called `fixed`: the fixed threshold. Of contamination rates
    those of the most sampled cells against roles, with and without the tagged.
    """
    keys, numbers = EVIDENCE[name]
    if name == "contamination_rates":
        table = table.filter(
            pl.col("reference").str.starts_with("role:"), pl.col("n") == pl.col("n").max()
        )
    columns = []
    for number in numbers:
        ends = [f"{number}_low", f"{number}_high"]
        if ends[0] not in table.columns:
            ends = list(_SHORT_ENDS.get(number, ()))
        columns += [number, *ends]
    table = table.select(*keys, *columns)
    named = [key for key in keys if key != "seed" and table[key].dtype != pl.String]
    labels = [
        pl.format("{}-{}", pl.lit(key.replace("_", "-")), key).fill_null(pl.lit("fixed")).alias(key)
        for key in named
    ]
    return _nested(table.with_columns(labels), keys)


def _nested(table: pl.DataFrame, keys: Sequence[str]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    names = [name for name in table.columns if name not in keys]
    for row in table.iter_rows(named=True):
        path = [f"seed-{row[key]}" if key == "seed" else row[key] for key in keys]
        _put(metrics, path, row, names)
    return metrics


def _put(
    metrics: dict[str, Any], keys: Sequence[str], row: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Add numbers of `row`: finite ones, since JSON has no others, to six digits."""
    for key in keys:
        metrics = metrics.setdefault(key, {})
    for name in names:
        value = row[name]
        if value is not None and math.isfinite(value):
            metrics[name] = value if isinstance(value, int) else float(f"{value:.6g}")
