"""Embed one field: of the rows of a corpus that are searched, or of what one model wrote."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows, unique_texts
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.gpu import torch_device
from alignment_extraction.search.embedding import Embedder, write_embeddings
from alignment_extraction.step import step

with step(snakemake.log[0]):
    field, rows = snakemake.wildcards.field, snakemake.input.get("rows")
    texts = (
        searched_rows(read_corpus(Path(rows)), field)["compared"].to_list()
        if rows
        else unique_texts(read_shards(snakemake.input.generations), field)
    )
    if snakemake.params.gpu:
        torch_device("embedding")  # says so where there is none
    settings = snakemake.params.settings.settings
    options = settings.model_dump(include={"max_tokens", "batch_size", "dtype"})
    embedder = Embedder(Path(snakemake.input.embedder), **options)
    write_embeddings(embedder, texts, Path(snakemake.output.vectors))
