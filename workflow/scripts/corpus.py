"""Build a corpus from files or hub data sets."""

from pathlib import Path

from alignment_extraction.corpora.corpus import write_corpus
from alignment_extraction.step import step

with step(snakemake.log[0]):
    output = snakemake.output
    write_corpus(
        snakemake.params.sources,
        *map(Path, (output.corpus, output.rejects, output.statistics)),
    )
