"""Differences of rates: published intervals, coverage by simulation, runs from a real MLflow."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.files import InputError
from alignment_extraction.tracking.comparison import (
    Comparison,
    compare,
    describe,
    difference,
)
from alignment_extraction.tracking.record import track
from tests import tracked_study


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:873-890, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_intervals_are_those_of_the_paper(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    interval = difference(*second, *first)
    assert interval.estimate == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_intervals_mirror_and_hold_the_estimate(n_a: int, n_b: int, data: st.DataObject) -> None:
    hits_a = data.draw(st.integers(0, n_a))
    hits_b = data.draw(st.integers(0, n_b))
    there = difference(hits_a, n_a, hits_b, n_b)
    back = difference(hits_b, n_b, hits_a, n_a)
    assert -1 - 1e-12 <= there.low <= there.estimate <= there.high <= 1 + 1e-12
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    stream = np.random.default_rng(0)
    hits_a, hits_b = stream.binomial(100, 0.05, 2000), stream.binomial(200, 0.1, 2000)
    intervals = [difference(a, 100, b, 200) for a, b in zip(hits_a, hits_b, strict=True)]
    covered = np.mean([i.low <= 0.05 <= i.high for i in intervals])
    assert 0.93 < covered < 0.98


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with a study and, by another corpus, one that shares nothing with it."""
    folder = tmp_path_factory.mktemp("runs")
    database = tracked_study.write_empty_database(folder / "mlflow.db")
    study = tracked_study.settings(sampling={"samples": 300}, overrides=[], seeds=[0])
    data = tracked_study.write_results(folder / "invented", study)
    track("invented", study, folder / "invented", data, folder / "tracked.json", database)
    for name in ("rates", "ratios", "sweep", "coverage"):
        path = folder / "invented" / f"{name}.parquet"
        frame = pl.read_parquet(path)
        frame.with_columns(pl.col("reference").str.replace("sums|role:", "other")).write_parquet(
            path
        )
    track("other", study, folder / "invented", data, folder / "tracked.json", database)
    return database


@pytest.fixture(scope="module")
def comparison(uri: str) -> Comparison:
    return compare("invented/sft/user/seed-0", "invented/rl/user/seed-0", uri)


def test_two_runs_are_compared_by_name(comparison: Comparison, uri: str) -> None:
    database = Path(uri.removeprefix("sqlite:///"))
    rates = pl.read_parquet(database.parent / "invented" / "rates.parquet").filter(
        prefix="user", metric="embedding", reference="othermember"
    )
    row = comparison.rates.row(
        by_predicate=(pl.col("reference") == "role:member") & (pl.col("metric") == "embedding"),
        named=True,
    )
    for model, side in (("sft", "a"), ("rl", "b")):
        expected = rates.row(by_predicate=pl.col("model") == model, named=True)
        assert row[f"n_{side}"] == expected["n"] == 300
        assert row[f"hits_{side}"] == expected["hits"]
        assert row[f"rate_{side}"] == expected["rate"]
    interval = difference(row["hits_a"], 300, row["hits_b"], 300)
    assert (row["difference"], row["low"], row["high"]) == interval
    assert len(comparison.rates) == 4 * 4
    assert comparison.parameters.rows() == [("model", "sft", "rl")]


def test_the_verdict_tells_a_difference_from_noise(comparison: Comparison, uri: str) -> None:
    verdicts = {
        (row["reference"], row["metric"]): row["verdict"]
        for row in comparison.rates.iter_rows(named=True)
    }
    # The invented scores of members are uniform on [0.7, 1] for one and [0.85, 1] for the other.
    assert verdicts["role:member", "embedding"] == "higher"
    assert verdicts["role:member", "verbatim"] == "noise"
    back = compare("invented/rl/user/seed-0", "invented/sft/user/seed-0", uri)
    assert "lower" in back.rates["verdict"].to_list()
    beyond = sum(verdict != "noise" for verdict in verdicts.values())
    text = describe(comparison)
    assert f"{beyond} of 16 differences are more than noise; about 0.8 would seem so" in text
    assert "a: invented/sft/user/seed-0 (" in text
    assert "| model " in text
    assert text.count("| question") == 16


def test_a_run_against_itself_differs_in_nothing(uri: str) -> None:
    same = compare("invented/sft/user/seed-0", "invented/sft/user/seed-0", uri)
    assert same.rates["difference"].to_list() == [0.0] * 16
    assert set(same.rates["verdict"]) == {"noise"}
    assert "No setting differs." in describe(same)


def test_a_run_without_rates_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="run invented has no extraction rates; name a run of"):
        compare("invented", "invented/rl/user/seed-0", uri)


def test_runs_of_different_corpora_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match="have no part, reference and metric in common"):
        compare("invented/sft/user/seed-0", "other/sft/user/seed-0", uri)
