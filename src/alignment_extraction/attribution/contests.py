"""Target-decoy competition: whose row is nearest to each generation, a member or a twin.

Elias and Gygi (2007) search spectra in a real and a decoy database together; here generations are
searched in members and in rows that a coin kept from the model. What the model writes without
having seen the members falls to both alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.files import InputError
from alignment_extraction.vocabulary import METRICS

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-6
"""Scores that differ by less are equal: they went through 32 bits."""

CONTEST = ("model", "prefix", "seed", "field")
_SIDES = ("member", "twin")
_IDS = ("match_id", "levenshtein_best_id", "indel_best_id")


class Contest(NamedTuple):
    """The generations of one condition, read in one field, before members and twins.

    Attributes:
        keys: model, prefix, seed and field.
        frame: one row per generation: index, and for either side each metric's score and the number
            of the row that has it, as `member_cosine`, `member_match_id`, `twin_cosine` and so on.
    """

    keys: dict[str, Any]
    frame: pl.DataFrame

    @property
    def n(self) -> int:
        """Number of generations."""
        return self.frame.height


@dataclass(frozen=True)
class Wins:
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
        return Wins(
            self.score[keep], self.row[keep], self.member[keep], self.weight[keep], self.at[keep]
        )


def contests(scores: pl.DataFrame, comparison: Comparison) -> Iterator[Contest]:
    """The contests of every condition and field that was searched in the comparison's rows.

    Args:
        scores: the scores table; other sources and roles are left out.
        comparison: members and twins of one source.

    Raises:
        InputError: one side was searched for other generations than the other.
    """
    ours = scores.filter(pl.col("source") == comparison.source)
    metrics = [metric.score for metric in METRICS.values()]
    rows = pl.DataFrame({"id": comparison.ids, "row": np.arange(len(comparison.ids))})
    sides = []
    for side, role in zip(_SIDES, ("member", comparison.other), strict=True):
        of_side = rows.filter(pl.Series(comparison.member == (side == "member")))
        frame = ours.filter(pl.col("role") == role).select(*CONTEST, "index", *metrics, *_IDS)
        for column in _IDS:
            codes = of_side.select(pl.col("id").alias(column), pl.col("row").alias(f"{column}_row"))
            frame = frame.join(codes, on=column, how="left", maintain_order="left")
        names = {name: f"{side}_{name}" for name in metrics}
        names |= {f"{column}_row": f"{side}_{column}" for column in _IDS}
        frame = frame.drop(_IDS).rename(names).sort(*CONTEST, "index")
        sides.append(frame)
    by_contest = [side.partition_by(CONTEST, as_dict=True, maintain_order=True) for side in sides]
    for keys in sorted(set(by_contest[0]) | set(by_contest[1])):
        member, twin = (side.get(keys) for side in by_contest)
        if member is None or twin is None or not member["index"].equals(twin["index"]):
            raise InputError(
                f"scores of {dict(zip(CONTEST, keys, strict=True))}: expected the same generations "
                f"searched in {comparison.source}.member and {comparison.source}."
                f"{comparison.other}; search both groups again"
            )
        frame = pl.concat([member, twin.drop(*CONTEST, "index")], how="horizontal")
        yield Contest(dict(zip(CONTEST, keys, strict=True)), frame.drop(CONTEST))


def wins(contest: Contest, metric: str) -> Wins:
    """The winner of each generation by one metric.

    Args:
        contest: of a condition and field.
        metric: a name in `METRICS`.

    Returns:
        Wins of rows that are in the comparison; a generation whose nearest row is not in it has
        none.
    """
    of = METRICS[metric]
    scores, rows = [], []
    for side in _SIDES:
        score = contest.frame[f"{side}_{of.score}"].cast(pl.Float64)
        if of.kind == "verbatim":
            score = score.replace(0.0, None)
        scores.append(score.fill_null(-np.inf).to_numpy())
        rows.append(contest.frame[f"{side}_{of.id}"].fill_null(-1).to_numpy())
    best = np.maximum(*scores)
    ours, theirs = (
        np.flatnonzero((best > -np.inf) & (score >= best - TOLERANCE)) for score in scores
    )
    tied = np.intersect1d(ours, theirs, assume_unique=True)
    at = np.concatenate([ours, theirs])
    found = Wins(
        score=best[at],
        row=np.concatenate([rows[0][ours], rows[1][theirs]]),
        member=np.arange(len(at)) < len(ours),
        weight=np.where(np.isin(at, tied), 0.5, 1.0),
        at=at,
    )
    found = found.where(found.row >= 0)
    return found.where(np.argsort(-found.score, kind="stable"))


def relabelled(found: Wins, comparison: Comparison) -> Wins:
    """The wins as another labelling of the same rows counts them."""
    return Wins(found.score, found.row, comparison.member[found.row], found.weight, found.at)
