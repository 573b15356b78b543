"""Which labelled edits embeddings and strings see, and which a model writes."""

from pathlib import Path

from alignment_extraction.attribution.edits import edit_similarity, written_variants
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import corpus_texts
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.search.embedding import read_vectors
from alignment_extraction.step import step

with step(snakemake.log[0]):
    corpus = read_corpus(Path(snakemake.input.corpus))
    texts, rows = corpus_texts(corpus, "question")
    vectors = read_vectors(Path(snakemake.input.vectors), texts)
    at = snakemake.params.thresholds.settings
    limits = {"semantic": at.semantic, "string": at.string}
    edits = edit_similarity(corpus[rows], vectors, snakemake.params.embedder, **limits)
    scores = read_parquet(Path(snakemake.input.scores)).filter(field="question")
    write_parquet(edits, Path(snakemake.output.edits))
    variants = written_variants(corpus, scores, **limits)
    write_parquet(variants, Path(snakemake.output.variants))
