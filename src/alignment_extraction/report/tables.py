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


def read_results(folder: Path) -> Results:
    """Read every table of a results folder; a table without a file has no rows.

    Raises:
        InputError: the folder has no table at all, or one that cannot be read or lacks a column.
    """
    results = Results()
    for name, columns in SCHEMAS.items():
        if (path := folder / f"{name}.parquet").exists():
            frame = read_parquet(path)
            if lacks := sorted(columns.keys() - set(frame.columns)):
                why = f"has no column {lacks[0]}; another version wrote it, so run the study again"
                raise InputError(f"{path}: {why}")
            results[name] = frame.cast(columns).select(*columns, pl.exclude(*columns))
    if not results:
        raise InputError(f"{folder}: no results of a study here; run it first")
    return results
