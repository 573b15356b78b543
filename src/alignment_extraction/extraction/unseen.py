"""How many distinct items are extractable in all, and how many more samples would find.

The counts are hits of each item; f1, f2, f3 are the numbers of items hit once, twice and three
times. What was never hit is told from these: items that are hit rarely are the best witnesses of
those that are hit more rarely still (Good 1953).
"""

import functools
from typing import Any

import numpy as np
from scipy.special import betainc, gammaln, logsumexp, ndtri

from alignment_extraction.statistics import Interval, chance_missed, rarefaction, wilson

Array = np.ndarray[Any, Any]

_RARE = 3
"""Items hit up to this often enter the extrapolation: the others say little of the unseen."""

_BOUNDS: tuple[tuple[float, float], ...] = ((float(np.log(0.02)), float(np.log(200))), (-6.0, 8.0))
"""Of log(1 + shape) and of the log of the odds q / (1 - q), q the scale of the counts."""
_POINTS = 28
_LEAST_WEIGHT = 1e-4


def chao1(counts: Array, n: int) -> Interval:
    """Chao's lower bound of the number of extractable items, with its log-normal interval.

    S + (n - 1) / n * f1 (f1 - 1) / (2 (f2 + 1)), the bias-corrected form (Chao 2005); the interval
    is that of Chao 1987 with the variances of the EstimateS manual (Colwell 2013, equations 6, 7,
    13; 14 where f1 is at most 1). It is a lower bound: items with chances far below 1 / n leave no
    trace. Nothing hit gives 0 with an unbounded interval.

    Args:
        counts: hits of each item, shape (items,); zeros are left out.
        n: samples, those that hit nothing included.
    """
    counts = counts[counts > 0]
    found = len(counts)
    if not found:
        return Interval(0.0, 0.0, np.inf)
    z = ndtri(0.975)
    f1, f2 = (float((counts == k).sum()) for k in (1, 2))
    a = (n - 1) / n
    unseen = a * f1 * (f1 - 1) / (2 * (f2 + 1))
    if unseen == 0:
        missed = np.exp(-counts.sum() / found)
        centre = found / (1 - missed)
        half = z * np.sqrt(found * missed / (1 - missed))
        return Interval(float(found), max(float(found), centre - half), float(centre + half))
    if f2:
        variance = (
            unseen
            + a**2 * f1 * (2 * f1 - 1) ** 2 / (4 * (f2 + 1) ** 2)
            + a**2 * f1**2 * f2 * (f1 - 1) ** 2 / (4 * (f2 + 1) ** 4)
        )
    else:
        variance = (
            unseen + a**2 * f1 * (2 * f1 - 1) ** 2 / 4 - a**2 * f1**4 / (4 * (found + unseen))
        )
    spread = np.exp(z * np.sqrt(np.log1p(variance / unseen**2)))
    return Interval(found + unseen, float(found + unseen / spread), float(found + unseen * spread))


def sample_coverage(counts: Array) -> Interval:
    """Chance that the next hit is of an item hit before: 1 - f1 / hits (Good 1953).

    The interval is Esty's (Esty 1983), and nowhere narrower than Wilson's for f1 of all hits, since
    Esty's has no width where all items are singletons. NaN between 0 and 1 for no hits.

    Args:
        counts: hits of each item, shape (items,).
    """
    hits = counts.sum()
    if not hits:
        return Interval(np.nan, 0.0, 1.0)
    f1, f2 = (int((counts == k).sum()) for k in (1, 2))
    half = ndtri(0.975) * np.sqrt(f1 * (hits - f1) / hits + 2 * f2) / hits
    fresh = wilson(f1, hits)
    low = 1 - max(fresh.estimate + half, float(fresh.high))
    high = 1 - min(fresh.estimate - half, float(fresh.low))
    return Interval(1 - float(fresh.estimate), max(0.0, float(low)), min(1.0, float(high)))


