"""Corpus rows that also occur in public texts: benchmarks, pretraining data.

A row is tagged where either holds, after open-instruct's decontamination (Lambert et al. 2024,
arXiv 2411.15124, section 3.2, which takes runs of 8 tokens; 13 are GPT-3's, Brown et al. 2020,
arXiv 2005.14165, appendix C):

- at least a share of its words lie in runs of `ngram` words that the public texts hold too. Words
  are runs of letters and digits, in lower case. A row of fewer words is one run of its own, which
  a public text must hold whole;
- its cosine to the nearest public text reaches a threshold.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from alignment_extraction.corpora.corpus import build
from alignment_extraction.corpora.texts import corpus_texts, groups_of
from alignment_extraction.files import InputError
from alignment_extraction.search.embedding import Embedder, Vectors, read_vectors
from alignment_extraction.search.index import exact_search
from alignment_extraction.settings.evidence import ContaminationSettings
from alignment_extraction.statistics import Array

_WORD = r"[\p{L}\p{N}]+"


def word_lists(texts: Sequence[str]) -> pl.Series:
    """The words of each text, in lower case; List(String)."""
    return pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(_WORD)


def _runs(words: pl.Series, length: int) -> pl.DataFrame:
    """Every run of `length` words: text (number), place (of its first word), run (joined)."""
    frame = (
        pl.DataFrame({"words": words}).with_row_index("text").explode("words", empty_as_null=False)
    )
    frame = frame.with_columns(place=pl.int_range(pl.len()).over("text"))
    shifted = [pl.col("words").shift(-i).over("text") for i in range(length)]
    return frame.select(
        "text", "place", run=pl.concat_str(shifted, separator=" ", ignore_nulls=False)
    ).drop_nulls("run")


def overlaps(texts: Sequence[str], public: Sequence[str], ngram: int) -> Array:
    """Share of each text's words that lie in runs of `ngram` words of any public text.

    Args:
        texts: the rows.
        public: what they may be copied from.
        ngram: length of a run; a shorter text is one run.

    Returns:
        float64, shape (texts,), in [0, 1]; 0 for a text without words.
    """
    words, others = word_lists(texts), word_lists(public)
    counts = words.list.len().to_numpy().astype(np.int64)
    share = np.zeros(len(texts))
    for length in np.unique(np.minimum(counts, ngram)):
        if not length:
            continue
        chosen = np.flatnonzero(np.minimum(counts, ngram) == length)
        known = _runs(others, int(length)).select("run").unique()
        found = _runs(words[chosen], int(length)).join(known, on="run", how="semi")
        covered = np.zeros((len(chosen), int(counts[chosen].max()) + 1), np.int64)
        at = found["text"].to_numpy(), found["place"].to_numpy()
        # +1 where a run begins, -1 behind its end: the running sum is above 0 inside of runs.
        np.add.at(covered, at, 1)
        np.add.at(covered, (at[0], at[1] + int(length)), -1)
        share[chosen] = (covered.cumsum(axis=1) > 0).sum(axis=1) / counts[chosen]
    return share


def tag(
    rows: pl.DataFrame,
    vectors: Vectors,
    public: pl.DataFrame,
    public_vectors: Vectors,
    *,
    ngram: int,
    overlap: float,
    cosine: float,
) -> pl.DataFrame:
    """Tag the rows that occur in public texts.

    Args:
        rows: id, group, role, text.
        vectors: of their texts, unit length.
        public: id, text; a row never counts as its own copy, so none of `rows` may be in it.
        public_vectors: of these, by the same embedder.
        ngram, overlap, cosine: see `settings.evidence.ContaminationSettings`.

    Returns:
        Columns id, group, role, overlap, by_ngram (whether tagged by it), cosine, public_id (of the
        nearest public text), by_embedding, tagged (either).
    """
    found = exact_search(np.asarray(public_vectors), np.asarray(vectors))
    shares = overlaps(rows["text"].to_list(), public["text"].to_list(), ngram)
    return rows.select(
        "id",
        "group",
        "role",
        overlap=pl.Series(shares, dtype=pl.Float64),
        by_ngram=pl.Series(shares >= overlap - 1e-9, dtype=pl.Boolean),
        cosine=pl.Series(found.cosine, dtype=pl.Float32),
        public_id=public["id"][found.position],
        by_embedding=pl.Series(found.cosine >= cosine - 1e-6, dtype=pl.Boolean),
    ).with_columns(tagged=pl.col("by_ngram") | pl.col("by_embedding"))


def tag_corpus(
    corpus: pl.DataFrame,
    corpus_vectors: Path,
    settings: ContaminationSettings,
    *,
    part: str,
    embedder: Path | None,
    max_tokens: int,
    batch_size: int,
    seed: int,
) -> pl.DataFrame:
    """Tag the rows of a corpus that are not themselves among the public texts.

    Args:
        corpus: in the corpus schema.
        corpus_vectors: embeddings of its `part`.
        settings: the public texts, and what counts as a copy.
        part: `question`, `answer` or `both`, of both sides.
        embedder: folder of the model that made `corpus_vectors`, for `settings.sources`.
        max_tokens, batch_size: of the embedder.
        seed: of generated public texts.

    Returns:
        See `tag`.

    Raises:
        InputError: a source cannot be read, `sources` without an embedder or with another one.
    """
    texts, rows = corpus_texts(corpus, part)
    about = corpus.select("id", "role", group=groups_of(corpus))[rows].with_columns(
        text=pl.Series(texts, dtype=pl.String)
    )
    vectors = read_vectors(corpus_vectors, texts)
    public = about["group"].is_in(settings.groups).to_numpy()
    frames, parts = [about.select("id", "text").filter(public)], [np.asarray(vectors[public])]
    if settings.sources:
        if embedder is None:
            raise InputError("contamination: `sources` are to be embedded; give --embedder")
        with tempfile.TemporaryDirectory() as folder:
            frame = build(settings.sources, seed, Path(folder)).frame.collect()
        sentences, places = corpus_texts(frame, part)
        model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
        read_vectors(corpus_vectors, texts, model.identity)
        frames.append(frame.select("id")[places].with_columns(text=pl.Series(sentences)))
        parts.append(model.embed(sentences, progress=True))
    return tag(
        about.filter(~public),
        np.asarray(vectors[~public]),
        pl.concat(frames),
        np.concatenate(parts),
        ngram=settings.ngram,
        overlap=settings.overlap,
        cosine=settings.cosine,
    )
