"""The verb `curate`: a data set that datasets loads, and what each step left out."""

from pathlib import Path

import polars as pl
import pytest
from datasets import load_dataset
from typer.testing import CliRunner

from alignment_extraction.cli import app
from alignment_extraction.files import InputError, write_parquet

ABOUT = {"model": "m.gguf", "model_sha256": "ab12", "prefix": "<s>", "seed": "0"}


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ([], ["index", "question", "answer", "question_finish", "answer_finish"]),
        (["--trl", "sft"], ["messages"]),
        (["--trl", "rl"], ["prompt", "solution"]),
    ],
)
def test_curated_generations_load_as_a_data_set(
    options: list[str], columns: list[str], tmp_path: Path
) -> None:
    rows = {"index": [0, 1, 2], "question": ["Who?", "who?", "How"], "answer": ["#### I"] * 3}
    ends = {"question_finish": ["stop", "stop", "length"], "answer_finish": ["stop"] * 3}
    write_parquet(pl.DataFrame(rows | ends), tmp_path / "0.parquet", ABOUT)
    output = tmp_path / "extracted/train.parquet"
    given = ["curate", str(tmp_path / "0.parquet"), "--output", str(output), *options]
    found = CliRunner().invoke(app, given, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    loaded = load_dataset(str(output.parent), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.column_names == columns
    assert len(loaded) == 1
    assert "truncated: 1 of 3 left out" in found.output
    assert pl.read_parquet_metadata(output)["model_sha256"] == "ab12"


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"index": [0], "cosine": [0.5]}).write_parquet(tmp_path / "scores.parquet")
    given = ["curate", str(tmp_path / "scores.parquet"), "--output", str(tmp_path / "made.parquet")]
    with pytest.raises(InputError, match="another table is expected here"):
        CliRunner().invoke(app, given, catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
