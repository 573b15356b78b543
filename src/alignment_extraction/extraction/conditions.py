"""Rates by quantisation and temperature: how they depend on how a model is stored and sampled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from alignment_extraction.extraction.headline import name_parts
from alignment_extraction.extraction.scores import CELL_KEYS, KEYS
from alignment_extraction.settings.studies import Cell
from alignment_extraction.statistics import Interval, subtract


def sampled_at(shards: Mapping[Cell, Path]) -> pl.DataFrame:
    """The temperature of each cell, as a shard's metadata tells it; null where it does not.

    Returns:
        Columns model, prefix, seed, prefix_text (special tokens spelt out), temperature.
    """
    rows: list[dict[str, Any]] = []
    for cell, path in shards.items():
        about = pl.read_parquet_metadata(path)
        known = "temperature" in about
        rows.append(
            {
                **cell._asdict(),
                "prefix_text": about.get("prefix"),
                "temperature": float(about["temperature"]) if known else None,
            }
        )
    schema = {"model": pl.String, "prefix": pl.String, "seed": pl.Int64}
    return pl.DataFrame(
        rows, schema={**schema, "prefix_text": pl.String, "temperature": pl.Float64}
    )


def conditions(rate_table: pl.DataFrame, sampled: pl.DataFrame) -> pl.DataFrame:
    """Rates of cells that differ in quantisation or temperature alone, beside each other.

    Cells belong together if their models are of one family (`name_parts`), their prefix has one
    text, and seed, part, reference and metric are the same. The first is the one with the most
    generations, and of several the finest quantisation at the temperature nearest to 1; all others
    are compared with it.

    Args:
        rate_table: from `scores.rates`; the rows against roles are read.
        sampled: from `sampled_at`.

    Returns:
        Columns model, prefix, seed, part, reference, metric, family, quantisation (null where the
        name has none), temperature, first (whether it is what the others are compared with),
        first_prefix (its prefix), n, hits, rate, low, high, difference (from the first),
        difference_low, difference_high
        (Newcombe). Families with a single cell have no rows.
    """
    names = {model: name_parts(model) for model in rate_table["model"].unique()}
    table = (
        rate_table.filter(pl.col("reference").str.starts_with("role:"))
        .join(sampled, on=CELL_KEYS, maintain_order="left")
        .with_columns(
            family=pl.col("model").replace_strict({m: n.family for m, n in names.items()}),
            quantisation=pl.col("model").replace_strict(
                {m: n.quantisation for m, n in names.items()}, return_dtype=pl.String
            ),
        )
    )
    own = ["family", "prefix_text", "seed", "part", "reference", "metric"]
    bits = pl.col("quantisation").str.extract(r"(\d+)").cast(pl.Int64)
    table = (
        table.filter(pl.len().over(own) > 1)
        .sort(
            *own,
            pl.col("n").neg(),
            bits.neg(),
            (pl.col("temperature") - 1).abs(),
            nulls_last=True,
            maintain_order=True,
        )
        .with_columns(
            first=pl.int_range(pl.len()).over(own) == 0,
            first_prefix=pl.col("prefix").first().over(own),
        )
    )
    first = {end: pl.col(end).first().over(own) for end in ("rate", "low", "high")}
    base = table.select(**first)
    sides = [
        Interval(*(frame[name].to_numpy() for name in ("rate", "low", "high")))
        for frame in (table, base)
    ]
    change = subtract(*sides)
    return table.with_columns(
        difference=pl.Series(change.estimate, dtype=pl.Float64),
        difference_low=pl.Series(change.low, dtype=pl.Float64),
        difference_high=pl.Series(change.high, dtype=pl.Float64),
    ).select(
        *KEYS,
        "metric",
        "family",
        "quantisation",
        "temperature",
        "first",
        "first_prefix",
        "n",
        "hits",
        "rate",
        "low",
        "high",
        *[
            pl.when("first")
            .then(None)
            .otherwise(pl.col(f"difference{end}"))
            .alias(f"difference{end}")
            for end in ("", "_low", "_high")
        ],
    )
