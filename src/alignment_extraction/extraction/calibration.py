"""Thresholds at a chosen false positive rate, and what generations reach there.

The negatives are held-out texts, which no model was trained on, searched in the corpus as if one
had written them. A generation counts as extracted where its score lies above a threshold t, and the
threshold at a false positive rate a is the least t, among the held-out scores, with

    (r + sum of w_i over held-out scores s_i > t) / (r + sum of all w_i) <= a,    r = max w_i

where w_i weighs the held-out texts so that their lengths are distributed as the generations' are.
With equal weights this is (1 + count) / (n + 1) <= a, split conformal prediction: a fresh held-out
text exceeds t with a probability of at most a, whatever the scores' distribution (Vovk, Gammerman
and Shafer 2005, chapter 2; with weights Tibshirani et al. 2019, corollary 1). It takes
n >= 1 / a - 1 held-out texts; below that a is out of reach.

Intervals know that both sides are samples. Each draw multiplies every w_i, and r, by an exponential
variate of its own (Rubin's Bayesian bootstrap, 1981). With equal weights the false positive rate of
the k-th highest held-out score is then drawn from Beta(k, n + 1 - k), which is its exact
distribution: unlike resampled rows, this holds for the few highest scores too, on which the
threshold depends. On the other side all generations whose nearest corpus item is the same one share
a variate (a cluster bootstrap), since many samples can hit one item.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from alignment_extraction.statistics import Array, Interval, ratio, wilson

DRAWS = 1000
"""Bootstrap draws."""

_LEVEL = 0.95
_BLOCK = 200_000  # variates held at once: few enough for the processor's cache
_ROUNDING = 1 + 1e-9  # of sums that are compared with a limit


class Populations(NamedTuple):
    """Generations and held-out texts with their scores by metric; `embedding` is one of them."""

    generations: Mapping[str, Array]
    """Scores, each of shape (generations,)."""
    items: Array
    """Number of the corpus item nearest to each generation: 0, 1, ... without gaps."""
    hits: Mapping[str, int]
    """Generations that count as extracted at the metric's fixed threshold: the highest scores."""
    held_out: Mapping[str, Array]
    """Scores, each of shape (held-out,); there may be none."""
    weights: Array
    """Positive, shape (held-out,)."""


class Operation(NamedTuple):
    """One metric at each false positive rate and, as the last point, at the fixed threshold."""

    threshold: Array
    """Scores above it count, shape (rates,); infinite where the rate is out of reach."""
    hits: Array
    """Generations extracted, shape (rates + 1,)."""
    rate: Interval
    """Share of the generations, shape (rates + 1,); NaN where the rate is out of reach."""
    auc: Interval
    """Chance that a generation's score exceeds a held-out text's, ties counted half."""


class Calibration(NamedTuple):
    """What `calibrate` found."""

    metrics: dict[str, Operation]
    ratios: dict[str, Interval]
    """How many times more generations `embedding` extracts than each other metric, at the same
    points, shape (rates + 1,); NaN where the false positive rate is out of reach."""


class _Ladder:
    """The scores of one metric in descending order: held-out scores are steps for generations."""

    def __init__(self, generations: Array, held_out: Array) -> None:
        self.order = np.argsort(-generations, kind="stable")
        self.held_out_order = np.argsort(-held_out, kind="stable")
        ascending, steps = np.sort(generations), held_out[self.held_out_order]
        self.beyond = len(ascending) - np.searchsorted(ascending, steps, side="right")
        self.reaching = len(ascending) - np.searchsorted(ascending, steps, side="left")
        distinct, self.above = np.unique(-steps, return_index=True)
        # Step 0 is out of reach, the last one lies below everything.
        self.thresholds = np.concatenate([[np.inf], -distinct])
        self.counts = np.concatenate([[0], self.beyond[self.above], [len(ascending)]])

    def steps(self, weights: Array, reserve: Array, rates: Array) -> Array:
        """The lowest step at each false positive rate, shape (draws, rates)."""
        sums = _running(weights[:, self.held_out_order])
        mass = sums[:, self.above] + reserve[:, None]
        limits = (sums[:, -1] + reserve)[:, None] * rates * _ROUNDING
        return np.stack([(mass <= limit[:, None]).sum(axis=1) for limit in limits.T], axis=1)


def _running(values: Array) -> Array:
    """Sums of the first 0, 1, ... values of each row."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def effective_number(weights: Array) -> float:
    """How many equally weighted texts say as much: (sum w)^2 / sum w^2 (Kish 1965); 0 for none."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def needed(weights: Array, rate: float) -> int:
    """Held-out texts, of the same weights on average, that a false positive rate takes."""
    spread = float(weights.max() / weights.mean()) if len(weights) else 1.0
    return math.ceil((1 / rate - 1) * spread / _ROUNDING)


