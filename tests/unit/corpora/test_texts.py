"""The texts that are compared: fields of rows."""

import polars as pl

from alignment_extraction.corpora.texts import searched_rows, texts_of, unique_texts


def test_texts_of() -> None:
    frame = pl.DataFrame(
        {"question": ["q", "p", "", None], "answer": ["a", None, "b", "c"]},
        schema={"question": pl.String, "answer": pl.String},
    )
    assert texts_of(frame, "question").to_list() == ["q", "p", "", None]
    assert texts_of(frame, "answer").to_list() == ["a", None, "b", "c"]
    assert texts_of(frame, "both").to_list() == ["q\na", None, "\nb", None]
    padded = pl.DataFrame({"question": ["\nWhich river?\n"], "answer": [" Oder"]})
    assert texts_of(padded, "both").to_list() == ["Which river?\nOder"]


def test_unique_texts_keep_their_order_and_drop_empty_ones() -> None:
    frame = pl.DataFrame({"question": ["z", "", None, "a", "z", " "]})
    assert unique_texts(frame, "question") == ["z", "a"]


def test_rows_that_are_searched() -> None:
    frame = pl.DataFrame(
        {
            "source": ["a", "a", "a", "b", "b", "b"],
            "role": ["member", "control", "held-out", "unknown", "twin", "member"],
            "question": [" q", "q", "q", "q", None, " "],
            "answer": [None] * 6,
        }
    )
    rows = searched_rows(frame, "question")
    assert rows["group"].to_list() == ["a.member", "a.held-out", "b.unknown"]
    assert rows["compared"].to_list() == ["q"] * 3
