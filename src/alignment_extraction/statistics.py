"""Seeds, intervals and the few tests that every number of a study comes from.

Which interval, and what it takes to vary:

- counts of generations, which are independent given the model: `clopper_pearson`;
- means, rates and sums of rows, which cluster by template: `cluster_bootstrap`, `cluster_rate`;
- how well a score tells two sets of rows apart: `auc_interval`.

All are at 95 % by default.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, expit, gammaln, logit, ndtri
from scipy.stats import rankdata
from scipy.stats import t as student_t

Array = np.ndarray[Any, Any]

MOST_CLUSTERS = 10_000
"""Clusters that are resampled one by one; more are first pooled at random into so many."""


class Interval(NamedTuple):
    """An estimate with its bounds; arrays or numbers."""

    estimate: Any
    low: Any
    high: Any


def named_seed(seed: int, name: str) -> int:
    """A 32-bit seed for the random stream `name`, from a study's seed alone."""
    return zlib.crc32(f"{seed}/{name}".encode())


def clopper_pearson(hits: Any, n: Any, level: float = 0.95) -> Interval:
    """The exact interval of a proportion (Clopper and Pearson 1934); neither number need be whole.

    It covers at least at its level whatever the rate; Wilson's falls to 84 % where n times the rate
    is just under 0.18.

    Args: numbers of successes and of trials, scalars or arrays; NaN comes out of 0 trials.
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    tail = (1 - level) / 2
    some, missed = n > 0, n - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / n
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1e-9), missed + 1, tail), 0.0)
        high = np.where(missed > 0, betaincinv(hits + 1, np.maximum(missed, 1e-9), 1 - tail), 1.0)
    return Interval(rate, np.where(some, low, np.nan)[()], np.where(some, high, np.nan)[()])


def subtract(a: Interval, b: Interval) -> Interval:
    """a - b of two independent estimates with their intervals, kept wide where one is at its edge.

    The method of variance estimates recovery (Zou and Donner 2008).
    """
    estimate = a.estimate - b.estimate
    low = estimate - np.hypot(a.estimate - a.low, b.high - b.estimate)
    high = estimate + np.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(estimate, low, high)


def rarefaction(counts: Array, samples: Array) -> Array:
    """Expected number of distinct items in a random subset of the samples, exactly.

    E[distinct(m)] = sum over items of 1 - C(N - n_i, m) / C(N, m), with N the samples drawn in all
    and n_i those that hit item i (Hurlbert 1971). It replaces the curve of one random order.

    Args: hits of each item, then as the last entry the samples that hit none; sizes m.
    """
    total, hit = counts.sum(), np.asarray(counts[:-1], np.float64)
    rest, m = total - hit[hit > 0], np.asarray(samples, np.float64)[:, None]
    # gammaln is infinite where m samples cannot all miss an item.
    possible = gammaln(rest + 1) - gammaln(rest - m + 1)
    log_missed = possible - gammaln(total + 1) + gammaln(total - m + 1)
    return np.asarray((1 - np.exp(log_missed)).sum(axis=1))


def cluster_sums(clusters: Array, *columns: Array) -> Array:
    """Sums of columns (rows,) over the rows of each cluster (labels of any kind, shape (rows,)).

    Float64 (clusters, columns).
    """
    labels, place = np.unique(clusters, return_inverse=True)
    return np.stack([np.bincount(place, column, len(labels)) for column in columns], axis=1)


def cluster_bootstrap(
    sums: Array, statistic: Callable[[Array], Array], seed: int, draws: int = 2000
) -> tuple[Interval, Array]:
    """A statistic of sums over clusters that were drawn at random, and its standard error.

    Whole clusters are resampled. The interval is the percentile one with each arm stretched by
    sqrt(G / (G - 1)) t / z for G clusters, t being Student's quantile with G - 1 degrees of freedom
    and z the normal one: so much is the plain one too narrow for few clusters (after Hesterberg
    2015, section 3.1). The error is the resamples' standard deviation times sqrt(G / (G - 1)). One
    cluster alone tells nothing of others: NaN.

    Args:
        sums: of each cluster, as `cluster_sums` gives them, shape (clusters, columns).
        statistic: from totals (..., columns) to values (..., values).
        seed: of the resampling.
        draws: resamples.
    """
    estimate = np.asarray(statistic(sums.sum(axis=0)), np.float64)
    stream = np.random.default_rng(seed)
    if len(sums) > MOST_CLUSTERS:
        sums = cluster_sums(stream.integers(0, MOST_CLUSTERS, len(sums)), *sums.T)
    count = len(sums)
    if count < 2:
        unknown = np.full_like(estimate, np.nan)
        return Interval(estimate, unknown, unknown), unknown
    found = []
    block = max(1, 4_000_000 // count)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        chosen = stream.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)
        found.append(statistic(weights.astype(np.float64) @ sums))
    values = np.concatenate(found)
    wider = np.sqrt(count / (count - 1))
    stretch = wider * student_t.ppf(0.975, count - 1) / ndtri(0.975)
    low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
    low = np.minimum(estimate, estimate - stretch * (estimate - low))
    high = np.maximum(estimate, estimate + stretch * (high - estimate))
    return Interval(estimate, low, high), wider * np.nanstd(values, axis=0)


def cluster_rate(hits: Array, clusters: Array, level: float = 0.95) -> Interval:
    """Share of rows that are hits, where rows cluster by template.

    Clopper and Pearson's interval for the number of independent rows that would tell as much
    (Korn and Graubard 1998, without their correction of degrees of freedom where clusters are
    single rows): honest for few hits, where a bootstrap of no hits is certain of none.

    Args: whether each row is a hit and its cluster, shape (rows,); coverage of the interval.
    """
    n = len(hits) / design_effect(hits, clusters)
    rate = float(np.mean(hits))
    return clopper_pearson(rate * n, n, level)._replace(estimate=rate)


def design_effect(hits: Array, clusters: Array) -> float:
    """How many clustered rows tell as much of a rate as one independent row, at least 1.

    The variance of the rate between clusters over that of independent rows, times the square of
    how much wider Student's interval is for so few clusters; 1 where nothing varies or each row is
    a cluster of its own.
    """
    rows, own = cluster_sums(clusters, np.ones(len(hits)), hits).T
    count, total, rate = len(rows), len(hits), np.mean(hits)
    if count < 2 or count == total or not 0 < rate < 1:
        return 1.0
    variance = count / (count - 1) * ((own - rate * rows) ** 2).sum() / total**2
    wider = float(student_t.ppf(0.975, count - 1) / student_t.ppf(0.975, max(1.0, total - 1)))
    return float(min(total, max(1.0, variance / (rate * (1 - rate) / total) * wider**2)))


def placements(members: Array, others: Array) -> tuple[float, Array, Array]:
    """Area under the ROC curve, and what each member and each other row adds to it.

    The area is the chance that a member scores higher, ties counting half. The squares of what rows
    add, summed, are its variance (DeLong, DeLong and Clarke-Pearson 1988).

    Args: scores of either, shape (members,) and (others,).
    """
    m, n = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    below = (ranks[:m] - rankdata(members)) / n
    above = 1 - (ranks[m:] - rankdata(others)) / m
    area = float(below.mean())
    return area, (below - area) / m, (above - area) / n


def auc_interval(
    members: Array, others: Array, member_clusters: Array, other_clusters: Array
) -> Interval:
    """Area under the ROC curve of two sets of scores, each row with its cluster.

    The variance is that of `placements`, summed over clusters (Obuchowski 1997); the interval is
    symmetric in the logit, with Student's quantile for the number of clusters. Where all pairs are
    in order the variance is 0: the open end is then Clopper and Pearson's bound on
    min(members, others) pairs that share no cluster.
    """
    m, n = len(members), len(others)
    auc, *pulls = placements(members, others)
    clusters = np.concatenate([member_clusters, other_clusters])
    own = cluster_sums(clusters, np.concatenate(pulls))[:, 0]
    count = len(own)
    variance = count / (count - 1) * float((own**2).sum()) if count > 1 else 0.0
    if variance == 0 or auc in (0, 1):
        pairs = min(len(np.unique(member_clusters)), len(np.unique(other_clusters)))
        return clopper_pearson(auc * pairs, pairs)._replace(estimate=auc)
    freedom = max(1, min(count, m + n - 1) - 1)
    half = student_t.ppf(0.975, freedom) * np.sqrt(variance) / (auc * (1 - auc))
    return Interval(auc, float(expit(logit(auc) - half)), float(expit(logit(auc) + half)))


def detectable(error: Any, clusters: float | None = None) -> Any:
    """The smallest true difference that an estimate with this standard error would show.

    (z(0.975) + z(0.8)) standard errors, 2.80 of them: so large a difference is told from 0 at 95 %
    in 80 % of studies. For an error known from few clusters the quantiles are Student's.
    """
    quantile = ndtri if clusters is None else partial(student_t.ppf, df=clusters - 1)
    return (quantile(0.975) + quantile(0.8)) * error
