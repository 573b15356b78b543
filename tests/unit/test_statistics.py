"""Seeds and intervals against closed forms, peers, enumeration and simulated coverage."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from alignment_extraction import statistics
from alignment_extraction.statistics import (
    Interval,
    auc_interval,
    clopper_pearson,
    cluster_bootstrap,
    cluster_rate,
    cluster_sums,
    design_effect,
    detectable,
    named_seed,
    rarefaction,
    subtract,
)


def test_named_seeds_differ_and_stay() -> None:
    seeds = {named_seed(seed, name) for seed in range(20) for name in ("a", "b", "1/a")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**32 for seed in seeds)
    # Other values would draw other samples.
    assert named_seed(0, "audit") == 2546976171


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ("hits", "n"), [(0, 1), (0, 500), (1, 1), (3, 10), (5, 10_000), (500, 500)]
)
def test_proportions_are_scipys(hits: int, n: int, level: float) -> None:
    peer = binomtest(hits, n).proportion_ci(level, method="exact")
    interval = clopper_pearson(hits, n, level)
    assert interval.estimate == hits / n
    assert interval.low == pytest.approx(peer.low, abs=1e-12)
    assert interval.high == pytest.approx(peer.high, abs=1e-12)


def test_proportions_of_arrays_and_of_nothing() -> None:
    interval = clopper_pearson([0, 2, 0], [10, 10, 0])
    assert interval.estimate[:2].tolist() == [0, 0.2]
    assert all(np.isnan(bound[2]) for bound in interval)
    assert interval.low[0] == 0
    assert interval.high[0] == pytest.approx(1 - 0.025**0.1)


@pytest.mark.parametrize("rate", [0.0004, 0.003, 0.05, 0.3, 0.9])
def test_clopper_pearson_covers_at_every_rate(rate: float) -> None:
    n = 500
    hits = np.arange(n + 1)
    chances = binom.pmf(hits, n, rate)
    exact = clopper_pearson(hits, n)
    assert chances[(exact.low <= rate) & (rate <= exact.high)].sum() >= 0.95


def test_differences_cover() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.binomial(200, 0.02, 4000), rng.binomial(500, 0.05, 4000)
    found = subtract(clopper_pearson(first, 200), clopper_pearson(second, 500))
    assert ((found.low <= -0.03) & (found.high >= -0.03)).mean() >= 0.95


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


def mean(totals: np.ndarray) -> np.ndarray:
    return totals[..., :1] / totals[..., 1:]


def test_cluster_sums() -> None:
    sums = cluster_sums(np.array(["b", "a", "b"]), np.array([1.0, 2, 3]), np.ones(3))
    assert sums.tolist() == [[2, 1], [4, 2]]


def test_the_bootstrap_of_single_rows_is_the_classical_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    sums = np.stack([values, np.ones(400)], axis=1)
    found, error = cluster_bootstrap(sums, mean, seed=1, draws=8000)
    expected = values.std(ddof=1) / 20
    half = expected * student_t.ppf(0.975, 399)
    assert found.estimate[0] == pytest.approx(values.mean())
    assert error[0] == pytest.approx(expected, rel=0.03)
    assert found.high[0] - found.low[0] == pytest.approx(2 * half, rel=0.05)
    assert found == cluster_bootstrap(sums, mean, seed=1, draws=8000)[0]
    assert found != cluster_bootstrap(sums, mean, seed=2, draws=8000)[0]


def test_too_many_clusters_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=3000)
    sums = np.stack([values, np.ones(3000)], axis=1)
    whole, whole_error = cluster_bootstrap(sums, mean, seed=1, draws=1000)
    monkeypatch.setattr(statistics, "MOST_CLUSTERS", 500)
    pooled, error = cluster_bootstrap(sums, mean, seed=1, draws=1000)
    assert pooled.estimate == whole.estimate
    assert error[0] == pytest.approx(whole_error[0], rel=0.15)


def test_one_cluster_tells_nothing_of_others() -> None:
    found, error = cluster_bootstrap(np.array([[3.0, 2]]), mean, seed=0)
    assert found.estimate[0] == 1.5
    assert np.isnan([found.low, found.high, error]).all()


@pytest.mark.parametrize("clusters", [3, 5, 12, 60])
def test_the_cluster_bootstrap_covers(clusters: int) -> None:
    """Rows with a template's own effect, unequal numbers of them; truth 0."""
    rng = np.random.default_rng(clusters)
    runs, covered, naive = 400, 0, 0
    for run in range(runs):
        labels = np.repeat(np.arange(clusters), rng.integers(5, 30, clusters))
        values = rng.normal(0, 1, clusters)[labels] + rng.normal(0, 1, len(labels))
        ones = np.ones(len(labels))
        found, _ = cluster_bootstrap(cluster_sums(labels, values, ones), mean, run, draws=400)
        covered += bool(found.low[0] <= 0 <= found.high[0])
        naive += abs(values.mean()) <= 1.96 * values.std() / len(labels) ** 0.5
    assert covered / runs > 0.91
    assert naive / runs < 0.75


