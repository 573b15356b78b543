"""Hold the students against each other: the tables of the experiment."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation.results import CURVES, results_table
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step


def named(kind: str, *without: str) -> pl.DataFrame:
    """A table of all students, each row with its student's family, arm and seed."""
    return pl.concat(
        read_parquet(Path(f"{name}-{kind}.parquet")).select(
            pl.lit(family).alias("family"),
            pl.lit(arm).alias("arm"),
            pl.lit(seed, pl.Int64).alias("seed"),
            "*",
        )
        for family, arm, seed, name in snakemake.params.students
        if arm not in without
    )


with step(snakemake.log[0]):
    params = snakemake.params
    tables = (
        results_table(named("evaluation"), params.margin, params.seed),
        named("curves", "start").filter(pl.col("metric").is_in(CURVES)),
        read_parquet(Path(snakemake.input.counts)),
    )
    for path, table in zip(snakemake.output, tables, strict=True):
        write_parquet(table, Path(path))
