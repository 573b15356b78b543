"""The texts of corpora and generations that are compared: their parts, and a corpus's groups."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl


def texts_of(frame: pl.DataFrame, part: str) -> pl.Series:
    """The texts of one part of corpus rows or generations; null where a row lacks it.

    Args:
        frame: has the columns `question` and `answer`.
        part: `question`, `answer`, or `both` (question, line break, answer).
    """
    if part == "both":
        return frame.select((pl.col("question") + "\n" + pl.col("answer")).alias("both"))["both"]
    return frame[part]


def unique_texts(frame: pl.DataFrame, part: str) -> list[str]:
    """Distinct texts of `part` in order of first appearance; empty and missing ones left out."""
    texts = texts_of(frame, part)
    return texts.filter(texts.str.len_bytes() > 0).unique(maintain_order=True).to_list()


def corpus_texts(corpus: pl.DataFrame, part: str) -> tuple[list[str], Any]:
    """The texts of the rows that have `part`, and the numbers of those rows."""
    texts = texts_of(corpus, part)
    rows = np.flatnonzero((texts.str.len_bytes() > 0).fill_null(False).to_numpy())
    return texts[rows].to_list(), rows


def groups_of(corpus: pl.DataFrame) -> pl.Series:
    """The group of each corpus row: its source and its role, as `source.role`."""
    return corpus.select(group=pl.concat_str("source", "role", separator="."))["group"]


def item_texts(corpus: pl.DataFrame, parts: Iterable[str]) -> pl.DataFrame:
    """The texts of a corpus as one table: match_id (the item's id), source, part, match (text)."""
    return pl.concat(
        [
            corpus.select(
                "source",
                match_id="id",
                part=pl.lit(part, pl.String),
                match=texts_of(corpus, part),
            )
            for part in parts
        ]
    )
