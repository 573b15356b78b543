"""Target-decoy competition: whose row is nearest to each generation, a member or a twin.

Generations are searched in members and in rows that a coin kept from the model (Elias and Gygi
2007). What the model writes without having seen the members falls to both alike.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution.levels import Comparison, comparisons
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import CONDITION, METRICS, TOLERANCE

_CONTEST = [*CONDITION, "field"]
_SIDES = ("", "_twin")


class Contest(NamedTuple):
    """The generations of one condition, read in one field, before members and twins.

    Attributes:
        keys: model, prefix, seed and field.
        comparison: the members and twins of one source.
        frame: one row per generation: index; of members each metric's column of scores and, in its
            column of ids, the number in the comparison of the row that has it (-1: it is not in
            it); of twins the same columns, their names ending in `_twin`.
    """

    keys: dict[str, Any]
    comparison: Comparison
    frame: pl.DataFrame

    @property
    def n(self) -> int:
        """Number of generations."""
        return self.frame.height

    def labelled(self, table: pl.DataFrame, **labels: Any) -> pl.DataFrame:
        """The table with a column for all that is compared and counted, and for each label."""
        names = ("source", "level", "members", "twins", "blocks")
        about = {name: getattr(self.comparison, name) for name in names}
        about |= self.keys | {"n": self.n} | labels
        return table.with_columns(**{name: pl.lit(value) for name, value in about.items()})


class Wins(NamedTuple):
    """The generations that have a nearest row by one metric, the nearest first.

    A generation that is as near to either side is in it twice, with weight 0.5.

    Attributes:
        score: float64, falling, shape (wins,).
        row: number in the comparison of the row that won, int64.
        member: whether that side won, bool. (Not read off the row, so that labels can be changed.)
        weight: 1 or 0.5, float64.
        at: number of the generation in the contest's frame, int64.
    """

    score: Array
    row: Array
    member: Array
    weight: Array
    at: Array

    def where(self, keep: Array) -> "Wins":
        """Some of them: by a mask or by numbers."""
        return Wins(*(values[keep] for values in self))

    def reaching(self, threshold: float) -> "Wins":
        """Those with at least that score."""
        return self.where(self.score >= threshold - TOLERANCE)


def contests(scores: pl.DataFrame, corpus: pl.DataFrame) -> Iterator[Contest]:
    """The contests of every source, level, condition and field that was searched."""
    keys = [*_CONTEST, "index"]
    values = [metric.score for metric in METRICS.values()]
    ids = list(dict.fromkeys(metric.id for metric in METRICS.values()))
    for comparison in comparisons(corpus):
        numbers = pl.col(ids).replace_strict(
            comparison.ids, np.arange(len(comparison.ids)), default=-1, return_dtype=pl.Int64
        )
        member, twin = (
            scores.filter(source=comparison.source, role=role).select(*keys, *values, numbers)
            for role in ("member", comparison.other)
        )
        both = member.sort(keys).join(twin, on=keys, suffix=_SIDES[1], maintain_order="left")
        parts = both.partition_by(_CONTEST, as_dict=True, include_key=False)
        for key, frame in parts.items():
            yield Contest(dict(zip(_CONTEST, key, strict=True)), comparison, frame)


def wins(contest: Contest, metric: str) -> Wins:
    """The winner of each generation by one of `METRICS`.

    A generation whose nearest row is not in the comparison has none.
    """
    of = METRICS[metric]
    scores, rows = [], []
    for side in _SIDES:
        score = contest.frame[of.score + side].cast(pl.Float64)
        if of.kind == "verbatim":
            score = score.replace(0.0, None)
        scores.append(score.fill_null(-np.inf).to_numpy())
        rows.append(contest.frame[of.id + side].to_numpy())
    best = np.maximum(*scores)
    ours, theirs = (
        np.flatnonzero((best > -np.inf) & (score >= best - TOLERANCE)) for score in scores
    )
    at = np.concatenate([ours, theirs])
    tied = np.isin(at, np.intersect1d(ours, theirs, assume_unique=True))
    found = Wins(
        score=best[at],
        row=np.concatenate([rows[0][ours], rows[1][theirs]]),
        member=np.arange(len(at)) < len(ours),
        weight=np.where(tied, 0.5, 1.0),
        at=at,
    )
    found = found.where(found.row >= 0)
    return found.where(np.argsort(-found.score, kind="stable"))
