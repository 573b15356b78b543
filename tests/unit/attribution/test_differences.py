"""Differences of conditions: a closed form, simulated coverage, and what is detectable."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.competition import attribution
from alignment_extraction.attribution.contests import Wins, contests
from alignment_extraction.attribution.differences import difference, differences
from alignment_extraction.attribution.intervals import generation_margins, quantile
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import detectable
from tests.attributed_study import hits_of, memorised, pairs, templates, toss

Make = Callable[..., tuple[pl.DataFrame, pl.DataFrame]]


def test_hits_of_one_condition_alone_in_closed_form() -> None:
    comparison = toss(
        pairs(400, "even", 0, np.random.default_rng(0)), "rows", np.random.default_rng(1)
    )
    n, blocks, hits = 1000, 400, 100
    row = np.flatnonzero(comparison.member)[:hits]
    ones = np.ones(hits)
    found = Wins(ones, row, np.ones(hits, bool), ones, np.arange(hits))
    none = found.where(row < 0)
    numbers = difference(comparison, (found, n, None), (none, n, None))
    assert numbers["difference"] == pytest.approx(0.1)
    # x is 1 / n in 100 of 400 pairs, 0 in the others.
    mean = hits / blocks / n
    squares = hits * (1 / n - mean) ** 2 + (blocks - hits) * mean**2
    fourth = hits * (1 / n - mean) ** 4 + (blocks - hits) * mean**4
    error = np.sqrt(blocks / (blocks - 1) * squares)
    freedom = min(3 * squares**2 / fourth, blocks - 1)
    # Sampling alone: the upper limit of 100 in 1,000, and the lower one of none less none.
    zero = np.zeros(1)
    sampling = np.hypot(
        generation_margins(zero + hits, zero, 1.0, n)[1], generation_margins(zero, zero, 1.0, n)[0]
    )
    margin = max(quantile(freedom) * error, sampling[0] / n)
    assert numbers["high"] - 0.1 == pytest.approx(margin)
    assert numbers["detectable"] == pytest.approx(
        detectable(margin / quantile(freedom), freedom + 1)
    )


def test_a_condition_does_not_differ_from_itself() -> None:
    stream = np.random.default_rng(0)
    population = memorised(pairs(200, "pareto", 50, stream), 0.3, 500, False, stream)
    comparison = toss(population, "rows", stream)
    found = hits_of(population, comparison, 10_000, stream)
    row = difference(comparison, (found, 10_000, None), (found, 10_000, None))
    assert row["difference"] == 0
    assert row["low"] < 0 < row["high"]


@pytest.mark.parametrize("level", ["rows", "templates"])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_interval_holds_the_true_difference(level: str, factor: float) -> None:
    """10,000 generations of the reference, 1,000 of a condition that memorised less or as much."""
    stream = np.random.default_rng(3)
    held, narrower, seen, runs = 0, 0, 0, 200
    for _ in range(runs):
        population = (
            pairs(200, "pareto", 300, stream)
            if level == "rows"
            else templates(60, 4, "pareto", 300, stream)
        )
        population = memorised(population, 0.5, 4000, False, stream)
        comparison = toss(population, level, stream)
        other = population._replace(
            popularity=population.popularity / 10, effect=population.effect * factor / 10
        )
        rates = [
            each.effect[comparison.member].sum() / n
            for each, n in ((other, 1000), (population, 10_000))
        ]
        sides = [
            (hits_of(each, comparison, n, stream), n, None)
            for each, n in ((other, 1000), (population, 10_000))
        ]
        row = difference(comparison, *sides)
        held += row["low"] <= rates[0] - rates[1] <= row["high"]
        seen += not row["low"] <= 0 <= row["high"]
        nothing = (sides[1][0].where(np.zeros(0, int)), 10_000, None)
        alone = difference(comparison, sides[1], nothing)
        narrower += row["high"] - row["low"] < alone["high"] - alone["low"]
    assert held / runs >= 0.92
    # What is memorised unevenly makes each rate uncertain, and cancels in the difference.
    if factor == 1:
        assert narrower / runs > 0.9
        assert seen / runs <= 0.08


def test_what_is_detectable_is_seen_four_times_in_five() -> None:
    stream = np.random.default_rng(4)
    seen, runs = 0, 200
    for _ in range(runs):
        population = memorised(pairs(400, "even", 20, stream), 1.0, 4000, True, stream)
        comparison = toss(population, "rows", stream)
        reference = (hits_of(population, comparison, 10_000, stream), 10_000, None)
        scale = 0.1 * (1 - 0.055 / 0.4)  # what is detectable here, of a rate of 40 %
        other = population._replace(
            popularity=population.popularity / 10, effect=population.effect * scale
        )
        row = difference(
            comparison, (hits_of(other, comparison, 1000, stream), 1000, None), reference
        )
        assert row["detectable"] == pytest.approx(0.055, abs=0.015)
        seen += row["high"] < 0
    assert 0.75 < seen / runs < 0.99


def test_the_table_is_the_difference_of_the_rates(study: Make) -> None:
    corpus, scores = study(3, n=300, planted={1: 0, 10: 8})
    less = scores.filter(pl.col("index") % 3 == 0).with_columns(prefix=pl.lit("user"))
    other = less.with_columns(model=pl.lit("q"))
    found = list(contests(pl.concat([scores, less, other]), corpus))
    families = {"m": "sft", "q": "sft"}
    table = differences(found, families, ThresholdSettings(), {})
    assert table.schema == SCHEMAS["comparisons"]
    assert table.select("model", "prefix", "metric", "reference_prefix").rows() == [
        (model, "user", metric, "full") for model in ("m", "q") for metric in ("cosine", "verbatim")
    ]
    whole = attribution(found, {"m": ["mine"], "q": []}, ThresholdSettings(), {}).filter(
        at="fixed", metric="cosine"
    )
    rates = {(row["model"], row["prefix"]): row["attributable"] for row in whole.to_dicts()}
    assert table["difference"][0] == pytest.approx(rates["m", "user"] - rates["m", "full"])
    alone = differences(found, {"m": "sft", "q": "q"}, ThresholdSettings(), {})
    assert set(alone["model"]) == {"m"}
