"""Coverage: which corpus items were extracted, how often, and how that grows with samples."""

import numpy as np
import polars as pl

from alignment_extraction.config import ThresholdSettings
from alignment_extraction.scores import KEYS, METRICS, is_hit, threshold_of
from alignment_extraction.statistics import rarefaction, wilson
from alignment_extraction.texts import corpus_texts, groups_of, texts_of

_ITEM = {
    "embedding": "match_id",
    "levenshtein": "levenshtein_best_id",
    "indel": "indel_best_id",
    "verbatim": "levenshtein_best_id",
}
"""Column with the item that a metric found."""


def item_hits(
    scores: pl.DataFrame, corpus: pl.DataFrame, thresholds: ThresholdSettings
) -> pl.DataFrame:
    """How often each corpus item was extracted, by cell, part and metric.

    Of items with equal texts only the first in the corpus is ever hit.

    Returns:
        Columns model, prefix, seed, part, metric, reference, id, hits, repetitions, template;
        items that were never hit are absent.
    """
    groups = scores.filter(~pl.col("reference").str.starts_with("role:"))
    frames = []
    for metric in METRICS:
        frames.append(
            groups.filter(is_hit(metric, threshold_of(metric, thresholds)))
            .group_by(*KEYS, metric=pl.lit(metric), id=_ITEM[metric])
            .agg(hits=pl.len().cast(pl.Int64))
        )
    about = corpus.select("id", "repetitions", "template")
    return (
        pl.concat(frames)
        .join(about, on="id", how="left")
        .sort([*KEYS, "metric", "hits", "id"], descending=[False] * 6 + [True, False])
    )


def verbatim_items(items: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """The corpus items that were written out character for character, with their texts.

    Returns:
        The rows of `item_hits` whose metric is verbatim, without the column metric and with the
        column text.
    """
    verbatim = items.filter(metric="verbatim").drop("metric")
    texts = pl.concat(
        [
            corpus.select("id", part=pl.lit(part, pl.String), text=texts_of(corpus, part))
            for part in ("question", "answer", "both")
        ]
    )
    return verbatim.join(texts, on=["id", "part"], how="left", maintain_order="left")


def coverage(items: pl.DataFrame, rate_table: pl.DataFrame, points: int = 40) -> pl.DataFrame:
    """Expected number of distinct corpus items extracted, against the number of generations.

    Args:
        items: from `item_hits`.
        rate_table: from `scores.rates`, for the number of generations.
        points: numbers of generations at which each curve is drawn.

    Returns:
        Columns model, prefix, seed, part, reference, metric, samples, distinct (see
        `statistics.rarefaction`).
    """
    keys = [*KEYS, "metric"]
    totals = {tuple(row[k] for k in keys): row["n"] for row in rate_table.iter_rows(named=True)}
    frames = []
    for key, hits in items.group_by(keys, maintain_order=True):
        n = totals[key]
        counts = np.append(hits["hits"].to_numpy(), n - hits["hits"].sum())
        samples = np.unique(np.linspace(0, n, points).round().astype(np.int64))
        frames.append(
            pl.DataFrame(
                {
                    **{k: [v] * len(samples) for k, v in zip(keys, key, strict=True)},
                    "samples": samples,
                    "distinct": rarefaction(counts, samples),
                }
            )
        )
    if not frames:
        schema = {k: rate_table.schema[k] for k in keys}
        return pl.DataFrame(schema={**schema, "samples": pl.Int64, "distinct": pl.Float64})
    return pl.concat(frames)


def by_repetition(
    items: pl.DataFrame, rate_table: pl.DataFrame, corpus: pl.DataFrame
) -> pl.DataFrame:
    """Share of the corpus items extracted at least once, by how often they were repeated.

    Like is compared with like: only items of templates (within a group) some of which are repeated
    more often than others, or of groups without templates.

    Returns:
        Columns model, prefix, seed, part, reference, metric, repetitions, items, extracted, rate,
        low, high (Wilson at 95 %), hits_per_item. No rows where nothing is repeated.
    """
    groups = groups_of(corpus)
    compared = corpus.select(
        pl.col("repetitions").n_unique().over(groups, "template").alias("levels") > 1
    )["levels"]
    corpus, groups = corpus.filter(compared), groups.filter(compared)
    population = pl.concat(
        [
            corpus[rows]
            .group_by("repetitions", part=pl.lit(part), reference=groups[rows])
            .agg(items=pl.len().cast(pl.Int64))
            for part in rate_table["part"].unique(maintain_order=True)
            for _, rows in [corpus_texts(corpus, part)]
        ]
    )
    keys = [*KEYS, "metric"]
    extracted = (
        items.join(corpus, on="id", how="semi")
        .group_by([*keys, "repetitions"])
        .agg(extracted=pl.len().cast(pl.Int64), hits=pl.col("hits").sum())
    )
    table = (
        rate_table.select(keys)
        .join(population, on=["part", "reference"])
        .join(extracted, on=[*keys, "repetitions"], how="left")
        .with_columns(pl.col("extracted", "hits").fill_null(0))
        .sort([*keys, "repetitions"])
    )
    interval = wilson(table["extracted"], table["items"])
    return table.with_columns(
        rate=pl.Series(interval.estimate),
        low=pl.Series(interval.low),
        high=pl.Series(interval.high),
        hits_per_item=pl.col("hits") / pl.col("items"),
    ).drop("hits")
