"""Differences of wins by threshold, with intervals from the blocks that the coin fell for.

The estimate is a sum of one value per block. Its variance is the spread of the blocks' values (the
linearised bootstrap over blocks; Neyman's estimate, which errs on the wide side), its distribution
Student's t with Satterthwaite's degrees of freedom, from the fourth powers: where a few popular
rows decide, they are few. It is never narrower than what generations alone, drawn independently,
would give.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.special import stdtrit

from alignment_extraction.attribution.contests import Wins
from alignment_extraction.attribution.levels import Comparison
from alignment_extraction.statistics import Array, clopper_pearson
from alignment_extraction.vocabulary import TOLERANCE

FEWEST_BLOCKS = 20
"""With fewer blocks nothing is predicted: a slope fitted on so few would bias the difference."""

ANY = np.array([-np.inf])
"""Thresholds that every win reaches."""

_ENTRIES = 8_000_000  # of the arrays that blocks are counted in


class Spread(NamedTuple):
    """Variance of sums over blocks, and the degrees of freedom that it is known with."""

    variance: Array
    freedom: Array


def spread(values: Array, strata: Array, blocks: Array) -> Spread:
    """Variance of the sum of the blocks' values, blocks drawn anew within their strata.

    In a stratum of B blocks it is B / (B - 1) times S2, the sum of squares about the mean (a single
    block's own square); with S4 that of fourth powers, the degrees of freedom are 3 S2^2 / S4,
    between 1 and B - 1: Satterthwaite's 2 V^2 / Var(V) with Var(V) = (2 / 3) S4, as it is for
    normal values. Strata are combined as Welch does.

    Args:
        values: of the blocks that have any that is not 0, float64, shape (some blocks, columns).
        strata: of all blocks, int64, shape (blocks,).
        blocks: numbers of the blocks that have values, shape (some blocks,).

    Returns:
        Float64 arrays of shape (columns,).
    """
    variance, uncertainty = np.zeros((2, values.shape[1]))
    for stratum, size in enumerate(np.bincount(strata)):
        some = values[strata[blocks] == stratum]
        mean = some.sum(axis=0) / size if size > 1 else 0.0
        squares = (some - mean) ** 2
        rest = (size - len(some)) * mean**2
        second = squares.sum(axis=0) + rest
        fourth = (squares**2).sum(axis=0) + rest * mean**2
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom = np.clip(3 * second**2 / fourth, 1, max(size - 1, 1))
        part = second * (size / (size - 1) if size > 1 else 1)
        variance += part
        uncertainty += np.where(part > 0, part**2 / np.where(part > 0, freedom, 1), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Spread(variance, np.where(variance > 0, variance**2 / uncertainty, np.inf))


def generation_margins(members: Array, twins: Array, weight: float, n: int) -> Array:
    """How far members - weight * twins may be off below and above, by chance of sampling alone.

    Clopper and Pearson's limits of both, recovered into limits of the difference (Zou and Donner
    2008) with the correlation of two outcomes of one multinomial draw. With no win on either side
    it is about 3.7 generations: what an honest zero bounds.

    Args: wins of either side among n generations, shape (numbers,); the weight of twins' wins.

    Returns:
        Numbers of generations, float64, shape (2, numbers).
    """
    (rate, low, high), (other, other_low, other_high) = (
        clopper_pearson(side, n) for side in (members, twins)
    )
    odds = [each / np.maximum(1 - each, 1e-12) for each in (rate, other)]
    correlation = np.minimum(1, np.sqrt(odds[0] * odds[1]))
    ours = np.stack([rate - low, high - rate])
    theirs = np.stack([other_high - other, other - other_low])
    both = ours**2 + (weight * theirs) ** 2 + 2 * correlation * weight * ours * theirs
    return np.asarray(np.sqrt(both) * n)


def margins(found: Spread, generation: Array | float = 0.0) -> Array:
    """Margins of estimates at 95 %: the blocks', at least those of `generation_margins`."""
    return np.asarray(np.maximum(quantile(found.freedom) * np.sqrt(found.variance), generation))


def quantile(freedom: Array) -> Array:
    """Student's t at 97.5 %, float64, of the shape of the degrees of freedom."""
    # Student's t is normal in the limit; the function takes no infinity.
    return np.asarray(stdtrit(np.minimum(freedom, 1e9), 0.975))


class Chance(NamedTuple):
    """What a base model predicts of each block; float64 arrays of shape (blocks,)."""

    signed: Array
    """Chance of its member rows less weight times that of its twins."""
    size: Array
    """Both chances added, the twins' with the weight's square: as the variance of such wins."""


def chance(comparison: Comparison, base: pl.DataFrame | None) -> Chance | None:
    """The chances of the blocks under a base model; None without one.

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


def reached(score: Array, thresholds: Array, members: Array, twins: Array) -> tuple[Array, Array]:
    """Sums of what members and twins have of the scores, which fall, that reach each threshold."""
    count = np.searchsorted(-score, TOLERANCE - thresholds, side="right")
    ours, theirs = (np.append(0.0, each.cumsum())[count] for each in (members, twins))
    return ours, theirs


def sides(found: Wins, thresholds: Array = ANY) -> tuple[Array, Array]:
    """Wins of members, and those of twins, at or above each threshold."""
    ours = found.weight * found.member
    return reached(found.score, thresholds, ours, found.weight - ours)


def block_values(
    found: Wins, comparison: Comparison, blocks: Array, thresholds: Array = ANY
) -> Array:
    """Member wins less weight times twin wins of some blocks, counted at each threshold.

    Args:
        found, comparison: wins by one metric, among members and twins.
        blocks: sorted numbers of the blocks asked for.
        thresholds: rising, shape (thresholds,).

    Returns:
        Float64, shape (blocks asked for, thresholds).
    """
    count = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    block = comparison.block[found.row]
    place = np.minimum(np.searchsorted(blocks, block), max(len(blocks) - 1, 0))
    counted = (count > 0) & (blocks[place] == block if len(blocks) else False)
    signed = found.weight * np.where(found.member, 1.0, -comparison.weight)
    size = len(blocks) * len(thresholds)
    cells = place[counted] * len(thresholds) + count[counted] - 1
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
        found, comparison: wins by one metric, among members and twins.
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
    parts = []
    for start in range(0, len(thresholds), step):
        values = block_values(found, comparison, blocks, thresholds[start : start + step])
        left = residuals(values, base, blocks)
        parts.append([values.sum(axis=0) - left.sum(axis=0), *spread(left, strata, blocks)])
    total, *of_blocks = np.hstack(parts)
    members, twins = sides(found, thresholds)
    estimate = members - weight * twins - total
    generation = generation_margins(members, twins, weight, n)
    below, above = margins(Spread(*of_blocks), generation)
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
    """The `block_values` of some blocks less what the base model predicts, fitted on the others.

    They come back as they are at thresholds where their squares would grow: a base model that knows
    nothing of the rows does no harm.
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
    return np.asarray(np.where(narrower, left, values))
