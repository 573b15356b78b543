"""Intervals for rates, ratios and differences. All are at 95 % unless told otherwise."""

import zlib
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri

Array = np.ndarray[Any, Any]


class Interval(NamedTuple):
    """An estimate with its bounds; arrays or numbers."""

    estimate: Any
    low: Any
    high: Any


def named_seed(seed: int, name: str) -> int:
    """A 32-bit seed for the random stream `name`, from a study's seed alone."""
    return zlib.crc32(f"{seed}/{name}".encode())


def wilson(hits: Any, n: Any, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, without continuity correction).

    With no hits the upper bound is about 3.84 / (n + 3.84): what an honest zero bounds.

    Args:
        hits: number of successes, scalar or array.
        n: number of trials; NaN comes out where it is 0.
        level: coverage of the interval.
    """
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    z = ndtri((1 + level) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / n
        centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # Rounding must not put a bound on the wrong side of a rate of 0 or 1.
    return Interval(rate, np.clip(centre - half, 0, rate), np.clip(centre + half, rate, 1))


def ratio(hits: int, other_hits: int, n: int, level: float = 0.95) -> Interval:
    """Ratio of two proportions of the same n trials, with Katz's log interval.

    The two are counted on the same generations, so they are positively correlated and the
    interval is wider than it need be. Where `other_hits` is 0 the ratio is unbounded: the estimate
    and the upper bound are infinite, the lower bound takes Wilson's bounds of both. Where `hits` is
    0 it is the other way round: the lower bound is 0, the upper one takes Wilson's bounds. Where
    both are 0 nothing is known: NaN between 0 and infinity.

    Args:
        hits: successes in the numerator.
        other_hits: successes in the denominator.
        n: number of trials of each.
        level: coverage of the interval.
    """
    if hits == 0 and other_hits == 0:
        return Interval(np.nan, 0.0, np.inf)
    if hits == 0:
        high = wilson(0, n, level).high / wilson(other_hits, n, level).low
        return Interval(0.0, 0.0, float(high))
    if other_hits == 0:
        low = wilson(hits, n, level).low / wilson(0, n, level).high
        return Interval(np.inf, float(low), np.inf)
    z = ndtri((1 + level) / 2)
    estimate = hits / other_hits
    spread = np.exp(z * np.sqrt(1 / hits - 1 / n + 1 / other_hits - 1 / n))
    return Interval(estimate, float(estimate / spread), float(estimate * spread))


def subtract(a: Interval, b: Interval) -> Interval:
    """a - b of two independent estimates with their intervals, kept wide where one is at its edge.

    The method of variance estimates recovery (Zou and Donner 2008), which for Wilson's intervals of
    two proportions is Newcombe's hybrid score interval (Newcombe 1998, method 10).
    """
    estimate = a.estimate - b.estimate
    low = estimate - np.hypot(a.estimate - a.low, b.high - b.estimate)
    high = estimate + np.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(estimate, low, high)


def rarefaction(counts: Array, samples: Array) -> Array:
    """Expected number of distinct items in a random subset of the samples, exactly.

    E[distinct(m)] = sum over items of 1 - C(N - n_i, m) / C(N, m), with N the samples drawn in all
    and n_i those that hit item i (Hurlbert 1971). It replaces the curve of one random order.

    Args:
        counts: hits of each item, then as the last entry the samples that hit none.
        samples: sizes m, each between 0 and the sum of `counts`.
    """
    total = counts.sum()
    hit = np.asarray(counts[:-1], np.float64)
    missed = chance_missed(hit[None, hit > 0], total, np.asarray(samples)[:, None])
    expected: Array = (1 - missed).sum(axis=1)
    return expected


def chance_missed(counts: Any, total: Any, samples: Any) -> Array:
    """Chance that a random subset holds none of an item's hits: C(N - n, m) / C(N, m).

    Args:
        counts: hits n of the item; these arrays are broadcast against each other.
        total: samples N drawn in all.
        samples: size m of the subset, at most N.
    """
    m = np.asarray(samples, np.float64)
    rest = total - np.asarray(counts, np.float64)
    possible = rest >= m
    with np.errstate(invalid="ignore"):
        log_missed = (
            gammaln(rest + 1)
            - gammaln(np.where(possible, rest - m, 0) + 1)
            - gammaln(total + 1)
            + gammaln(total - m + 1)
        )
    missed: Array = np.where(possible, np.exp(log_missed), 0.0)
    return missed


def bootstrap_mean(values: Array, seed: int, level: float = 0.95, draws: int = 2000) -> Interval:
    """Mean with a percentile bootstrap interval; NaN for no values.

    Args:
        values: the sample, shape (values,).
        seed: of the resampling.
        level: coverage of the interval.
        draws: resamples.
    """
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    means = _bootstrap_means(np.asarray(values, np.float64), np.random.default_rng(seed), draws)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def bootstrap_difference(
    treated: Array, control: Array, seed: int, level: float = 0.95, draws: int = 2000
) -> Interval:
    """Difference of two independent means with a percentile bootstrap interval.

    Args:
        treated: one sample, shape (values,).
        control: the other, whose mean is taken off.
        seed: of the resampling.
        level: coverage of the interval.
        draws: resamples of each.
    """
    if not len(treated) or not len(control):
        return Interval(np.nan, np.nan, np.nan)
    stream = np.random.default_rng(seed)
    means = [
        _bootstrap_means(np.asarray(sample, np.float64), stream, draws)
        for sample in (treated, control)
    ]
    differences = means[0] - means[1]
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(treated) - np.mean(control)), float(low), float(high))


def _bootstrap_means(values: Array, stream: np.random.Generator, draws: int) -> Array:
    # In blocks: draws x values at once would not stay small.
    block = max(1, 4_000_000 // max(1, len(values)))
    means = [
        values[stream.integers(0, len(values), (min(block, draws - at), len(values)))].mean(axis=1)
        for at in range(0, draws, block)
    ]
    return np.concatenate(means)
