"""Generations as files: the shards of a condition."""

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from alignment_extraction.files import InputError, read_parquet

COMPARED = ("index", "question", "answer")
"""Columns that the search needs; token ids are by far the largest of the others."""


def model_sha256(shard: Path) -> str:
    """SHA-256 of the model that wrote a shard, by the shard's metadata."""
    return pl.read_parquet_metadata(shard).get("model_sha256", "not recorded")


def prefix_tokens(shard: Path) -> str:
    """The prefix that a shard was drawn after: each token's text and id."""
    told = pl.read_parquet_metadata(shard).get("prefix_tokens", "[]")
    return " ".join(f"{piece!r} {token}" for token, piece in json.loads(told)) or "not recorded"


def read_shards(paths: Iterable[Path | str]) -> pl.DataFrame:
    """The columns `COMPARED` of several shards that one model wrote, as one frame.

    Raises:
        InputError: a shard cannot be read, or two were written by different models.
    """
    files = [Path(path) for path in paths]
    frame = pl.concat([read_parquet(path, COMPARED) for path in files])
    first, *others = ((path, model_sha256(path)) for path in files)
    for path, writer in others:
        if writer != first[1]:
            raise InputError(
                f"{path}: written by a model with sha256 {writer}, but {first[0]} by one with "
                f"{first[1]}; the model was replaced in between: delete the shards of the wrong "
                "one and run the sampling again"
            )
    return frame
