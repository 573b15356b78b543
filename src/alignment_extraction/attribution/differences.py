"""Conditions compared: does another prefix, temperature or quantisation make training leak more?

Two intervals that overlap do not say that two conditions are alike. Both were compared with the
same rows by the same coin, so the difference is taken block by block, and its interval is that of
the differences. `detectable` says what a difference that includes 0 could have missed.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import (
    Chance,
    block_values,
    chance,
    generation_margins,
    margins,
    quantile,
    residuals,
    spread,
)
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.attribution.tables import COMPARED, schema, table
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import detectable
from alignment_extraction.vocabulary import CONDITION

METRICS = ("cosine", "verbatim")
"""Metrics of the headline."""

SCHEMA = schema(
    f"{COMPARED} metric reference_model reference_prefix reference_seed:i n:i reference_n:i "
    "difference:f low:f high:f detectable:f"
)
"""Columns of `differences`: difference is the attributable rate less that of the reference, with
its bounds at 95 %; detectable is the difference that would be seen in 80 % of studies like this
one (`statistics.detectable`)."""


def differences(
    contests: Iterable[Contest],
    families: Mapping[str, str],
    thresholds: ThresholdSettings,
    priors: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """The attributable rate of each condition less that of its family's reference condition.

    The reference is the condition with the most generations, of equals the first by name.

    Args:
        contests: of the sources that the models were trained on, sorted by condition.
        families: of each model; conditions of one family are compared.
        thresholds: the fixed ones are used.
        priors: what `chance` takes as base, of each model that has one.

    Returns:
        Columns of `SCHEMA`, one row for each other condition, source, level, field and metric.
    """
    groups: dict[tuple[str, ...], list[Contest]] = {}
    for contest in contests:
        own, keys = contest.comparison, contest.keys
        group = (families[keys["model"]], own.source, own.level, keys["field"])
        groups.setdefault(group, []).append(contest)
    parts = []
    for group_contests in groups.values():
        reference = max(group_contests, key=lambda contest: contest.n)
        names = {f"reference_{key}": reference.keys[key] for key in CONDITION}
        names["reference_n"] = reference.n
        for contest in group_contests:
            for metric in METRICS if contest is not reference else ():
                ours, theirs = (
                    (
                        wins(each, metric).reaching(thresholds.fixed(metric)),
                        each.n,
                        chance(each.comparison, priors.get(each.keys["model"])),
                    )
                    for each in (contest, reference)
                )
                found = pl.DataFrame([difference(contest.comparison, ours, theirs)])
                parts.append(contest.labelled(found, metric=metric, **names))
    return table(parts, SCHEMA, "metric")


def difference(
    comparison: Comparison,
    ours: tuple[Wins, int, Chance | None],
    theirs: tuple[Wins, int, Chance | None],
) -> dict[str, float]:
    """The difference of the attributable rates of two conditions: the last columns of `SCHEMA`.

    The interval is at least what sampling alone, independent in the two, would give.

    Args:
        comparison: members and twins, of both conditions.
        ours: wins, number of generations and chances of the one.
        theirs: those of the reference.
    """
    strata, blocks = comparison.strata(), np.arange(comparison.blocks)
    rates, sampling = [], []
    for found, n, base in (ours, theirs):
        values = block_values(found, comparison, np.array([-np.inf]), blocks)
        rates.append(residuals(values, base, blocks) / n)
        members, twins = (
            found.weight[found.member == side].sum(keepdims=True) for side in (True, False)
        )
        sampling.append(generation_margins(members, twins, comparison.weight, n) / n)
    change = rates[0] - rates[1]
    of_blocks = spread(change, strata, np.bincount(strata, minlength=3))
    below, above = margins(of_blocks, np.hypot(sampling[0], sampling[1][::-1]))[:, 0]
    freedom, estimate = min(float(of_blocks.freedom[0]), 1e9), float(change.sum())
    error = max(below, above) / quantile(of_blocks.freedom)[0]
    return {
        "difference": estimate,
        "low": estimate - below,
        "high": estimate + above,
        "detectable": float(detectable(error, freedom + 1)),
    }
