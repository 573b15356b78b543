"""Controls: every kind is found, differences are Newcombe's, the strongest is the highest."""

import polars as pl
import pytest

from alignment_extraction.extraction.controls import COINCIDENCE, SCHEMA, controls
from alignment_extraction.settings.studies import Cell, ThresholdSettings
from alignment_extraction.statistics import subtract, wilson

TARGET = Cell("sft", "user", 0)
THRESHOLDS = ThresholdSettings()


def scores(model: str, prefix: str, hits: int, n: int) -> pl.DataFrame:
    row = pl.int_range(n, eager=True)
    score = pl.Series([0.96 if i < hits else 0.2 for i in row], dtype=pl.Float32)
    columns = ["cosine", "levenshtein", "indel", "levenshtein_best", "indel_best"]
    return pl.DataFrame(
        {
            "model": [model] * n,
            "prefix": [prefix] * n,
            "seed": [0] * n,
            "index": row,
            "part": ["question"] * n,
            "reference": ["role:member"] * n,
            **dict.fromkeys(columns, score),
        }
    )


SCORED = pl.concat(
    [
        scores("sft", "user", 40, 100),
        scores("sft", "none", 50, 60),
        scores("base", "user", 2, 50),
        scores("other", "user", 0, 20),
        scores("base", "none", 9, 10),
        scores("sft", "user-t0.7", 9, 10),
    ]
)


def held_out(hits: int, n: int) -> pl.DataFrame:
    return scores("x", "x", hits, n).select(
        "part", "reference", "cosine", "levenshtein_best", "indel_best"
    )


def test_all_kinds() -> None:
    control = {TARGET: scores("x", "x", 1, 30).select("cosine", "levenshtein_best", "indel_best")}
    table = controls(
        SCORED,
        held_out(10, 100),
        control,
        cells=[TARGET],
        part="question",
        models=["base", "other"],
        prefixes=["user", "none"],
        corpus="elsewhere",
        thresholds=THRESHOLDS,
    )
    assert table.schema == pl.Schema(SCHEMA)
    own = table.filter(metric="embedding")
    assert own.select("kind", "control", "control_hits", "control_n").rows() == [
        ("model", "base", 2, 50),
        ("model", "other", 0, 20),
        ("prefix", "none", 50, 60),
        ("corpus", "elsewhere", 1, 30),
        ("held-out rows", "role:held-out", 10, 100),
    ]
    # A cell of the same prefix at another temperature is no control.
    # The other prefix extracts more, but is no measure of coincidence.
    assert own.filter("strongest")["kind"].to_list() == ["held-out rows"]
    assert "prefix" not in COINCIDENCE
    row = own.filter("strongest").row(0, named=True)
    wanted = subtract(wilson(40, 100), wilson(10, 100))
    assert row["difference"] == pytest.approx(0.3)
    assert row["difference_low"] == pytest.approx(float(wanted.low))
    assert row["difference_high"] == pytest.approx(float(wanted.high))
    assert table.filter(metric="verbatim")["hits"].to_list() == [0] * 5


def test_of_equal_rates_the_best_measured_is_strongest() -> None:
    table = controls(
        SCORED.filter(pl.col("model") != "base"),
        held_out(0, 200),
        {},
        cells=[TARGET],
        part="question",
        models=["other"],
        prefixes=["user"],
        corpus=None,
        thresholds=THRESHOLDS,
    )
    assert table.filter("strongest", metric="embedding")["n"].to_list() == [100]
    assert table.filter("strongest", metric="embedding")["kind"].to_list() == ["held-out rows"]


def test_without_controls_or_suspected_items() -> None:
    own = SCORED.filter(model="sft", prefix="user")
    options = {"cells": [TARGET], "part": "question", "models": [], "corpus": None}
    options |= {"prefixes": ["user"]}
    empty = held_out(0, 1).clear()
    table = controls(own, empty, {}, **options, thresholds=THRESHOLDS)  # type: ignore[arg-type]
    assert table.is_empty()
    assert table.schema == pl.Schema(SCHEMA)
    nothing = own.with_columns(reference=pl.lit("role:control"))
    table = controls(nothing, empty, {}, **options, thresholds=THRESHOLDS)  # type: ignore[arg-type]
    assert table.is_empty()


def test_a_control_model_is_not_its_own_control() -> None:
    table = controls(
        SCORED,
        held_out(0, 1).clear(),
        {},
        cells=[Cell("base", "user", 0)],
        part="question",
        models=["base", "other"],
        prefixes=["user", "none"],
        corpus=None,
        thresholds=THRESHOLDS,
    )
    assert set(table["kind"]) == {"prefix"}
    assert not table["strongest"].any()
