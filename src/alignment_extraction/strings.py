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
from tqdm import tqdm

Metric = Literal["levenshtein", "indel"]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Positions = np.ndarray[Any, np.dtype[np.int64]]

METRICS: tuple[Metric, ...] = ("levenshtein", "indel")

SCORERS: dict[Metric, Any] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}

LEAST_SIMILARITY = 0.5
"""Matches below this are not searched for: `best_matches` reports them as none."""

_LENGTH_RATIO = 3
"""Longer over shorter length above which an Indel similarity of 0.5 is out of reach."""

_CELLS = 2_000_000
"""Entries of the score matrix held at once (8 MB)."""

_DELAY = 2.0
"""Seconds after which a search shows its progress bar."""

_TOLERANCE = 1e-6
"""What rounding to float32 can take off a similarity."""


class StringMatches(NamedTuple):
    """The most similar text of each query."""

    position: Positions
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
    queries: Sequence[str], corpus: Sequence[str], threads: int = 1, *, progress: str | None = None
) -> dict[Metric, StringMatches]:
    """The corpus text most similar to each query, by each metric, exactly, where one reaches 0.5.

    The first of several equals wins. Two bounds spare most of the work. Texts of m and n
    characters have an Indel similarity of at most 2 min(m, n) / (m + n), so a query meets only
    texts of like length. And with L the length of their longest common subsequence, which the Indel
    similarity 2 L / (m + n) gives, their Levenshtein similarity is at most L / max(m, n): in the
    cheapest alignment at most L characters stand against their equals. It is computed only
    where this bound exceeds the best that is already known.

    Args:
        queries: texts to look for; each is searched, equal or not.
        corpus: texts to look in.
        threads: of rapidfuzz.
        progress: label of a progress bar on standard error, shown if the search takes more than two
            seconds; None shows none.
    """
    matches = {
        metric: StringMatches(
            np.full(len(queries), -1, np.int64), np.full(len(queries), np.nan, np.float32)
        )
        for metric in METRICS
    }
    lengths = np.array([len(text) for text in corpus], np.int64)
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    query_lengths = np.array([len(text) for text in queries], np.int64)
    query_order = np.argsort(query_lengths, kind="stable")
    with tqdm(
        total=len(queries), unit="text", desc=progress, disable=progress is None, delay=_DELAY
    ) as bar:
        start = 0
        while start < len(queries):
            shortest = query_lengths[query_order[start]]
            low, high = np.searchsorted(
                lengths, [shortest / _LENGTH_RATIO, 1.1 * shortest * _LENGTH_RATIO + 1]
            )
            window = order[low:high]
            block = query_order[start : start + max(1, _CELLS // max(1, len(window)))]
            block = block[query_lengths[block] <= 1.1 * shortest]
            if len(window):
                _match_block(block, window, queries, corpus, threads, matches)
            start += len(block)
            bar.update(len(block))
    return matches


def _match_block(
    block: Positions,
    window: Positions,
    queries: Sequence[str],
    corpus: Sequence[str],
    threads: int,
    matches: dict[Metric, StringMatches],
) -> None:
    """Fill in the matches of the queries `block` among the corpus texts `window`."""
    texts = [queries[i] for i in block]
    choices = [corpus[i] for i in window]
    indel: Floats = process.cdist(
        texts,
        choices,
        scorer=SCORERS["indel"],
        score_cutoff=LEAST_SIMILARITY,
        dtype=np.float32,
        workers=threads,
    )
    _keep_best(indel, block, window, matches["indel"])

    # Half a character for none, so that the bound of two empty texts is 1 and not 0 / 0.
    m = np.array([[max(len(text), 0.5)] for text in texts], np.float32)
    n = np.array([[max(len(text), 0.5) for text in choices]], np.float32)
    bound = indel * (m + n) / (2 * np.maximum(m, n))
    levenshtein = np.zeros_like(indel)

    def fill(rows: Any, columns: Any) -> None:
        levenshtein[rows, columns] = process.cpdist(
            [texts[i] for i in rows],
            [choices[j] for j in columns],
            scorer=SCORERS["levenshtein"],
            score_cutoff=LEAST_SIMILARITY,
            dtype=np.float32,
            workers=threads,
        )

    likeliest = bound.argmax(axis=1)
    rows = np.flatnonzero(bound.max(axis=1) >= LEAST_SIMILARITY - _TOLERANCE)
    fill(rows, likeliest[rows])
    known = np.maximum(levenshtein.max(axis=1), LEAST_SIMILARITY)
    bound[rows, likeliest[rows]] = -1
    fill(*np.nonzero(bound >= known[:, None] - _TOLERANCE))
    _keep_best(levenshtein, block, window, matches["levenshtein"])


def _keep_best(
    scores: Floats,
    block: Positions,
    window: Positions,
    into: StringMatches,
) -> None:
    best = scores.max(axis=1)
    # The window is sorted by length: among equal scores the smallest row number is the first.
    first = np.where(scores == best[:, None], window, np.iinfo(np.int64).max).min(axis=1)
    reached = best >= LEAST_SIMILARITY
    into.position[block[reached]] = first[reached]
    into.similarity[block[reached]] = best[reached]
