"""Join generations and matches to scores: one row per generation, field and group."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.search.scores import score
from alignment_extraction.step import step

with step(snakemake.log[0]):
    matches = {Path(file).stem: Path(file) for file in snakemake.input.matches}
    frames = [
        score(
            condition,
            read_shards(files),
            read_parquet(matches[condition.model]),
            snakemake.params.fields[condition.model],
        )
        for condition, files in snakemake.params.shards.items()
    ]
    write_parquet(pl.concat(frames), Path(snakemake.output[0]))
