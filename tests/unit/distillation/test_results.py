"""Intervals over seeds and items: closed forms, simulations, verdicts, what an edge bounds."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr

from alignment_extraction.distillation.results import (
    SCHEMA,
    compare,
    crossed_bootstrap,
    results_table,
)
from alignment_extraction.statistics import clopper_pearson, subtract


def rows(samples: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    return {row["arm"]: row for row in compare(samples, 0.03, seed)}


def test_one_seed_is_the_bootstrap_of_items() -> None:
    values = np.random.default_rng(1).normal(size=(1, 400))
    drawn = crossed_bootstrap({"a": values}, seed=0, draws=20_000)["a"]
    assert drawn.mean() == pytest.approx(values.mean(), abs=2e-3)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.02)


def test_variance_is_that_of_crossed_effects() -> None:
    """Owen 2007: var = s2 / S + i2 / I + ..., that of the seeds unbiased at any number of them."""
    generator = np.random.default_rng(2)
    seeds, items = generator.normal(0, 1, (4, 1)), generator.normal(0, 3, (1, 300))
    drawn = crossed_bootstrap({"a": seeds + items}, seed=0, draws=20_000)["a"]
    assert drawn.var() == pytest.approx(seeds.var(ddof=1) / 4 + items.var() / 300, rel=0.04)


def test_items_are_shared_and_seeds_are_not() -> None:
    items = np.random.default_rng(3).normal(0, 10, (1, 200))
    drawn = crossed_bootstrap({"a": items + 1, "b": np.repeat(items, 3, axis=0)}, seed=0)
    assert np.allclose(drawn["a"] - drawn["b"], 1)


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_cover_over_seeds_and_items(seeds: int) -> None:
    generator = np.random.default_rng(4)
    hits, runs = 0, 200
    for run in range(runs):
        common = generator.normal(0, 1, (1, 120))
        samples = {
            name: mean
            + generator.normal(0, 0.2, (seeds, 1))
            + common
            + generator.normal(0, 1, (seeds, 120))
            for name, mean in (("start", -9.0), ("original", 0.0), ("extracted", 0.5))
        }
        found = rows(samples, seed=run)["extracted"]
        hits += found["difference_low"] <= 0.5 <= found["difference_high"]
    assert 0.9 <= hits / runs <= 1


def test_gain_is_counted_from_the_untrained_model() -> None:
    noise = np.random.default_rng(5).normal(0, 0.01, (1, 100))
    samples = {
        "start": 1 + noise,
        "original": np.repeat(4 + noise, 3, axis=0),
        "extracted": np.repeat(3.4 + noise, 3, axis=0),
    }
    found = rows(samples)
    assert found["extracted"]["recovered"] == pytest.approx(0.8)
    assert "difference" not in found["original"]
    assert "verdict" not in found["original"]
    assert "recovered" not in found["start"]
    assert found["start"]["difference"] == pytest.approx(-3)


def test_no_gain_of_the_original_leaves_none_to_recover() -> None:
    values = np.random.default_rng(6).normal(size=(3, 50))
    found = rows({"start": values[:1], "original": values, "extracted": values})
    assert "recovered" not in found["extracted"]


def test_a_harm_of_the_original_is_no_gain() -> None:
    noise = np.random.default_rng(7).normal(0, 0.01, (1, 100))
    samples = {"start": 2 + noise, "original": 1.5 + noise, "extracted": 3 + noise}
    assert "recovered" not in rows(samples)["extracted"]


def answers(chance: float, seeds: int = 3, items: int = 4000, seed: int = 0) -> Any:
    return (np.random.default_rng([seed, int(100 * chance)]).random((seeds, items)) < chance) * 1.0


def test_verdicts_hold_the_interval_against_the_margin() -> None:
    samples = {
        "start": answers(0.2, seeds=1),
        "original": answers(0.7),
        "extracted": answers(0.7, seed=1),
        "extracted-without-copies": answers(0.6),
        "other": answers(0.69, items=4000),
    }
    found = rows(samples)
    verdicts = {arm: row.get("verdict") for arm, row in found.items()}
    assert verdicts["extracted"] == "non-inferior"
    assert verdicts["extracted-without-copies"] == "inferior"
    assert verdicts["start"] == "inferior"
    assert verdicts["original"] is None
    few = {arm: values[:, :60] for arm, values in samples.items()}
    assert rows(few)["extracted"]["verdict"] == "cannot tell"


def test_where_the_original_gains_nothing_equality_says_nothing() -> None:
    same = answers(0.5)
    samples = {"start": same[:1], "original": same, "extracted": same}
    found = rows(samples)
    assert found["extracted"]["difference"] == 0
    assert found["extracted"]["difference_low"] > -0.03
    assert found["extracted"]["verdict"] == "cannot tell"


def test_power_and_detectable_difference_are_those_of_a_simulation() -> None:
    """Independent answers, one seed: the standard error has a closed form."""
    chance, items = 0.5, 1500
    error = np.sqrt(2 * chance * (1 - chance) / items)
    verdicts, found = [], {}
    for run in range(60):
        samples = {
            "start": np.zeros((1, items)),
            "original": answers(chance, 1, items, 2 * run),
            "extracted": answers(chance, 1, items, 2 * run + 1),
        }
        found = rows(samples, run)["extracted"]
        verdicts.append(found["verdict"] == "non-inferior")
    assert found["detectable"] == pytest.approx(2.8 * error, rel=0.07)
    assert found["power"] == pytest.approx(ndtr(0.03 / error - 1.96), abs=0.05)
    assert np.mean(verdicts) == pytest.approx(found["power"], abs=0.16)


def test_no_right_answer_is_bounded() -> None:
    zeros = np.zeros((3, 50))
    found = rows({"start": zeros, "original": zeros, "extracted": zeros})
    zero = clopper_pearson(0, 50)
    value = [found["original"][f"value{end}"] for end in ("", "_low", "_high")]
    assert value == pytest.approx((0, 0, float(zero.high)))
    difference = [found["extracted"][f"difference{end}"] for end in ("", "_low", "_high")]
    assert difference == pytest.approx(subtract(zero, zero))
    assert found["extracted"]["power"] < 0.2


def evaluated(family: str, arm: str, seed: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "family": family,
            "arm": arm,
            "seed": seed,
            "benchmark": "sft.twin",
            "id": list("abcd"),
            "right": [float(arm == "original"), 0.0, 1.0, 0.0],
        }
    )


def test_the_table_has_a_row_for_each_family_and_arm() -> None:
    students = [
        evaluated(family, arm, seed)
        for family in ("sft", "rl")
        for arm in ("extracted", "original", "start")
        for seed in ((0,) if arm == "start" else (0, 1))
    ]
    table = results_table(pl.concat(students), 0.03, seed=0)
    assert table.schema == SCHEMA
    assert table.height == 2 * 3
    assert table["family"].unique(maintain_order=True).to_list() == ["sft", "rl"]
    assert table["arm"][:3].to_list() == ["start", "original", "extracted"]
    row = table.filter(family="sft", arm="extracted", measure="accuracy").row(0, named=True)
    assert (row["seeds"], row["items"], row["value"], row["difference"]) == (2, 4, 0.25, -0.25)
    assert (row["benchmark"], row["margin"], row["verdict"]) == ("sft.twin", 0.03, "cannot tell")
    backwards = pl.concat(reversed(students)).reverse()
    assert table.equals(results_table(backwards, 0.03, seed=0))
