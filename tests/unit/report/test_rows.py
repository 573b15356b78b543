"""The rows as the page holds them."""

import base64
import gzip
import json
from typing import Any

import polars as pl
import pytest

from alignment_extraction.report import rows as module
from alignment_extraction.report.rows import TEXTS, leaked, mask, page_data, ranked
from tests.report_study import HOSTILE, rows


def unpacked(data: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(data)))
    return value


def test_the_riskiest_come_first() -> None:
    order = ranked(rows().filter(model="sft-q8"))
    trained = order.filter("trained")["log_probability"]
    assert order["trained"].head(len(trained)).all()
    assert trained.is_sorted(descending=True)
    hits = order.filter(pl.col("verbatim_hits") > 0)
    assert set(hits["seen"]) == {"written verbatim"}


def test_every_row_of_the_models_asked_for_is_there() -> None:
    data, shown, with_texts = page_data(rows(), ["sft-q8"])
    assert shown == with_texts == rows().filter(model="sft-q8").height
    values = unpacked(data)
    table = ranked(rows().filter(model="sft-q8"))
    assert values["id"] == table["id"].to_list()
    assert values["role"] == table["role"].to_list()
    assert values["log_probability"] == pytest.approx(table["log_probability"].to_list(), abs=6e-4)
    assert values["question"][0] == HOSTILE.replace("\u202e", "\u27e8U+202E\u27e9")


def test_texts_give_way_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 60_000)
    data, shown, with_texts = page_data(rows(), ["sft-q8"])
    assert len(data) <= 60_000 or with_texts == 0
    assert with_texts < shown
    assert len(unpacked(data)["question"]) == with_texts


def test_a_masked_page_has_no_text() -> None:
    data, _, _ = page_data(mask(rows()), ["sft-q8"])
    text = gzip.decompress(base64.b64decode(data)).decode()
    assert "crates" not in text
    assert "template 1" not in text
    assert len(unpacked(data)["question"][0]) == 16


def test_masked_rows_keep_ids_and_scores() -> None:
    table = rows().filter(model="sft-q8")
    masked = mask(table)
    kept = pl.exclude(*TEXTS, "template")
    assert masked.select(kept).equals(table.select(kept))
    assert "crates" not in masked.write_csv()
    same = table["question"].is_duplicated() == masked["question"].is_duplicated()
    assert same.all()


def test_leaked_rows_are_trained_on_and_written_or_at_risk() -> None:
    table = rows()
    out = leaked(table)
    expected = table.filter(
        pl.col("trained") & ((pl.col("verbatim_hits") > 0) | (pl.col("chance_1e6") >= 0.1))
    )
    assert set(out["id"]) == set(expected["id"])
    assert out["id"].is_unique().all()


def test_rows_without_likelihoods() -> None:
    unknown = ["log_probability", "base_log_probability", "p_value", "expected", "chance_1e6"]
    table = rows().with_columns(pl.lit(None, pl.Float64).alias(name) for name in unknown)
    data, shown, _ = page_data(table, ["sft-q8"])
    assert unpacked(data)["log_probability"] == [None] * shown
