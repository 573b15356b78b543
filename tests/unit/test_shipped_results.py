"""What the shipped default study has to show, its truth being known."""

import io

import polars as pl
import pytest

from tests.shipped import shipped


def table(name: str) -> pl.DataFrame:
    frame = pl.read_parquet(io.BytesIO(shipped("results", f"controlled/{name}.parquet")))
    return frame.filter(pl.col("part") == "question", pl.col("prefix") == "user")


@pytest.mark.parametrize("model", ["sft-q8", "rl-q8"])
def test_members_repeated_64_times_are_extracted_verbatim(model: str) -> None:
    found = table("repetitions").filter(
        model=model, metric="verbatim", repetitions=64, reference="sft.member"
    )
    assert found["items"].to_list() == [16]
    assert found["extracted"][0] >= 15


def test_held_out_templates_are_not_extracted() -> None:
    found = table("rates").filter(
        pl.col("model").is_in(["sft-q8", "rl-q8"]),
        pl.col("reference").str.ends_with(".held-out-template"),
    )
    assert found["n"].min() == 10_000
    assert found["hits"].sum() == 0


def test_the_base_model_writes_nothing_of_the_sft_and_rl_data() -> None:
    found = table("rates").filter(
        pl.col("model").str.starts_with("base-"), pl.col("reference").str.contains(r"^(sft|rl)\.")
    )
    assert found["hits"].sum() == 0 < found.height
