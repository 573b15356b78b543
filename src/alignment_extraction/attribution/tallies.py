"""Counts of wins by threshold: their difference, what a base model predicts of it, its spread."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import TOLERANCE, Wins
from alignment_extraction.attribution.intervals import Spread, generation_margins, margins, spread
from alignment_extraction.attribution.levels import Comparison

Array = np.ndarray[Any, Any]

FEWEST_BLOCKS = 20
"""With fewer blocks nothing is predicted: a slope fitted on so few would bias the difference."""

_ENTRIES = 8_000_000  # of the arrays that blocks are counted in


class Tally(NamedTuple):
    """Wins at some thresholds; float64 arrays of shape (thresholds,).

    Attributes:
        members: wins of member rows.
        twins: wins of twins.
        predicted: what is taken off their difference because the base model predicts it.
        spread: of members - weight * twins - predicted.
    """

    members: Array
    twins: Array
    predicted: Array
    spread: Spread


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
        base.select("id", "base_log_probability"), on="id", how="left", maintain_order="left"
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


def blocks_with_values(found: Wins, comparison: Comparison, base: Chance | None) -> Array:
    """Sorted numbers of the blocks that have a win, or a chance under the base model."""
    hit = np.zeros(comparison.blocks, bool)
    hit[comparison.block[found.row]] = True
    if base is not None:
        hit |= base.size > 0
    return np.flatnonzero(hit)


def tally(
    found: Wins, comparison: Comparison, thresholds: Array, base: Chance | None = None
) -> Tally:
    """Count the wins at each threshold, and how far their difference may be off.

    The base model's chances are a control variate: the coin makes the expected difference of
    chances 0, so that a multiple of it can be taken off without bias. For each block the multiple
    is fitted on the others (least squares through 0, weighted by one over the blocks' chances).

    Args:
        found: wins by one metric.
        comparison: members and twins.
        thresholds: rising, shape (thresholds,).
        base: of the blocks, from `chance`; None takes nothing off.
    """
    members, twins = (
        _reaching(found.where(found.member == member), thresholds) for member in (True, False)
    )
    strata = comparison.strata()
    sizes = np.bincount(strata, minlength=3)
    counted = found.score >= thresholds.min(initial=np.inf) - TOLERANCE
    blocks = blocks_with_values(found.where(counted), comparison, base)
    step = max(1, _ENTRIES // max(1, len(blocks)))
    predicted, parts = [], []
    for start in range(0, len(thresholds), step):
        values = block_values(found, comparison, thresholds[start : start + step], blocks)
        left = residuals(values, base, blocks)
        predicted.append(values.sum(axis=0) - left.sum(axis=0))
        parts.append(spread(left, strata[blocks], sizes))
    variance, freedom = (np.concatenate([*(part[which] for part in parts), []]) for which in (0, 1))
    return Tally(members, twins, np.concatenate([*predicted, []]), Spread(variance, freedom))


def _reaching(found: Wins, thresholds: Array) -> Array:
    """Weight of the wins at or above each threshold."""
    reached = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    counts = np.bincount(reached, found.weight, len(thresholds) + 1)[1:]
    totals: Array = counts[::-1].cumsum()[::-1]
    return totals


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


def difference(counts: Tally, comparison: Comparison, n: int) -> pl.DataFrame:
    """Wins and the attributable rate with its bounds, as columns.

    Args:
        counts: from `tally`.
        comparison: members and twins.
        n: generations.

    Returns:
        Columns member_wins, twin_wins, predicted, attributable, low, high (the last four rates of
        n), one row for each threshold.
    """
    weight = comparison.weight
    estimate = counts.members - weight * counts.twins - counts.predicted
    generation = generation_margins(counts.members, counts.twins, np.asarray(weight), np.asarray(n))
    below, above = margins(counts.spread, generation)
    return pl.DataFrame(
        {
            "member_wins": counts.members,
            "twin_wins": counts.twins,
            "predicted": counts.predicted / n,
            "attributable": estimate / n,
            # A share of the generations; few blocks make margins wider than that.
            "low": np.maximum((estimate - below) / n, -weight),
            "high": np.minimum((estimate + above) / n, 1.0),
        }
    )
