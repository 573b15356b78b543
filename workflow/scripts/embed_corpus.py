"""Embed one field of a corpus."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import corpus_texts
from alignment_extraction.search.steps import embed_file
from alignment_extraction.step import step

with step(snakemake.log[0]):
    texts, _ = corpus_texts(read_corpus(Path(snakemake.input.corpus)), snakemake.wildcards.field)
    embed_file(
        texts,
        Path(snakemake.input.embedder),
        snakemake.params.settings.settings,
        Path(snakemake.output.vectors),
        gpu=snakemake.params.gpu,
    )
