"""Attributable rates: member wins less twin wins, with their interval and false discovery rate."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import Chance, chance, rates, reached
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.attribution.tables import COMPARED, table
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import METRICS, TOLERANCE

DISCOVERY_RATES = {"fdr-1": 0.01, "fdr-5": 0.05}
"""False discovery rates whose thresholds are looked for."""


def attribution(
    contests: Iterable[Contest],
    trained: Mapping[str, Collection[str]],
    thresholds: ThresholdSettings,
    priors: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """The table `attribution`: rates at every threshold of every contest and metric.

    Args:
        contests: from `contests.contests`.
        trained: the sources that each model was trained on.
        thresholds: fixed ones and the grid.
        priors: columns id and base_log_probability (nats) of the base of each model that has one.
    """
    parts = []
    for contest in contests:
        model = contest.keys["model"]
        prior = chance(contest.comparison, priors.get(model))
        is_trained = contest.comparison.source in trained[model]
        for metric in METRICS:
            found = _at_thresholds(contest, metric, thresholds, prior)
            parts.append(contest.labelled(found, metric=metric, trained=is_trained))
    return table("attribution", parts, *COMPARED, "metric", "at", "threshold")


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
    members, twins = reached(blocks[0], values, *blocks[1:])
    numbers = rates(found, contest.comparison, values, contest.n, prior).with_columns(
        threshold=values,
        member_blocks=members,
        twin_blocks=twins,
        false_discovery_rate=false_discovery_rate(members, twins, ratio),
    )
    labels = pl.DataFrame(wanted, {"at": pl.String, "threshold": pl.Float64}, orient="row")
    return labels.join(numbers, on="threshold", how="left", maintain_order="left")


def block_wins(found: Wins, comparison: Comparison) -> tuple[Array, Array, Array]:
    """Which side has each block: that of its nearest generation, of the more if several are.

    Returns:
        Of blocks with a win, the nearest first: score, share of the member (1, 0.5 where both sides
        have as many as near, or 0), share of the twin.
    """
    block = comparison.block[found.row]
    # The first of each is the nearest: wins are sorted.
    blocks, first = np.unique(block, return_index=True)
    top = np.full(comparison.blocks, np.inf)
    top[blocks] = found.score[first]
    nearest = found.weight * (found.score >= top[block] - TOLERANCE)
    ours, theirs = (
        np.bincount(block, nearest * (found.member == member), comparison.blocks)[blocks]
        for member in (True, False)
    )
    member = np.where(ours == theirs, 0.5, ours > theirs)
    order = np.argsort(-top[blocks], kind="stable")
    return top[blocks][order], member[order], 1 - member[order]


def block_ratio(comparison: Comparison) -> float:
    """Blocks that can have a member's win, to those that can have a twin's."""
    both, member_only, twin_only = np.bincount(comparison.strata(), minlength=3)
    return float((both + member_only) / (both + twin_only))


def false_discovery_rate(members: Array, twins: Array, ratio: float) -> Array:
    """Expected share of coincidence among blocks that members won: ratio (T + 1) / M, at most 1.

    With a ratio (`block_ratio`) of 1 it is the competition's of Elias and Gygi (2007) with the +1
    of Barber and Candes (2015, knockoff+); else selective SeqStep+ with c = ratio / (1 + ratio).
    Blocks are counted and not generations, since one coin decides all generations of a block.
    """
    return np.asarray(np.minimum(1.0, ratio * (twins + 1) / np.maximum(members, 1)))


def discovery_threshold(
    blocks: tuple[Array, Array, Array], ratio: float, rate: float, lowest: float
) -> float | None:
    """The lowest score, not below `lowest`, at which the false discovery rate is at most `rate`.

    None where there is none. blocks and ratio are `block_wins` and `block_ratio`.
    """
    score = blocks[0]
    found = false_discovery_rate(*reached(score, score, *blocks[1:]), ratio)
    met = np.flatnonzero((found <= rate) & (score >= lowest - TOLERANCE))
    return float(score[met[-1]]) if len(met) else None
