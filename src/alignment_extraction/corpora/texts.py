"""The texts of corpora and generations that are compared: their fields, and a corpus's groups."""

import polars as pl

from alignment_extraction.vocabulary import SEARCHED_ROLES, group_expression


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


def searched_rows(corpus: pl.DataFrame, field: str) -> pl.DataFrame:
    """The rows that generations are held against: those of searched roles that have `field`.

    `group`, a row's source and role, and `compared`, its text of the field, are added as columns.
    """
    return corpus.with_columns(group_expression(), compared=texts_of(corpus, field)).filter(
        pl.col("role").is_in(SEARCHED_ROLES), pl.col("compared").str.len_bytes() > 0
    )
