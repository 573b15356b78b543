"""Estimates of the unseen against published values, closed forms and simulated populations."""

import numpy as np
import pytest

from alignment_extraction.extraction.unseen import (
    chao1,
    extrapolate,
    rarefaction_interval,
    sample_coverage,
)
from tests.populations import POPULATIONS, draw

# Beetles of two forests (Chao and Chiu 2016); the R package tabula tests its bias-corrected Chao1
# with them.
ABUNDANCES = [*range(1, 22), 23, 25, 27, 28, 30, 32, 34, 35, 36, 37, 41, 45, 46, 49, 52]
ABUNDANCES += [89, 110, 123, 140]
EDGE = [113, 50, 39, 29, 15, 11, 13, 5, 6, 6, 3, 4, 3, 5, 2, 5, 2, 2, 2, 2, 1]
EDGE += [2, 1, 1, 1, 1, 1, 0, 0, 2, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0]
INTERIOR = [129, 49, 42, 32, 19, 17, 7, 9, 7, 7, 6, 3, 3, 3, 4, 4, 2, 2, 3, 4, 6]
INTERIOR += [2, 1, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1]
# Counts of scikit-bio's tests, whose intervals are those of EstimateS.
COUNTS = np.array([0, 1, 1, 4, 2, 5, 2, 4, 1, 2])


@pytest.mark.parametrize(("times", "expected"), [(EDGE, 458.016), (INTERIOR, 536.044)])
def test_chao1_is_the_published(times: list[int], expected: float) -> None:
    counts = np.repeat(ABUNDANCES, times)
    assert chao1(counts, counts.sum()).estimate == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("counts", "estimate", "low", "high"),
    [
        (COUNTS, 9.75, 9.07, 17.45),
        (np.array([0, 2, 2, 4, 5]), 4, 4, 4.95),
        (np.array([0, 1, 1, 4, 5]), 5, 4.08, 17.27),
    ],
)
def test_chao1_intervals_are_those_of_estimates(
    counts: np.ndarray, estimate: float, low: float, high: float
) -> None:
    # EstimateS leaves (n - 1) / n out: as many misses as make it 1.
    found = chao1(counts, 10**9)
    assert found.estimate == pytest.approx(estimate, abs=1e-6)
    assert found[1:] == pytest.approx((low, high), abs=0.01)


def test_nothing_hit() -> None:
    nothing = np.zeros(3, np.int64)
    assert chao1(nothing, 100) == (0, 0, np.inf)
    assert np.isnan(sample_coverage(nothing).estimate)
    assert sample_coverage(nothing)[1:] == (0, 1)
    # No hit in 100 bounds the rate at 3.84 / 103.84: 36.99 hits in 1,000.
    assert extrapolate(nothing, 100, 10) == (0, 0, 36)


def test_one_hit_and_singletons_alone_say_that_they_know_little() -> None:
    one = chao1(np.array([1]), 100)
    assert one.low == one.estimate == 1 < one.high
    assert extrapolate(np.array([1]), 100, 10).high > 10
    singletons = sample_coverage(np.ones(5, np.int64))
    assert singletons.estimate == singletons.low == 0
    assert singletons.high == pytest.approx(1 - 0.5655, abs=1e-3)


def test_sample_coverage_is_estys_interval() -> None:
    # scikit-bio's test: the draws 1, 1, 2, 1, 1, 3, 2, 1, 3, 4 leave 0.1 unseen, -+ 0.43385652.
    found = sample_coverage(np.array([5, 2, 2, 1]))
    assert found.estimate == pytest.approx(0.9)
    assert found.low == pytest.approx(1 - 0.53385652)
    assert found.high == 1


@pytest.mark.parametrize("population", list(POPULATIONS.values())[::3])
def test_sample_coverage_covers(population: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        counts = draw(population, 1000, rng)
        found = sample_coverage(counts)
        covered += found.low <= population[counts > 0].sum() / population.sum() <= found.high
    assert covered / 300 >= 0.9


def test_chao1_covers_where_all_are_equally_likely() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        found = chao1(draw(POPULATIONS["uniform, 500 items"], 1000, rng), 1000)
        covered += found.low <= 500 <= found.high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("samples", [200, 1000, 5000])
def test_predictions_of_ten_times_the_samples_cover(samples: int) -> None:
    """Over populations of every kind about 95 % of the intervals hold what then comes."""
    rng = np.random.default_rng(samples)
    runs, shares = 60, {}
    for name, population in POPULATIONS.items():
        covered = 0
        for _ in range(runs):
            counts = draw(population, samples, rng)
            later = counts + draw(population, 9 * samples, rng)
            found = extrapolate(counts, samples, 10)
            covered += found.low <= (later > 0).sum() <= found.high
        shares[name] = covered / runs
    assert min(shares.values()) >= 0.65, shares
    assert np.mean(list(shares.values())) >= 0.9, shares


def test_predictions_of_a_run_of_which_nine_tenths_are_hidden() -> None:
    """A fixed run of draws with many heavy items: what a random tenth of it says of the whole."""
    rng = np.random.default_rng(5)
    run = rng.choice(5001, 10_000, p=np.r_[POPULATIONS["Zipf, exponent 1, 5,000 items"], 0.5])
    distinct = len(set(run) - {5000})
    covered = 0
    for _ in range(100):
        part = rng.choice(run, 1000, replace=False)
        found = extrapolate(np.bincount(part, minlength=5001)[:-1], 1000, 10)
        covered += found.low <= distinct <= found.high
    assert covered >= 85


def test_predictions_grow_with_the_samples() -> None:
    counts = np.array([1] * 30 + [2] * 10 + [3] * 4 + [9] * 3)
    found = np.array([extrapolate(counts, 500, factor) for factor in (1, 1.5, 3, 10)])
    assert found[0].tolist() == [47] * 3
    assert (np.diff(found, axis=0) > 0).all()
    assert (found[1:, 1] < found[1:, 0]).all()
    assert (found[1:, 0] < found[1:, 2]).all()


def test_items_hit_often_leave_nothing_unseen() -> None:
    assert extrapolate(np.array([50, 60]), 500, 10) == (2, 2, 2)


def test_rarefaction_interval_is_that_of_all_subsets() -> None:
    counts = np.array([6, 3, 3, 2, 1, 1, 1, 13])
    samples = np.array([0, 1, 8, 20, 30])
    found = rarefaction_interval(counts, samples)
    rng = np.random.default_rng(6)
    run = np.repeat(np.arange(8), counts)
    for m, estimate, low, high in zip(samples, *found, strict=True):
        drawn = [len(set(rng.choice(run, m, replace=False)) - {7}) for _ in range(4000)]
        assert estimate == pytest.approx(np.mean(drawn), abs=0.06)
        half = 1.959964 * np.std(drawn)
        assert high == pytest.approx(min(7, np.mean(drawn) + half), abs=0.15)
        assert low == pytest.approx(max(0, np.mean(drawn) - half), abs=0.15)
