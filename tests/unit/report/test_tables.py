"""Reading a results folder."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.report.tables import SCHEMAS, conform, read_results
from tests.report_study import write_results, write_tables


def test_what_is_missing_has_no_rows_but_its_columns(tmp_path: Path) -> None:
    tables = write_tables()
    results = read_results(write_results(tmp_path, {"attribution": tables["attribution"]}))
    assert results["attribution"].height == tables["attribution"].height
    for name, schema in SCHEMAS.items():
        assert list(results[name].columns) == list(schema)
    assert results["shift"].is_empty()


def test_missing_columns_are_null_and_others_are_kept() -> None:
    frame = conform("exchangeability", pl.DataFrame({"source": ["a"], "own": [1]}))
    assert frame["auc"].null_count() == 1
    assert frame.columns[-1] == "own"
    assert frame.schema["members"] == pl.Int64


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run it first"):
        read_results(tmp_path)


def test_a_column_of_the_wrong_kind() -> None:
    with pytest.raises(InputError, match="table risk"):
        conform("risk", pl.DataFrame({"rows": ["many"]}))
