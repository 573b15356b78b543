"""Embed one field: of the rows of a corpus that are searched, or of what one model wrote."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows, unique_texts
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.search.embedding import embed_file
from alignment_extraction.step import step

with step(snakemake.log[0]):
    field, rows = snakemake.wildcards.field, snakemake.input.get("rows")
    embed_file(
        searched_rows(read_corpus(Path(rows)), field)["compared"].to_list()
        if rows
        else unique_texts(read_shards(snakemake.input.generations), field),
        Path(snakemake.input.embedder),
        snakemake.params.settings.settings,
        Path(snakemake.output.vectors),
        gpu=snakemake.params.gpu,
    )
