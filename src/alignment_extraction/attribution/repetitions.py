"""How attributable hits grow with the times that training showed a row."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from alignment_extraction.attribution.competition import ORDER
from alignment_extraction.attribution.contests import (
    TOLERANCE,
    Contest,
    Wins,
    contests,
    wins,
)
from alignment_extraction.attribution.levels import Comparison, comparisons, restricted
from alignment_extraction.attribution.tallies import difference, tally
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import METRICS

SCHEMA = pl.Schema(
    {
        "model": pl.String(),
        "prefix": pl.String(),
        "seed": pl.Int64(),
        "source": pl.String(),
        "field": pl.String(),
        "metric": pl.String(),
        "repetitions": pl.Int32(),
        "n": pl.Int64(),
        "members": pl.Int64(),
        "member_rows": pl.Int64(),
        "member_hits": pl.Float64(),
        "twins": pl.Int64(),
        "twin_rows": pl.Int64(),
        "twin_hits": pl.Float64(),
        "attributable": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
"""Columns of `repetitions`."""


def repetitions(
    scores: pl.DataFrame, corpus: pl.DataFrame, thresholds: ThresholdSettings
) -> pl.DataFrame:
    """The competition of rows by the repetitions of their pair, at the fixed thresholds.

    A twin's repetitions are its member's: what they would have been, had the coin fallen otherwise.
    Every generation still competes among all rows; it counts where its nearest row belongs.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        thresholds: the fixed ones are used.

    Returns:
        Columns of `SCHEMA`, one row for each condition, source with twins, field, metric and number
        of repetitions that both sides have: members and twins (rows), member_rows and twin_rows
        (distinct rows that won), member_hits and twin_hits (wins), attributable with its bounds
        (rates of n generations; over the repetitions they add up to the source's rate where rows
        are paired).
    """
    parts = [pl.DataFrame(schema=SCHEMA)]
    for comparison in comparisons(corpus):
        if comparison.level == "rows" and comparison.other == "twin":
            parts += _doses(scores, comparison, thresholds)
    return pl.concat(parts).sort(
        *(name for name in ORDER if name != "level"), "metric", "repetitions", maintain_order=True
    )


def _doses(
    scores: pl.DataFrame, comparison: Comparison, thresholds: ThresholdSettings
) -> Iterator[pl.DataFrame]:
    doses = np.intersect1d(*(comparison.repetitions[comparison.member == side] for side in (0, 1)))
    groups = [restricted(comparison, comparison.repetitions == dose) for dose in doses]
    for contest in contests(scores, comparison):
        for metric in METRICS:
            threshold = np.array([thresholds.fixed(metric)])
            found = wins(contest, metric)
            for dose, (some, numbers) in zip(doses, groups, strict=True):
                row = numbers[found.row]
                ours = Wins(found.score, row, found.member, found.weight, found.at).where(row >= 0)
                yield _dose(ours, some, threshold, contest, metric, int(dose))


def _dose(
    found: Wins, some: Comparison, threshold: np.ndarray, contest: Contest, metric: str, dose: int
) -> pl.DataFrame:
    hits = found.where(found.score >= threshold[0] - TOLERANCE)
    table = difference(tally(found, some, threshold), some, contest.n)
    return (
        table.rename({"member_wins": "member_hits", "twin_wins": "twin_hits"})
        .with_columns(
            **{key: pl.lit(value) for key, value in contest.keys.items()},
            source=pl.lit(some.source),
            metric=pl.lit(metric),
            repetitions=pl.lit(dose),
            n=pl.lit(contest.n),
            members=pl.lit(some.members),
            twins=pl.lit(some.twins),
            member_rows=pl.lit(len(np.unique(hits.row[hits.member]))),
            twin_rows=pl.lit(len(np.unique(hits.row[~hits.member]))),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    )
