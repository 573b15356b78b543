"""Make the students' data sets and the evaluation questions."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation import data_sets
from alignment_extraction.distillation.curation import COLUMNS
from alignment_extraction.files import read_parquet, write_json, write_parquet
from alignment_extraction.settings.distillation import DistillationSettings
from alignment_extraction.step import step

with step(snakemake.log[0]):
    record, output = snakemake.params.record, snakemake.output
    generations = {
        family: pl.concat(
            pl.read_parquet(files, columns=list(COLUMNS)).with_columns(
                model=pl.lit(condition.model),
                prefix=pl.lit(condition.prefix),
                seed=pl.lit(condition.seed, pl.Int64),
            )
            for condition, files in shards.items()
        )
        for family, shards in snakemake.params.shards.items()
    }
    made = data_sets.build(
        generations,
        pl.scan_parquet(snakemake.input.scores),
        read_parquet(Path(snakemake.input.corpus)),
        DistillationSettings.model_validate(record["distillation"]),
        record["thresholds"],
        record["seed"],
    )
    for name, table in made.items():
        write_parquet(table, Path(output[name]))
    write_json(record, Path(output.settings))
