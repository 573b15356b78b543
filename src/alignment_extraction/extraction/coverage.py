"""Coverage: which corpus items were extracted, how often, and how that grows with samples.

Items are counted one by one and as clusters of near-duplicates (see `clusters`): the *unit*.
"""

import numpy as np
import polars as pl
from scipy.special import ndtri

from alignment_extraction.corpora.texts import corpus_texts, groups_of, item_texts
from alignment_extraction.extraction.scores import ITEM, KEYS, METRICS, is_hit, threshold_of
from alignment_extraction.extraction.unseen import extrapolate, rarefaction_interval
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson

EXTRAPOLATION = 10
"""How many times the samples the number of distinct items is predicted for."""

_MULTIPLES = (1.5, 2, 3, 4, 6, 8, EXTRAPOLATION)
METRIC_KEYS = [*KEYS, "metric"]
UNIT_KEYS = [*METRIC_KEYS, "unit"]


def item_hits(
    scores: pl.DataFrame, clusters: pl.DataFrame, thresholds: ThresholdSettings
) -> pl.DataFrame:
    """How often each corpus item was extracted, by cell, part and metric.

    Of items with equal texts only the first in the corpus is ever hit.

    Args:
        scores: from `scores.score_cell`, of any number of cells.
        clusters: from `clusters.clusters`, of the corpus that they were scored against.
        thresholds: from which score on a generation counts as extracted.

    Returns:
        Columns model, prefix, seed, part, metric, reference, id, hits, repetitions, template,
        characters, cluster, cluster_size; items that were never hit are absent.
    """
    groups = scores.filter(~pl.col("reference").str.starts_with("role:"))
    frames = []
    for metric in METRICS:
        frames.append(
            groups.filter(is_hit(metric, threshold_of(metric, thresholds)))
            .group_by(*KEYS, metric=pl.lit(metric), id=ITEM[metric])
            .agg(hits=pl.len().cast(pl.Int64))
        )
    return (
        pl.concat(frames)
        .join(clusters, on=["part", "reference", "id"], how="left")
        .sort([*KEYS, "metric", "hits", "id"], descending=[False] * 6 + [True, False])
    )


def unit_hits(items: pl.DataFrame) -> pl.DataFrame:
    """Hits of items and of clusters in one table.

    Args:
        items: from `item_hits`.

    Returns:
        Columns model, prefix, seed, part, reference, metric, unit (`item` or `cluster`), id, hits.
    """
    single = items.select(*METRIC_KEYS, "id", "hits", unit=pl.lit("item"))
    return pl.concat(
        [
            frame.group_by([*UNIT_KEYS, "id"], maintain_order=True).agg(pl.col("hits").sum())
            for frame in (
                single,
                items.select(*METRIC_KEYS, "hits", id="cluster", unit=pl.lit("cluster")),
            )
        ]
    )


