"""What of a corpus the later steps read."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.corpora.reading import UNUSED, read_corpus
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.vocabulary import CORPUS as SCHEMA


def test_all_columns_but_the_conversation(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a/1"], "question": ["x"], "metadata": ["{}"]}).select(
        pl.col(name).cast(dtype)
        if name in ("id", "question", "metadata")
        else pl.lit(None, dtype).alias(name)
        for name, dtype in SCHEMA.items()
    )
    write_parquet(frame, tmp_path / "corpus.parquet")
    assert read_corpus(tmp_path / "corpus.parquet").equals(frame.drop(UNUSED))


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run the step that makes it first"):
        read_corpus(tmp_path / "gone.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_corpus(tmp_path / "cut.parquet")
