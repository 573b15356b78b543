"""Intervals against closed forms, peers, enumeration and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, bootstrap
from scipy.stats.contingency import relative_risk

from alignment_extraction.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    named_seed,
    rarefaction,
    ratio,
    wilson,
)


def test_named_seeds_differ_and_stay() -> None:
    seeds = {named_seed(seed, name) for seed in range(20) for name in ("a", "b", "1/a")}
    assert len(seeds) == 60
    assert named_seed(0, "audit") == named_seed(0, "audit")
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ("hits", "n"), [(0, 1), (0, 500), (1, 1), (3, 10), (5, 10_000), (500, 500)]
)
def test_wilson_is_scipys(hits: int, n: int, level: float) -> None:
    peer = binomtest(hits, n).proportion_ci(level, method="wilson")
    interval = wilson(hits, n, level)
    assert interval.estimate == hits / n
    assert interval.low == pytest.approx(peer.low, abs=1e-12)
    assert interval.high == pytest.approx(peer.high, abs=1e-12)


def test_wilson_of_arrays_and_of_nothing() -> None:
    interval = wilson([0, 2, 0], [10, 10, 0])
    assert interval.estimate[:2].tolist() == [0, 0.2]
    assert all(np.isnan(bound[2]) for bound in interval)
    assert interval.low[0] == 0
    # Without hits the upper bound is z^2 / (n + z^2).
    assert interval.high[0] == pytest.approx(3.8415 / 13.8415, abs=1e-4)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate(counts: tuple[int, int]) -> None:
    interval = wilson(*counts)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize("rate", [0.003, 0.05, 0.3, 0.9])
def test_wilson_covers_at_its_level(rate: float) -> None:
    n = 500
    hits = np.arange(n + 1)
    interval = wilson(hits, n)
    covered = (interval.low <= rate) & (rate <= interval.high)
    # Exactly, over every count and its probability; the method is known to sway by a few points.
    assert 0.93 < binom.pmf(hits, n, rate)[covered].sum() < 0.985


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("hits", "other", "n"), [(5, 1, 100), (30, 30, 500), (7, 90, 100)])
def test_ratio_is_scipys_relative_risk(hits: int, other: int, n: int, level: float) -> None:
    peer = relative_risk(hits, n, other, n)
    bounds = peer.confidence_interval(level)
    assert ratio(hits, other, n, level) == pytest.approx(
        (peer.relative_risk, bounds.low, bounds.high)
    )


def test_ratio_to_nothing() -> None:
    found = ratio(40, 0, 100)
    assert (found.estimate, found.high) == (np.inf, np.inf)
    assert found.low == pytest.approx(float(wilson(40, 100).low / wilson(0, 100).high))
    nothing = ratio(0, 0, 100)
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high) == (0, np.inf)


def test_ratio_of_nothing() -> None:
    found = ratio(0, 40, 100)
    assert (found.estimate, found.low) == (0, 0)
    assert found.high == pytest.approx(float(wilson(0, 100).high / wilson(40, 100).low))


def test_ratio_covers_at_least_at_its_level_for_correlated_hits() -> None:
    rng = np.random.default_rng(0)
    n, strings, semantic = 400, 0.1, 0.25
    covered = 0
    for _ in range(400):
        draws = rng.random(n)  # whatever is found as a string is found by its meaning
        found = ratio(int((draws < semantic).sum()), int((draws < strings).sum()), n)
        covered += found.low <= semantic / strings <= found.high
    assert covered / 400 > 0.94


def test_rarefaction_is_the_mean_over_all_subsets() -> None:
    counts = np.array([3, 1, 0, 2, 2])  # the last two samples hit nothing
    samples = [0] * 3 + [1] + [3] * 2 + [None] * 2
    for size in range(len(samples) + 1):
        distinct = [len(set(subset) - {None}) for subset in itertools.combinations(samples, size)]
        assert rarefaction(counts, np.array([size]))[0] == pytest.approx(np.mean(distinct))


def test_rarefaction_at_scale() -> None:
    rng = np.random.default_rng(0)
    counts = np.append(rng.geometric(0.2, 3000), 40_000)
    total = counts.sum()
    curve = rarefaction(counts, np.array([0, 1, total // 2, total - 1, total]))
    assert curve[0] == 0
    assert curve[1] == pytest.approx(1 - 40_000 / total)
    assert curve[-1] == pytest.approx(3000)
    # Dropping one sample loses an item if it was the only one to hit it.
    assert curve[-2] == pytest.approx(3000 - (counts[:-1] == 1).sum() / total)
    samples = np.repeat(np.arange(len(counts)), counts)
    draws = [
        len(np.setdiff1d(rng.choice(samples, total // 2, replace=False), [3000])) for _ in range(30)
    ]
    assert curve[2] == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 30**0.5)


def test_rarefaction_without_hits() -> None:
    assert rarefaction(np.array([10]), np.array([0, 5, 10])).tolist() == [0, 0, 0]


def test_bootstrap_mean_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    peer = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap_mean(values, seed=2, draws=20_000)
    assert found.estimate == values.mean()
    assert found.low == pytest.approx(peer.low, abs=0.01)
    assert found.high == pytest.approx(peer.high, abs=0.01)


def test_bootstrap_is_seeded_and_goes_in_blocks() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)
    many = np.random.default_rng(0).normal(size=30_000)  # 133 resamples a block
    found = bootstrap_mean(many, seed=1, draws=300)
    half = 1.96 * many.std() / len(many) ** 0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.2)


def test_bootstrap_of_nothing() -> None:
    assert all(math.isnan(x) for x in bootstrap_mean(np.array([]), seed=0))
    for samples in (([], [1.0]), ([1.0], [])):
        assert all(math.isnan(x) for x in bootstrap_difference(*map(np.array, samples), seed=0))


def test_bootstrap_difference_of_constants() -> None:
    assert bootstrap_difference(np.full(5, 3.0), np.full(9, 1.0), seed=0) == (2, 2, 2)


def test_bootstrap_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    runs, mean, difference = 300, 0, 0
    for i in range(runs):
        treated, control = rng.normal(0.5, 1, 80), rng.normal(0, 2, 60)
        found = bootstrap_mean(treated, seed=i, draws=500)
        mean += found.low <= 0.5 <= found.high
        found = bootstrap_difference(treated, control, seed=i, draws=500)
        difference += found.low <= 0.5 <= found.high
    # 95 % of 300 with three standard errors, and the percentile method's slight shortfall.
    assert 0.89 < mean / runs < 0.985
    assert 0.89 < difference / runs < 0.985
