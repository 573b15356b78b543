"""Calibration tables of a study, against its rates table and brute force."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alignment_extraction.extraction import metrics, results, scores
from alignment_extraction.extraction.calibration_tables import (
    OPERATING_RATES,
    TABLE_COLUMNS,
    calibration_tables,
    headline_numbers,
)
from alignment_extraction.extraction.scores import KEYS, score_cell
from alignment_extraction.search.matching import HELD_OUT_SCHEMA
from alignment_extraction.settings.studies import ThresholdSettings
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
THRESHOLDS = ThresholdSettings()
NUMBERS = {"embedding": "cosine", "levenshtein": "levenshtein_best", "indel": "indel_best"}


def make_held_out(rows: int = 400) -> pl.DataFrame:
    """Scores of invented held-out questions, in two groups, against the members."""
    rng = np.random.default_rng(3)
    values = rng.beta(6, 4, (3, rows)).astype(np.float32)
    return pl.DataFrame(
        {
            "id": [f"row {i}" for i in range(rows)],
            "part": "question",
            "own_group": ["sft.fresh-instance", "sft.held-out-template"] * (rows // 2),
            "characters": rng.integers(20, 40, rows),
            "group": "sft.member",
            **dict.fromkeys(("match_id", "levenshtein_best_id", "indel_best_id"), "x"),
            **dict.fromkeys(("levenshtein", "indel"), 0.1),
            **dict(zip(NUMBERS.values(), values, strict=True)),
        }
    ).select(pl.col(name).cast(kind) for name, kind in HELD_OUT_SCHEMA.items())


@pytest.fixture(scope="module")
def scored() -> pl.DataFrame:
    return pl.concat(
        [
            score_cell(cell, own, make_matches(own, CORPUS), CORPUS, PARTS)
            for cell in CELLS
            for own in [make_generations(CORPUS, cell)]
        ]
    )


@pytest.fixture(scope="module")
def tables(scored: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return calibration_tables(scored, make_held_out(), CORPUS, THRESHOLDS, 0, draws=100)


@pytest.fixture(scope="module")
def uncalibrated(scored: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Of a corpus without held-out rows."""
    return calibration_tables(scored, make_held_out().clear(), CORPUS, THRESHOLDS, 0, draws=100)


def test_tables_have_their_columns(
    tables: dict[str, pl.DataFrame], uncalibrated: dict[str, pl.DataFrame]
) -> None:
    for name, columns in TABLE_COLUMNS.items():
        keys = [*KEYS, "held_out", "length_band", "metric"]
        assert tables[name].columns == [*keys, *columns.split()]
        assert tables[name].height
        assert uncalibrated[name].schema == tables[name].schema


def test_the_fixed_thresholds_give_the_rates_of_the_study(
    scored: pl.DataFrame, tables: dict[str, pl.DataFrame], uncalibrated: dict[str, pl.DataFrame]
) -> None:
    rates = scores.rates(scored, THRESHOLDS).filter(
        pl.col("reference").is_in(["role:member", "role:unknown"])
    )
    ratios = scores.ratios(rates)
    keys = [*KEYS, "metric"]
    for found in (tables, uncalibrated):
        own = found["calibration"].filter(
            pl.col("false_positive_rate").is_null(),
            pl.col("held_out").eq("role:held-out") | pl.col("held_out").is_null(),
            length_band="all",
        )
        both = own.join(rates, on=keys, suffix="_rates")
        assert both.height == rates.height == own.height
        for name in ("n", "hits", "threshold", "rate"):
            assert both[name].to_list() == pytest.approx(both[f"{name}_rates"].to_list())
        # The interval holds Wilson's.
        assert (both["low"] <= both["low_rates"]).all()
        assert (both["high"] >= both["high_rates"]).all()
        own_ratios = found["calibration_ratios"].filter(
            pl.col("false_positive_rate").is_null(),
            pl.col("held_out").eq("role:held-out") | pl.col("held_out").is_null(),
            length_band="all",
        )
        both = own_ratios.join(ratios, on=keys, suffix="_katz")
        assert both.height == ratios.height
        assert both["ratio"].to_list() == pytest.approx(both["ratio_katz"].to_list(), nan_ok=True)
        assert (both["low"] <= both["low_katz"]).all()


