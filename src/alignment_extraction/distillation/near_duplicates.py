"""Near-duplicates: sets whose Jaccard similarity reaches a threshold, found exactly.

The measure and the use are those of Lee et al. 2022 (arXiv 2107.06499, section 4.2).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from alignment_extraction.statistics import Array

_PAIRS = 200_000  # candidate pairs held at once, about 100 MB with their tokens
_ROUNDING = 1e-9


def near_duplicates(sets: pl.Series, similarity: float) -> Array:
    """The cluster of each set; no pair of near-duplicates is missed.

    Two sets of at most a tokens whose Jaccard similarity is at least t share one of the a - ta + 1
    rarest tokens of either (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007), so only
    sets that share a rare token are compared, in blocks.

    Args:
        sets: the tokens of each text, List(String); repeated tokens count once.
        similarity: least Jaccard similarity of near-duplicates, in (0, 1].

    Returns:
        int64, shape (sets,): the position of the first set that is connected to it by
        near-duplicate pairs (single linkage). A set without tokens is its own.
    """
    matrix = _token_matrix(sets)
    sizes = np.diff(matrix.indptr)
    edges = [np.empty((2, 0), np.int64)]
    for left, right in _candidates(matrix, sizes, similarity):
        shared = np.asarray(matrix[left].multiply(matrix[right]).sum(axis=1)).ravel()
        near = shared >= similarity * (sizes[left] + sizes[right] - shared) - _ROUNDING
        edges.append(np.stack([left[near], right[near]]))
    pairs = np.concatenate(edges, axis=1)
    graph = sparse.coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(len(sizes),) * 2)
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    clusters: Array = first[inverse].astype(np.int64)
    return clusters


def _token_matrix(sets: pl.Series) -> Any:
    """Sparse 0 and 1 of shape (sets, tokens), the rarest tokens first."""
    tokens = (
        pl.DataFrame({"row": np.arange(len(sets)), "token": sets})
        .explode("token")
        .drop_nulls()
        .unique()
        .select("row", rank=pl.struct(pl.len().over("token"), "token").rank("dense"))
        .sort("row", "rank")
    )
    ranks = tokens["rank"].to_numpy().astype(np.int64) - 1
    starts = np.searchsorted(tokens["row"].to_numpy(), np.arange(len(sets) + 1))
    shape = (len(sets), ranks.max(initial=-1) + 1)
    return sparse.csr_array((np.ones(len(ranks), np.int32), ranks, starts), shape=shape)


def _candidates(matrix: Any, sizes: Array, similarity: float) -> Iterator[tuple[Array, Array]]:
    """Pairs of sets that share a token of their prefixes, in blocks."""
    kept = sizes - np.ceil(similarity * sizes - _ROUNDING).astype(np.int64) + 1
    mask = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes) < np.repeat(kept, sizes)
    starts = np.concatenate([[0], np.minimum(kept, sizes).cumsum()])
    ones = np.ones(mask.sum(), np.int32)
    prefixes = sparse.csr_array((ones, matrix.indices[mask], starts), shape=matrix.shape)
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
