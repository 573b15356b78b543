"""What is extractable in all, and what more samples would find: estimates for each cell."""

from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.extraction.coverage import (
    EXTRAPOLATION,
    METRIC_KEYS,
    UNIT_KEYS,
    item_hits,
    populations,
    unit_hits,
)
from alignment_extraction.extraction.scores import KEYS
from alignment_extraction.extraction.unseen import chao1, extrapolate, sample_coverage
from alignment_extraction.settings.studies import ThresholdSettings


def richness(
    scores: pl.DataFrame,
    items: pl.DataFrame,
    clusters: pl.DataFrame,
    thresholds: ThresholdSettings,
    rate_table: pl.DataFrame,
) -> pl.DataFrame:
    """What is extractable in all, and what ten times the generations would find.

    The prediction is checked on the run itself: from its first tenth alone the distinct items of
    the whole are predicted, and can be held against those that came.

    Args:
        scores: from `scores.score_cell`, of any number of cells.
        items: from `item_hits` of these scores.
        clusters: from `clusters.clusters`.
        thresholds: from which score on a generation counts as extracted.
        rate_table: from `scores.rates` of the same scores and thresholds.

    Returns:
        One row for each cell x part x group x metric x unit, hits or none: n (generations), hits,
        distinct, singletons, doubletons, population (items or clusters that there are), chao1,
        chao1_low, chao1_high (`unseen.chao1`), coverage, coverage_low, coverage_high
        (`unseen.sample_coverage`; null without hits), predicted, predicted_low, predicted_high
        (distinct in `EXTRAPOLATION` times the generations; `unseen.extrapolate`), tenth_n,
        tenth_distinct, tenth_predicted, tenth_low, tenth_high (the same from the first tenth of the
        generations for all n of them; null below ten). No number exceeds the population.
    """
    units = rate_table.select(*METRIC_KEYS, "n").join(
        populations(clusters), on=["part", "reference"]
    )
    whole = _estimates(items, units.with_columns(samples=EXTRAPOLATION * pl.col("n")))
    # Sample indices order nothing but the draws, which are alike: the first are a random part.
    first = scores.filter(
        pl.col("index").rank("ordinal").over(KEYS) * EXTRAPOLATION <= pl.len().over(KEYS)
    )
    sizes = first.group_by(KEYS).agg(n=pl.len().cast(pl.Int64))
    tenth = _estimates(
        item_hits(first, clusters, thresholds),
        units.rename({"n": "samples"}).join(sizes, on=KEYS, how="inner"),
    ).select(
        *UNIT_KEYS,
        tenth_n="n",
        tenth_distinct="distinct",
        tenth_predicted="predicted",
        tenth_low="predicted_low",
        tenth_high="predicted_high",
    )
    return whole.join(tenth, on=UNIT_KEYS, how="left").sort(UNIT_KEYS)


def _estimates(items: pl.DataFrame, units: pl.DataFrame) -> pl.DataFrame:
    """Estimates for each row of `units` (n, population, and samples to predict for)."""
    counts = {key: own["hits"].to_numpy() for key, own in unit_hits(items).group_by(UNIT_KEYS)}
    rows: list[dict[str, Any]] = []
    for unit in units.iter_rows(named=True):
        n, most = unit["n"], unit["population"]
        own = counts.get(tuple(unit[key] for key in UNIT_KEYS), np.empty(0, np.int64))
        row = {key: unit[key] for key in (*UNIT_KEYS, "n", "population")}
        row |= {"hits": int(own.sum()), "distinct": len(own)}
        row |= {"singletons": int((own == 1).sum()), "doubletons": int((own == 2).sum())}
        for name, interval, bound in (
            ("chao1", chao1(own, n), most),
            ("coverage", sample_coverage(own), 1),
            ("predicted", extrapolate(own, n, unit["samples"] / n), most),
        ):
            for end, value in zip(("", "_low", "_high"), interval, strict=True):
                row[f"{name}{end}"] = float(min(value, bound))
        rows.append(row)
    integers = ("n", "population", "hits", "distinct", "singletons", "doubletons")
    floats = [
        f"{name}{end}"
        for name in ("chao1", "coverage", "predicted")
        for end in ("", "_low", "_high")
    ]
    schema: dict[str, pl.DataType] = {key: units.schema[key] for key in UNIT_KEYS}
    schema |= dict.fromkeys(integers, pl.Int64()) | dict.fromkeys(floats, pl.Float64())
    return pl.DataFrame(rows, schema=schema).fill_nan(None)
