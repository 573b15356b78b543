"""String similarity: normalised Levenshtein and Indel, and the best match in a whole corpus.

Both are 1 - distance / largest possible distance, in [0, 1]: Levenshtein counts insertions,
deletions and substitutions (largest: the longer length); Indel counts insertions and deletions
(largest: the sum of lengths). Computed by rapidfuzz.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, Levenshtein

Metric = Literal["levenshtein", "indel"]
Floats = np.ndarray[Any, np.dtype[np.float32]]

SCORERS = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}

LEAST_SIMILARITY = 0.5
"""Matches below this are not searched for: `best_matches` reports them as none."""

_LEAST_LENGTH_RATIO = {"levenshtein": 1 / 2, "indel": 1 / 3}
"""Shorter over longer length below which `LEAST_SIMILARITY` is out of reach."""

_CELLS = 4_000_000
"""Entries of the score matrix held at once (16 MB)."""


class StringMatches(NamedTuple):
    """The most similar text of each query."""

    position: np.ndarray[Any, np.dtype[np.int64]]
    """Row numbers, shape (queries,); -1 where nothing reaches `LEAST_SIMILARITY`."""
    similarity: Floats
    """Similarities in [0.5, 1], shape (queries,); NaN where there is none."""


def pairwise(metric: Metric, left: Sequence[str], right: Sequence[str], threads: int = 1) -> Floats:
    """Similarity of left[i] to right[i], float32 in [0, 1], shape (texts,)."""
    scores: Floats = process.cpdist(
        left, right, scorer=SCORERS[metric], dtype=np.float32, workers=threads
    )
    return scores


def best_matches(
    metric: Metric, queries: Sequence[str], corpus: Sequence[str], threads: int = 1
) -> StringMatches:
    """The corpus text most similar to each query, exactly, wherever one reaches 0.5.

    The first of several equals wins. The corpus is sorted by length, and each block of queries of
    like length meets only the window of lengths in which 0.5 can be reached: a text of m
    characters has a similarity of at most min(m, n) / max(m, n) by Levenshtein and
    2 min(m, n) / (m + n) by Indel to one of n.
    """
    position = np.full(len(queries), -1, np.int64)
    similarity = np.full(len(queries), np.nan, np.float32)
    if not len(queries) or not len(corpus):
        return StringMatches(position, similarity)
    lengths = np.array([len(text) for text in corpus])
    # Stable, so that among equals the first of the corpus comes first within one length; across
    # lengths the smallest row number is looked up among all that reach the maximum.
    order = np.argsort(lengths, kind="stable")
    sorted_lengths = lengths[order]
    query_lengths = np.array([len(text) for text in queries])
    ratio = _LEAST_LENGTH_RATIO[metric]
    query_order = np.argsort(query_lengths, kind="stable")
    sorted_query_lengths = query_lengths[query_order]
    start = 0
    while start < len(query_order):
        shortest = sorted_query_lengths[start]
        stop = int(
            np.searchsorted(sorted_query_lengths, max(shortest * 1.1, shortest + 1), "right")
        )
        longest = sorted_query_lengths[stop - 1]
        low = int(np.searchsorted(sorted_lengths, np.floor(shortest * ratio), "left"))
        high = int(np.searchsorted(sorted_lengths, np.ceil(longest / ratio), "right"))
        if high > low:
            window = order[low:high]
            choices = [corpus[i] for i in window]
            step = max(1, _CELLS // len(choices))
            for at in range(start, stop, step):
                rows = query_order[at : min(at + step, stop)]
                scores = process.cdist(
                    [queries[i] for i in rows],
                    choices,
                    scorer=SCORERS[metric],
                    score_cutoff=LEAST_SIMILARITY,
                    dtype=np.float32,
                    workers=threads,
                )
                best = scores.max(axis=1)
                first = np.where(scores == best[:, None], window[None, :], len(corpus)).min(axis=1)
                hit = best >= LEAST_SIMILARITY
                position[rows[hit]] = first[hit]
                similarity[rows[hit]] = best[hit]
        start = stop
    return StringMatches(position, similarity)
