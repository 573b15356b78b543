"""Reading a results folder."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.report.tables import SCHEMAS, read_results
from tests.report_study import write_results, write_tables


def test_what_is_missing_has_no_rows_but_its_columns(tmp_path: Path) -> None:
    tables = write_tables()
    results = read_results(write_results(tmp_path, {"attribution": tables["attribution"]}))
    assert results["attribution"].height == tables["attribution"].height
    for name, schema in SCHEMAS.items():
        assert list(results[name].columns) == list(schema)
    assert results["shift"].is_empty()


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run it first"):
        read_results(tmp_path)


def test_a_table_of_another_version(tmp_path: Path) -> None:
    write_parquet(pl.DataFrame({"rows": [1]}), tmp_path / "risk.parquet")
    with pytest.raises(InputError, match=r"risk\.parquet: has no column at_risk; another version"):
        read_results(tmp_path)
