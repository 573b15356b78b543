"""Embed one field of the rows of a corpus that are searched."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows
from alignment_extraction.search.embedding import embed_file
from alignment_extraction.step import step

with step(snakemake.log[0]):
    rows = searched_rows(read_corpus(Path(snakemake.input.corpus)), snakemake.wildcards.field)
    embed_file(
        rows["compared"].to_list(),
        Path(snakemake.input.embedder),
        snakemake.params.settings.settings,
        Path(snakemake.output.vectors),
        gpu=snakemake.params.gpu,
    )
