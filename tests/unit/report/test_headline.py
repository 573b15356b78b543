"""Which models the report speaks of, and how sources and seeds are put together."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.report.headline import (
    fixed,
    headline,
    headline_models,
    pool_seeds,
    total,
)
from tests.report_study import SETTINGS, attribution, results, risk, rows


def test_trained_models_with_the_most_samples_at_the_first_prefix() -> None:
    assert headline_models(results(), SETTINGS) == [
        ("sft-q8", "user", 10_000),
        ("rl-q8", "user", 10_000),
    ]


def test_the_studys_order_decides() -> None:
    settings = {**SETTINGS, "prefixes": ["bos", "user"], "models": ["rl-q8", "sft-q4", "sft-q8"]}
    chosen = headline_models(results(), settings)
    assert {prefix for _, prefix, _ in chosen} == {"bos"}
    assert [model for model, _, _ in chosen][:3] == ["rl-q8", "sft-q4", "sft-q8"]
    assert "base-q8" not in [model for model, _, _ in chosen]


def test_without_generations_those_with_trained_rows() -> None:
    chosen = headline_models(results(attribution=None), SETTINGS)
    assert [model for model, _, _ in chosen] == [
        "sft-q8",
        "sft-q4",
        "sft-assistant-loss-q8",
        "rl-q8",
    ]


def test_sums_of_independent_estimates_cover() -> None:
    """Two binomial rates of different width: the sum's interval covers at its nominal rate."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        parts = []
        for n, p in ((2000, 0.02), (500, 0.1)):
            rate = rng.binomial(n, p) / n
            half = 1.96 * np.sqrt(rate * (1 - rate) / n)
            parts.append({"value": rate, "low": rate - half, "high": rate + half})
        (row,) = pl.DataFrame(parts).select(total("value")).to_dicts()
        covered += row["low"] <= 0.12 <= row["high"]
    assert 0.92 <= covered / 400 <= 0.98


def test_a_sum_of_one_is_itself() -> None:
    one = pl.DataFrame({"value": [3.0], "low": [1.0], "high": [7.0]})
    assert one.select(total("value")).equals(one)


def test_seeds_are_weighted_by_their_generations() -> None:
    frame = pl.DataFrame(
        {
            "k": ["a", "a"],
            "n": [100, 300],
            "attributable": [0.1, 0.2],
            "low": [0.0, 0.1],
            "high": [0.2, 0.3],
        }
    )
    (row,) = pool_seeds(frame, ["k"]).to_dicts()
    assert row["n"] == 400
    assert row["attributable"] == pytest.approx(0.175)
    assert (row["low"], row["high"]) == pytest.approx((0.075, 0.275))


def test_only_the_fixed_thresholds_and_the_first_field_count() -> None:
    table = attribution()
    both = pl.concat([table, table.with_columns(field=pl.lit("both"), attributable=pl.lit(0.9))])
    rates = fixed(both)
    assert rates["attributable"].to_numpy().max() < 0.9
    assert rates.filter(model="sft-q8", prefix="user", source="sft", level="rows").height == 4


def test_numbers_of_a_model_are_those_of_what_it_was_trained_on() -> None:
    study = results()
    sft, rl = (headline(study, model, "user", 10_000) for model in ("sft-q8", "rl-q8"))
    assert sft.sources == ("sft",)
    assert rl.sources == ("sft", "rl")
    assert sft.risk is not None
    assert rl.risk is not None
    assert (sft.risk.rows, rl.risk.rows) == (1300, 2600)
    own = study["risk"].filter(model="rl-q8", role="member", samples=1e6)
    assert rl.risk.at_risk.estimate == pytest.approx(sum(own["at_risk"]))
    parts = study["attribution"].filter(
        model="rl-q8", prefix="user", level="rows", metric="verbatim", at="fixed"
    )
    assert rl.rates["verbatim"].estimate == pytest.approx(sum(parts["attributable"]))
    assert sft.template_rates["cosine"].estimate > sft.rates["cosine"].estimate


def test_another_number_of_samples() -> None:
    study = results()
    few, many = (headline(study, "sft-q8", "user", 10_000, n).risk for n in (10_000, 10**9))
    assert few is not None
    assert many is not None
    assert few.at_risk.estimate < many.at_risk.estimate
    assert headline(study, "sft-q8", "user", 10_000, 12_345).risk is None


def test_held_out_rows_stand_in_for_twins() -> None:
    table = rows().with_columns(role=pl.col("role").replace("twin", "held-out"))
    own = headline(results(rows=table, risk=risk(table)), "sft-q8", "user", 10_000)
    assert own.never is not None
    assert own.never.rows == 1300
