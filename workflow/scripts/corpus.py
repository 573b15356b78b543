"""Build a corpus from files, hub data sets or generators."""

from pathlib import Path

from alignment_extraction.corpora.corpus import write_corpus
from alignment_extraction.step import step

with step(snakemake.log[0]):
    output = snakemake.output
    write_corpus(
        snakemake.params.sources,
        snakemake.params.seed,
        *map(Path, (output.corpus, output.rejects, output.statistics)),
    )