def calibrate(populations: Populations, rates: Array, seed: int, draws: int = DRAWS) -> Calibration:
    """Rates, ratios and areas under the curve of generations against held-out texts.

    A rate's interval is the wider, at each end, of the bootstrap's and Wilson's at the threshold: a
    bootstrap of no hits would know no upper bound. Likewise a ratio's, with Katz's. In a draw the
    true threshold lies between two neighbouring held-out scores; low ends take the upper, high ends
    the lower one. An area of 0 or 1, of which the bootstrap knows no bound, gets Wilson's with the
    smaller sample's number, from Birnbaum and Klose's bound A (1 - A) / min(m, n) of its variance.

    Args:
        populations: at least one generation.
        rates: false positive rates, shape (rates,).
        seed: of the bootstrap.
        draws: of the bootstrap.
    """
    names = list(populations.generations)
    n = len(populations.items)
    ladders = {
        name: _Ladder(populations.generations[name], populations.held_out[name]) for name in names
    }
    low = {name: np.empty((draws, len(rates) + 1)) for name in names}
    high = {name: np.empty((draws, len(rates) + 1)) for name in names}
    areas = {name: np.full(draws, np.nan) for name in names}
    stream = np.random.default_rng(seed)
    weights = populations.weights
    block = max(1, _BLOCK // (n + len(weights)))
    for start in range(0, draws, block):
        here = slice(start, min(start + block, draws))
        size = here.stop - start
        masses = stream.standard_exponential((size, len(weights))) * weights
        reserve = stream.standard_exponential(size) * weights.max(initial=0)
        clusters = stream.standard_exponential((size, populations.items.max() + 1))
        for name, ladder in ladders.items():
            share = _running(clusters[:, populations.items[ladder.order]])
            share /= share[:, -1:]
            steps = ladder.steps(masses, reserve, rates)
            fixed = share[:, [populations.hits[name]]]
            for ends, shift in ((low, 0), (high, 1)):
                counts = ladder.counts[np.minimum(steps + shift, len(ladder.counts) - 1)]
                found = np.take_along_axis(share, counts, axis=1)
                ends[name][here] = np.concatenate([found, fixed], axis=1)
            if len(weights):
                wins = (share[:, ladder.beyond] + share[:, ladder.reaching]) / 2
                ordered = masses[:, ladder.held_out_order]
                areas[name][here] = (ordered * wins).sum(axis=1) / ordered.sum(axis=1)
    metrics = {}
    for name, ladder in ladders.items():
        point = ladder.steps(weights[None], weights.max(initial=0, keepdims=True), rates)[0]
        hits = np.append(ladder.counts[point], populations.hits[name])
        reachable = np.append(point > 0, True)
        if not len(weights):
            reachable[:-1] = False
        metrics[name] = Operation(
            np.where(reachable[:-1], ladder.thresholds[point], np.inf),
            hits,
            _rate_interval(hits, n, low[name], high[name], reachable),
            _area_interval(ladder, weights, n, areas[name]),
        )
    embedding = metrics["embedding"]
    ratios = {
        name: _ratio_interval(
            embedding,
            metrics[name],
            n,
            (low["embedding"], high["embedding"]),
            (low[name], high[name]),
        )
        for name in names
        if name != "embedding"
    }
    return Calibration(metrics, ratios)


def _ends(low: Array, high: Array) -> tuple[Array, Array]:
    """Outer quantiles of draws, by column; not interpolated, for draws may be infinite."""
    tail = (1 - _LEVEL) / 2
    return (
        np.quantile(low, tail, axis=0, method="lower"),
        np.quantile(high, 1 - tail, axis=0, method="higher"),
    )


def _rate_interval(hits: Array, n: int, low: Array, high: Array, reachable: Array) -> Interval:
    exact = wilson(hits, n, _LEVEL)
    ends = _ends(low, high)
    values = (exact.estimate, np.minimum(exact.low, ends[0]), np.maximum(exact.high, ends[1]))
    return Interval(*(np.where(reachable, value, np.nan) for value in values))


def _area_interval(ladder: _Ladder, weights: Array, n: int, draws: Array) -> Interval:
    if not len(weights):
        return Interval(np.nan, np.nan, np.nan)
    wins = (ladder.beyond + ladder.reaching) / (2 * n)
    area = float(np.average(wins, weights=weights[ladder.held_out_order]))
    # Rounding must not make an area beyond the ends of its range.
    area = min(max(area, 0.0), 1.0)
    if area in (0, 1):
        smaller = min(n, effective_number(weights))
        bound = wilson(area * smaller, smaller, _LEVEL)
        return Interval(area, float(bound.low), float(bound.high))
    low, high = _ends(draws, draws)
    return Interval(area, float(low), float(high))


def _ratio_interval(
    embedding: Operation,
    other: Operation,
    n: int,
    embedding_draws: tuple[Array, Array],
    other_draws: tuple[Array, Array],
) -> Interval:
    with np.errstate(invalid="ignore", divide="ignore"):
        # Draws in which neither metric found anything say nothing.
        low = np.nan_to_num(embedding_draws[0] / other_draws[1], nan=0, posinf=np.inf)
        high = np.nan_to_num(embedding_draws[1] / other_draws[0], nan=np.inf, posinf=np.inf)
    ends = _ends(low, high)
    katz = [ratio(*pair, n, _LEVEL) for pair in zip(embedding.hits, other.hits, strict=True)]
    reachable = np.isfinite(embedding.rate.estimate) & np.isfinite(other.rate.estimate)
    values = (
        np.array([interval.estimate for interval in katz]),
        np.minimum([interval.low for interval in katz], ends[0]),
        np.maximum([interval.high for interval in katz], ends[1]),
    )
    return Interval(*(np.where(reachable, value, np.nan) for value in values))
