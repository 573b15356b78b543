"""What the extracted items have in common: how often repeated, how long, how many like them."""

import polars as pl

from alignment_extraction.extraction.coverage import METRIC_KEYS
from alignment_extraction.statistics import wilson

TRAITS = ("repetitions", "characters", "cluster_size")
"""Columns of the items that they are told apart by."""


def by_trait(items: pl.DataFrame, rate_table: pl.DataFrame, clusters: pl.DataFrame) -> pl.DataFrame:
    """Share of the corpus items extracted at least once, by what they have in common.

    Args:
        items: from `item_hits`.
        rate_table: from `scores.rates`.
        clusters: from `clusters.clusters`.

    Returns:
        Columns model, prefix, seed, part, reference, metric, trait (see `TRAITS`), band_low,
        band_high (values of a band, each twice as wide as the one below), items, extracted, hits,
        rate, low, high (extracted / items, Wilson at 95 %).
    """

    def banded(frame: pl.DataFrame, index: list[str]) -> pl.DataFrame:
        exponent = pl.col("value").cast(pl.Float64).log(2).add(1e-9).floor()
        return (
            frame.with_columns(pl.col(TRAITS).cast(pl.Int64))
            .unpivot(list(TRAITS), index=index, variable_name="trait")
            .with_columns(band_low=pl.lit(2.0).pow(exponent).cast(pl.Int64))
        )

    bands = ["trait", "band_low"]
    population = (
        banded(clusters, ["part", "reference"])
        .group_by("part", "reference", *bands)
        .agg(items=pl.len().cast(pl.Int64))
    )
    extracted = (
        banded(items, [*METRIC_KEYS, "hits"])
        .group_by([*METRIC_KEYS, *bands])
        .agg(extracted=pl.len().cast(pl.Int64), hits=pl.col("hits").sum())
    )
    table = (
        rate_table.select(METRIC_KEYS)
        .join(population, on=["part", "reference"])
        .join(extracted, on=[*METRIC_KEYS, *bands], how="left")
        .with_columns(pl.col("extracted", "hits").fill_null(0))
        .sort([*METRIC_KEYS, *bands])
    )
    interval = wilson(table["extracted"], table["items"])
    return table.select(
        *METRIC_KEYS,
        *bands,
        (2 * pl.col("band_low") - 1).alias("band_high"),
        "items",
        "extracted",
        "hits",
        rate=pl.Series(interval.estimate),
        low=pl.Series(interval.low),
        high=pl.Series(interval.high),
    )
