"""Draw the controlled study's corpus, whose membership is known."""

from pathlib import Path

from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.step import step
from alignment_extraction.training import controlled

with step(snakemake.log[0]):
    corpus = controlled.build(snakemake.params.settings.settings, snakemake.params.seed)
    write_json(controlled.statistics(corpus), Path(snakemake.output.statistics))
    write_parquet(corpus, Path(snakemake.output.corpus))
