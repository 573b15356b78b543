"""False discovery rate of the blocks, rows or templates, that members won."""

import numpy as np

from alignment_extraction.attribution.contests import Wins
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import TOLERANCE

DISCOVERY_RATES = {"fdr-1": 0.01, "fdr-5": 0.05}
"""False discovery rates whose thresholds are looked for."""


def block_wins(found: Wins, comparison: Comparison) -> tuple[Array, Array, Array]:
    """Which side has each block: that of its nearest generation, of the more if several are.

    This is the competition among blocks, for the false discovery rate: without memorisation the
    coin, tossed once for each block, decides its side.

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
    sizes = np.bincount(comparison.strata(), minlength=3)
    return float((sizes[0] + sizes[1]) / (sizes[0] + sizes[2]))


def false_discovery_rate(members: Array, twins: Array, ratio: float) -> Array:
    """Expected share of coincidence among blocks that members won: ratio (T + 1) / M, at most 1.

    With a ratio of 1 it is the competition's of Elias and Gygi (2007) with the +1 of Barber and
    Candes (2015, knockoff+); otherwise selective SeqStep+ of the same with c = ratio / (1 + ratio).
    Blocks are counted and not generations, since one coin decides all generations of a block.

    Args:
        members: blocks that members won.
        twins: blocks that twins won.
        ratio: from `block_ratio`.
    """
    rate: Array = np.minimum(1.0, ratio * (twins + 1) / np.maximum(members, 1))
    return rate


def discovery_threshold(
    blocks: tuple[Array, Array, Array], ratio: float, rate: float, lowest: float
) -> float | None:
    """The lowest score, not below `lowest`, at which the false discovery rate is at most `rate`.

    Args:
        blocks: from `block_wins`.
        ratio: from `block_ratio`.
        rate: to meet.
        lowest: scores below it are not looked at.
    """
    score, member, twin = blocks
    # At a score count all that are as near.
    last = np.searchsorted(-score, -(score - TOLERANCE), side="right") - 1
    rates = false_discovery_rate(member.cumsum(), twin.cumsum(), ratio)[last]
    met = np.flatnonzero((rates <= rate) & (score >= lowest - TOLERANCE))
    return float(score[met[-1]]) if len(met) else None
