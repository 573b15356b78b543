"""Embed the distinct texts that one model wrote."""

from pathlib import Path

from alignment_extraction.corpora.texts import unique_texts
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.search.embedding import embed_file
from alignment_extraction.step import step

with step(snakemake.log[0]):
    embed_file(
        unique_texts(read_shards(snakemake.input.generations), snakemake.wildcards.field),
        Path(snakemake.input.embedder),
        snakemake.params.settings.settings,
        Path(snakemake.output.vectors),
        gpu=snakemake.params.gpu,
    )
