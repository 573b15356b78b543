"""Clusters of near-duplicates in a corpus: items that are one template filled in differently.

Two texts are near-duplicates where, after masking numbers and names and putting letters into lower
case, their sets of tokens have a Jaccard similarity of at least `SIMILARITY`: the measure and value
of Lee et al. 2022 (arXiv 2107.06499, section 4.2), who apply it to word 5-grams. A cluster is what
is connected by such pairs (single linkage), within one group of the corpus.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from alignment_extraction.corpora.texts import corpus_texts, groups_of
from alignment_extraction.corpora.masking import masked, tokens

SIMILARITY = 0.8
"""Jaccard similarity from which on two masked texts are near-duplicates."""

_PAIRS = 200_000
"""Candidate pairs held at once (about 100 MB with their tokens)."""

Array = np.ndarray[Any, Any]


def masked_tokens(texts: Sequence[str]) -> pl.Series:
    """The tokens of each text in lower case, numbers and names masked; List(String)."""
    return tokens(masked(pl.Series(texts, dtype=pl.String)).str.to_lowercase())


def near_duplicates(sets: pl.Series, similarity: float = SIMILARITY) -> Array:
    """The cluster of each text, exactly: no pair of near-duplicates is missed.

    Two sets of at most a tokens whose Jaccard similarity is at least t share one of the a - ta + 1
    rarest tokens of either (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007), so only
    texts that share a rare token are compared. Texts of equal sets are compared once.

    Args:
        sets: the tokens of each text of one group, such as `masked_tokens` gives; List(String).
        similarity: least Jaccard similarity of near-duplicates, in (0, 1].

    Returns:
        int64, shape (texts,): the position of the first text of the cluster.
    """
    distinct, number = _token_sets(sets)
    sizes = np.diff(distinct.indptr)
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows, columns in _candidates(distinct, sizes, similarity):
        shared = np.asarray(distinct[rows].multiply(distinct[columns]).sum(axis=1)).ravel()
        near = shared >= similarity * (sizes[rows] + sizes[columns] - shared) - 1e-9
        left.append(rows[near])
        right.append(columns[near])
    edges = (np.concatenate(left), np.concatenate(right))
    graph = sparse.coo_array((np.ones(len(edges[0]), bool), edges), shape=(len(sizes),) * 2)
    labels = connected_components(graph, directed=False)[1][number]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    clusters: Array = first[inverse].astype(np.int64)
    return clusters


def _token_sets(token_lists: pl.Series) -> tuple[Any, Array]:
    """The distinct sets of tokens, shape (sets, tokens), rarest tokens first; each text's set."""
    texts = pl.DataFrame({"text": range(len(token_lists))})
    rows = (
        texts.with_columns(token=token_lists)
        .explode("token")
        .drop_nulls()
        .unique(maintain_order=True)
        .with_columns(count=pl.len().over("token"))
        .with_columns(rank=pl.struct("count", "token").rank("dense").cast(pl.Int64) - 1)
    )
    sets = (
        rows.sort("text", "rank")
        .group_by("text", maintain_order=True)
        .agg("rank")
        .join(texts, on="text", how="right")
        .with_columns(pl.col("rank").fill_null([]))
    )
    distinct = sets.unique("rank", keep="first", maintain_order=True).with_row_index("set")
    number = sets.join(distinct.select("rank", "set"), on="rank", how="left", maintain_order="left")
    flat = distinct["rank"].explode(empty_as_null=False).to_numpy()
    starts = np.concatenate([[0], distinct["rank"].list.len().to_numpy().cumsum()])
    shape = (distinct.height, rows["rank"].n_unique())
    matrix = sparse.csr_array((np.ones(len(flat), np.int32), flat, starts), shape=shape)
    return matrix, number["set"].to_numpy()


def _candidates(distinct: Any, sizes: Array, similarity: float) -> Iterator[tuple[Array, Array]]:
    """Pairs of sets that share a token of their prefixes, in blocks."""
    kept = sizes - np.ceil(similarity * sizes - 1e-9).astype(np.int64) + 1
    place = np.arange(distinct.nnz) - np.repeat(distinct.indptr[:-1], sizes)
    mask = place < np.repeat(kept, sizes)
    starts = np.concatenate([[0], np.minimum(kept, sizes).cumsum()])
    prefixes = sparse.csr_array(
        (np.ones(mask.sum(), np.int32), distinct.indices[mask], starts), shape=distinct.shape
    )
    by_token = prefixes.T.tocsr()
    # As many products as each row has partners, over all its tokens.
    work = (prefixes @ np.diff(by_token.indptr)).cumsum()
    start = 0
    while start < len(sizes):
        done = work[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(work, done + _PAIRS, side="right")))
        block = (prefixes[start:stop] @ by_token).tocoo()
        rows, columns = block.row + start, block.col
        yield rows[rows < columns], columns[rows < columns]
        start = stop


def clusters(corpus: pl.DataFrame, parts: Sequence[str]) -> pl.DataFrame:
    """Each corpus item that can be hit, with its cluster.

    Args:
        corpus: in the corpus schema.
        parts: parts that are compared.

    Returns:
        Columns part, reference (the item's group), id, repetitions, template, characters, cluster
        (id of its first item), cluster_size (items in it). Of equal texts of a group only the first
        is there, since only it is ever matched.
    """
    frames: list[pl.DataFrame] = []
    groups = groups_of(corpus)
    for part in parts:
        texts, rows = corpus_texts(corpus, part)
        items = corpus[rows].select(
            "id",
            "repetitions",
            "template",
            part=pl.lit(part),
            reference=groups[rows],
            text=pl.Series(texts, dtype=pl.String),
        )
        items = items.unique(["reference", "text"], keep="first", maintain_order=True)
        for _, own in items.group_by("reference", maintain_order=True):
            first = near_duplicates(masked_tokens(own["text"].to_list()))
            frames.append(own.with_columns(cluster=own["id"].gather(first.tolist())))
    return pl.concat(frames).select(
        "part",
        "reference",
        "id",
        "repetitions",
        "template",
        characters=pl.col("text").str.len_chars().cast(pl.Int64),
        cluster="cluster",
        cluster_size=pl.len().over("part", "reference", "cluster").cast(pl.Int64),
    )
