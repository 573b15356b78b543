"""The data-set card: where the data are from, and every count."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.distillation.card import card, origin
from alignment_extraction.distillation.curation import COUNTS
from alignment_extraction.files import InputError, write_parquet

ABOUT = {"model": "m.gguf", "model_sha256": "ab12", "prefix": "<s>\n", "temperature": "1.0"}


def shard(folder: Path, name: str, about: dict[str, str]) -> Path:
    write_parquet(pl.DataFrame({"index": [0]}), folder / name, about)
    return folder / name


def test_an_origin_is_what_the_files_say(tmp_path: Path) -> None:
    shards = [shard(tmp_path, f"{i}.parquet", ABOUT | {"seed": str(i % 2)}) for i in range(3)]
    found = origin(shards)
    assert (found["model_sha256"], found["seeds"]) == ("ab12", [0, 1])
    assert found["sampling"] == {"temperature": "1.0"}
    with pytest.raises(InputError, match="does not say what made it"):
        origin([shard(tmp_path, "bare.parquet", {})])


def test_the_card_has_origins_thresholds_and_counts(tmp_path: Path) -> None:
    about = origin([shard(tmp_path, "0.parquet", ABOUT | {"seed": "3"})])
    counts = pl.DataFrame([["empty", 1005, 2, 1003]], schema=COUNTS, orient="row")
    counts = counts.select(pl.lit("extracted").alias("data_set"), "*")
    text = card("Mine", counts, {"sft": about}, {"semantic": 0.95, "string": 0.9})
    assert text.startswith("---\n")
    assert "written by `m.gguf` (SHA-256 `ab12`) after `'<s>\\n'`, seeds [3]" in text
    assert "a cosine of 0.95 or a string similarity of 0.9" in text
    assert "| extracted | empty | 1,005 | 2 | 1,003 |" in text
    assert "cosine" not in card("Mine", counts, {"sft": about})
