"""Intervals over seeds and items: closed forms, a simulation, and what an edge bounds."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alignment_extraction.distillation.results import (
    SCHEMA,
    Student,
    compare,
    count_table,
    crossed_bootstrap,
    curve_table,
    results_table,
)
from alignment_extraction.files import InputError
from alignment_extraction.statistics import subtract, wilson


def test_one_seed_is_the_bootstrap_of_items() -> None:
    values = np.random.default_rng(1).normal(size=(1, 400))
    drawn = crossed_bootstrap({"a": values}, seed=0, draws=20_000)["a"]
    assert drawn.mean() == pytest.approx(values.mean(), abs=2e-3)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.02)


def test_variance_is_that_of_crossed_effects() -> None:
    """Owen 2007: var = s2 / S + i2 / I + ... for effects of seeds and of items."""
    generator = np.random.default_rng(2)
    seeds, items = generator.normal(0, 1, (60, 1)), generator.normal(0, 3, (1, 300))
    drawn = crossed_bootstrap({"a": seeds + items}, seed=0, draws=20_000)["a"]
    assert drawn.var() == pytest.approx(seeds.var() / 60 + items.var() / 300, rel=0.04)


def test_items_are_shared_and_seeds_are_not() -> None:
    items = np.random.default_rng(3).normal(0, 10, (1, 200))
    drawn = crossed_bootstrap({"a": items + 1, "b": np.repeat(items, 3, axis=0)}, seed=0)
    assert np.allclose(drawn["a"] - drawn["b"], 1)


def test_intervals_cover_over_seeds_and_items() -> None:
    generator = np.random.default_rng(4)
    hits, runs = 0, 200
    for run in range(runs):
        common = generator.normal(0, 1, (1, 120))
        samples = {
            name: mean
            + generator.normal(0, 0.2, (8, 1))
            + common
            + generator.normal(0, 1, (8, 120))
            for name, mean in (("original", 0.0), ("extracted", 0.5))
        }
        difference = compare(samples, "loss", run)["extracted"]["difference"]
        assert difference is not None
        hits += difference.low <= 0.5 <= difference.high
    assert 0.9 <= hits / runs <= 1


def test_gain_is_counted_from_the_untrained_model() -> None:
    generator = np.random.default_rng(5)
    noise = generator.normal(0, 0.01, (1, 100))
    samples = {
        "start": 4 + noise,
        "original": np.repeat(1 + noise, 3, axis=0),
        "extracted": np.repeat(1.6 + noise, 3, axis=0),
    }
    found = compare(samples, "loss", 0)
    recovered = found["extracted"]["recovered"]
    assert recovered is not None
    assert recovered.estimate == pytest.approx(0.8)
    assert found["original"]["difference"] is None
    assert found["start"]["recovered"] is None
    assert found["start"]["difference"].estimate == pytest.approx(3)  # type: ignore[union-attr]


def test_no_gain_of_the_original_leaves_none_to_recover() -> None:
    values = np.random.default_rng(6).normal(size=(3, 50))
    found = compare({"start": values[:1], "original": values, "extracted": values}, "loss", 0)
    assert found["extracted"]["recovered"] is None


def test_a_harm_of_the_original_is_no_gain() -> None:
    noise = np.random.default_rng(7).normal(0, 0.01, (1, 100))
    samples = {"start": 1 + noise, "original": 2 + noise, "extracted": 3 + noise}
    assert compare(samples, "loss", 0)["extracted"]["recovered"] is None
    recovered = compare(samples, "accuracy", 0)["extracted"]["recovered"]
    assert recovered is not None
    assert recovered.estimate == pytest.approx(2)


def test_no_right_answer_is_bounded() -> None:
    samples = {"original": np.zeros((3, 50)), "extracted": np.zeros((3, 50))}
    found = compare(samples, "accuracy", 0)
    zero = wilson(0, 50)
    assert found["original"]["value"] == pytest.approx((0, 0, float(zero.high)))
    assert found["extracted"]["difference"] == pytest.approx(subtract(zero, zero))


def examined(right: float, ids: str = "abcd") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "benchmark": ["sft.fresh-instance"] * len(ids),
            "id": list(ids),
            "template": ["t"] * len(ids),
            "right": [right, 0.0, 1.0, 0.0][: len(ids)],
            "loss": [1.0, 2.0, 3.0, 4.0][: len(ids)],
            "tokens": [5] * len(ids),
        }
    )


def test_the_table_has_a_row_for_each_student_benchmark_and_measure() -> None:
    students = {
        Student(family, arm, seed): examined(float(arm == "original"))
        for family in ("sft", "rl")
        for arm in ("start", "original", "extracted")
        for seed in ((0,) if arm == "start" else (0, 1))
    }
    table = results_table(students, seed=0)
    assert table.schema == SCHEMA
    assert table.height == 2 * 3 * 2
    row = table.filter(family="sft", arm="extracted", measure="accuracy").row(0, named=True)
    assert (row["seeds"], row["items"], row["value"], row["difference"]) == (2, 4, 0.25, -0.25)
    assert table.equals(results_table(students, seed=0))
    students[Student("rl", "extracted", 0)] = examined(1.0, "abce")
    with pytest.raises(InputError, match="different items of"):
        results_table(students, seed=0)


def test_curves_and_counts(tmp_path: Path) -> None:
    curve = pl.DataFrame({"step": [1, 1], "metric": ["reward", "lr"], "value": [0.5, 1e-3]})
    curves = curve_table({Student("rl", "original", 2): curve})
    assert curves.rows() == [("rl", "original", 2, 1, "reward", 0.5)]
    curation = pl.DataFrame(
        [("sft", "extracted", "empty", 5, 2, 3)],
        schema=["family", "data_set", "step", "before", "dropped", "left"],
        orient="row",
    )
    overlap = pl.DataFrame(
        {
            "benchmark": ["rl.fresh-instance"],
            "items": [10],
            "in_original": [1],
            "in_extracted": [3],
            "removed": [3],
            "left": [7],
        }
    )
    counts = count_table(curation, overlap)
    assert counts.rows()[1:] == [
        ("benchmark", "rl.fresh-instance", "in-original", 10, 1, 9),
        ("benchmark", "rl.fresh-instance", "in-extracted", 9, 2, 7),
    ]
