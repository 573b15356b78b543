"""Intervals over blocks against closed forms, peers, enumeration and simulated coverage."""

import itertools

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from alignment_extraction.attribution.intervals import (
    Spread,
    generation_margins,
    margins,
    quantile,
    spread,
)
from alignment_extraction.attribution.ratios import fieller
from tests.attributed_study import (
    TAILS,
    coverage,
    memorised,
    narrowing,
    pairs,
    templates,
)

NOTHING = np.zeros((2, 1))


def test_many_normal_blocks_give_the_one_sample_t_interval() -> None:
    values = np.random.default_rng(0).normal(3, 1, (3000, 1))
    found = spread(values, np.zeros(3000, np.int64), np.arange(3000))
    peer = ttest_1samp(values[:, 0], 0).confidence_interval()
    assert found.variance[0] == pytest.approx(3000 * values.var(ddof=1))
    margin = margins(found, NOTHING)[0, 0] / 3000
    assert values.mean() - margin == pytest.approx(peer.low, rel=1e-4)


def test_two_strata_give_welchs_variance() -> None:
    stream = np.random.default_rng(1)
    ours, theirs = stream.normal(2, 1, 400), stream.normal(1, 3, 400)
    values = np.concatenate([ours, -theirs])[:, None]
    found = spread(values, np.repeat([1, 2], 400), np.arange(800))
    low = ttest_ind(ours, theirs, equal_var=False).confidence_interval().low
    margin = margins(found, NOTHING)[0, 0] / 400
    assert ours.mean() - theirs.mean() - margin == pytest.approx(low, abs=0.002)


def test_blocks_without_values_count() -> None:
    values = np.array([[3.0, 1.0], [-1.0, 0.0]])
    full = np.vstack([values, np.zeros((5, 2))])
    few = spread(values, np.zeros(7, np.int64), np.arange(2))
    all_of_them = spread(full, np.zeros(7, np.int64), np.arange(7))
    for ours, theirs in zip(few, all_of_them, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_equal_outcomes_have_three_degrees_of_freedom_each() -> None:
    values = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    found = spread(values, np.zeros(10_000, np.int64), np.arange(4))
    assert found.freedom[0] == pytest.approx(12, rel=0.001)


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_of_all_labellings_at_least_93_percent_hold_0(power: float) -> None:
    # A model without memorisation, and pairs of which the first are the most often written.
    values = np.arange(1, 13) ** -float(power)
    signs = np.array(list(itertools.product([1, -1], repeat=12))).T
    labelled = signs * values[:, None]
    found = spread(labelled, np.zeros(1000, np.int64), np.arange(12))
    held = np.abs(labelled.sum(axis=0)) <= margins(found, np.zeros((2, 1)))[0]
    assert held.mean() >= 0.93


def test_without_wins_the_bound_is_clopper_and_pearsons() -> None:
    zero = np.zeros(1)
    below, above = generation_margins(zero, zero, 1.0, 1000)
    assert above[0] == pytest.approx(1000 * (1 - 0.025 ** (1 / 1000)))
    assert below[0] == above[0]
    heavier = generation_margins(zero, zero, 2.0, 1000)
    assert heavier[0] == pytest.approx(2 * below)
    assert heavier[1] == pytest.approx(above)


def test_many_generations_give_the_multinomial_variance() -> None:
    members, twins, n = np.array([30_000.0]), np.array([20_000.0]), 100_000
    margin = generation_margins(members, twins, 1.0, n)
    expected = 1.96 * np.sqrt(n * (0.3 + 0.2 - 0.1**2))
    np.testing.assert_allclose(margin[:, 0], expected, rtol=0.01)


def test_ratio_is_where_the_contrast_leaves_0() -> None:
    numerator, denominator, variances, covariance = 60.0, 40.0, (50.0, 30.0), 20.0
    z = float(quantile(np.array(np.inf)))
    estimate, low, high = fieller(
        numerator,
        denominator,
        z**2 * covariance,
        (z * variances[0] ** 0.5, z * variances[1] ** 0.5),
    )
    assert estimate == 1.5
    for bound in (low, high):
        variance = variances[0] - 2 * bound * covariance + bound**2 * variances[1]
        assert abs(numerator - bound * denominator) == pytest.approx(z * variance**0.5)


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected", "low", "high"),
    [
        (50, 0, np.inf, 10, np.inf),
        (0, 50, 0, 0, 0.2),
        (0, 0, np.nan, 0, np.inf),
        (-9, -9, np.nan, 0, np.inf),
        (-9, 50, 0, 0, None),
    ],
)
def test_ratios_without_bound(
    numerator: float, denominator: float, expected: float, low: float, high: float | None
) -> None:
    found = fieller(numerator, denominator, 0.0, (5 if numerator == 50 else 9, 5))
    assert found[0] == pytest.approx(expected, nan_ok=True)
    assert found[1] == pytest.approx(low, rel=0.02)
    assert high is None or found[2] == pytest.approx(high, rel=0.11)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("count", [5, 400])
@pytest.mark.parametrize("level", ["rows", "templates"])
def test_without_memorisation_the_interval_holds_0(tail: str, count: int, level: str) -> None:
    for hits in (2, 300):
        found = coverage(
            lambda stream, hits=hits: (  # type: ignore[misc]
                pairs(count, tail, hits, stream)
                if level == "rows"
                else templates(count, 4, tail, hits, stream)
            ),
            level,
            runs=200,
            seed=1,
        )
        # Three standard errors of 200 runs below 0.95 minus two points.
        assert found["covered"] >= 0.89
        assert abs(found["bias"]) <= 4 * found["bias_error"]


@pytest.mark.parametrize("tail", ["even", "pareto"])
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("level", ["rows", "templates"])
def test_what_was_memorised_is_found_and_held(tail: str, even: bool, level: str) -> None:
    for count in (20, 200):
        found = coverage(
            lambda stream, count=count: memorised(  # type: ignore[misc]
                pairs(count, tail, 50, stream)
                if level == "rows"
                else templates(count, 4, tail, 50, stream),
                1.0 if even else 0.3,
                200,
                even,
                stream,
            ),
            level,
            runs=200,
            seed=2,
        )
        assert found["covered"] >= 0.89
        assert abs(found["bias"]) <= 4 * found["bias_error"]
        assert found["width"] < 800


@pytest.mark.parametrize("share", [0.2, 0.75])
def test_unequal_numbers_are_weighted(share: float) -> None:
    found = coverage(
        lambda stream: templates(40, 4, "even", 200, stream), "templates", 300, 3, share=share
    )
    assert found["covered"] >= 0.9
    assert abs(found["bias"]) <= 4 * found["bias_error"]


def test_a_base_model_narrows_without_bias() -> None:
    for level, make in (("rows", pairs), ("templates", None)):
        found = narrowing(
            lambda stream, make=make: memorised(  # type: ignore[misc]
                make(100, "zipf", 300, stream) if make else templates(100, 4, "zipf", 300, stream),
                0.5,
                200,
                True,
                stream,
            ),
            level,
            runs=200,
            seed=4,
        )
        assert found["width"] < 0.7 * found["width_without"]
        assert found["rms"] < 0.8 * found["rms_without"]
        assert found["covered"] >= 0.93
        assert abs(found["bias"]) <= 4 * found["bias_error"]


def test_spread_is_of_any_number_of_columns() -> None:
    found = spread(np.empty((0, 0)), np.zeros(3, np.int64), np.arange(0))
    assert isinstance(found, Spread)
    assert found.variance.shape == (0,)
