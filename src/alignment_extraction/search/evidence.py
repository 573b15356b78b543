"""Searches beside the main one, by exact products: audits, an unrelated corpus, another embedder.

They look at a random sample of a cell's generations, or at all where there are no more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.corpora.texts import corpus_texts, groups_of, texts_of, unique_texts
from alignment_extraction.search.embedding import Vectors, identity_of, read_vectors
from alignment_extraction.search.index import exact_search
from alignment_extraction.search.matching import SUSPECTED_ROLES
from alignment_extraction.search.string_search import best_matches
from alignment_extraction.statistics import named_seed


def sample(generations: pl.DataFrame, part: str, count: int, seed: int, name: str) -> pl.DataFrame:
    """A random sample of the generations that have `part`, in the order of their indexes.

    Args:
        generations: has index, question, answer.
        part: `question`, `answer` or `both`.
        count: how many, at most.
        seed: of the study.
        name: of the random stream.

    Returns:
        Columns index, text.
    """
    texts = generations.select("index", text=texts_of(generations, part)).drop_nulls("text")
    if texts.height <= count:
        return texts
    stream = np.random.default_rng(named_seed(seed, name))
    return texts[np.sort(stream.choice(texts.height, count, replace=False))]


def text_vectors(generations: pl.DataFrame, part: str, path: Path) -> tuple[list[str], Vectors]:
    """The distinct texts of generations with their vectors, as the embedding step wrote them.

    Raises:
        InputError: they are of other texts.
    """
    texts = unique_texts(generations, part)
    return texts, read_vectors(path, texts)


def distinct_texts(sampled: pl.DataFrame) -> list[str]:
    """The distinct texts of a sample, in order; the empty one left out."""
    return sampled.filter(pl.col("text") != "")["text"].unique(maintain_order=True).to_list()


def sample_vectors(
    sampled: pl.DataFrame, texts: Sequence[str], vectors: Vectors
) -> tuple[pl.DataFrame, Vectors]:
    """The rows of a sample that have any text, and the vector of each.

    Args:
        sampled: from `sample`.
        texts, vectors: from `text_vectors`.
    """
    rows = {text: row for row, text in enumerate(texts)}
    written = sampled.filter(pl.col("text") != "")
    return written, np.asarray(vectors[[rows[text] for text in written["text"]]])


def suspected_rows(corpus: pl.DataFrame, part: str) -> tuple[pl.DataFrame, Any]:
    """Rows with `part` of the role that rates are first read against, and their places.

    Returns:
        Columns id, role, group, text, and the numbers of these rows among `corpus_texts`.
    """
    texts, rows = corpus_texts(corpus, part)
    about = corpus.select("id", "role", group=groups_of(corpus))[rows].with_columns(
        text=pl.Series(texts, dtype=pl.String)
    )
    roles = [role for role in SUSPECTED_ROLES if role in set(about["role"])]
    chosen = np.flatnonzero((about["role"] == (roles[0] if roles else "")).to_numpy())
    return about[chosen], chosen


def match_control(
    generations: pl.DataFrame,
    control: pl.DataFrame,
    *,
    part: str,
    generation_vectors: Path,
    control_vectors: Path,
    rows: int,
    samples: int,
    seed: int,
    threads: int = 1,
) -> pl.DataFrame:
    """Search generations in an unrelated corpus, as far as possible of the same size.

    The search is exact, where the main one is approximate: the control is, if anything, too high.

    Args:
        generations: of one cell.
        control: the unrelated corpus, in the corpus schema.
        part: what is compared.
        generation_vectors: of the distinct texts of `generations`.
        control_vectors: of the texts of `control`.
        rows: of the corpus that the control stands beside; if `control` has more, a random sample
            of so many is searched.
        samples: generations that are searched, at random.
        seed: of the study.
        threads: for the string search.

    Returns:
        Columns index, rows (that were searched), cosine, levenshtein_best, indel_best (null below
        0.5, and all three for an empty generation).

    Raises:
        InputError: embeddings of other texts.
    """
    texts, places = corpus_texts(control, part)
    vectors = read_vectors(control_vectors, texts)
    if len(places) > rows:
        stream = np.random.default_rng(named_seed(seed, "control/rows"))
        chosen = np.sort(stream.choice(len(places), rows, replace=False))
        texts, vectors = [texts[i] for i in chosen], np.asarray(vectors[chosen])
    sampled = sample(generations, part, samples, seed, "control/generations")
    written, queries = sample_vectors(sampled, *text_vectors(generations, part, generation_vectors))
    best = best_matches(written["text"].to_list(), texts, threads, progress="control strings")
    found = written.select(
        "index",
        cosine=pl.Series(exact_search(np.asarray(vectors), queries).cosine, dtype=pl.Float32),
        **{
            f"{metric}_best": pl.Series(best[metric].similarity, dtype=pl.Float32).fill_nan(None)
            for metric in ("levenshtein", "indel")
        },
    )
    return sampled.select("index", rows=pl.lit(len(texts), pl.Int64)).join(
        found, on="index", how="left", maintain_order="left"
    )


def second_scores(
    sampled: pl.DataFrame,
    vectors_path: Path,
    corpus: pl.DataFrame,
    corpus_vectors: Path,
    part: str,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The cosines of generations and held-out rows under another embedder, by exact search.

    Args:
        sampled: from `sample`.
        vectors_path: embeddings of its `distinct_texts`.
        corpus: in the corpus schema.
        corpus_vectors: embeddings of its `part` by the same embedder.
        part: what is compared.

    Returns:
        For generations index, second_id, second_cosine (against the rows of `suspected_rows`; null
        where the text is empty). For held-out rows id and second_cosine.

    Raises:
        InputError: embeddings of other texts, or of two embedders.
    """
    distinct = distinct_texts(sampled)
    identity = identity_of(corpus_vectors)
    written, queries = sample_vectors(
        sampled, distinct, read_vectors(vectors_path, distinct, identity)
    )
    texts, rows = corpus_texts(corpus, part)
    vectors = read_vectors(corpus_vectors, texts)
    about, chosen = suspected_rows(corpus, part)
    own = np.asarray(vectors[chosen])
    found = exact_search(own, queries)
    scored = written.select(
        "index",
        second_id=about["id"][found.position],
        second_cosine=pl.Series(found.cosine, dtype=pl.Float32),
    )
    scored = sampled.select("index").join(scored, on="index", how="left", maintain_order="left")
    held_out = np.flatnonzero((corpus["role"][rows] == "held-out").to_numpy())
    cosines = exact_search(own, np.asarray(vectors[held_out])).cosine
    return scored, pl.DataFrame(
        {"id": corpus["id"][rows][held_out], "second_cosine": pl.Series(cosines, dtype=pl.Float32)}
    )
