"""A study's results folder, read: one frame a table, empty where the study made none."""

import tomllib
from pathlib import Path

import polars as pl

from alignment_extraction.attribution.tables import schema
from alignment_extraction.files import InputError, read_parquet

SCHEMAS = {
    name: schema(columns)
    for name, columns in tomllib.loads(
        (Path(__file__).parent / "templates" / "tables.toml").read_text()
    ).items()
}
"""Columns that the report reads of each table of `results/{study}`."""


class Results(dict[str, pl.DataFrame]):
    """The tables of one study by their names in `SCHEMAS`; one that it did not make has no rows."""

    def __missing__(self, name: str) -> pl.DataFrame:
        return pl.DataFrame(schema=SCHEMAS[name])


def conform(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The table's columns in their types: those missing are null, others are kept behind them.

    Raises:
        InputError: a column does not hold what it should.
    """
    columns = SCHEMAS[name]
    missing = [pl.lit(None, kind).alias(key) for key, kind in columns.items() if key not in frame]
    try:
        frame = frame.with_columns(*missing).cast(columns)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"table {name}: not the columns that the report reads ({error}); make it again"
        ) from None
    return frame.select(*columns, pl.exclude(*columns))


def read_results(folder: Path) -> Results:
    """Read every table of a results folder; a table without a file has no rows.

    Raises:
        InputError: the folder has no table at all, or one that cannot be read.
    """
    paths = {name: folder / f"{name}.parquet" for name in SCHEMAS}
    found = {name: path for name, path in paths.items() if path.exists()}
    if not found:
        raise InputError(f"{folder}: no results of a study here; run it first")
    return Results({name: conform(name, read_parquet(path)) for name, path in found.items()})
