"""A study's results folder, read: one frame a table, empty where the study made none."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alignment_extraction.files import InputError, read_parquet


def _schema(text: str) -> pl.Schema:
    """`name` is a String, `name:i` Int64, `name:f` Float64, `name:b` Boolean."""
    kinds = {"": pl.String(), "i": pl.Int64(), "f": pl.Float64(), "b": pl.Boolean()}
    pairs = (column.partition(":") for column in text.split())
    return pl.Schema({name: kinds[kind] for name, _, kind in pairs})


_INTERVAL = "low:f high:f"
_CONDITION = "model prefix seed:i"
_CHANCES = "chance_1e3:f chance_1e4:f chance_1e6:f chance_1e9:f"
SCHEMAS = {
    "attribution": _schema(
        f"{_CONDITION} trained:b source level field metric threshold:f at n:i member_wins:f "
        f"twin_wins:f attributable:f {_INTERVAL} false_discovery_rate:f members:i twins:i blocks:i"
    ),
    "repetitions": _schema(
        f"{_CONDITION} source field metric repetitions:i n:i "
        f"members:i member_rows:i member_hits:f "
        f"twins:i twin_rows:i twin_hits:f attributable:f {_INTERVAL}"
    ),
    "kinds": _schema(
        f"{_CONDITION} source level field kind n:i "
        f"member_wins:f twin_wins:f attributable:f {_INTERVAL}"
    ),
    "ratios": _schema(
        f"{_CONDITION} source level field comparison metric semantic:f string:f ratio:f {_INTERVAL}"
    ),
    "exchangeability": _schema(
        f"source level members:i twins:i auc:f {_INTERVAL} verdict needed:i"
    ),
    "rows": _schema(
        "model id source role template repetitions:i edit trained:b log_probability:f "
        f"base_log_probability:f expected:f {_CHANCES} p_value:f flagged:b verbatim_hits:i "
        "near_hits:i best_condition best_index:i best_generation best_cosine:f best_levenshtein:f "
        "question answer"
    ),
    "risk": _schema(
        "model source role samples:f rows:i at_risk:f at_risk_low:f at_risk_high:f "
        "expected_distinct:f distinct_low:f distinct_high:f observed_distinct:f"
    ),
    "shift": _schema(
        "model base source target template:b per members:i twins:i member_change:f twin_change:f "
        f"difference:f {_INTERVAL} detectable:f"
    ),
    "tails": _schema(
        "model base source role target template:b threshold:f rows:i before:f after:f"
    ),
    "membership": _schema(
        f"model base source attack members:i twins:i auc:f {_INTERVAL} tpr:f tpr_low:f tpr_high:f "
        "target template:b"
    ),
    "edits": _schema(
        "embedder edit pairs:i cosine_reached:f levenshtein_reached:f cosine_median:f "
        "levenshtein_median:f"
    ),
    "distillation": _schema(
        "family arm benchmark measure seeds:i items:i value:f value_low:f value_high:f "
        "difference:f difference_low:f difference_high:f recovered:f recovered_low:f "
        "recovered_high:f verdict"
    ),
    "distillation_counts": _schema("family data_set step before:i dropped:i left:i"),
}
"""Columns that the report reads of each table of `results/{study}`; docs/files.md explains them."""


@dataclass(frozen=True)
class Results:
    """The tables of one study; see `SCHEMAS` for their columns.

    Attributes:
        tables: every table of `SCHEMAS` by its name, with no rows where the study made none.
        folder: where they were read from; None of tables made in memory.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    folder: Path | None = None

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.tables.get(name, pl.DataFrame(schema=SCHEMAS[name]))


def conform(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The table's columns in their types: those missing are null, others are kept behind them.

    Raises:
        InputError: a column does not hold what it should.
    """
    schema = SCHEMAS[name]
    missing = [pl.lit(None, kind).alias(key) for key, kind in schema.items() if key not in frame]
    try:
        frame = frame.with_columns(*missing).cast(schema)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"table {name}: not the columns that the report reads ({error}); make it again"
        ) from None
    return frame.select(*schema, pl.exclude(*schema))


def read_results(folder: Path) -> Results:
    """Read every table of a results folder; a table without a file has no rows.

    Raises:
        InputError: the folder has no table at all, or one that cannot be read.
    """
    paths = {name: folder / f"{name}.parquet" for name in SCHEMAS}
    if not any(path.exists() for path in paths.values()):
        raise InputError(f"{folder}: no results of a study here; run it first")
    tables = {
        name: conform(name, read_parquet(path)) for name, path in paths.items() if path.exists()
    }
    return Results(tables, folder)
