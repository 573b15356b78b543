"""Controls: every kind is found, differences are Newcombe's, the strongest is the highest."""

import polars as pl
import pytest

from alignment_extraction.extraction.controls import COINCIDENCE, SCHEMA, controls
from alignment_extraction.settings.studies import Cell, ThresholdSettings
from alignment_extraction.statistics import Interval, subtract, wilson

TARGET = Cell("sft", "user", 0)
THRESHOLDS = ThresholdSettings()
OWN = Interval(0.4, 0.25, 0.6)
"""Wider than Wilson's of 40 of 100: hits on one item are not independent."""


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


def calibrated(held_out: Interval | None, rows: int = 0, model: str = "sft") -> pl.DataFrame:
    """The rows of the table `calibration` at the fixed thresholds, for every metric."""
    nothing = Interval(None, None, None)  # type: ignore[arg-type]
    rate = {"embedding": OWN, "levenshtein": OWN, "indel": OWN, "verbatim": wilson(0, 100)}
    return pl.DataFrame(
        [
            {
                "model": model,
                "prefix": "user",
                "seed": 0,
                "part": "question",
                "reference": "role:member",
                "held_out": None if held_out is None else "role:held-out",
                "length_band": "all",
                "metric": metric,
                "false_positive_rate": None,
                "n": 100,
                "hits": 0 if metric == "verbatim" else 40,
                "rate": float(own.estimate),
                "low": float(own.low),
                "high": float(own.high),
                "held_out_rows": rows,
                "control": (held_out or nothing).estimate,
                "control_low": (held_out or nothing).low,
                "control_high": (held_out or nothing).high,
            }
            for metric, own in rate.items()
        ],
        schema_overrides={
            "held_out": pl.String,
            **dict.fromkeys(
                ("false_positive_rate", "control", "control_low", "control_high"), pl.Float64
            ),
        },
    )


def test_all_kinds() -> None:
    control = {TARGET: scores("x", "x", 1, 30).select("cosine", "levenshtein_best", "indel_best")}
    table = controls(
        SCORED,
        calibrated(Interval(0.12, 0.05, 0.2), 100),
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
        ("held-out rows", "role:held-out", None, 100),
    ]
    # A cell of the same prefix at another temperature is no control.
    # The other prefix extracts more, but is no measure of coincidence.
    assert own.filter("strongest")["kind"].to_list() == ["held-out rows"]
    assert "prefix" not in COINCIDENCE
    row = own.filter("strongest").row(0, named=True)
    wanted = subtract(OWN, Interval(0.12, 0.05, 0.2))
    assert (row["rate"], row["low"], row["high"]) == pytest.approx(OWN)
    assert row["difference"] == pytest.approx(0.28)
    assert row["difference_low"] == pytest.approx(float(wanted.low))
    assert row["difference_high"] == pytest.approx(float(wanted.high))
    assert table.filter(metric="verbatim")["hits"].to_list() == [0] * 5


def test_of_equal_rates_the_best_measured_is_strongest() -> None:
    table = controls(
        SCORED.filter(pl.col("model") != "base"),
        calibrated(wilson(0, 200), 200),
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
    empty = calibrated(None)
    table = controls(own, empty, {}, **options, thresholds=THRESHOLDS)  # type: ignore[arg-type]
    assert table.is_empty()
    assert table.schema == pl.Schema(SCHEMA)
    nothing = own.with_columns(reference=pl.lit("role:control"))
    table = controls(nothing, empty, {}, **options, thresholds=THRESHOLDS)  # type: ignore[arg-type]
    assert table.is_empty()


def test_a_control_model_is_not_its_own_control() -> None:
    table = controls(
        SCORED,
        calibrated(None, model="base"),
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
