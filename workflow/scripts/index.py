"""Build the Annoy index of one group and field of a corpus."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.search.matching import index_group
from alignment_extraction.step import step

with step(snakemake.log[0]):
    index_group(
        read_corpus(Path(snakemake.input.corpus)),
        snakemake.wildcards.group,
        snakemake.wildcards.field,
        Path(snakemake.input.vectors),
        Path(snakemake.output.index),
        trees=int(snakemake.wildcards.trees),
        seed=snakemake.params.seed,
    )
