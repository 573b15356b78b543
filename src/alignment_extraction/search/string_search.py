"""The best match of each text in a whole corpus by Levenshtein and Indel similarity, exactly.

Similarities are 1 - distance / largest possible distance, in [0, 1], by rapidfuzz: Levenshtein
counts insertions, deletions and substitutions (largest: the longer length); Indel counts insertions
and deletions (largest: the sum of lengths).

Both are at most L / s, with L the length of the longest common subsequence of two texts of m and n
characters, and s another length: the mean of m and n for Indel, where this is the similarity
itself, and the larger of them for Levenshtein, because in the cheapest alignment at most L
characters stand against their equals. Every bound on L (`string_bounds`) hence bounds both, and L
takes a fifth of the time of a Levenshtein distance. Each query meets only texts of like length, and
of these the most promising first: the better the best that is known, the fewer are left.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, LCSseq, Levenshtein
from tqdm import tqdm

from alignment_extraction.search.string_bounds import (
    FREQUENT,
    RARE,
    WHOLE,
    CommonLength,
    Floats,
    Positions,
    SortedTexts,
)

Metric = Literal["levenshtein", "indel"]
SCORERS: dict[Metric, Any] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}
METRICS: tuple[Metric, ...] = tuple(SCORERS)

LEAST_SIMILARITY = 0.5
"""Matches below this are not searched for: `best_matches` reports them as none."""

_LENGTH_RATIO = 2 / LEAST_SIMILARITY - 1  # longer over shorter above which it is out of reach
# Up to so many characters rapidfuzz has an instruction work on several queries, which takes no
# longer than bounds would: whole texts, and rare and frequent characters of most texts.
_SHORT, _SHORT_HALVES = 64, 104
_CELLS = 4_000_000  # pairs of short queries and texts that a thread takes at one time (4 MB)
_FIRST, _GROWTH = 16, 8  # candidates compared first, and how many times as many come next
_DELAY = 2.0  # seconds after which a search shows its progress bar
_TOLERANCE = 1e-6  # what rounding to float32 can take off a similarity or a bound


class StringMatches(NamedTuple):
    """The most similar text of each query."""

    position: Positions
    """Row numbers, shape (queries,); -1 where nothing reaches `LEAST_SIMILARITY`."""
    similarity: Floats
    """Similarities in [0.5, 1], shape (queries,); NaN where there is none."""


_Best = dict[Metric, tuple[int, float]]
"""Position and similarity of the best match of one query, by each metric that has one."""


def best_matches(
    queries: Sequence[str], corpus: Sequence[str], threads: int = 1, *, progress: str | None = None
) -> dict[Metric, StringMatches]:
    """The corpus text most similar to each query, by each metric, exactly, where one reaches 0.5.

    The first of several equals wins.

    Args:
        queries: texts to look for; equal ones are searched once.
        corpus: texts to look in.
        threads: that search, each for other queries.
        progress: label of a progress bar on standard error, shown if the search takes more than two
            seconds; None shows none.
    """
    size = len(queries)
    matches = {
        metric: StringMatches(np.full(size, -1), np.full(size, np.nan, np.float32))
        for metric in METRICS
    }
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(queries):
        rows.setdefault(text, []).append(row)
    # The first position of each text: of equal keys, the dictionary keeps the last.
    first = {corpus[i]: i for i in reversed(range(len(corpus)))}

    def keep(text: str, best: _Best) -> None:
        for metric, (position, similarity) in best.items():
            matches[metric].position[rows[text]] = position
            matches[metric].similarity[rows[text]] = similarity

    for text in rows.keys() & first.keys():
        keep(text, dict.fromkeys(METRICS, (first[text], 1.0)))
    first.pop("", None)  # like no other text
    if not first:
        return matches
    texts = SortedTexts.of(first)
    blocks = _blocks([text for text in rows if text and text not in first], len(first))
    with (
        tqdm(
            total=len(rows), unit="text", desc=progress, disable=progress is None, delay=_DELAY
        ) as bar,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
        bar.update(len(rows) - sum(map(len, blocks)))
        found = pool.map(lambda block: _match_block(block, texts), blocks)
        for block, best in zip(blocks, found, strict=True):
            for text, of_text in zip(block, best, strict=True):
                keep(text, of_text)
            bar.update(len(block))
    return matches


def _blocks(queries: Sequence[str], texts: int) -> list[list[str]]:
    """Long queries one by one, and short ones of like length together."""
    queries = sorted(queries, key=len)
    lengths = np.array([len(text) for text in queries], np.int64)
    blocks, start = [], 0
    while start < len(queries):
        if lengths[start] > _SHORT_HALVES:
            stop = start + 1
        else:
            limit = _SHORT if lengths[start] <= _SHORT else _SHORT_HALVES
            longest = min(1.1 * lengths[start], limit)
            alike = int(np.searchsorted(lengths, longest, side="right"))
            stop = min(start + max(1, _CELLS // texts), alike)
        blocks.append(queries[start:stop])
        start = stop
    return blocks


def _match_block(queries: Sequence[str], texts: SortedTexts) -> list[_Best]:
    """The best matches of one long query, or of short ones in the order of their length."""
    texts = texts.between(len(queries[0]) / _LENGTH_RATIO, len(queries[-1]) * _LENGTH_RATIO)
    if not len(texts.lengths):
        return [{} for _ in queries]
    if len(queries[0]) > _SHORT_HALVES:
        return [_match(query, texts, CommonLength(query, texts)) for query in queries]
    whole = len(queries[0]) <= _SHORT
    parts = texts.alphabet.divide(queries)[1]
    bounds: Any = sum(
        process.cdist(
            parts[part].tolist(),
            texts.parts[part].tolist(),
            scorer=LCSseq.similarity,
            dtype=np.uint8,
        )
        for part in ([WHOLE] if whole else [RARE, FREQUENT])
    )
    steps = WHOLE + 1 if whole else WHOLE
    return [
        _match(query, texts, CommonLength(query, texts, bound, steps))
        for query, bound in zip(queries, bounds, strict=True)
    ]


def _match(query: str, texts: SortedTexts, common: CommonLength) -> _Best:
    """The best matches of one query."""
    indel = (texts.lengths + len(query)) / 2
    bounds = common.bound / indel
    left = np.flatnonzero(bounds >= LEAST_SIMILARITY - _TOLERANCE)
    row, similarity = _best_row(
        common, indel, texts.positions, SCORERS["indel"], left, int(bounds.argmax())
    )
    if row is None:  # no Levenshtein similarity is above the Indel similarity
        return {}
    found: _Best = {"indel": (int(texts.positions[row]), similarity)}
    longer = np.maximum(texts.lengths, len(query))
    row, similarity = _best_row(common, longer, texts.positions, SCORERS["levenshtein"], left, row)
    if row is not None:
        found["levenshtein"] = int(texts.positions[row]), similarity
    return found


def _best_row(
    common: CommonLength,
    size: np.ndarray[Any, np.dtype[np.floating[Any]]],
    positions: Positions,
    scorer: Any,
    left: Positions,
    likely: int,
) -> tuple[int | None, float]:
    """The row of the best match by one metric, the first by position among equals, or None and 0.5.

    A bound over `size` bounds the similarity; of the rows `left`, `likely` is looked at first.
    """
    found, best = None, LEAST_SIMILARITY
    rows, step = np.array([likely]), _FIRST
    while len(rows):
        for part in (RARE, FREQUENT, WHOLE):
            common.lower(rows, part)
            rows = rows[common.bound[rows] >= (best - _TOLERANCE) * size[rows]]
        scores = common.compare(rows, scorer, np.float32)
        top = float(scores.max(initial=0))
        if top >= best:
            first = rows[scores == top]
            if found is not None and top == best:
                first = np.append(first, found)
            found, best = int(first[positions[first].argmin()]), top
        left = left[common.bound[left] >= (best - _TOLERANCE) * size[left]]
        if len(left) > step:  # those of the greatest bounds next
            left = left[np.argpartition(-common.bound[left] / size[left], step)]
        rows, left = left[:step], left[step:]
        step *= _GROWTH
    return found, best
