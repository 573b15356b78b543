"""Which labelled edits embeddings and strings see, at the paper's thresholds."""

from pathlib import Path

from alignment_extraction.attribution.edits import edit_similarity
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows
from alignment_extraction.files import write_parquet
from alignment_extraction.search.embedding import read_vectors
from alignment_extraction.step import step

with step(snakemake.log[0]):
    rows = searched_rows(read_corpus(Path(snakemake.input.corpus)), "question")
    vectors = read_vectors(Path(snakemake.input.vectors), rows["compared"].to_list())
    edits = edit_similarity(rows, vectors, snakemake.params.embedder)
    write_parquet(edits, Path(snakemake.output[0]))
