"""Discoverable extraction: how often a model would write each item, from its likelihood alone.

With p an item's probability under the model after a prefix, the chance that n samples contain it is
1 - (1 - p)^n; the item is (n, q)-discoverable where that is at least q (Hayes et al. 2024, arXiv
2410.19482). Hayes et al. prompt with the item's own beginning; here the prefix is the
chat template's alone, as in the rest of this repository, and the item its whole question.

p is the product of the probabilities of the question's tokens and of the end token behind it, which
one teacher-forced pass gives (`likelihood.compare`). It is of the text's own tokenisation: the same
text in other tokens, or ended by another end token, is left out, so that p is, if anything, too
small. Predictions hold for samples of the model's own distribution (temperature 1, nothing cut
off) after the prefix that was scored; they are held against the verbatim hits of such samples.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom

from alignment_extraction.extraction.scores import CELL_KEYS, is_hit
from alignment_extraction.files import InputError
from alignment_extraction.settings.studies import Cell
from alignment_extraction.statistics import Interval, wilson

LEVELS = (0.1, 0.5, 0.9)
"""Chances q at which (n, q)-discoverable items are counted."""

MULTIPLES = 10.0 ** (np.arange(-8, 5) / 4)
"""Numbers of samples at which is predicted, relative to those drawn: 1/100 to 10."""

REASONS = {
    "settings": "the generations do not say how they were drawn",
    "model": "no likelihood was computed under the model",
    "prefix": "the likelihood was computed after another prefix",
    "sampling": "the generations are not of the model's own distribution",
}
"""Why a cell has no prediction."""

_UNCUT = {"temperature": 1.0, "top_k": 0.0, "top_p": 1.0, "min_p": 0.0}
_GROUP = [*CELL_KEYS, "reference"]

Array = np.ndarray[Any, Any]


def chance(log_probability: Array, samples: Array) -> Array:
    """Chance that so many samples contain an item: 1 - (1 - p)^n, exact for tiny p too.

    Args:
        log_probability: log p of an item, in nats.
        samples: n; broadcast against `log_probability`.
    """
    with np.errstate(divide="ignore"):
        probability: Array = -np.expm1(samples * np.log1p(-np.exp(log_probability)))
    return probability


def distinct(chances: Array, level: float = 0.95) -> Interval:
    """Number of distinct items that are found: its expectation, and a range for what is seen.

    Each item counts with its own chance. The range is that of the binomial distribution with the
    same mean and variance (Ehm 1991), its number of trials rounded up. Finding one item makes
    another a little less likely, which is left out: the range is, if anything, too wide.

    Args:
        chances: shape (..., items).
        level: probability of the range.
    """
    mean = chances.sum(axis=-1)
    square = (chances**2).sum(axis=-1)
    trials = np.maximum(1, np.ceil(mean**2 / np.maximum(square, 1e-300)))
    share = np.clip(mean / trials, 0, 1)
    low, high = (binom.ppf(q, trials, share) for q in ((1 - level) / 2, (1 + level) / 2))
    return Interval(mean, low, high)


def sampled_cells(shards: Mapping[Cell, Path]) -> pl.DataFrame:
    """How the generations of each cell were drawn, as a shard's metadata tells it.

    Returns:
        Columns model, prefix, seed, prefix_text (special tokens spelt out), max_tokens, uncut
        (whether they are of the model's own distribution); the last three null where a shard does
        not say.
    """
    rows = []
    for cell, path in shards.items():
        about = pl.read_parquet_metadata(path)
        told = {"prefix", "max_tokens", *_UNCUT} <= about.keys()
        rows.append(
            {
                **cell._asdict(),
                "prefix_text": about["prefix"] if told else None,
                "max_tokens": int(about["max_tokens"]) if told else None,
                "uncut": all(float(about[name]) == value for name, value in _UNCUT.items())
                if told
                else None,
            }
        )
    schema = {"model": pl.String, "prefix": pl.String, "seed": pl.Int64}
    schema |= {"prefix_text": pl.String, "max_tokens": pl.Int64, "uncut": pl.Boolean}
    return pl.DataFrame(rows, schema=schema)


def item_probabilities(likelihood: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """Log-probability of each distinct question under each model that was scored.

    Args:
        likelihood: the study's table of that name: `likelihood.compare` of all pairs.
        corpus: what was scored; of equal questions of a group the first alone is kept, as it is the
            only one that matching finds.

    Returns:
        Columns model, prefix_text, reference (group), id, tokens, question, end (nats).

    Raises:
        InputError: an item is not in the corpus.
    """
    unknown = likelihood.join(corpus, on="id", how="anti")
    if len(unknown):
        raise InputError(
            f"item {unknown['id'][0]} has a likelihood but is not in the corpus: the likelihoods "
            "are of another corpus; run the likelihood step again"
        )
    scored = likelihood.filter("template", target="question")
    sides = pl.concat(
        [
            scored.select(
                pl.col(f"pair_{side}").alias("model"),
                "id",
                "tokens",
                prefix_text="prefix",
                reference="group",
                question=side,
                end=f"{side}_end",
            )
            for side in ("before", "after")
        ]
    )
    texts = corpus.select("id", text="question")
    keys = ["model", "prefix_text", "reference"]
    return (
        sides.join(texts, on="id", how="left", maintain_order="left")
        .unique([*keys, "text"], keep="first", maintain_order=True)
        .select(*keys, "id", "tokens", "question", "end")
    )


def predict(
    likelihood: pl.DataFrame, scores: pl.DataFrame, cells: pl.DataFrame, corpus: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Predicted and observed verbatim hits of every cell that a likelihood speaks for.

    Args:
        likelihood: the study's table of that name.
        scores: of the study.
        cells: from `sampled_cells`.
        corpus: in the corpus schema.

    Returns:
        `discoverable_cells`: model, prefix, seed, reason (a key of `REASONS`; null where there is a
        prediction). `discoverable_items`: one row for each such cell x distinct question; model,
        prefix, seed, reference, id, log_probability (nats; null where it cannot be: longer than
        the context or than the cell's limit), expected (hits among the cell's samples), hits.
        `discoverable` and `discoverable_calibration`: see `growth` and `calibration`.
    """
    probabilities = item_probabilities(likelihood, corpus)
    scored = probabilities.select("model", "prefix_text").unique()
    known_model = pl.col("model").is_in(scored["model"].unique().to_list())
    cells = cells.join(
        scored.with_columns(known_prefix=True),
        on=["model", "prefix_text"],
        how="left",
        maintain_order="left",
    ).with_columns(
        reason=pl.when(pl.col("uncut").is_null())
        .then(pl.lit("settings"))
        .when(~known_model)
        .then(pl.lit("model"))
        .when(pl.col("known_prefix").is_null())
        .then(pl.lit("prefix"))
        .when(~pl.col("uncut"))
        .then(pl.lit("sampling"))
    )
    groups = scores.filter(~pl.col("reference").str.starts_with("role:"), part="question")
    counts = groups.group_by(_GROUP).agg(samples=pl.len().cast(pl.Int64))
    hits = (
        groups.filter(is_hit("verbatim", 1))
        .group_by(*_GROUP, id="levenshtein_best_id")
        .agg(hits=pl.len().cast(pl.Int64))
    )
    # A question as long as the limit is cut there, and needs no end token.
    length = pl.col("tokens").cast(pl.Int64) - pl.col("max_tokens")
    log_probability = (
        pl.when(length < 0).then(pl.col("question") + pl.col("end")).when(length == 0)
    ).then("question")
    items = (
        cells.filter(pl.col("reason").is_null())
        .join(probabilities, on=["model", "prefix_text"], maintain_order="left_right")
        .join(counts, on=_GROUP, maintain_order="left")
        .join(hits, on=[*_GROUP, "id"], how="left", maintain_order="left")
        .with_columns(log_probability=log_probability, hits=pl.col("hits").fill_null(0))
        .with_columns(expected=pl.col("log_probability").exp() * pl.col("samples"))
        .select(*_GROUP, "id", "samples", "log_probability", "expected", "hits")
    )
    return {
        "discoverable_cells": cells.select(*CELL_KEYS, "reason"),
        "discoverable_items": items,
        "discoverable": growth(items),
        "discoverable_calibration": calibration(items),
    }


def growth(items: pl.DataFrame) -> pl.DataFrame:
    """Distinct items that n samples are predicted to contain, for n up to 10 times those drawn.

    Args:
        items: `discoverable_items`.

    Returns:
        Columns model, prefix, seed, reference, items (with a probability), left_out (without one),
        drawn (samples of the cell), samples (n), expected_hits, expected_distinct, distinct_low,
        distinct_high (see `distinct`), discoverable_10, _50, _90 (items that are (n,
        q)-discoverable at q = 0.1, 0.5, 0.9); at n = drawn also hits, hits_low, hits_high (Wilson
        at 95 %, on the samples) and distinct, as observed.
    """
    rows: list[dict[str, Any]] = []
    for key, own in items.group_by(_GROUP, maintain_order=True):
        drawn = int(own["samples"][0])
        usable = own.drop_nulls("log_probability")
        log_probability = usable["log_probability"].to_numpy()
        hits = int(usable["hits"].sum())
        bound = wilson(hits, drawn)
        about = {**dict(zip(_GROUP, key, strict=True)), "items": len(usable), "drawn": drawn}
        about["left_out"] = len(own) - len(usable)
        for samples in np.unique(np.maximum(1, np.round(drawn * MULTIPLES))).astype(np.int64):
            chances = chance(log_probability, samples)
            found = distinct(chances)
            row = {
                **about,
                "samples": int(samples),
                "expected_hits": float(samples * np.exp(log_probability).sum()),
                "expected_distinct": float(found.estimate),
                "distinct_low": int(found.low),
                "distinct_high": int(found.high),
            }
            for level in LEVELS:
                row[f"discoverable_{level:.0%}"[:-1]] = int((chances >= level).sum())
            if samples == drawn:
                row |= {
                    "hits": hits,
                    "hits_low": float(bound.low * drawn),
                    "hits_high": float(bound.high * drawn),
                    "distinct": int((usable["hits"] > 0).sum()),
                }
            rows.append(row)
    real = ("expected_hits", "expected_distinct", "hits_low", "hits_high")
    names = ["items", "left_out", "drawn", "samples", *real[:2], "distinct_low", "distinct_high"]
    names += [
        *(f"discoverable_{level:.0%}"[:-1] for level in LEVELS),
        "hits",
        *real[2:],
        "distinct",
    ]
    schema = {name: items.schema[name] for name in _GROUP}
    schema |= {name: pl.Float64() if name in real else pl.Int64() for name in names}
    return pl.DataFrame(rows, schema=schema)


def calibration(items: pl.DataFrame) -> pl.DataFrame:
    """Predicted against observed hits an item, of items that are predicted like numbers of hits.

    The bins are half decades of the expected hits; all below 0.001 are one. Samples are drawn apart
    and one sample hits at most one item, so a bin's hits are binomial: the interval is Wilson's.

    Args:
        items: `discoverable_items`.

    Returns:
        Columns model, prefix, seed, reference, bin (log10 of its lower edge; -inf for the lowest),
        items, expected (mean hits an item), hits (of all), observed, low, high (mean hits an item,
        at 95 %), agrees (whether `expected` lies in the interval).
    """
    half_decade = (pl.col("expected").log10() * 2).floor() / 2
    table = (
        items.drop_nulls("log_probability")
        .with_columns(bin=pl.when(half_decade < -3).then(-np.inf).otherwise(half_decade))
        .group_by(*_GROUP, "bin")
        .agg(
            pl.col("samples").first(),
            items=pl.len().cast(pl.Int64),
            expected=pl.col("expected").mean(),
            hits=pl.col("hits").sum(),
        )
        .sort(*_GROUP, "bin")
    )
    interval = wilson(table["hits"], table["samples"])
    scale = table["samples"] / table["items"]
    return table.with_columns(
        observed=pl.Series(interval.estimate) * scale,
        low=pl.Series(interval.low) * scale,
        high=pl.Series(interval.high) * scale,
    ).with_columns(agrees=pl.col("expected").is_between("low", "high"))