def verbatim_items(items: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """The corpus items that were written out character for character, with their texts.

    Returns:
        The rows of `item_hits` whose metric is verbatim, without the column metric and with the
        column text.
    """
    verbatim = items.filter(metric="verbatim").drop("metric")
    texts = item_texts(corpus, ("question", "answer", "both"))
    texts = texts.select("part", id="match_id", text="match")
    return verbatim.join(texts, on=["id", "part"], how="left", maintain_order="left")


def populations(clusters: pl.DataFrame) -> pl.DataFrame:
    """How many items and clusters there are: columns part, reference, unit, population."""
    return (
        clusters.group_by("part", "reference", maintain_order=True)
        .agg(item=pl.len().cast(pl.Int64), cluster=pl.col("cluster").n_unique().cast(pl.Int64))
        .unpivot(index=["part", "reference"], variable_name="unit", value_name="population")
    )


def coverage(
    hits: pl.DataFrame, rate_table: pl.DataFrame, population: pl.DataFrame, points: int = 40
) -> pl.DataFrame:
    """Distinct items and clusters extracted, against the number of generations.

    Args:
        hits: from `unit_hits`.
        rate_table: from `scores.rates`, for the number of generations.
        population: from `populations`; no prediction exceeds it.
        points: numbers of generations up to those drawn at which each curve is given.

    Returns:
        Columns model, prefix, seed, part, reference, metric, unit, samples, distinct, low, high,
        extrapolated. Up to the generations drawn `distinct` is the expectation over random subsets
        and 95 % of these lie between low and high (`unseen.rarefaction_interval`); above it is
        predicted (`unseen.extrapolate`). Nothing hit gives no rows.
    """
    totals = {row[:-1]: row[-1] for row in rate_table.select(*METRIC_KEYS, "n").iter_rows()}
    schema = {
        **{key: rate_table.schema[key] for key in METRIC_KEYS},
        "unit": pl.String(),
        "samples": pl.Int64(),
        "distinct": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "extrapolated": pl.Boolean(),
    }
    frames = [pl.DataFrame(schema=schema)]
    counted = hits.join(population, on=["part", "reference", "unit"], maintain_order="left")
    for key, own in counted.group_by(UNIT_KEYS, maintain_order=True):
        n = totals[key[:-1]]
        counts = own["hits"].to_numpy()
        samples = np.unique(np.linspace(0, n, points).round().astype(np.int64))
        curve = rarefaction_interval(np.append(counts, n - counts.sum()), samples)
        more = np.array([extrapolate(counts, n, factor) for factor in _MULTIPLES])
        more = np.minimum(more, own["population"][0])
        columns = {
            name: np.append(within, beyond)
            for name, within, beyond in zip(("distinct", "low", "high"), curve, more.T, strict=True)
        }
        frames.append(
            pl.DataFrame(
                {
                    "samples": np.append(samples, np.round(n * np.array(_MULTIPLES))).astype(
                        np.int64
                    ),
                    **columns,
                    "extrapolated": [False] * len(samples) + [True] * len(more),
                }
            )
            .with_columns(
                pl.lit(value).alias(name) for name, value in zip(UNIT_KEYS, key, strict=True)
            )
            .select(pl.col(name).cast(dtype) for name, dtype in schema.items())
        )
    return pl.concat(frames)


def by_repetition(
    items: pl.DataFrame, rate_table: pl.DataFrame, corpus: pl.DataFrame
) -> pl.DataFrame:
    """Share of the corpus items extracted at least once, by how often they were repeated.

    Like is compared with like: only items of templates (within a group) some of which are repeated
    more often than others, or of groups without templates.

    Returns:
        Columns model, prefix, seed, part, reference, metric, repetitions, items, extracted, rate,
        low, high (Wilson at 95 %), hits_per_item, hits_per_item_low, hits_per_item_high (normal,
        over items, at 95 %; no less than the share's). No rows where nothing is repeated.
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
        .agg(
            extracted=pl.len().cast(pl.Int64),
            hits=pl.col("hits").sum(),
            squares=pl.col("hits").pow(2).sum(),
        )
    )
    table = (
        rate_table.select(keys)
        .join(population, on=["part", "reference"])
        .join(extracted, on=[*keys, "repetitions"], how="left")
        .with_columns(pl.col("extracted", "hits", "squares").fill_null(0))
        .sort([*keys, "repetitions"])
    )
    interval = wilson(table["extracted"], table["items"])
    mean = pl.col("hits") / pl.col("items")
    half = ndtri(0.975) * ((pl.col("squares") / pl.col("items") - mean**2) / pl.col("items")).sqrt()
    return table.with_columns(
        rate=pl.Series(interval.estimate),
        low=pl.Series(interval.low),
        high=pl.Series(interval.high),
        hits_per_item=mean,
        # An item extracted has at least one hit: the mean is no less than their share.
        hits_per_item_low=pl.max_horizontal(mean - half, pl.Series(interval.low)),
        hits_per_item_high=pl.max_horizontal(mean + half, pl.Series(interval.high)),
    ).drop("hits", "squares")