def test_control_and_threshold_are_those_of_the_weighted_rows(
    scored: pl.DataFrame, tables: dict[str, pl.DataFrame]
) -> None:
    cell = {"model": "sft", "prefix": "user", "seed": 1}
    held_out, lengths = make_held_out(), make_held_out()["characters"].to_numpy()
    edges = np.quantile(lengths, [0.25, 0.5, 0.75], method="lower")
    own = scored.filter(**cell, part="question", reference="role:member")
    bands = np.searchsorted(edges, own["characters"].to_numpy())
    rows = np.searchsorted(edges, lengths)
    weights = np.array([np.mean(bands == b) / np.mean(rows == b) for b in rows])
    for metric, column in NUMBERS.items():
        values = held_out[column].to_numpy()
        table = tables["calibration"].filter(
            **cell, part="question", reference="role:member", metric=metric, length_band="all"
        )
        table = table.filter(held_out="role:held-out")
        fixed = table.filter(pl.col("false_positive_rate").is_null()).row(0, named=True)
        reached = values >= fixed["threshold"]
        assert fixed["control"] == pytest.approx(np.average(reached, weights=weights))
        assert fixed["excess"] == pytest.approx(fixed["rate"] - fixed["control"])
        assert fixed["excess_low"] < fixed["excess"] < fixed["excess_high"]
        assert fixed["held_out_rows"] == (weights > 0).sum()
        inside = own["characters"].is_between(lengths.min(), lengths.max())
        assert fixed["length_matched"] == pytest.approx(inside.mean())
        one = table.filter(false_positive_rate=0.01).row(0, named=True)
        kept = weights[weights > 0]
        reachable = kept.max() / (kept.max() + kept.sum()) <= 0.01
        assert (one["threshold"] is not None) == reachable
        if reachable:
            assert one["control"] <= 0.01
            assert one["excess"] == pytest.approx(one["rate"] - 0.01)
            assert one["hits"] == (own[column] > one["threshold"] + 1e-6).sum()
        # 0.1 % takes 999 rows of equal weights.
        rarer = table.filter(false_positive_rate=0.001).row(0, named=True)
        assert rarer["threshold"] is rarer["rate"] is rarer["hits"] is rarer["excess"] is None
        assert rarer["held_out_needed"] >= 999


def test_groups_and_bands(tables: dict[str, pl.DataFrame]) -> None:
    table = tables["calibration"].filter(part="question", reference="role:member")
    held_out = ["role:held-out", "sft.fresh-instance", "sft.held-out-template"]
    assert table["held_out"].unique(maintain_order=True).to_list() == held_out
    bands = table.filter(pl.col("length_band") != "all")
    assert set(bands["held_out"]) == {"role:held-out"}
    assert set(bands["metric"]) == {*NUMBERS, "verbatim"}
    # The bands' generations are the cell's.
    fixed = table.filter(pl.col("false_positive_rate").is_null(), metric="embedding")
    for cell in CELLS:
        own = fixed.filter(**cell._asdict(), held_out="role:held-out")
        whole = own.filter(length_band="all")
        parts = own.filter(pl.col("length_band") != "all")
        assert (parts["n"].sum(), parts["hits"].sum()) == (whole["n"][0], whole["hits"][0])
    # Rows of verbatim have no threshold to calibrate.
    assert table.filter(metric="verbatim")["false_positive_rate"].null_count() == (
        table.filter(metric="verbatim").height
    )


def test_curves_rise_with_the_false_positive_rate(tables: dict[str, pl.DataFrame]) -> None:
    for _, curve in tables["calibration_curves"].group_by([*KEYS, "metric"]):
        assert curve["false_positive_rate"].is_sorted()
        assert curve["threshold"].is_sorted(descending=True)
        assert curve["rate"].is_sorted()
        assert (curve["low"] <= curve["rate"]).all()
        assert (curve["rate"] <= curve["high"]).all()
        assert curve["false_positive_rate"][-1] == 1


