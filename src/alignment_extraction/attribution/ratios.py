"""How many more attributable hits the embedding finds than string similarity."""

import math

import numpy as np
import polars as pl

from alignment_extraction.attribution import discoveries, tallies
from alignment_extraction.attribution.competition import ORDER
from alignment_extraction.attribution.contests import (
    TOLERANCE,
    Wins,
    contests,
    wins,
)
from alignment_extraction.attribution.intervals import (
    Spread,
    generation_margins,
    margins,
    quantile,
    ratio,
    spread,
)
from alignment_extraction.attribution.levels import Comparison, comparisons
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import METRICS

SCHEMA = pl.Schema(
    {
        "model": pl.String(),
        "prefix": pl.String(),
        "seed": pl.Int64(),
        "source": pl.String(),
        "level": pl.String(),
        "field": pl.String(),
        "comparison": pl.String(),
        "metric": pl.String(),
        "semantic": pl.Float64(),
        "string": pl.Float64(),
        "ratio": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
"""Columns of `ratios`."""

_SEMANTIC = "cosine"
_STRINGS = tuple(name for name, metric in METRICS.items() if metric.kind == "string")


def ratios(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    thresholds: ThresholdSettings,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Attributable hits by cosine, to those by each string metric, at comparable thresholds.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        thresholds: the fixed ones; the grid bounds those of equal false discovery rate.
        base: a base model's columns id and base_log_probability (nats), or None.

    Returns:
        Columns of `SCHEMA`: comparison is `fixed`, or `fdr-1` or `fdr-5` (each metric at the
        threshold where its false discovery rate is met; all null where either has none); semantic
        and string are numbers of generations, as attributable * n in `competition.attribution`;
        ratio with Fieller's bounds at 95 % over the same blocks. It is infinite where only the
        semantic number is above 0, NaN where neither is; high is infinite where the string number
        is not above 0 by its margin.
    """
    rows = []
    for comparison in comparisons(corpus):
        prior = tallies.chance(comparison, base)
        share = discoveries.block_ratio(comparison)
        for contest in contests(scores, comparison):
            found = {metric: wins(contest, metric) for metric in (_SEMANTIC, *_STRINGS)}
            at: dict[str, dict[str, float | None]] = {
                "fixed": {metric: thresholds.fixed(metric) for metric in found}
            }
            blocks = {
                metric: discoveries.block_wins(each, comparison) for metric, each in found.items()
            }
            for name, rate in discoveries.DISCOVERY_RATES.items():
                at[name] = {
                    metric: discoveries.discovery_threshold(
                        each, share, rate, thresholds.sweep.start
                    )
                    for metric, each in blocks.items()
                }
            rows += [
                contest.keys
                | {"source": comparison.source, "level": comparison.level}
                | {"comparison": name, "metric": metric}
                | _ratio(
                    (found[_SEMANTIC], found[metric]),
                    (values[_SEMANTIC], values[metric]),
                    comparison,
                    prior,
                    contest.n,
                )
                for name, values in at.items()
                for metric in _STRINGS
            ]
    table = pl.DataFrame(rows, schema=SCHEMA)
    return table.sort(*ORDER, "comparison", "metric", maintain_order=True)


def _ratio(
    found: tuple[Wins, Wins],
    thresholds: tuple[float | None, float | None],
    comparison: Comparison,
    prior: tallies.Chance | None,
    n: int,
) -> dict[str, float | None]:
    reached: list[Wins] = []
    for each, threshold in zip(found, thresholds, strict=True):
        if threshold is None:
            return dict.fromkeys(("semantic", "string", "ratio", "low", "high"))
        reached.append(each.where(each.score >= threshold - TOLERANCE))
    hit = [tallies.blocks_with_values(each, comparison, prior) for each in reached]
    blocks = np.union1d(*hit)
    anywhere = np.array([-math.inf])
    values = np.concatenate(
        [
            tallies.residuals(
                tallies.block_values(each, comparison, anywhere, blocks), prior, blocks
            )
            for each in reached
        ],
        axis=1,
    )
    strata = comparison.strata()
    # The spread of the difference of the two gives their covariance.
    columns = np.column_stack([values, values[:, 0] - values[:, 1]])
    variance, freedom = spread(columns, strata[blocks], np.bincount(strata, minlength=3))
    covariance = (variance[0] + variance[1] - variance[2]) / 2
    members, twins = (
        np.array([each.weight[each.member == member].sum() for each in reached])
        for member in (True, False)
    )
    generation = generation_margins(members, twins, np.asarray(comparison.weight), np.asarray(n))
    largest = margins(Spread(variance[:2], freedom[:2]), generation).max(axis=0)
    semantic, string = (float(total) for total in values.sum(axis=0))
    estimate, low, high = ratio(
        semantic,
        string,
        float(covariance * quantile(freedom[0]) * quantile(freedom[1])),
        (float(largest[0]), float(largest[1])),
    )
    return {
        "semantic": semantic, "string": string, "ratio": estimate, "low": low, "high": high
    }  # fmt: skip
