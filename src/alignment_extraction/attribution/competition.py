"""Attributable rates: member wins less twin wins, with their interval and false discovery rate."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.attribution import contests as of_contests
from alignment_extraction.attribution.contests import TOLERANCE, Contest, Wins
from alignment_extraction.attribution.discoveries import (
    DISCOVERY_RATES,
    block_ratio,
    block_wins,
    discovery_threshold,
    false_discovery_rate,
)
from alignment_extraction.attribution.levels import Comparison, comparisons, relabelled
from alignment_extraction.attribution.tallies import Chance, chance, difference, tally
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import METRICS

Array = np.ndarray[Any, Any]

SCHEMA = pl.Schema(
    {
        "model": pl.String(),
        "prefix": pl.String(),
        "seed": pl.Int64(),
        "trained": pl.Boolean(),
        "source": pl.String(),
        "level": pl.String(),
        "field": pl.String(),
        "metric": pl.String(),
        "at": pl.String(),
        "threshold": pl.Float64(),
        "n": pl.Int64(),
        "member_wins": pl.Float64(),
        "twin_wins": pl.Float64(),
        "predicted": pl.Float64(),
        "attributable": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "member_blocks": pl.Float64(),
        "twin_blocks": pl.Float64(),
        "false_discovery_rate": pl.Float64(),
        "members": pl.Int64(),
        "twins": pl.Int64(),
        "blocks": pl.Int64(),
    }
)
"""Columns of `attribution`."""

ORDER = ("model", "prefix", "seed", "source", "level", "field")


def attribution(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    trained: Mapping[str, Collection[str]],
    thresholds: ThresholdSettings,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Attributable rates of every condition, source, level, field and metric.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        trained: the sources that each model was trained on.
        thresholds: fixed ones and the grid.
        base: a base model's columns id and base_log_probability (nats), or None.

    Returns:
        Columns of `SCHEMA`, one row for each threshold (`at`: `sweep`, `fixed`, `fdr-1`, `fdr-5`;
        null where no threshold of the grid's range meets the rate, and then so are the numbers).
        attributable = (member_wins - members / twins * twin_wins) / n - predicted, where predicted
        is what the base model accounts for (0 without one); low and high are its bounds at 95 %.
        member_blocks and twin_blocks are the blocks that each side won, for the false discovery
        rate.
    """
    parts = [pl.DataFrame(schema=SCHEMA)]
    for comparison in comparisons(corpus):
        prior = chance(comparison, base)
        for contest in of_contests.contests(scores, comparison):
            for metric in METRICS:
                found = of_contests.wins(contest, metric)
                table = _at_thresholds(found, comparison, thresholds, metric, prior, contest.n)
                parts.append(_named(table, contest, comparison, metric, trained))
    return pl.concat(parts).sort(*ORDER, "metric", "at", "threshold", maintain_order=True)


def _at_thresholds(
    found: Wins,
    comparison: Comparison,
    thresholds: ThresholdSettings,
    metric: str,
    prior: Chance | None,
    n: int,
) -> pl.DataFrame:
    blocks = block_wins(found, comparison)
    ratio = block_ratio(comparison)
    sweep = thresholds.grid(metric)
    wanted: list[tuple[str, float | None]] = [("sweep", each) for each in sweep]
    wanted.append(("fixed", thresholds.fixed(metric)))
    for name, rate in DISCOVERY_RATES.items():
        wanted.append((name, discovery_threshold(blocks, ratio, rate, sweep.min(initial=1.0))))
    values = np.array(sorted({value for _, value in wanted if value is not None}))
    counts = tally(found, comparison, values, prior)
    won = np.searchsorted(-blocks[0], -(values - TOLERANCE), side="right")
    members, twins = (np.append(0, side.cumsum())[won] for side in blocks[1:])
    table = difference(counts, comparison, n).with_columns(
        threshold=values,
        member_blocks=members,
        twin_blocks=twins,
        false_discovery_rate=false_discovery_rate(members, twins, ratio),
    )
    labels = pl.DataFrame(
        {"at": [name for name, _ in wanted], "threshold": [value for _, value in wanted]},
        schema={"at": pl.String, "threshold": pl.Float64},
    )
    return labels.join(table, on="threshold", how="left", maintain_order="left")


def _named(
    table: pl.DataFrame,
    contest: Contest,
    comparison: Comparison,
    metric: str,
    trained: Mapping[str, Collection[str]],
) -> pl.DataFrame:
    model = contest.keys["model"]
    return table.with_columns(
        **{key: pl.lit(value) for key, value in contest.keys.items()},
        trained=pl.lit(comparison.source in trained[model]),
        source=pl.lit(comparison.source),
        level=pl.lit(comparison.level),
        metric=pl.lit(metric),
        n=pl.lit(contest.n),
        members=pl.lit(comparison.members),
        twins=pl.lit(comparison.twins),
        blocks=pl.lit(comparison.blocks),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def placebo(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    thresholds: ThresholdSettings,
    seed: int,
    runs: int = 20,
) -> pl.DataFrame:
    """Attributable rates after members and twins are labelled anew at random, which must hold 0.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        thresholds: the fixed ones are used.
        seed: of the study; run k of a source and level has a random stream of its own.
        runs: labellings.

    Returns:
        Columns run, model, prefix, seed, source, level, field, metric, attributable, low, high and
        holds (whether 0 is within the interval).
    """
    return pl.concat(
        [
            pl.DataFrame(
                schema={"run": pl.Int64}
                | {name: SCHEMA[name] for name in (*ORDER, "metric", "attributable", "low", "high")}
                | {"holds": pl.Boolean}
            ),
            *_placebos(scores, corpus, thresholds, seed, runs),
        ]
    ).sort("run", *ORDER, "metric")


def _placebos(
    scores: pl.DataFrame, corpus: pl.DataFrame, thresholds: ThresholdSettings, seed: int, runs: int
) -> Iterator[pl.DataFrame]:
    for comparison in comparisons(corpus):
        name = f"placebo/{comparison.source}/{comparison.level}"
        others = [relabelled(comparison, named_seed(seed, f"{name}/{run}")) for run in range(runs)]
        for contest in of_contests.contests(scores, comparison):
            for metric in METRICS:
                found = of_contests.wins(contest, metric)
                at = np.array([thresholds.fixed(metric)])
                tables = [
                    difference(
                        tally(of_contests.relabelled(found, other), other, at), other, contest.n
                    ).with_columns(run=pl.lit(run, pl.Int64))
                    for run, other in enumerate(others)
                ]
                yield (
                    pl.concat(tables)
                    .with_columns(
                        **{key: pl.lit(value) for key, value in contest.keys.items()},
                        source=pl.lit(comparison.source),
                        level=pl.lit(comparison.level),
                        metric=pl.lit(metric),
                        holds=(pl.col("low") <= 0) & (pl.col("high") >= 0),
                    )
                    .select(
                        "run",
                        *(
                            pl.col(name).cast(SCHEMA[name])
                            for name in (*ORDER, "metric", "attributable", "low", "high")
                        ),
                        "holds",
                    )
                )