def test_few_hits_of_single_rows_have_the_exact_interval() -> None:
    hits = np.array([True] + [False] * 99)
    assert design_effect(hits, np.arange(100)) == 1
    assert cluster_rate(hits, np.arange(100)) == pytest.approx(clopper_pearson(1, 100))
    nothing = cluster_rate(hits[1:], np.zeros(99))
    assert nothing == pytest.approx(clopper_pearson(0, 99))


def test_copies_are_no_more_rows() -> None:
    hits = np.random.default_rng(0).random(200) < 0.3
    copied, labels = np.repeat(hits, 10), np.repeat(np.arange(200), 10)
    assert design_effect(copied, labels) == pytest.approx(10, rel=0.03)
    assert cluster_rate(copied, labels) == pytest.approx(clopper_pearson(hits.sum(), 200), abs=3e-3)


def test_rates_of_clustered_rows_cover() -> None:
    rng = np.random.default_rng(0)
    for clusters, shape in ((8, 2.0), (40, 0.3)):
        runs, covered = 600, 0
        for _ in range(runs):
            labels = np.repeat(np.arange(clusters), 25)
            chances = rng.beta(shape, 9 * shape, clusters)[labels]
            found = cluster_rate(rng.random(len(labels)) < chances, labels)
            covered += found.low <= 0.1 <= found.high
        assert covered / runs > 0.92


def auc_of_rows(members: np.ndarray, others: np.ndarray) -> Interval:
    """Of single rows."""
    labels = np.arange(len(members) + len(others))
    return auc_interval(members, others, *np.split(labels, [len(members)]))


SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auc_is_scikit_learns(members: list[int], others: list[int]) -> None:
    found = auc_of_rows(np.array(members), np.array(others))
    labels = [1] * len(members) + [0] * len(others)
    assert found.estimate == pytest.approx(roc_auc_score(labels, members + others))
    assert 0 <= found.low <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.high <= 1


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.5])
def test_auc_intervals_cover(distance: float) -> None:
    """Normal scores a distance d apart have an AUC of Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    truth = norm.cdf(distance / np.sqrt(2))
    runs, covered = 1000, 0
    for _ in range(runs):
        found = auc_of_rows(rng.normal(distance, 1, 80), rng.normal(0, 1, 60))
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.93


def test_auc_intervals_cover_clustered_rows() -> None:
    """Templates far apart, members and twins alike in each: the truth is 1/2.

    With pairs in each template an interval of rows is too wide, with members and others of
    different templates too narrow.
    """
    rng = np.random.default_rng(0)
    runs = 400
    for shared in (True, False):
        covered = of_rows = 0
        for _ in range(runs):
            labels = np.repeat(np.arange(20), 15)
            effects = rng.normal(0, 1, 40)
            theirs = labels if shared else labels + 20
            members = effects[labels] + rng.normal(0, 1, 300)
            others = effects[theirs] + rng.normal(0, 1, 300)
            found = auc_interval(members, others, labels, theirs)
            covered += found.low <= 0.5 <= found.high
            found = auc_of_rows(members, others)
            of_rows += found.low <= 0.5 <= found.high
        assert covered / runs > 0.91
        assert of_rows / runs > 0.98 if shared else of_rows / runs < 0.8


def test_perfect_order_is_not_certain() -> None:
    found = auc_of_rows(np.array([2.0, 3, 4]), np.ones(5))
    assert found == pytest.approx((1, 0.025 ** (1 / 3), 1))
    found = auc_of_rows(np.zeros(3), np.ones(5))
    assert found == pytest.approx((0, 0, 1 - 0.025 ** (1 / 3)))


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    assert detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
    # Known from three clusters, it is twice as much: Student's 4.303 and 1.061.
    assert detectable(1.0, clusters=3) == pytest.approx(5.3634, abs=1e-4)
    draws = np.random.default_rng(0).normal(detectable(0.5), 0.5, 100_000)
    assert (draws - 1.96 * 0.5 > 0).mean() == pytest.approx(0.8, abs=0.005)
