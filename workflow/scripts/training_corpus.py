"""Draw the controlled study's corpus, whose membership is known."""

from pathlib import Path

from alignment_extraction.files import write_parquet
from alignment_extraction.step import step
from alignment_extraction.training.controlled import build

with step(snakemake.log[0]):
    corpus = build(snakemake.params.settings.settings, snakemake.params.seed)
    write_parquet(corpus, Path(snakemake.output[0]))
