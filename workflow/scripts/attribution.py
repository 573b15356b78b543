"""What training caused: members against twins, how copies are made, whether the coin was fair."""

from pathlib import Path

from alignment_extraction.attribution.study import attribute, read_bases
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.step import step

with step(snakemake.log[0]):
    tables = attribute(
        read_parquet(Path(snakemake.input.scores)),
        read_corpus(Path(snakemake.input.corpus)),
        {c: read_shards(files) for c, files in snakemake.params.shards.items()},
        snakemake.params.trained,
        snakemake.params.families,
        read_bases(snakemake.params.bases),
        snakemake.params.thresholds.settings,
        snakemake.params.seed,
    )
    for name, table in tables.items():
        write_parquet(table, Path(snakemake.output[name]))
