"""The texts of corpora and generations that are compared: their fields, and a corpus's groups."""

from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.vocabulary import group_expression


def texts_of(frame: pl.DataFrame, field: str) -> pl.Series:
    """The texts of one field of corpus rows or generations; null where a row lacks it.

    White space at the ends is left out on both sides: chat templates trim what they show, and some
    vocabularies put a space in front of a word that nobody wrote.

    Args:
        frame: has the columns `question` and `answer`.
        field: `question`, `answer`, or `both` (question, line break, answer).
    """
    turns = ("question", "answer") if field == "both" else (field,)
    trimmed = [pl.col(turn).str.strip_chars() for turn in turns]
    return frame.select(pl.concat_str(trimmed, separator="\n").alias(field))[field]


def unique_texts(frame: pl.DataFrame, field: str) -> list[str]:
    """Distinct texts of `field` in order of first appearance; empty and missing ones left out."""
    texts = texts_of(frame, field)
    return texts.filter(texts.str.len_bytes() > 0).unique(maintain_order=True).to_list()


def corpus_texts(corpus: pl.DataFrame, field: str) -> tuple[list[str], Any]:
    """The texts of the rows that have `field`, and the numbers of those rows."""
    texts = texts_of(corpus, field)
    rows = np.flatnonzero((texts.str.len_bytes() > 0).fill_null(False).to_numpy())
    return texts[rows].to_list(), rows


def groups_of(corpus: pl.DataFrame) -> pl.Series:
    """The group of each corpus row: its source and role."""
    return corpus.select(group_expression())["group"]
