"""Calibrated thresholds: definitions, peers, and simulations in which the truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from alignment_extraction.extraction.calibration import (
    Calibration,
    Populations,
    calibrate,
    effective_number,
    needed,
)
from alignment_extraction.statistics import Array, wilson

RATES = np.array([0.01, 0.001])


def run(
    generations: Array,
    held_out: Array,
    weights: Array | None = None,
    items: Array | None = None,
    rates: Array = RATES,
    other: tuple[Array, Array] | None = None,
    draws: int = 50,
    seed: int = 0,
) -> Calibration:
    """`calibrate` with one metric, or two; the fixed threshold is 2."""
    pairs = {"embedding": (generations, held_out)} | ({"indel": other} if other else {})
    sides = Populations(
        {name: pair[0] for name, pair in pairs.items()},
        np.arange(len(generations)) if items is None else items,
        {name: int((pair[0] >= 2).sum()) for name, pair in pairs.items()},
        {name: pair[1] for name, pair in pairs.items()},
        np.ones(len(held_out)) if weights is None else weights,
    )
    return calibrate(sides, rates, seed, draws)


def few_values(least: int, most: int) -> st.SearchStrategy[Array]:
    """Scores with many ties."""
    return st.lists(st.integers(0, 12), min_size=least, max_size=most).map(
        lambda values: np.array(values, np.float64)
    )


@settings(max_examples=60, deadline=None)
@given(few_values(1, 20), few_values(1, 60), st.integers(0, 1000), st.booleans())
def test_threshold_is_the_least_that_the_definition_allows(
    generations: Array, held_out: Array, seed: int, equal: bool
) -> None:
    weights = np.random.default_rng(seed).integers(1, 4, len(held_out)).astype(np.float64)
    if equal:
        weights[:] = 1
    rates = np.array([0.02, 0.1, 0.5, 1.0])
    found = run(generations, held_out, weights, rates=rates, draws=2).metrics["embedding"]
    total, reserve = weights.sum() + weights.max(), weights.max()
    for at, rate in enumerate(rates):
        allowed = [
            t
            for t in np.unique(held_out)
            if reserve + weights[held_out > t].sum() <= rate * total * (1 + 1e-9)
        ]
        if allowed:
            assert found.threshold[at] == min(allowed)
            assert found.hits[at] == (generations > min(allowed)).sum()
            assert found.rate.estimate[at] == pytest.approx((generations > min(allowed)).mean())
        else:
            assert found.threshold[at] == math.inf
            assert np.isnan([end[at] for end in found.rate]).all()
    assert found.hits[-1] == (generations >= 2).sum()


def test_rate_is_the_true_positive_rate_of_the_curve() -> None:
    rng = np.random.default_rng(0)
    held_out, generations = rng.normal(size=999), rng.normal(1, 1, 400)
    found = run(generations, held_out).metrics["embedding"]
    truth = np.repeat([0, 1], [999, 400])
    false, true, _ = roc_curve(
        truth, np.concatenate([held_out, generations]), drop_intermediate=False
    )
    for at, most in enumerate((9, 0)):  # held-out scores above the threshold: 0.01 x 1000 - 1
        assert (held_out > found.threshold[at]).sum() == most
        assert found.rate.estimate[at] == pytest.approx(true[false <= (most + 0.5) / 999].max())


@settings(max_examples=60, deadline=None)
@given(few_values(1, 40), few_values(1, 40), st.integers(0, 1000))
def test_area_is_that_of_scikit_learn(generations: Array, held_out: Array, seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.5, 3, len(held_out))
    truth = np.repeat([0, 1], [len(held_out), len(generations)])
    expected = roc_auc_score(
        truth,
        np.concatenate([held_out, generations]),
        sample_weight=np.concatenate([weights, np.ones(len(generations))]),
    )
    area = run(generations, held_out, weights, draws=2).metrics["embedding"].auc
    assert area.estimate == pytest.approx(expected)


def test_out_of_reach_below_the_needed_number() -> None:
    generations = np.random.default_rng(0).normal(size=50)
    for rate, least in ((0.01, 99), (0.001, 999)):
        assert needed(np.ones(10), rate) == needed(np.ones(0), rate) == least
        for n, reached in ((least - 1, False), (least, True)):
            held_out = np.random.default_rng(1).normal(size=n)
            found = run(generations, held_out, rates=np.array([rate]), draws=5)
            assert np.isfinite(found.metrics["embedding"].threshold[0]) == reached
    weights = np.array([1.0, 3.0])
    # Twice the mean weight on the heaviest takes about twice the rows.
    assert needed(weights, 0.01) == math.ceil(99 * 1.5)
    assert effective_number(weights) == pytest.approx(1.6)


@pytest.mark.parametrize(("profile", "repetitions"), [("same", 400), ("longer", 400)])
def test_false_positive_rate_is_met_on_fresh_held_out_texts(profile: str, repetitions: int) -> None:
    """Scores rise with length, and generations are longer than held-out rows: without weights the
    threshold would be too low, and fresh text of the generations' lengths would exceed it."""
    rng = np.random.default_rng(5)
    shares = np.array([0.5, 0.5]) if profile == "same" else np.array([0.1, 0.9])
    truth, unweighted = [], []
    for _ in range(repetitions):
        band = rng.integers(0, 2, 250)
        held_out = rng.normal(band, 1)
        weights = shares[band] / np.bincount(band, minlength=2)[band] * len(band)
        for into, given_weights in ((truth, weights), (unweighted, None)):
            found = run(held_out[:1], held_out, given_weights, rates=np.array([0.05]), draws=1)
            threshold = found.metrics["embedding"].threshold[0]
            # The chance that a fresh text of the generations' lengths exceeds the threshold.
            into.append(shares @ norm.sf(threshold - np.arange(2)))
    error = np.std(truth) / repetitions**0.5
    assert 0.042 < np.mean(truth) < 0.05 + 2 * error
    if profile == "longer":
        assert np.mean(unweighted) > 0.06


