"""Which labelled edits embeddings and strings see, and which of trained problems a model writes."""

from pathlib import Path

from alignment_extraction.attribution.edits import edit_similarity, written_variants
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.search.embedding import read_vectors
from alignment_extraction.step import step

with step(snakemake.log[0]):
    corpus, at = read_corpus(Path(snakemake.input.corpus)), snakemake.params.thresholds.settings
    rows = searched_rows(corpus, "question")
    vectors = read_vectors(Path(snakemake.input.vectors), rows["compared"].to_list())
    edits = edit_similarity(rows, vectors, snakemake.params.embedder)
    scores = read_parquet(Path(snakemake.input.scores)).filter(field="question")
    variants = written_variants(corpus, scores, semantic=at.semantic, string=at.string)
    write_parquet(edits, Path(snakemake.output.edits))
    write_parquet(variants, Path(snakemake.output.variants))
