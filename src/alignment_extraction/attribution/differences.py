"""Conditions compared: does another prefix, temperature or quantisation make training leak more?

Two intervals that overlap do not say that two conditions are alike. Both were compared with the
same rows by the same coin, so the difference is taken block by block, and its interval is that of
the differences. `detectable` says what a difference that includes 0 could have missed.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution import intervals
from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import Chance, chance
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.attribution.tables import COMPARED, table
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import detectable
from alignment_extraction.vocabulary import CONDITION

METRICS = ("cosine", "verbatim")
"""Metrics of the headline."""


def differences(
    contests: Iterable[Contest],
    families: Mapping[str, str],
    thresholds: ThresholdSettings,
    priors: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """The table `comparisons`: rates of conditions less those of their family's reference.

    The reference is the condition with the most generations, of equals the first by name.

    Args:
        contests: of the sources that the models were trained on, sorted by condition.
        families: of each model; conditions of one family are compared.
        thresholds: the fixed ones are used.
        priors: see `competition.attribution`.
    """
    groups: dict[tuple[str, ...], list[Contest]] = {}
    for contest in contests:
        own, keys = contest.comparison, contest.keys
        group = (families[keys["model"]], own.source, own.level, keys["field"])
        groups.setdefault(group, []).append(contest)

    def counted(contest: Contest, metric: str) -> tuple[Wins, int, Chance | None]:
        found = wins(contest, metric).reaching(thresholds.fixed(metric))
        return found, contest.n, chance(contest.comparison, priors.get(contest.keys["model"]))

    parts = []
    for group_contests in groups.values():
        reference = max(group_contests, key=lambda contest: contest.n)
        names = {f"reference_{key}": reference.keys[key] for key in CONDITION}
        names["reference_n"] = reference.n
        for contest in group_contests:
            for metric in METRICS if contest is not reference else ():
                both = (counted(each, metric) for each in (contest, reference))
                found = pl.DataFrame([difference(contest.comparison, *both)])
                parts.append(contest.labelled(found, metric=metric, **names))
    return table("comparisons", parts, *COMPARED, "metric")


def difference(
    comparison: Comparison,
    ours: tuple[Wins, int, Chance | None],
    theirs: tuple[Wins, int, Chance | None],
) -> dict[str, float]:
    """The difference of the attributable rates of two conditions: difference to detectable.

    The interval is at least what sampling alone, independent in the two, would give.

    Args: members and twins; wins, number of generations and chances of the one; the reference's.
    """
    blocks = np.arange(comparison.blocks)
    rates, sampling = [], []
    for found, n, base in (ours, theirs):
        values = intervals.block_values(found, comparison, blocks)
        rates.append(intervals.residuals(values, base, blocks) / n)
        wins_of = intervals.sides(found)
        sampling.append(intervals.generation_margins(*wins_of, comparison.weight, n) / n)
    change = rates[0] - rates[1]
    of_blocks = intervals.spread(change, comparison.strata(), blocks)
    below, above = intervals.margins(of_blocks, np.hypot(sampling[0], sampling[1][::-1]))[:, 0]
    freedom, estimate = min(float(of_blocks.freedom[0]), 1e9), float(change.sum())
    error = max(below, above) / intervals.quantile(of_blocks.freedom)[0]
    return {
        "difference": estimate,
        "low": estimate - below,
        "high": estimate + above,
        "detectable": float(detectable(error, freedom + 1)),
    }
