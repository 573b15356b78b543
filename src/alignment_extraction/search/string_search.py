"""The best match of each text in a whole corpus by Levenshtein and Indel similarity, exactly.

Similarities are 1 - distance / largest possible distance, in [0, 1], by rapidfuzz: Levenshtein
counts insertions, deletions and substitutions (largest: the longer length); Indel counts insertions
and deletions (largest: the sum of lengths).

Both are at most L / s, with L the length of the longest common subsequence of two texts of m and n
characters, and s the mean of m and n for Indel, where this is the similarity itself, or the larger
of them for Levenshtein, since in the cheapest alignment at most L characters stand against equals.
However characters are divided into classes, L is at most the sum of what each class gives alone,
which is at most how many of its characters both texts have (the bag distance: Bartolini, Ciaccia
and Patella 2002, "String matching with metric trees using an approximate distance"). Hence, from
cheap to exact: characters in common; L of rare characters and common frequent ones; L of either
(half the time of the whole, and unrelated prose seldom passes); L. Each query meets texts of like
length, the most promising first: the better the best that is known, the fewer are left.
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, LCSseq, Levenshtein
from tqdm import tqdm

Floats = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.integer[Any]]]
Texts = np.ndarray[Any, np.dtype[np.object_]]

Metric = Literal["levenshtein", "indel"]
SCORERS: dict[Metric, Any] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}
METRICS: tuple[Metric, ...] = tuple(SCORERS)

LEAST_SIMILARITY = 0.5
"""Matches below this are not searched for: `best_matches` reports them as none."""

_LENGTH_RATIO = 2 / LEAST_SIMILARITY - 1  # longer over shorter above which it is out of reach
_KINDS = 96  # of characters, by code point: printable ASCII is all apart
_FREQUENT_SHARE = 0.6  # of all characters are frequent ones: it makes both parts as dear
_RARE, _FREQUENT, _WHOLE = range(3)  # parts of a text, in the order in which they lower a bound
_DELAY = 2.0  # seconds after which a search shows its progress bar
_CHUNK = 4096  # texts divided at one time
_FIRST, _GROWTH = 16, 8  # candidates compared first, and how many times as many come next
_TOLERANCE = 1e-6  # what rounding to float32 can take off a similarity


class StringMatches(NamedTuple):
    """The most similar text of each query."""

    position: Integers
    """Row numbers, int64, shape (queries,); -1 where nothing reaches `LEAST_SIMILARITY`."""
    similarity: Floats
    """Similarities in [0.5, 1], shape (queries,); NaN where there is none."""


_Best = dict[Metric, tuple[int, float]]
"""Position and similarity of the best match of one query, by each metric that has one."""


def best_among(
    queries: Sequence[str], corpus: Sequence[str], candidates: Integers, threads: int = 1
) -> dict[Metric, StringMatches]:
    """`best_matches` of an equal text, or else of each query's `candidates` alone, (queries, k)."""
    first = {corpus[i]: i for i in reversed(range(len(corpus)))}
    equal = np.array([first.get(text, -1) for text in queries], np.int64)
    found: dict[Metric, StringMatches] = {}
    for metric, scorer in SCORERS.items():
        position, similarity = equal.copy(), np.where(equal < 0, np.nan, 1).astype(np.float32)
        blocks = np.array_split(np.flatnonzero(equal < 0), 1 + len(queries) // _CHUNK)
        for rows in tqdm(blocks, f"by {metric}", unit=" blocks", delay=2):
            own = candidates[rows]
            left = [queries[i] for i in rows.repeat(own.shape[1]).tolist()]
            scores = process.cpdist(
                left,
                [corpus[i] for i in own.ravel().tolist()],
                scorer=scorer,
                score_cutoff=LEAST_SIMILARITY,
                dtype=np.float32,
                workers=threads,
            ).reshape(own.shape)
            top = scores.max(axis=1)
            best = np.where(scores == top[:, None], own, len(corpus)).min(axis=1)
            reached = top >= LEAST_SIMILARITY
            position[rows[reached]], similarity[rows[reached]] = best[reached], top[reached]
        found[metric] = StringMatches(position, similarity)
    return found


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
    # The first position of each text: of equal keys, the dictionary keeps the last.
    first = {corpus[i]: i for i in reversed(range(len(corpus)))}
    texts = _SortedTexts.of({text: i for text, i in first.items() if text})

    def search(query: str) -> _Best:
        if query in first:
            return dict.fromkeys(METRICS, (first[query], 1.0))
        return _match(query, texts) if query else {}  # the empty text is like no other

    distinct = list(dict.fromkeys(queries))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        bar = {"total": len(distinct), "unit": "text", "delay": _DELAY, "disable": progress is None}
        searched = tqdm(pool.map(search, distinct), desc=progress, **bar)
        found = dict(zip(distinct, searched, strict=True))

    def column(metric: Metric, place: int, dtype: Any) -> Any:
        return np.array([found[text].get(metric, (-1, np.nan))[place] for text in queries], dtype)

    return {m: StringMatches(column(m, 0, np.int64), column(m, 1, np.float32)) for m in METRICS}


def _code_points(texts: Sequence[str]) -> Integers:
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


class _SortedTexts(NamedTuple):
    """Distinct texts, none empty, in the order of their length."""

    parts: Texts
    """Rare characters, frequent characters, and whole, shape (3, texts)."""
    lengths: Integers
    """Characters of each text, ascending."""
    positions: Integers
    """The number that each was given with."""
    counts: Integers
    """Characters of each kind, shape (kinds, texts)."""
    frequent: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether a kind is frequent, shape (kinds,)."""

    @classmethod
    def of(cls, numbered: Mapping[str, int]) -> Self:
        """Sort and divide texts that map to their numbers."""
        lengths = np.array([len(text) for text in numbered], np.int64)
        order = np.argsort(lengths, kind="stable")
        texts = np.array(list(numbered), np.object_)[order]
        some = texts[:: 1 + len(texts) // 2048].tolist()
        total = np.bincount(_code_points(some) % _KINDS, minlength=_KINDS)
        ranked = np.argsort(-total, kind="stable")
        share = total[ranked].cumsum() / max(1, total.sum())
        frequent = np.isin(np.arange(_KINDS), ranked[: 1 + np.searchsorted(share, _FREQUENT_SHARE)])
        chunks = np.split(texts, range(_CHUNK, len(texts), _CHUNK))
        divided = [_divide(chunk.tolist(), frequent) for chunk in chunks]
        counts, parts = (np.concatenate(arrays, axis=1) for arrays in zip(*divided, strict=True))
        positions = np.array(list(numbered.values()), np.int64)[order]
        return cls(parts, lengths[order], positions, counts, frequent)

    def near(self, length: int) -> Self:
        """Those whose lengths let them reach `LEAST_SIMILARITY` to a text of this one."""
        low = np.searchsorted(self.lengths, length / _LENGTH_RATIO, side="left")
        high = np.searchsorted(self.lengths, length * _LENGTH_RATIO, side="right")
        own = {name: values[..., low:high] for name, values in self._asdict().items()}
        return self._replace(**own | {"frequent": self.frequent})


def _divide(texts: Sequence[str], frequent: Any) -> tuple[Integers, Texts]:
    """Characters of each kind in each text, shape (kinds, texts), and its parts, (3, texts)."""
    codes = _code_points(texts)
    kinds = codes % _KINDS
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    cells = np.bincount(rows * _KINDS + kinds, minlength=len(texts) * _KINDS)
    parts = np.empty((3, len(texts)), np.object_)
    for part, chosen in ((_RARE, ~frequent[kinds]), (_FREQUENT, frequent[kinds])):
        joined = codes[chosen].tobytes().decode("utf-32-le", "surrogatepass")
        ends = np.bincount(rows[chosen], minlength=len(texts)).cumsum().tolist()
        parts[part] = [joined[start:end] for start, end in itertools.pairwise([0, *ends])]
    parts[_WHOLE] = texts
    # In as few bytes as hold any sum of a text's counts: a million texts have many.
    size = np.min_scalar_type(max(map(len, texts), default=0))
    return cells.reshape(-1, _KINDS).T.astype(size), parts


def _common(query: Integers, texts: Integers, kinds: Any) -> Integers:
    """Characters in common of some kinds, from counts of shapes (kinds,) and (kinds, texts)."""
    common: Integers = np.zeros_like(texts[0])
    # A query can have more of one kind than these integers hold, but no text has.
    query = query.clip(max=np.iinfo(texts.dtype).max).astype(texts.dtype)
    for kind in np.flatnonzero(query * kinds):
        common += np.minimum(texts[kind], query[kind])
    return common


def _match(query: str, texts: _SortedTexts) -> _Best:
    """The best matches of one query, which is no corpus text."""
    parts, lengths, positions, counts, frequent = texts.near(len(query))
    if not len(lengths):
        return {}
    own, divided = _divide([query], frequent)
    common = _common(own[:, 0], counts, frequent)
    bound = common + _common(own[:, 0], counts, ~frequent)
    lowered = np.zeros(len(lengths), np.uint8)  # by how many parts a bound is lowered

    def compare(rows: Integers, scorer: Any, dtype: Any, part: int = _WHOLE) -> Any:
        choices = parts[part, rows].tolist()
        return process.cdist(divided[part], choices, scorer=scorer, dtype=dtype)[0]

    found: _Best = {}
    mean, longer = (lengths + len(query)) / 2, np.maximum(lengths, len(query))
    best_row = int((bound / mean).argmax())
    sizes: dict[Metric, Any] = {"indel": mean, "levenshtein": longer}
    for metric, size in sizes.items():
        rows, step, best = np.array([best_row]), _FIRST, LEAST_SIMILARITY
        left = np.flatnonzero(bound >= (best - _TOLERANCE) * size)
        best_row = -1
        while len(rows):
            for part in (_RARE, _FREQUENT, _WHOLE):
                if len(new := rows[lowered[rows] == part]):
                    length = compare(new, LCSseq.similarity, bound.dtype, part)
                    if part != _WHOLE:  # in place of characters in common of this part
                        length += common[new] if part == _RARE else bound[new] - common[new]
                    bound[new], lowered[new] = length, part + 1
                rows = rows[bound[rows] >= (best - _TOLERANCE) * size[rows]]
            scores = compare(rows, SCORERS[metric], np.float32)
            top = float(scores.max(initial=0))
            if top >= best:
                equal = rows[scores == top]
                if best_row >= 0 and top == best:
                    equal = np.append(equal, best_row)
                best_row, best = int(equal[positions[equal].argmin()]), top
            left = left[bound[left] >= (best - _TOLERANCE) * size[left]]
            if len(left) > step:  # those of the greatest bounds next
                left = left[np.argpartition(-bound[left] / size[left], step)]
            rows, left = left[:step], left[step:]
            step *= _GROWTH
        if best_row < 0:  # no Levenshtein similarity is above the Indel similarity
            break
        found[metric] = int(positions[best_row]), best
    return found
