"""Counts of wins by threshold: their difference, what a base model predicts of it, its interval."""

from typing import NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Wins
from alignment_extraction.attribution.intervals import Spread, generation_margins, margins, spread
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import TOLERANCE

FEWEST_BLOCKS = 20
"""With fewer blocks nothing is predicted: a slope fitted on so few would bias the difference."""

_ENTRIES = 8_000_000  # of the arrays that blocks are counted in


class Chance(NamedTuple):
    """What a base model predicts of each block; float64 arrays of shape (blocks,).

    Attributes:
        signed: chance of its member rows less weight times that of its twins.
        size: variance of that many wins, up to a factor: both chances added, the twins' with the
            weight's square.
    """

    signed: Array
    size: Array


def chance(comparison: Comparison, base: pl.DataFrame | None) -> Chance | None:
    """The chances of the blocks under the base model.

    Args:
        comparison: members and twins.
        base: columns id and base_log_probability (nats; null and rows left out: no chance).
    """
    if base is None:
        return None
    known = pl.DataFrame({"id": comparison.ids}).join(
        base, on="id", how="left", maintain_order="left"
    )
    rows = known["base_log_probability"].exp().fill_null(0.0).to_numpy()
    weight, block = comparison.weight, comparison.block
    signed = np.bincount(block, np.where(comparison.member, rows, -weight * rows))
    size = np.bincount(block, np.where(comparison.member, rows, weight**2 * rows))
    return Chance(signed, size)


def block_values(found: Wins, comparison: Comparison, thresholds: Array, blocks: Array) -> Array:
    """Member wins less weight times twin wins of each block, counted at each threshold.

    Args:
        found: wins by one metric.
        comparison: members and twins.
        thresholds: rising, shape (thresholds,).
        blocks: sorted numbers of the blocks asked for; wins elsewhere are left out.

    Returns:
        Float64, shape (blocks asked for, thresholds).
    """
    reached = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    block = comparison.block[found.row]
    place = np.minimum(np.searchsorted(blocks, block), max(len(blocks) - 1, 0))
    counted = (reached > 0) & (blocks[place] == block if len(blocks) else False)
    signed = found.weight * np.where(found.member, 1.0, -comparison.weight)
    size = len(blocks) * len(thresholds)
    cells = place[counted] * len(thresholds) + reached[counted] - 1
    values = np.bincount(cells, signed[counted], size).reshape(len(blocks), len(thresholds))
    # A win at one threshold is one at every lower one.
    totals: Array = values[:, ::-1].cumsum(axis=1)[:, ::-1]
    return totals


def rates(
    found: Wins, comparison: Comparison, thresholds: Array, n: int, base: Chance | None = None
) -> pl.DataFrame:
    """Wins at or above each threshold, and the attributable rate with its bounds.

    The base model's chances are a control variate: the coin makes the expected difference of
    chances 0, so that a multiple of it can be taken off without bias. For each block the multiple
    is fitted on the others (least squares through 0, weighted by one over the blocks' chances).

    Args:
        found: wins by one metric.
        comparison: members and twins.
        thresholds: at least one, rising, shape (thresholds,).
        n: generations.
        base: of the blocks, from `chance`; None takes nothing off.

    Returns:
        Columns member_wins, twin_wins, predicted (what is taken off), attributable, low, high (the
        last four rates of n), one row for each threshold.
    """
    strata, weight = comparison.strata(), comparison.weight
    hit = np.zeros(comparison.blocks, bool) if base is None else base.size > 0
    hit[comparison.block[found.reaching(thresholds[0]).row]] = True
    blocks = np.flatnonzero(hit)
    step = max(1, _ENTRIES // max(1, len(blocks)))
    predicted, parts = [], []
    for start in range(0, len(thresholds), step):
        values = block_values(found, comparison, thresholds[start : start + step], blocks)
        left = residuals(values, base, blocks)
        predicted.append(values.sum(axis=0) - left.sum(axis=0))
        parts.append(spread(left, strata[blocks], np.bincount(strata, minlength=3)))
    total = np.concatenate(predicted)
    reached = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    members, twins = (
        np.bincount(reached, found.weight * (found.member == side), len(thresholds) + 1)[
            # Of the counts at each threshold those at it or above; the first reaches none.
            :0:-1
        ].cumsum()[::-1]
        for side in (True, False)
    )
    estimate = members - weight * twins - total
    of_blocks = Spread(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    below, above = margins(of_blocks, generation_margins(members, twins, weight, n))
    return pl.DataFrame(
        {
            "member_wins": members,
            "twin_wins": twins,
            "predicted": total / n,
            "attributable": estimate / n,
            # A share of the generations; few blocks make margins wider than that.
            "low": np.maximum((estimate - below) / n, -weight),
            "high": np.minimum((estimate + above) / n, 1.0),
        }
    )


def residuals(values: Array, base: Chance | None, blocks: Array) -> Array:
    """The blocks' values less what the base model predicts, fitted on the other blocks.

    They come back as they are at thresholds where their squares would grow: a base model that knows
    nothing of the rows does no harm.

    Args:
        values: from `block_values`.
        base: chances; None predicts nothing.
        blocks: numbers of the blocks.
    """
    largest = 0.0 if base is None else base.size.max(initial=0.0)
    if base is None or largest == 0 or len(base.size) < FEWEST_BLOCKS:
        return values
    signed, size = base.signed[blocks] / largest, base.size[blocks] / largest
    share = np.divide(signed, size, out=np.zeros_like(signed), where=size > 0)
    cross, square = share[:, None] * values, share * signed
    others = square.sum() - square
    known = others > 1e-9 * square.sum()
    slope = np.where(
        known[:, None], (cross.sum(axis=0) - cross) / np.where(known, others, 1)[:, None], 0
    )
    # A slope fitted on few chances may be anything; no prior explains more than there is.
    most = np.abs(values).sum(axis=0) / max(float(np.abs(signed).sum()), 1e-300)
    left = values - np.clip(slope, 0, most) * signed[:, None]
    narrower = (left**2).sum(axis=0) < (values**2).sum(axis=0)
    chosen: Array = np.where(narrower, left, values)
    return chosen
