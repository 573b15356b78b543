"""Upper bounds on the length of the longest common subsequence of a text and each of a corpus.

From loose and cheap to exact. Each divides the characters into parts, the same for both texts: the
length is at most the sum, over the parts, of the length that their characters alone give.

1. Every kind of character is a part. The sum is over the smaller of two counts, which is the bag
   distance's bound (Bartolini, Ciaccia and Patella 2002, "String matching with metric trees using
   an approximate distance"). Characters of one kind are taken for equal, which can only raise it.
2. The rare characters are a part, then the frequent ones too. Both halves take half the time of
   the whole, and unrelated prose, in which letters are as frequent but in another order, seldom
   passes.
3. The whole.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

Floats = np.ndarray[Any, np.dtype[np.float32]]
Positions = np.ndarray[Any, np.dtype[np.int64]]
Counts = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
Texts = np.ndarray[Any, np.dtype[np.object_]]

RARE, FREQUENT, WHOLE = range(3)
"""Parts of a text, in the order in which they lower a bound."""

_OWN = 48  # the corpus's most frequent characters, each a kind of its own
_KINDS = 64  # kinds of characters: those, and others that all the rest are spread over
_FREQUENT_SHARE = 0.6  # of all characters are frequent ones: it sets the halves' sizes
_CHARACTERS = 1_000_000  # divided at one time, and one text more
_SAMPLE, _OPENING = 2048, 1000  # texts whose first characters show which are frequent


class Alphabet:
    """The kinds of characters, and which are frequent."""

    def __init__(self, texts: Iterable[str]) -> None:
        """As frequent as they are in these texts."""
        codes, total = np.unique(_code_points(texts), return_counts=True)
        order = np.argsort(-total, kind="stable")[:_OWN]
        own = codes[order]
        self._kinds = np.resize(np.arange(_OWN, _KINDS, dtype=np.uint8), sys.maxunicode + 1)
        self._kinds[own] = np.arange(len(own))
        share = total[order].cumsum() / total.sum()
        self.frequent = 1 + int(np.searchsorted(share, _FREQUENT_SHARE))
        """Kinds below this are frequent."""

    def divide(self, texts: Sequence[str]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Texts]:
        """Characters of each kind in each text, shape (kinds, texts), and its parts, (3, texts)."""
        codes = _code_points(texts)
        kinds = self._kinds[codes]
        rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        cells = np.bincount(rows * _KINDS + kinds, minlength=len(texts) * _KINDS)
        counts = cells.reshape(-1, _KINDS)
        parts = np.empty((WHOLE + 1, len(texts)), np.object_)
        rare = kinds >= self.frequent
        for part, chosen in ((RARE, rare), (FREQUENT, ~rare)):
            joined = codes[chosen].tobytes().decode("utf-32-le", "surrogatepass")
            ends = np.bincount(rows[chosen], minlength=len(texts)).cumsum().tolist()
            parts[part] = [
                joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
        parts[WHOLE] = texts
        return counts.T, parts


def _code_points(texts: Iterable[str]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


class SortedTexts(NamedTuple):
    """Distinct texts, none empty, in the order of their length."""

    parts: Texts
    """Rare characters, frequent characters, and whole, shape (3, texts)."""
    lengths: Floats
    """Characters of each text, ascending."""
    positions: Positions
    """The number that each was given with."""
    counts: Counts
    """Characters of each kind, shape (kinds, texts)."""
    alphabet: Alphabet

    @classmethod
    def of(cls, numbered: Mapping[str, int]) -> Self:
        """Sort and count texts that map to their numbers; at least one."""
        lengths = np.array([len(text) for text in numbered], np.int64)
        order = np.argsort(lengths, kind="stable")
        texts = np.array(list(numbered), np.object_)[order]
        alphabet = Alphabet(text[:_OPENING] for text in texts[:: 1 + len(texts) // _SAMPLE])
        counts = np.empty((_KINDS, len(texts)), np.min_scalar_type(int(lengths.max())))
        parts = np.empty((WHOLE + 1, len(texts)), np.object_)
        chunk = lengths[order].cumsum() // _CHARACTERS
        for columns in np.split(np.arange(len(texts)), np.flatnonzero(np.diff(chunk)) + 1):
            counts[:, columns], parts[:, columns] = alphabet.divide(texts[columns].tolist())
        positions = np.array(list(numbered.values()), np.int64)[order]
        return cls(parts, lengths[order].astype(np.float32), positions, counts, alphabet)

    def between(self, shortest: float, longest: float) -> Self:
        """Those whose lengths lie in this range, bounds included."""
        low = np.searchsorted(self.lengths, shortest, side="left")
        high = np.searchsorted(self.lengths, longest, side="right")
        return self._replace(
            parts=self.parts[:, low:high],
            lengths=self.lengths[low:high],
            positions=self.positions[low:high],
            counts=self.counts[:, low:high],
        )


class CommonLength:
    """Bounds on the length of the longest common subsequence of a query and each text."""

    def __init__(
        self, query: str, texts: SortedTexts, bound: Counts | None = None, steps: int = 0
    ) -> None:
        """Begin with the number of common characters, or with what was computed elsewhere.

        Args:
            query: a text, not empty.
            texts: at least one.
            bound: bounds, shape (texts,); lowered in place.
            steps: how many parts they are lowered by already: 2 (the halves) or 3.
        """
        counts, parts = texts.alphabet.divide([query])
        self._query = parts[:, 0]
        self._texts = texts.parts
        self._steps = np.full(len(texts.lengths), steps, np.uint8)
        if bound is None:
            own, frequent = counts[:, 0], texts.alphabet.frequent
            self._frequent = _common(own[:frequent], texts.counts[:frequent])
            bound = self._frequent + _common(own[frequent:], texts.counts[frequent:])
        self.bound = bound
        """The bounds so far, shape (texts,)."""

    def lower(self, rows: Positions, part: int) -> None:
        """Lower the bounds of those rows by one part that were lowered by all before it."""
        rows = rows[self._steps[rows] == part]
        if not len(rows):
            return
        length = self.compare(rows, LCSseq.similarity, self.bound.dtype, part)
        if part == RARE:
            length += self._frequent[rows]
        elif part == FREQUENT:
            length += self.bound[rows] - self._frequent[rows]
        self.bound[rows] = length
        self._steps[rows] = part + 1

    def compare(self, rows: Positions, scorer: Any, dtype: Any, part: int = WHOLE) -> Any:
        """What rapidfuzz's `scorer` gives for that part of the query and of each of these texts."""
        texts = self._texts[part, rows].tolist()
        return process.cdist([self._query[part]], texts, scorer=scorer, dtype=dtype)[0]


def _common(query: np.ndarray[Any, np.dtype[np.int64]], texts: Counts) -> Counts:
    """Characters in common, from counts of shapes (kinds,) and (kinds, texts)."""
    common: Counts = np.zeros_like(texts[0])
    smaller = np.empty_like(common)
    # A query can have more of one kind than these integers hold, but no text has.
    query = query.clip(max=np.iinfo(texts.dtype).max).astype(texts.dtype)
    for kind in np.flatnonzero(query):
        np.minimum(texts[kind], query[kind], out=smaller)
        np.add(common, smaller, out=common)
    return common
