"""How many more attributable hits the embedding finds than string similarity."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from alignment_extraction.attribution.competition import (
    DISCOVERY_RATES,
    block_ratio,
    block_wins,
    discovery_threshold,
)
from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import (
    Spread,
    block_values,
    generation_margins,
    margins,
    quantile,
    spread,
)
from alignment_extraction.attribution.tables import COMPARED, schema, table
from alignment_extraction.settings.studies import SWEEP, ThresholdSettings
from alignment_extraction.vocabulary import METRICS

SCHEMA = schema(f"{COMPARED} comparison metric semantic:f string:f ratio:f low:f high:f")
"""Columns of `ratios`: comparison is `fixed`, or `fdr-1` or `fdr-5` (each metric at the threshold
where its false discovery rate is met; all null where either has none); semantic and string are
attributable generations; ratio with Fieller's bounds at 95 %, see `fieller`."""

_STRINGS = tuple(name for name, metric in METRICS.items() if metric.kind == "string")


def ratios(contests: Iterable[Contest], thresholds: ThresholdSettings) -> pl.DataFrame:
    """Attributable hits by cosine, to those by each string metric, at comparable thresholds.

    Columns of `SCHEMA`, one row for each contest, comparison and string metric. The grid of the
    thresholds bounds those of equal false discovery rate.
    """
    rows = []
    for contest in contests:
        comparison = contest.comparison
        found = {metric: wins(contest, metric) for metric in ("cosine", *_STRINGS)}
        blocks = {metric: block_wins(each, comparison) for metric, each in found.items()}
        share, lowest = block_ratio(comparison), SWEEP[0]
        at: dict[str, dict[str, float | None]] = {
            name: {m: discovery_threshold(each, share, rate, lowest) for m, each in blocks.items()}
            for name, rate in DISCOVERY_RATES.items()
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
    return table([pl.DataFrame(rows, schema=SCHEMA)], SCHEMA, "comparison", "metric")


def _ratio(found: tuple[Wins, Wins], contest: Contest) -> dict[str, float]:
    comparison = contest.comparison
    blocks = np.unique(comparison.block[np.concatenate([each.row for each in found])])
    anywhere = np.array([-np.inf])
    values = np.column_stack([block_values(each, comparison, anywhere, blocks) for each in found])
    strata = comparison.strata()
    # The spread of the difference of the two gives their covariance.
    columns = np.column_stack([values, values[:, 0] - values[:, 1]])
    variance, freedom = spread(columns, strata[blocks], np.bincount(strata, minlength=3))
    covariance = (variance[0] + variance[1] - variance[2]) / 2
    members, twins = (
        np.array([each.weight[each.member == member].sum() for each in found])
        for member in (True, False)
    )
    generation = generation_margins(members, twins, comparison.weight, contest.n)
    largest = margins(Spread(variance[:2], freedom[:2]), generation).max(axis=0)
    semantic, string = (float(total) for total in values.sum(axis=0))
    covariance *= quantile(freedom[0]) * quantile(freedom[1])
    ratio, low, high = fieller(semantic, string, float(covariance), (largest[0], largest[1]))
    return {"semantic": semantic, "string": string, "ratio": ratio, "low": low, "high": high}


def fieller(
    numerator: float, denominator: float, covariance: float, margin: tuple[float, float]
) -> tuple[float, float, float]:
    """Ratio of two differences counted on the same blocks, with Fieller's interval (1954).

    It holds every rho >= 0 for which numerator - rho * denominator is within its margin of 0.

    Args:
        numerator: an estimate.
        denominator: another.
        covariance: of the two, times the square of the quantile that the margins were made with.
        margin: the larger margin of each.

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
