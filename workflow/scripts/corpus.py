"""Build a corpus from files, hub data sets or generators."""

from pathlib import Path

from alignment_extraction.corpora import corpus
from alignment_extraction.step import step

with step(snakemake.log[0]):
    corpus.write(
        snakemake.params.sources,
        snakemake.params.seed,
        *map(Path, (snakemake.output.corpus, snakemake.output.rejects, snakemake.output.statistics)),
    )
