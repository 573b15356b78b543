"""What the shipped default study has to show, its truth being known, and what the documents say."""

import io
import re
from pathlib import Path

import polars as pl
import pytest

from tests.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]


def table(name: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(shipped("results", f"controlled/{name}.parquet")))


def fixed() -> pl.DataFrame:
    return table("attribution").filter(at="fixed", field="question")


def test_the_placebo_holds_zero() -> None:
    """The base model saw neither source: members and twins are alike to it, by every metric."""
    found = fixed().filter(model="base-q8", level="rows")
    assert found.height >= 2 * 4
    assert not found["trained"].any()
    outside = found.filter(~pl.lit(0).is_between("low", "high"))
    assert outside.is_empty(), outside


def test_what_training_repeated_most_is_attributed() -> None:
    row = fixed().row(
        by_predicate=(pl.col("model") == "sft-q8")
        & (pl.col("prefix") == "user")
        & (pl.col("source") == "sft")
        & (pl.col("level") == "rows")
        & (pl.col("metric") == "verbatim"),
        named=True,
    )
    assert row["n"] == 10_000
    assert row["low"] > 0
    doses = table("repetitions").filter(
        model="sft-q8", prefix="user", source="sft", field="question", metric="verbatim"
    )
    found = {row["repetitions"]: row for row in doses.iter_rows(named=True)}
    assert found[64]["low"] > 0
    assert found[64]["member_rows"] > 0.9 * found[64]["members"]
    assert found[1]["member_rows"] < 0.1 * found[1]["members"]


def test_likelihood_predicts_what_sampling_finds() -> None:
    found = table("calibration").filter(model="sft-q8", source="sft", role="member")
    row = found.filter(prefix="user").row(0, named=True)
    assert row["predicted"] == pytest.approx(row["observed"], rel=0.15)


def test_the_coin_was_fair() -> None:
    found = table("exchangeability").filter(level="rows")
    assert set(found["verdict"]) == {"exchangeable"}, found


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_numbers_of_the_documents_are_the_shipped_ones(page: str) -> None:
    text = (ROOT / page).read_text()
    card = shipped("results", "controlled/model_card.md").decode()
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    assert len(lines) > 4
    assert re.search("<!-- results", text)
    for line in lines:
        assert line in text, f"{page} lacks this line of the shipped model card: {line}"
