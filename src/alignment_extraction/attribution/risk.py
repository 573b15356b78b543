"""Risk of a whole source: rows likely to appear, and distinct rows in so many samples."""

import numpy as np
import polars as pl

from alignment_extraction import statistics
from alignment_extraction.attribution.predictions import chance
from alignment_extraction.attribution.tables import table
from alignment_extraction.statistics import Array

SAMPLES = np.round(10 ** np.arange(0, 9.5, 0.5)).astype(np.int64)
"""Numbers of samples: 1 to 10^9 in half decades."""

AT_RISK = 0.1
"""A row is at risk where its chance to appear is at least this."""


def risk(rows: pl.DataFrame, seed: int, predicted: pl.DataFrame) -> pl.DataFrame:
    """The table `risk`: rows at risk and distinct rows expected among 1 to 10^9 samples.

    For each source x role. Equal questions of a group count once, and rows longer than the context
    not at all. What is said of other rows than members is scaled to as many as there are
    members of the source, so that the numbers can be laid side by side.

    Args:
        rows: from `rows.rows`, of one model.
        seed: of the resampling.
        predicted: from `predictions.predictions`, to lay the sampled curve beside the expected one.
    """
    distinct = (
        rows.sort("id")
        .unique(["source", "role", "question"], keep="first", maintain_order=True)
        .drop_nulls("log_probability")
    )
    members = dict(distinct.filter(role="member").group_by("source").len().iter_rows())
    parts = []
    for (source, role), own in sorted(distinct.group_by("source", "role", maintain_order=True)):
        model, scale = own["model"][0], members.get(source, len(own)) / len(own)
        templates = own["template"].drop_nulls().n_unique() > 1
        clusters = own.select(pl.coalesce("template", "id") if templates else "id").to_series()
        stream = statistics.named_seed(seed, f"risk/{model}/{source}/{role}")
        curves = _curves(own["log_probability"].to_numpy(), clusters.to_numpy(), stream)
        # Of the rows that were scored, where those are a part of all.
        drawn = predicted.filter(source=source, role=role).drop_nulls("log_probability")
        curves["observed_distinct"] = _observed(drawn)
        scaled = {name: values * scale for name, values in curves.items()}
        part = pl.DataFrame(scaled | {"samples": SAMPLES}, nan_to_null=True).with_columns(
            *(pl.lit(own[name][0]).alias(name) for name in ("model", "source", "role")),
            rows=len(own),
            resampled=pl.lit("template" if templates else "row"),
        )
        parts.append(part)
    return table("risk", parts)


def _curves(log_probability: Array, clusters: Array, seed: int) -> dict[str, Array]:
    # The labels are sorted once, and a column is laid out at a time: rows are many.
    place = np.unique(clusters, return_inverse=True)[1]
    columns = []
    for samples in SAMPLES:
        chances = chance(log_probability, samples)
        counted = (chances >= AT_RISK, chances, chances * (1 - chances))
        columns.append(statistics.cluster_sums(place, *counted))
    sums = np.stack(columns, axis=2).reshape(columns[0].shape[0], -1)
    noise = np.random.default_rng(seed)
    size, rows = len(SAMPLES), len(log_probability)

    def totalled(totals: Array) -> Array:
        expected, variance = totals[..., size : 2 * size], totals[..., 2 * size :]
        if totals.ndim > 1:
            draws = noise.normal(size=(len(totals), 1))
            expected = expected + np.sqrt(np.maximum(variance, 0)) * draws
        return np.concatenate([totals[..., :size], expected], axis=-1)

    found, _ = statistics.cluster_bootstrap(sums, totalled, seed)
    count, distinct = found.estimate[:size], found.estimate[size:]
    low, high = (np.clip(bound, 0, rows) for bound in (found.low, found.high))
    edge = np.isin(count, (0, rows))
    _, least, most = statistics.clopper_pearson(count, rows)
    return {
        "at_risk": count,
        "at_risk_low": np.where(edge, least * rows, low[:size]),
        "at_risk_high": np.where(edge, most * rows, high[:size]),
        "expected_distinct": distinct,
        "distinct_low": low[size:],
        "distinct_high": high[size:],
    }


def _observed(predicted: pl.DataFrame) -> Array:
    """Distinct rows among so many of the samples drawn, NaN beyond them."""
    drawn = int(predicted.select("prefix", "seed", "samples").unique()["samples"].sum())
    hits = np.sort(predicted.group_by("id").agg(pl.col("hits").sum())["hits"])
    curve = np.full(len(SAMPLES), np.nan)
    within = drawn >= SAMPLES
    curve[within] = statistics.rarefaction(np.append(hits, drawn - hits.sum()), SAMPLES[within])
    return curve
