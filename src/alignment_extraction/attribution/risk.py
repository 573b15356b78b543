"""Risk of a whole source: rows likely to appear, and distinct rows in so many samples."""

from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.attribution.predictions import chance
from alignment_extraction.statistics import (
    clopper_pearson,
    cluster_bootstrap,
    cluster_sums,
    named_seed,
    rarefaction,
)

Array = np.ndarray[Any, Any]

SAMPLES = np.round(10 ** np.arange(0, 9.5, 0.5)).astype(np.int64)
"""Numbers of samples: 1 to 10^9 in half decades."""

AT_RISK = 0.1
"""A row is at risk where its chance to appear is at least this."""

ROLES = ("member", "twin", "held-out")

RISK = pl.Schema(
    {
        "model": pl.String(),
        "source": pl.String(),
        "role": pl.String(),
        "samples": pl.Int64(),
        "rows": pl.Int64(),
        "at_risk": pl.Float64(),
        "at_risk_low": pl.Float64(),
        "at_risk_high": pl.Float64(),
        "expected_distinct": pl.Float64(),
        "distinct_low": pl.Float64(),
        "distinct_high": pl.Float64(),
        "observed_distinct": pl.Float64(),
        "resampled": pl.String(),
    }
)


def risk(rows: pl.DataFrame, seed: int, predicted: pl.DataFrame | None = None) -> pl.DataFrame:
    """Rows at risk and distinct rows expected among n samples, for n from 1 to 10^9.

    Equal questions of a group count once, and rows longer than the context not at all. What is said
    of twins and held-out rows is scaled to as many rows as there are members, so that the numbers
    can be laid side by side.

    Args:
        rows: from `rows.rows`, of one model.
        seed: of the resampling.
        predicted: from `predictions.predictions`, to lay the sampled curve beside the expected one.

    Returns:
        Columns `RISK`, for each source x role x number of samples: rows (distinct ones with a
        probability), at_risk (rows with a chance of at least `AT_RISK`) with its interval,
        expected_distinct (sum of the chances), observed_distinct (expected number in a random
        subset of the samples that were drawn, see `statistics.rarefaction`; null beyond them), and
        resampled: `template`, or `row` where there are fewer than two templates. The interval of
        at_risk is for rows of other templates like these (Clopper and Pearson's over rows where
        none or all are at risk); that of expected_distinct is for what n samples would find of
        such rows, thus with the chance of the draws.
    """
    distinct = (
        rows.filter(pl.col("role").is_in(ROLES))
        .sort("id")
        .unique(["source", "role", "question"], keep="first", maintain_order=True)
        .drop_nulls("log_probability")
    )
    members = dict(distinct.filter(role="member").group_by("source").len().iter_rows())
    tables = []
    for (source, role), own in sorted(distinct.group_by("source", "role", maintain_order=True)):
        scale = members.get(source, len(own)) / len(own)
        stream = named_seed(seed, f"risk/{own['model'][0]}/{source}/{role}")
        numbers = _curve(own, stream)
        observed = _observed(predicted, str(source), str(role))
        table = pl.DataFrame(
            {name: values * scale for name, values in (numbers | observed).items()},
            nan_to_null=True,
        )
        templates = own["template"].drop_nulls().n_unique() > 1
        tables.append(
            table.select(
                pl.lit(own["model"][0]).alias("model"),
                pl.lit(source).alias("source"),
                pl.lit(role).alias("role"),
                pl.Series("samples", SAMPLES),
                pl.lit(len(own), pl.Int64).alias("rows"),
                *table.columns,
                pl.lit("template" if templates else "row").alias("resampled"),
            )
        )
    return pl.concat([pl.DataFrame(schema=RISK), *tables])


def _curve(own: pl.DataFrame, seed: int) -> dict[str, Array]:
    log_probability = own["log_probability"].to_numpy()
    clusters = own["id"].to_numpy()
    if own["template"].drop_nulls().n_unique() > 1:
        clusters = own.select(pl.coalesce("template", "id")).to_series().to_numpy()
    # The labels are sorted once, and a column is laid out at a time: rows are many.
    place = np.unique(clusters, return_inverse=True)[1]
    columns = []
    for samples in SAMPLES:
        chances = chance(log_probability, samples)
        columns.append(cluster_sums(place, chances >= AT_RISK, chances, chances * (1 - chances)))
    sums = np.stack(columns, axis=2).reshape(columns[0].shape[0], -1)
    noise = np.random.default_rng(seed)
    size = len(SAMPLES)

    def statistic(totals: Array) -> Array:
        expected, variance = totals[..., size : 2 * size], totals[..., 2 * size :]
        if totals.ndim > 1:
            draws = noise.normal(size=(len(totals), 1))
            expected = expected + np.sqrt(np.maximum(variance, 0)) * draws
        return np.concatenate([totals[..., :size], expected], axis=-1)

    found = cluster_bootstrap(sums, statistic, seed)
    count, distinct = found.estimate[:size], found.estimate[size:]
    low, high = (np.clip(bound, 0, len(own)) for bound in (found.low, found.high))
    edge = np.isin(count, (0, len(own)))
    bound = clopper_pearson(count, len(own))
    return {
        "at_risk": count,
        "at_risk_low": np.where(edge, bound.low * len(own), low[:size]),
        "at_risk_high": np.where(edge, bound.high * len(own), high[:size]),
        "expected_distinct": distinct,
        "distinct_low": low[size:],
        "distinct_high": high[size:],
    }


def _observed(predicted: pl.DataFrame | None, source: str, role: str) -> dict[str, Array]:
    curve = np.full(len(SAMPLES), np.nan)
    if predicted is not None:
        own = predicted.filter(source=source, role=role)
        drawn = int(own.select("prefix", "seed", "samples").unique()["samples"].sum())
        hits = own.group_by("id").agg(pl.col("hits").sum())["hits"].to_numpy()
        within = drawn >= SAMPLES
        counts = np.append(hits, drawn - hits.sum())
        curve[within] = rarefaction(counts, SAMPLES[within])
    return {"observed_distinct": curve}
