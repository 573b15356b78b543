"""Texts with what a template varies taken out: numbers and names."""

import polars as pl

NUMBER, NAME = "\ue000", "\ue001"
"""What stands for a number and for a name: code points of private use, which texts do not hold."""

_NUMBER = r"\d+(?:[.,:/]\d+)*"
# The word before is kept: a capital after the end of a sentence says nothing.
_NAME = r"([^\s.!?:][^\S\n]+)\p{Lu}\p{Ll}+(?:[^\S\n]+\p{Lu}\p{Ll}+)*"


def masked(texts: pl.Series) -> pl.Series:
    """Each text with its numbers and names replaced by one sign each, and single spaces.

    A number is a run of digits, with points, commas, colons or strokes between digits. A name is
    one or more capitalised words inside a sentence; a text's first word is none, nor is a word in
    capitals throughout.
    """
    return (
        texts.str.replace_all(_NUMBER, NUMBER)
        .str.replace_all(_NAME, f"${{1}}{NAME}")
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )
