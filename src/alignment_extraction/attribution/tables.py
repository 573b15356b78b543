"""What the tables of attribution share: their columns' types, and how parts become a table."""

from collections.abc import Iterable

import polars as pl

COMPARED = "model prefix seed:i source level field"
"""Columns of what is compared, as `schema` reads them."""


def schema(text: str) -> pl.Schema:
    """`name` is a String, `name:i` Int64, `name:s` Int32, `name:f` Float64, `name:b` Boolean."""
    kinds: dict[str, pl.DataType] = {"": pl.String(), "i": pl.Int64(), "s": pl.Int32()}
    kinds |= {"f": pl.Float64(), "b": pl.Boolean()}
    pairs = (column.partition(":") for column in text.split())
    return pl.Schema({name: kinds[kind] for name, _, kind in pairs})


def table(parts: Iterable[pl.DataFrame], columns: pl.Schema, *order: str) -> pl.DataFrame:
    """The parts as one table, which may have no row.

    Args:
        parts: with at least the table's columns.
        columns: of the table, in their order.
        order: columns after those of `COMPARED` that the rows are sorted by.
    """
    chosen = [
        part.select(pl.col(name).cast(kind) for name, kind in columns.items()) for part in parts
    ]
    first = [name for name in schema(COMPARED) if name in columns]
    return pl.concat([pl.DataFrame(schema=columns), *chosen]).sort(
        *first, *order, maintain_order=True
    )
