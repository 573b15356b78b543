"""Attributable rates: member wins less twin wins, with their interval and false discovery rate."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, wins
from alignment_extraction.attribution.discoveries import (
    DISCOVERY_RATES,
    block_ratio,
    block_wins,
    discovery_threshold,
    false_discovery_rate,
)
from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.attribution.tallies import Chance, chance, rates
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import METRICS, TOLERANCE

SCHEMA = schema(
    "model prefix seed:i trained:b source level field metric at threshold:f n:i member_wins:f "
    "twin_wins:f predicted:f attributable:f low:f high:f member_blocks:f twin_blocks:f "
    "false_discovery_rate:f members:i twins:i blocks:i"
)
"""Columns of `attribution`.

`at` is `sweep`, `fixed`, `fdr-1` or `fdr-5`; threshold and numbers are null where no threshold of
the grid's range meets the rate. attributable = (member_wins - members / twins * twin_wins) / n -
predicted, where predicted is what the base model accounts for (0 without one), with its bounds at
95 %. member_blocks and twin_blocks are the blocks that each side won, for the false discovery rate.
"""


def attribution(
    contests: Iterable[Contest],
    trained: Mapping[str, Collection[str]],
    thresholds: ThresholdSettings,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Attributable rates at every threshold of every contest and metric: columns of `SCHEMA`.

    Args:
        contests: of any conditions.
        trained: the sources that each model was trained on.
        thresholds: fixed ones and the grid.
        base: a base model's columns id and base_log_probability (nats), or None.
    """
    parts = []
    for contest in contests:
        prior = chance(contest.comparison, base)
        is_trained = contest.comparison.source in trained[contest.keys["model"]]
        for metric in METRICS:
            found = _at_thresholds(contest, metric, thresholds, prior)
            parts.append(contest.labelled(found, metric=metric, trained=is_trained))
    return table(parts, SCHEMA, "metric", "at", "threshold")


def _at_thresholds(
    contest: Contest, metric: str, thresholds: ThresholdSettings, prior: Chance | None
) -> pl.DataFrame:
    found = wins(contest, metric)
    blocks = block_wins(found, contest.comparison)
    ratio = block_ratio(contest.comparison)
    sweep = thresholds.grid(metric)
    wanted: list[tuple[str, float | None]] = [("sweep", each) for each in sweep]
    wanted.append(("fixed", thresholds.fixed(metric)))
    for name, rate in DISCOVERY_RATES.items():
        wanted.append((name, discovery_threshold(blocks, ratio, rate, sweep.min(initial=1.0))))
    values = np.array(sorted({value for _, value in wanted if value is not None}))
    won = np.searchsorted(-blocks[0], -(values - TOLERANCE), side="right")
    members, twins = (np.append(0, side.cumsum())[won] for side in blocks[1:])
    numbers = rates(found, contest.comparison, values, contest.n, prior).with_columns(
        threshold=values,
        member_blocks=members,
        twin_blocks=twins,
        false_discovery_rate=false_discovery_rate(members, twins, ratio),
    )
    labels = pl.DataFrame(wanted, {"at": pl.String, "threshold": pl.Float64}, orient="row")
    return labels.join(numbers, on="threshold", how="left", maintain_order="left")
