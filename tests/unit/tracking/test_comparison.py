"""Differences of rates of runs from a real MLflow."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.statistics import Interval, subtract
from alignment_extraction.tracking.comparison import Comparison, compare, describe
from alignment_extraction.tracking.record import track
from tests import tracked_study


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with a study and, by another corpus, one that shares nothing with it."""
    folder = tmp_path_factory.mktemp("runs")
    database = tracked_study.write_empty_database(folder / "mlflow.db")
    study = tracked_study.settings(sampling={"samples": 300}, seeds=[0], likelihood=None)
    data = tracked_study.write_results(folder / "invented", study)
    track("invented", study, folder / "invented", data, folder / "tracked.json", database)
    path = folder / "invented" / "attribution.parquet"
    other = pl.read_parquet(path).with_columns(source=pl.lit("other"))
    other.write_parquet(path)
    track("other", study, folder / "invented", data, folder / "tracked.json", database)
    return database


@pytest.fixture(scope="module")
def comparison(uri: str) -> Comparison:
    return compare("invented/sft/user/seed-0", "invented/rl/user/seed-0", uri)


def test_two_runs_are_compared_by_name(comparison: Comparison, uri: str) -> None:
    database = Path(uri.removeprefix("sqlite:///"))
    rates = pl.read_parquet(database.parent / "invented" / "attribution.parquet").filter(
        prefix="user", metric="cosine", at="fixed"
    )
    row = comparison.rates.row(by_predicate=pl.col("metric") == "cosine", named=True)
    found = {}
    for model, side in (("sft", "a"), ("rl", "b")):
        expected = rates.row(by_predicate=pl.col("model") == model, named=True)
        assert row[f"attributable_{side}"] == expected["attributable"]
        found[side] = Interval(expected["attributable"], expected["low"], expected["high"])
    interval = subtract(found["b"], found["a"])
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(interval)
    assert comparison.rates["metric"].to_list() == ["cosine", "indel", "levenshtein", "verbatim"]
    assert comparison.parameters.rows() == [("model", "sft", "rl")]


def test_the_verdict_tells_a_difference_from_noise(comparison: Comparison, uri: str) -> None:
    verdicts = dict(comparison.rates.select("metric", "verdict").iter_rows())
    # The invented scores of members are uniform on [0.7, 1] for one and [0.85, 1] for the other.
    assert verdicts["cosine"] == "higher"
    assert verdicts["verbatim"] == "noise"
    back = compare("invented/rl/user/seed-0", "invented/sft/user/seed-0", uri)
    assert "lower" in back.rates["verdict"].to_list()
    beyond = sum(verdict != "noise" for verdict in verdicts.values())
    text = describe(comparison)
    assert f"{beyond} of 4 differences are more than noise; about 0.2 would seem so" in text
    assert "a: invented/sft/user/seed-0 (" in text
    assert "| model " in text
    assert text.count("| sums") == 4


def test_a_run_against_itself_differs_in_nothing(uri: str) -> None:
    same = compare("invented/sft/user/seed-0", "invented/sft/user/seed-0", uri)
    assert same.rates["difference"].to_list() == [0.0] * 4
    assert set(same.rates["verdict"]) == {"noise"}
    assert "No setting differs." in describe(same)


def test_a_run_without_rates_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="run invented has no attributable rates; name a run of"):
        compare("invented", "invented/rl/user/seed-0", uri)


def test_runs_of_different_corpora_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match="have no source, level, field and metric in common"):
        compare("invented/sft/user/seed-0", "other/sft/user/seed-0", uri)
