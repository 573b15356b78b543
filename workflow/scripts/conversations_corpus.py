"""Give a model's own conversations as they are searched."""

from pathlib import Path

from alignment_extraction.corpora.corpus import REJECTS
from alignment_extraction.files import read_parquet, write_json, write_parquet
from alignment_extraction.step import step
from alignment_extraction.training.controlled import statistics

with step(snakemake.log[0]):
    corpus = read_parquet(Path(snakemake.input.corpus))
    write_parquet(REJECTS.to_frame(), Path(snakemake.output.rejects))
    write_json(statistics(corpus), Path(snakemake.output.statistics))
    write_parquet(corpus, Path(snakemake.output.corpus))
