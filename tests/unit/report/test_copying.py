"""What the report says of coverage and copying, with hits and without."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.figures.copying import (
    coverage,
    kinds,
    most_extracted_group,
    traits,
)
from alignment_extraction.report import copying as report_copying
from tests.tracked_study import settings, write_results

Tables = dict[str, pl.DataFrame]
HOSTILE = "<b>\u202e"


def tables_of(folder: Path, threshold: float) -> Tables:
    # One seed, so that a cell's rows are the cell's.
    study = settings(thresholds={"embedding": threshold, "string": threshold}, seeds=[0])
    write_results(folder, study)
    return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return tables_of(tmp_path_factory.mktemp("some") / "results", 0.9)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    # Invented scores are below 1.
    return tables_of(tmp_path_factory.mktemp("none") / "results", 1.0)


def test_coverage_in_words(tables: Tables) -> None:
    group = most_extracted_group(tables)
    assert group is not None
    assert (group["model"], group["prefix"]) == ("rl", "user")
    rows = tables["richness"].filter(
        *[pl.col(key) == value for key, value in group.items()], metric="embedding", unit="item"
    )
    row = rows.row(0, named=True)
    text = " ".join(report_copying.coverage_sentences(tables))
    assert (
        f"In {row['n']} generations, rl (prefix user) gave away {row['distinct']} of the 20" in text
    )
    interval = report_copying.between(row["predicted_low"], row["predicted_high"])
    assert f"(95 % interval {interval})" in text
    assert "from the first 6 generations alone" in text
    assert ("within the interval" in text) == (
        row["tenth_low"] <= row["distinct"] <= row["tenth_high"]
    )


def test_zero_is_a_result(nothing: Tables) -> None:
    text = " ".join(report_copying.coverage_sentences(nothing))
    assert "rl, prefix user, gave away no item" in text
    # 10 x 60 x 3.84 / 63.84 is more than the items that there are.
    assert "at most 20" in text
    section = report_copying.section(nothing)
    assert section["most_hit"] == section["kinds"] == []
    assert "no copying to take apart" in section["kind_sentences"][0]
    assert [row["coverage"] for row in section["richness"]] == ["\u2013"] * len(section["richness"])
    assert traits(nothing, settings().thresholds) is None
    assert kinds(nothing, settings().thresholds) is None
    assert coverage(nothing, settings().thresholds) is None


def test_rows_have_intervals(tables: Tables) -> None:
    section = report_copying.section(tables)
    assert len(section["richness"]) >= 8
    for row in section["richness"]:
        assert " to " in row["chao1"]
        assert " to " in row["predicted"]
    for row in section["kinds"]:
        assert " to " in row["share"]
        assert " to " in row["rate"]
    shares = {row["kind"]: row["hits"] for row in section["kinds"] if row["model"] == "sft"}
    assert set(shares) == {"verbatim", "templated", "paraphrased"}


def test_items_hit_most(tables: Tables) -> None:
    group = most_extracted_group(tables)
    assert group is not None
    tables = {
        **tables,
        "anatomy": tables["anatomy"].with_columns(generation=pl.lit(HOSTILE)),
    }
    rows = report_copying.most_hit_items(tables, most=3)
    items = tables["items"].filter(
        *[pl.col(key) == value for key, value in group.items()], metric="embedding"
    )
    assert [row["hits"] for row in rows] == items["hits"].sort(descending=True)[:3].to_list()
    assert all(row["example"] == "<b>⟨U+202E⟩" for row in rows)
    assert all(row["cluster_size"] == 20 for row in rows)


def test_templates_filled_in_differently_are_told(tables: Tables) -> None:
    changed = tables["kinds"].with_columns(
        hits=pl.when(pl.col("kind") == "templated").then("extracted").otherwise(0),
        numbers_changed=pl.when(pl.col("kind") == "templated").then("extracted").otherwise(0),
    )
    text = report_copying.kind_sentences({**tables, "kinds": changed})[1]
    assert text.startswith("Of the templated, 100 % (95 % interval ")
    assert "hold other numbers than their match" in text


def test_every_match_has_its_span(tables: Tables) -> None:
    matches = report_copying.with_kinds(tables["matches"], tables["anatomy"])
    assert matches.height == tables["matches"].height
    assert matches["span"].null_count() == 0
    hits = matches["cosine"] >= 0.9
    assert matches.filter(hits)["kind"].null_count() == 0
    assert matches.filter(hits).height > 0
