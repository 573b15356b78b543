"""Extraction rates with and without the corpus rows that also occur in public texts."""

import polars as pl

from alignment_extraction.extraction.scores import (
    CELL_KEYS,
    ITEM,
    KEYS,
    SCORE,
    is_hit,
    threshold_of,
)
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson


def contamination_rates(
    scored: pl.DataFrame, tags: pl.DataFrame, thresholds: ThresholdSettings
) -> pl.DataFrame:
    """Rates of all hits, of those on tagged items, and of those on the others.

    A hit is of the item that it is nearest to by the metric. A generation whose nearest item is
    tagged may have another, not tagged, above the threshold as well: the rate without the tagged is
    a lower bound.

    Args:
        scored: from `results.score`.
        tags: from `corpora.contamination.tag`; references without a tested item are left out.
        thresholds: from which score on a generation counts as extracted.

    Returns:
        One row for each cell x part x reference x metric x rows (`all`, `tagged`, `untagged`):
        columns model, prefix, seed, part, reference, metric, rows, items (of the reference), n,
        hits, rate, low, high (Wilson, 95 %).
    """
    counts = pl.concat(
        [
            tags.select("tagged", reference="group"),
            tags.select("tagged", reference=pl.lit("role:") + pl.col("role")),
        ]
    )
    items = counts.group_by("reference").agg(
        all=pl.len(), tagged=pl.col("tagged").sum(), untagged=(~pl.col("tagged")).sum()
    )
    tagged = tags.filter("tagged")["id"].implode()
    own = scored.filter(pl.col("reference").is_in(items["reference"].implode()))
    frames = []
    for metric in (*SCORE, "verbatim"):
        hit = is_hit(metric, threshold_of(metric, thresholds))
        copied = pl.col(ITEM[metric]).is_in(tagged).fill_null(False)
        sums = own.group_by(KEYS, maintain_order=True).agg(
            n=pl.len().cast(pl.Int64),
            all=hit.sum(),
            tagged=(hit & copied).sum(),
            untagged=(hit & ~copied).sum(),
        )
        frames.append(
            sums.unpivot(
                ["all", "tagged", "untagged"],
                index=[*KEYS, "n"],
                variable_name="rows",
                value_name="hits",
            ).with_columns(metric=pl.lit(metric))
        )
    sizes = items.unpivot(index="reference", variable_name="rows", value_name="items")
    table = (
        pl.concat(frames)
        .join(sizes, on=["reference", "rows"], how="left", maintain_order="left")
        .sort(*CELL_KEYS, "part", "reference", "metric", "rows")
    )
    interval = wilson(table["hits"], table["n"])
    return table.select(
        *KEYS,
        "metric",
        "rows",
        pl.col("items", "n", "hits").cast(pl.Int64),
        rate=pl.Series(interval.estimate, dtype=pl.Float64),
        low=pl.Series(interval.low, dtype=pl.Float64),
        high=pl.Series(interval.high, dtype=pl.Float64),
    )