def test_without_held_out_rows(uncalibrated: dict[str, pl.DataFrame]) -> None:
    assert uncalibrated["calibration_areas"].is_empty()
    assert uncalibrated["calibration_curves"].is_empty()
    table = uncalibrated["calibration"]
    assert table["held_out"].null_count() == table.height
    assert table.filter(pl.col("false_positive_rate").is_not_null())["rate"].null_count() == (
        table["false_positive_rate"].count()
    )
    assert metrics.calibration(uncalibrated) == {}


def test_without_held_out_rows_the_bands_are_quarters_of_the_generations(
    scored: pl.DataFrame,
) -> None:
    lengths = scored.with_columns(characters=pl.col("index") % 8 + 1)
    tables = calibration_tables(lengths, make_held_out().clear(), CORPUS, THRESHOLDS, 0, draws=5)
    bands = tables["calibration_ratios"].filter(part="question", reference="role:member")
    assert bands["length_band"].unique(maintain_order=True).to_list() == [
        "all",
        "up to 2",
        "3 to 4",
        "5 to 6",
        "over 6",
    ]


def test_a_study_without_any_hit(scored: pl.DataFrame) -> None:
    nothing = scored.with_columns(
        cosine=pl.lit(0.1, pl.Float32),
        levenshtein_best=pl.lit(None, pl.Float32),
        indel_best=pl.lit(None, pl.Float32),
    )
    tables = calibration_tables(nothing, make_held_out(), CORPUS, THRESHOLDS, 0, draws=50)
    table = tables["calibration"].drop_nulls("rate")
    assert (table["hits"] == 0).all()
    assert (table["high"] > 0).all()
    ratios = tables["calibration_ratios"].drop_nulls("low")
    assert ratios["ratio"].is_nan().all()
    assert (ratios["low"] == 0).all()
    assert ratios["high"].is_infinite().all()


def test_a_corpus_that_nothing_was_trained_on(scored: pl.DataFrame) -> None:
    own = scored.filter(reference="role:held-out")
    tables = calibration_tables(own, make_held_out(), CORPUS, THRESHOLDS, 0, draws=5)
    assert all(table.is_empty() for table in tables.values())


def test_headline_numbers(tables: dict[str, pl.DataFrame]) -> None:
    table = headline_numbers(tables)
    numbers = metrics.calibration(tables)
    # Only questions were searched for, and only in the members.
    assert set(table["part"]) == {"question"}
    assert table.height == len(CELLS) * 4
    for row in table.iter_rows(named=True):
        own = tables["calibration"].filter(
            **{key: row[key] for key in [*KEYS, "metric"]},
            held_out="role:held-out",
            length_band="all",
        )
        for rate in OPERATING_RATES:
            point = own.filter(false_positive_rate=rate)
            at = f"at_fpr_{rate}"
            if row["metric"] == "verbatim":
                assert row[f"rate_{at}"] is None
            else:
                assert row[f"rate_{at}"] == point["rate"][0]
                assert row[f"excess_{at}_low"] == point["excess_low"][0]
                assert row[f"threshold_{at}"] == point["threshold"][0]
        entry = numbers[row["model"]][row["prefix"]][f"seed-{row['seed']}"][row["part"]]
        entry = entry[row["reference"]][row["metric"]]
        assert entry["control"] == pytest.approx(row["control"], rel=1e-5)
        for name, value in entry.items():
            assert value == pytest.approx(row[name], rel=1e-5)
        assert ("auc" in entry) == (row["metric"] != "verbatim")


def test_the_same_inputs_give_the_same_bytes(scored: pl.DataFrame, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        results.calibrate(
            scored=scored.filter(model="sft", seed=0),
            held_out=make_held_out(),
            corpus=CORPUS,
            thresholds=THRESHOLDS,
            seed=1,
            folder=tmp_path / folder,
        )
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{name}.parquet" for name in results.CALIBRATION_TABLES}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
