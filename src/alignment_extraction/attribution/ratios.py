"""How many more attributable hits the embedding finds than string similarity."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from alignment_extraction.attribution import competition, intervals
from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.tables import COMPARED, SCHEMAS, table
from alignment_extraction.settings.studies import SWEEP, ThresholdSettings
from alignment_extraction.vocabulary import METRICS

_STRINGS = tuple(name for name, metric in METRICS.items() if metric.kind == "string")


def ratios(contests: Iterable[Contest], thresholds: ThresholdSettings) -> pl.DataFrame:
    """The table `ratios`: attributable hits by cosine, to those by each string metric.

    Both at the fixed thresholds, and at those of equal false discovery rate, which the grid of the
    thresholds bounds.
    """
    rows = []
    for contest in contests:
        comparison = contest.comparison
        found = {metric: wins(contest, metric) for metric in ("cosine", *_STRINGS)}
        share, lowest = competition.block_ratio(comparison), SWEEP[0]
        blocks = {m: competition.block_wins(each, comparison) for m, each in found.items()}
        at: dict[str, dict[str, float | None]] = {
            name: {
                metric: competition.discovery_threshold(each, share, rate, lowest)
                for metric, each in blocks.items()
            }
            for name, rate in competition.DISCOVERY_RATES.items()
        }
        at["fixed"] = {metric: thresholds.fixed(metric) for metric in found}
        for name, values in at.items():
            for metric in _STRINGS:
                row = contest.keys | {"source": comparison.source, "level": comparison.level}
                row |= {"comparison": name, "metric": metric}
                semantic, string = values["cosine"], values[metric]
                if semantic is not None and string is not None:
                    pair = (found["cosine"].reaching(semantic), found[metric].reaching(string))
                    row |= _ratio(pair, contest)
                rows.append(row)
    frame = pl.DataFrame(rows, schema=SCHEMAS["ratios"])
    return table("ratios", [frame], *COMPARED, "comparison", "metric")


def _ratio(found: tuple[Wins, Wins], contest: Contest) -> dict[str, float]:
    comparison, weight = contest.comparison, contest.comparison.weight
    blocks = np.unique(comparison.block[np.concatenate([each.row for each in found])])
    values = np.hstack([intervals.block_values(each, comparison, blocks) for each in found])
    # The spread of the difference of the two gives their covariance.
    columns = np.column_stack([values, values[:, 0] - values[:, 1]])
    variance, freedom = intervals.spread(columns, comparison.strata(), blocks)
    covariance = (variance[0] + variance[1] - variance[2]) / 2
    members, twins = np.hstack([intervals.sides(each) for each in found])
    generation = intervals.generation_margins(members, twins, weight, contest.n)
    of_blocks = intervals.Spread(variance[:2], freedom[:2])
    largest = intervals.margins(of_blocks, generation).max(axis=0)
    semantic, string = (float(total) for total in values.sum(axis=0))
    covariance *= intervals.quantile(freedom[:2]).prod()
    ratio, low, high = fieller(semantic, string, float(covariance), (largest[0], largest[1]))
    return {"semantic": semantic, "string": string, "ratio": ratio, "low": low, "high": high}


def fieller(
    numerator: float, denominator: float, covariance: float, margin: tuple[float, float]
) -> tuple[float, float, float]:
    """Ratio of two differences counted on the same blocks, with Fieller's interval (1954).

    It holds every rho >= 0 for which numerator - rho * denominator is within its margin of 0.

    Args: the estimates, their covariance times the square of the quantile that the margins were
    made with, and the larger margin of each.

    Returns:
        Ratio and bounds: infinite where only the numerator is above 0, 0 where only the denominator
        is, NaN where neither is. The upper bound is infinite unless the denominator is above 0 by
        more than its margin.
    """
    if denominator > 0:
        estimate = max(numerator, 0.0) / denominator
    else:
        estimate = np.inf if numerator > 0 else np.nan
    a = denominator**2 - margin[1] ** 2
    # The covariance cannot exceed what the margins allow.
    most = margin[0] * margin[1]
    b = numerator * denominator - min(max(covariance, -most), most)
    c = numerator**2 - margin[0] ** 2
    root = np.sqrt(max(b**2 - a * c, 0.0))
    if a > 0 and denominator > 0:
        return estimate, max((b - root) / a, 0.0), max((b + root) / a, 0.0)
    low = (b - root) / a if a < 0 and c > 0 and numerator > 0 else 0.0
    return estimate, float(max(low, 0.0)), np.inf