def extrapolate(counts: Array, n: int, factor: float) -> Interval:
    """Distinct items in `factor` times the samples: median and 95 % interval of a prediction.

    Items are taken to be hit at rates that follow a gamma distribution, its shape extended below
    zero (the extended negative binomial of Engen 1974), which covers equally likely items (large
    shapes), Fisher's log-series (0) and power laws without end (towards -1). Shape and scale are
    integrated over a grid of equal weights, given f1, f2 and f3; the number of new items is Poisson
    given the rates, hence a mixture of negative binomials. The interval thus holds the uncertainty
    of the fit and the chance of the draws to come. Unlike extrapolation to Chao1's asymptote
    (Colwell et al. 2012), it is not biased low at ten times the samples; docs/method.md has what
    share of intervals covers the truth in simulations.

    Args:
        counts: hits of each item, shape (items,); zeros are left out.
        n: samples drawn. Where nothing was hit, the upper end is what Wilson's bound on the rate
            of hits allows.
        factor: at least 1.
    """
    counts = counts[counts > 0]
    found = len(counts)
    if factor == 1:
        return Interval(float(found), float(found), float(found))
    if not found:
        return Interval(0.0, 0.0, float(np.floor(wilson(0, n).high * n * factor)))
    rare = tuple(int((counts == k).sum()) for k in range(1, _RARE + 1))
    median, low, high = _new_items(rare, factor)
    return Interval(float(found + median), float(found + low), float(found + high))


@functools.lru_cache(maxsize=4096)
def _posterior(rare: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Shapes, odds and weights of the points that matter, and items hit for a singleton expected.

    The grid is laid twice: over all that is possible, then over where the first has its weight.
    """
    bounds = _BOUNDS
    k = np.arange(1, _RARE + 1)
    for _ in range(2):
        axes = [np.linspace(low, high, _POINTS) for low, high in bounds]
        log_shape, log_odds = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        shape, odds = np.expm1(log_shape), np.exp(log_odds)
        log_counts = (
            gammaln(k + shape[:, None])
            - gammaln(1 + shape)[:, None]
            - gammaln(k + 1)
            - (k - 1) * np.log1p(1 / odds)[:, None]
        )
        total = logsumexp(log_counts, axis=1)
        weights = log_counts @ np.array(rare) - sum(rare) * total
        weights = np.exp(weights - logsumexp(weights))
        kept = weights > _LEAST_WEIGHT
        bounds = tuple(
            (max(low, float(at[kept].min()) - step), min(high, float(at[kept].max()) + step))
            for at, (low, high) in zip((log_shape, log_odds), bounds, strict=True)
            for step in [(high - low) / (_POINTS - 1)]
        )
    return shape[kept], odds[kept], weights[kept] / weights[kept].sum(), np.exp(total[kept])


@functools.lru_cache(maxsize=4096)
def _new_items(rare: tuple[int, ...], factor: float) -> tuple[int, int, int]:
    """Median and 95 % interval of the number of items not yet seen; see `extrapolate`."""
    size = sum(rare)
    if not size:
        return 0, 0, 0
    shape, odds, weights, total = _posterior(rare)
    # New items for each singleton expected; a shape of 0 has a limit that a hair off comes near.
    shape = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    growth = np.log1p(odds * factor) - np.log1p(odds)
    fresh = -np.expm1(-shape * growth) / (shape * odds / (1 + odds))
    mean = size / total * fresh
    success = size / (size + mean)
    # Bisection for all three quantiles at once; betainc is the negative binomial's distribution.
    levels = np.array([0.5, 0.025, 0.975])
    low, high = np.full(3, -1), np.full(3, int(20 * mean.max() + 100))
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = betainc(size, middle[:, None] + 1, success) @ weights >= levels
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return int(high[0]), int(high[1]), int(high[2])


def rarefaction_interval(counts: Array, samples: Array) -> Interval:
    """Distinct items in a random subset of the samples: expectation, and 95 % of all subsets.

    The variance is exact (Heck, van Belle and Simberloff 1975, equation 4), the interval that of a
    normal distribution within 0 and the distinct items.

    Args:
        counts: as in `statistics.rarefaction`.
        samples: sizes of subsets, likewise.
    """
    total = counts.sum()
    expected = rarefaction(counts, samples)
    hits, items = np.unique(counts[:-1][counts[:-1] > 0], return_counts=True)
    m = np.asarray(samples)[:, None]
    missed = chance_missed(hits[None, :], total, m)
    variance = ((missed - missed**2) * items).sum(axis=1)
    for place, (size, own) in enumerate(zip(hits, items, strict=True)):
        # Pairs of items with `size` and `hits` hits; an item is no pair with itself.
        pairs = own * (items - (np.arange(len(hits)) == place))
        both = chance_missed(size + hits[None, :], total, m)
        variance += (pairs * (both - missed[:, [place]] * missed)).sum(axis=1)
    half = ndtri(0.975) * np.sqrt(np.maximum(variance, 0))
    most = items.sum()
    return Interval(expected, np.clip(expected - half, 0, most), np.clip(expected + half, 0, most))
