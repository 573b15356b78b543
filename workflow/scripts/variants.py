"""Which labelled edits of trained problems a model writes."""

from pathlib import Path

from alignment_extraction.attribution.edits import written_variants
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step

with step(snakemake.log[0]):
    variants = written_variants(
        read_corpus(Path(snakemake.input.corpus)),
        read_parquet(Path(snakemake.input.scores)),
        snakemake.params.thresholds.settings,
    )
    write_parquet(variants, Path(snakemake.output[0]))
