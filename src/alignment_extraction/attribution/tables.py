"""Columns of every table of attribution, as `tables.toml` has and explains them."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import polars as pl

COMPARED = ("model", "prefix", "seed", "source", "level", "field")
"""Columns of what is compared."""

_KINDS: dict[str, pl.DataType] = {
    **{"": pl.String(), "i": pl.Int64(), "s": pl.Int32()},
    **{"f": pl.Float64(), "h": pl.Float32(), "b": pl.Boolean()},
}


def schema(text: str) -> pl.Schema:
    """Columns from `name` or `name:kind` each; tables.toml has the kinds."""
    pairs = (column.partition(":") for column in text.split())
    return pl.Schema({name: _KINDS[kind] for name, _, kind in pairs})


SCHEMAS = {
    name: schema(text)
    for name, text in tomllib.loads(Path(__file__).with_suffix(".toml").read_text()).items()
}
"""Columns of each table by its name."""


def table(name: str, parts: Iterable[pl.DataFrame], *order: str) -> pl.DataFrame:
    """The parts, with at least the table's columns, as one table, which may have no row.

    Its rows are sorted by the columns of `order`, where any are given and the table has them.
    """
    columns = SCHEMAS[name]
    empty = pl.DataFrame(schema=columns)
    whole = pl.concat([empty, *(part.select(columns.names()).cast(columns) for part in parts)])
    keys = [key for key in order if key in columns]
    return whole.sort(keys, maintain_order=True) if keys else whole
