"""Intervals of differences of wins, from the blocks that the coin fell for.

The estimate is a sum of one value per block. Its variance is estimated by the spread of the blocks'
values (the linearised bootstrap over blocks; Neyman's estimate for a paired or stratified
assignment, which errs on the wide side where effects differ), and its distribution by Student's t
with Satterthwaite's degrees of freedom, themselves estimated from the fourth powers: where a few
popular rows decide, they are few, and the interval is wide. It is never narrower than what
generations alone, drawn independently, would give: Clopper and Pearson's limits of both sides.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from alignment_extraction.statistics import Array, clopper_pearson


class Spread(NamedTuple):
    """Variance of sums over blocks, and the degrees of freedom that it is known with."""

    variance: Array
    freedom: Array


def spread(values: Array, strata: Array, sizes: Array) -> Spread:
    """Variance of the sum of the blocks' values, blocks drawn anew within their strata.

    In a stratum of B blocks it is B / (B - 1) times the sum of squares about the mean; a single
    block counts its own square. With S2 and S4 the sums of second and fourth powers about the mean,
    the degrees of freedom are 3 S2^2 / S4, between 1 and B - 1: Satterthwaite's 2 V^2 / Var(V)
    with Var(V) = (2 / 3) S4, as it is for normal values. Strata are combined as Welch does.

    Args:
        values: of the blocks that have any that is not 0, float64, shape (some blocks, columns).
        strata: of the same blocks, int64, shape (some blocks,).
        sizes: number of blocks in each stratum, those without values included, shape (strata,).

    Returns:
        Float64 arrays of shape (columns,).
    """
    variance = np.zeros(values.shape[1])
    uncertainty = np.zeros(values.shape[1])
    for stratum, size in enumerate(sizes):
        some = values[strata == stratum]
        mean = some.sum(axis=0) / size if size > 1 else np.zeros(values.shape[1])
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

    Args:
        members: wins of member rows, shape (numbers,).
        twins: wins of twins, shape (numbers,).
        weight: of twins' wins.
        n: generations.

    Returns:
        Margins as numbers of generations, float64, shape (2, numbers).
    """
    sides = [clopper_pearson(side, n) for side in (members, twins)]
    below = [side.estimate - side.low for side in sides]
    above = [side.high - side.estimate for side in sides]
    odds = [side.estimate / np.maximum(1 - side.estimate, 1e-12) for side in sides]
    correlation = np.minimum(1, np.sqrt(odds[0] * odds[1]))
    margins = [
        np.sqrt(ours**2 + (weight * theirs) ** 2 + 2 * correlation * weight * ours * theirs)
        for ours, theirs in ((below[0], above[1]), (above[0], below[1]))
    ]
    return np.stack(margins) * n


def margins(found: Spread, generation: Array | float = 0.0) -> Array:
    """Margins of estimates at 95 %, float64: the blocks', at least the generations'.

    Args:
        found: of the estimates, shape (numbers,).
        generation: from `generation_margins`, shape (2, numbers), or 0.
    """
    wider: Array = np.maximum(quantile(found.freedom) * np.sqrt(found.variance), generation)
    return wider


def quantile(freedom: Array) -> Array:
    """Student's t at 97.5 %, float64, of the shape of the degrees of freedom."""
    # Student's t is normal in the limit; the function takes no infinity.
    value: Array = stdtrit(np.minimum(freedom, 1e9), 0.975)
    return value