def test_intervals_cover_at_their_level() -> None:
    """Two correlated scores; each item is hit by about three generations of like scores."""
    runs, n, held_out_rows = 200, 450, 800
    covered: dict[str, int] = dict.fromkeys(("rate", "rarer", "area", "ratio"), 0)
    widths = []
    for i in range(runs):
        rng = np.random.default_rng([1, i])
        held_out = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], held_out_rows)
        items = rng.integers(0, n // 3, n)
        item = rng.multivariate_normal([0, 0], [[0.7, 0.4], [0.4, 0.7]], n // 3)[items]
        scores = np.array([2, 1]) + item + rng.normal(0, 0.3**0.5, (n, 2))
        items = np.unique(items, return_inverse=True)[1]
        found = run(
            scores[:, 0],
            held_out[:, 0],
            items=items,
            rates=np.array([0.05, 0.01]),
            other=(scores[:, 1], held_out[:, 1]),
            draws=300,
            seed=i,
        )
        first = found.metrics["embedding"]
        for key, at, level in (("rate", 0, 0.05), ("rarer", 1, 0.01)):
            covered[key] += (
                first.rate.low[at] <= norm.sf(norm.isf(level) - 2) <= first.rate.high[at]
            )
        covered["area"] += first.auc.low <= norm.cdf(2**0.5) <= first.auc.high
        ratio = norm.sf(norm.isf(0.05) - 2) / norm.sf(norm.isf(0.05) - 1)
        at_ratio = found.ratios["indel"]
        covered["ratio"] += at_ratio.low[0] <= ratio <= at_ratio.high[0]
        widths.append(first.rate.high[0] - first.rate.low[0])
    # 95 % of 200 with three standard errors; the outer one of two intervals covers more often.
    for key, times in covered.items():
        assert times / runs > 0.90, key
    assert covered["area"] / runs < 0.995
    # Not by being endless: the true threshold and item effects alone give about 0.17.
    assert np.mean(widths) < 0.3


def test_no_hits_have_an_upper_bound() -> None:
    rng = np.random.default_rng(0)
    generations, held_out = rng.normal(-9, 1, 100), rng.normal(0, 1, 300)
    found = run(generations, held_out, other=(generations, held_out))
    rate = found.metrics["embedding"].rate
    assert rate.estimate[0] == rate.low[0] == rate.estimate[-1] == 0
    assert rate.high[-1] == pytest.approx(wilson(0, 100).high)
    assert rate.high[0] >= wilson(0, 100).high
    ratio = found.ratios["indel"]
    assert np.isnan(ratio.estimate[0])
    assert (ratio.low[0], ratio.high[0]) == (0, np.inf)
    area = found.metrics["embedding"].auc
    assert area.estimate == area.low == 0
    assert area.high == pytest.approx(wilson(0, 100).high)


def test_without_held_out_rows_the_fixed_threshold_alone_is_known() -> None:
    generations = np.array([1.0, 2.0, 3.0, 4.0])
    found = run(generations, np.empty(0), other=(generations - 2, np.empty(0)))
    first = found.metrics["embedding"]
    assert np.isnan(first.rate.estimate[:-1]).all()
    assert (first.hits[-1], first.rate.estimate[-1]) == (3, 0.75)
    assert first.rate.low[-1] <= wilson(3, 4).low
    assert math.isnan(first.auc.estimate)
    assert np.isnan(found.ratios["indel"].low[:-1]).all()
    assert found.ratios["indel"].estimate[-1] == 3


def test_many_samples_of_one_item_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    held_out, scores = rng.normal(size=2000), np.repeat(rng.normal(1, 1, 40), 25)
    widths = []
    for items in (np.arange(1000), np.repeat(np.arange(40), 25)):
        rate = run(scores, held_out, items=items, draws=400).metrics["embedding"].rate
        widths.append(rate.high[-1] - rate.low[-1])
    # 40 items with the weight of 1,000 generations: five times as wide.
    assert 3 < widths[1] / widths[0] < 7


def test_draws_are_seeded() -> None:
    rng = np.random.default_rng(0)
    sides = rng.normal(1, 1, 80), rng.normal(size=200)
    first, same, other = (run(*sides, seed=seed).metrics["embedding"] for seed in (0, 0, 1))
    assert first.auc == same.auc
    assert first.auc.low != other.auc.low
    assert first.auc.estimate == other.auc.estimate
