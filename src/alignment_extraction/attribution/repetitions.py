"""How attributable hits grow with the times that training showed a row."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, wins
from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.attribution.tallies import rates
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import METRICS

SCHEMA = schema(
    "model prefix seed:i source field metric repetitions:s n:i members:i member_rows:i "
    "member_hits:f twins:i twin_rows:i twin_hits:f attributable:f low:f high:f"
)
"""Columns of `repetitions`: members and twins (rows), member_rows and twin_rows (distinct rows that
won), member_hits and twin_hits (wins), and the attributable rate of n generations. Over the
repetitions the rates add up to the source's where rows are paired."""


def repetitions(contests: Iterable[Contest], thresholds: ThresholdSettings) -> pl.DataFrame:
    """The competition of rows by the repetitions of their pair, at the fixed thresholds.

    A twin's repetitions are its member's: what they would have been, had the coin fallen otherwise.
    Every generation still competes among all rows; it counts where its nearest row belongs.

    Args:
        contests: of any conditions; those with twins are used.
        thresholds: the fixed ones are used.

    Returns:
        Columns of `SCHEMA`, one row for each contest of rows and twins, metric and number of
        repetitions that both sides have.
    """
    parts = []
    for contest in contests:
        whole = contest.comparison
        if (whole.level, whole.other) != ("rows", "twin"):
            continue
        won = {m: wins(contest, m).reaching(thresholds.fixed(m)) for m in METRICS}
        sides = (whole.repetitions[whole.member == side] for side in (True, False))
        for dose in np.intersect1d(*sides):
            own = whole.repetitions == dose
            some = replace(
                whole,
                ids=whole.ids.filter(pl.Series(own)),
                member=whole.member[own],
                block=np.unique(whole.block[own], return_inverse=True)[1],
                repetitions=whole.repetitions[own],
            )
            number = np.cumsum(own) - 1
            for metric, found in won.items():
                found = found.where(own[found.row])
                found = found._replace(row=number[found.row])
                numbers = rates(found, some, np.array([-np.inf]), contest.n)
                rows = {
                    f"{side}_rows": len(np.unique(found.row[found.member == member]))
                    for side, member in (("member", True), ("twin", False))
                }
                named = contest._replace(comparison=some).labelled(
                    numbers.rename({"member_wins": "member_hits", "twin_wins": "twin_hits"}),
                    metric=metric,
                    repetitions=int(dose),
                    **rows,
                )
                parts.append(named)
    return table(parts, SCHEMA, "metric", "repetitions")
