"""Corpora read as far as the steps after their building need them."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import read_parquet
from alignment_extraction.vocabulary import CORPUS

UNUSED = ("messages", "text", "metadata")
"""Columns that repeat the conversation: two thirds of a corpus, and only training reads them."""


def read_corpus(path: Path) -> pl.DataFrame:
    """A corpus without the columns in `UNUSED`.

    Raises:
        InputError: the file is missing, truncated or not Parquet.
    """
    return read_parquet(path, [name for name in CORPUS if name not in UNUSED])
