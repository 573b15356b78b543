"""Hold the students against each other: the tables of the experiment."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation.results import CURVES, results_table
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step

NAME = r"(?<family>sft|rl)-(?<arm>[a-z-]+)-seed-(?<seed>\d+)-[a-z]+\.parquet$"


def named(files: list[str]) -> pl.DataFrame:
    """Tables of students as one, each row with its student's family, arm and seed."""
    rows = pl.read_parquet(list(files), include_file_paths="file")
    student = rows.select(pl.col("file").str.extract_groups(NAME).struct.unnest())
    return pl.concat([student.cast({"seed": pl.Int64}), rows.drop("file")], how="horizontal")


with step(snakemake.log[0]):
    answers = named(snakemake.input.evaluations)
    tables = (
        results_table(answers, snakemake.params.margin, snakemake.params.seed),
        named(snakemake.input.curves).filter(pl.col("metric").is_in(CURVES)),
        read_parquet(Path(snakemake.input.counts)),
        answers,
    )
    for path, table in zip(snakemake.output, tables, strict=True):
        write_parquet(table, Path(path))
