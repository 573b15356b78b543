"""Corpora written piece by piece, and read as far as the steps after that need them."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import atomic_path, read_parquet
from alignment_extraction.vocabulary import CORPUS

UNUSED = ("messages", "text", "metadata")
"""Columns that repeat the conversation: two thirds of a corpus, and only training reads them."""


def stream_parquet(frame: pl.LazyFrame, path: Path) -> None:
    """Write `frame` to `path` atomically without holding all of it.

    The bytes are those that `files.write_parquet` gives, as far as one row group reaches.
    """
    with atomic_path(path) as partial:
        frame.sink_parquet(partial, compression="zstd", statistics=True, metadata={})


def read_corpus(path: Path) -> pl.DataFrame:
    """A corpus without the columns in `UNUSED`.

    Raises:
        InputError: the file is missing, truncated or not Parquet.
    """
    return read_parquet(path, [name for name in CORPUS if name not in UNUSED])
