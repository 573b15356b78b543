"""Best string matches against a search of every pair, and the bounds that spare most of them."""

import random
import string
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from alignment_extraction.search import string_search
from alignment_extraction.search.string_search import (
    METRICS,
    SCORERS,
    _common,
    _divide,
    _SortedTexts,
    best_among,
    best_matches,
)

# Few letters, some outside ASCII, one outside the basic plane: likely to match in part.
TEXTS = st.lists(st.text("abé世😀", max_size=12), max_size=12)
WORDS = ("some", "of", "the", "letters", "are", "more", "frequent", "than", "others", "2 + 2 =")


@pytest.fixture(scope="module", params=[(16, 8), (1, 2)], ids=["many", "few"])
def steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Many candidates at a time, or few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(string_search, "_FIRST", request.param[0])
        patch.setattr(string_search, "_GROWTH", request.param[1])
        yield


def assert_exact(queries: list[str], corpus: list[str], threads: int = 1) -> None:
    """What cdist finds among all pairs, to the last bit."""
    found = best_matches(queries, corpus, threads)
    for metric in METRICS:
        assert found[metric].position.dtype == np.int64
        assert found[metric].similarity.dtype == np.float32
        scores = np.zeros((len(queries), 1), np.float32)
        if queries and corpus:
            scores = process.cdist(queries, corpus, scorer=SCORERS[metric])
        best = scores.max(axis=1)
        positions = np.where(best >= 0.5, scores.argmax(axis=1), -1)
        assert found[metric].position.tolist() == positions.tolist(), metric
        np.testing.assert_array_equal(
            found[metric].similarity, np.where(best >= 0.5, best, np.nan), metric
        )


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.text("abé世😀", max_size=12), min_size=3, max_size=12), st.randoms())
def test_among_near_rows(queries: list[str], corpus: list[str], source: random.Random) -> None:
    """An equal text wherever it is; else the best of the rows given, the first of equals."""
    near = [source.sample(range(len(corpus)), 3) for _ in queries]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(string_search, "_CHUNK", 4)
        found = best_among(queries, corpus, np.array(near, np.int64).reshape(-1, 3), threads=2)
    for metric, scorer in SCORERS.items():
        for i, query in enumerate(queries):
            rows = [corpus.index(query)] if query in corpus else sorted(near[i])
            best = max(rows, key=lambda row: np.float32(scorer(query, corpus[row])))
            score = np.float32(scorer(query, corpus[best]))
            expected = (best, score) if score >= 0.5 else (-1, np.nan)
            got = (found[metric].position[i], found[metric].similarity[i])
            np.testing.assert_array_equal(got, expected, metric)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
@example([], [])
@example(["a"], [])
@example([], ["a"])
@example(["", "a"], ["", "b", ""])
@example(["", "a"], [""])
@example(["ab"], ["ac", "bb", "ab"])  # exactly 0.5 by Levenshtein, then the better one
@example(["ab"], ["a" * 4, "ac", "ba"])  # equal scores over different lengths: the first wins
@example(["abc", "abc"], ["abd", "abc", "abc"])  # equal texts: the first again
@example(["\ud800a"], ["\ud800b", "a\ud800"])  # half of a surrogate pair
@example(["a" * 300], ["a", "a" * 250])  # more of one character than the corpus's counts hold
@example(["a" * 400 + "b"], ["a" * 400, "", "a"])
@pytest.mark.usefixtures("steps")
def test_best_matches_are_those_of_every_pair(queries: list[str], corpus: list[str]) -> None:
    assert_exact(queries, corpus)


def noisy(rng: random.Random, text: str) -> str:
    out = list(text)
    for _ in range(rng.randrange(len(text) // 2)):
        at = rng.randrange(len(out))
        out[at : at + rng.randrange(2)] = rng.choices(string.ascii_lowercase, k=rng.randrange(3))
    return "".join(out) or "x"


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


@pytest.mark.parametrize(("threads", "chunk"), [(1, 4096), (2, 7)])
def test_texts_of_many_lengths(chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(string_search, "_CHUNK", chunk)
    rng = random.Random(0)
    corpus = [
        "".join(rng.choices(string.ascii_lowercase + " ", k=rng.randrange(20, 300)))
        for _ in range(60)
    ]
    corpus += [prose(rng, rng.randrange(1, 200)) for _ in range(200)]
    corpus += [*corpus[:5], "a", "", "of " * 5000]
    rng.shuffle(corpus)
    queries = [noisy(rng, text) for text in rng.sample(corpus, 100) if len(text) > 1]
    queries += [prose(rng, rng.randrange(1, 200)) for _ in range(50)]
    queries += [*corpus[:3], "", "o", "世界" * 100, "of " * 5100, "of the " * 20]
    assert_exact(queries, corpus, threads)


def test_few_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited row is found among many others of the same words with a few comparisons."""
    compared = []
    cdist = process.cdist

    def counting(queries: list[str], choices: list[str], **options: Any) -> Any:
        compared.append(len(choices))
        return cdist(queries, choices, **options)

    monkeypatch.setattr(process, "cdist", counting)
    rng = random.Random(0)
    corpus = [prose(rng, 40) for _ in range(2000)]
    found = best_matches([corpus[1234][:-5] + "12345"], corpus)
    assert [found[metric].position.tolist() for metric in METRICS] == [[1234], [1234]]
    assert 0 < sum(compared) < 200


@settings(max_examples=200, deadline=None)
@given(
    st.text("abcé世😀\ud800", min_size=1, max_size=30),
    st.sets(st.text("abcé世😀\ud800", min_size=1)),
)
@example("a" * 300, {"a" * 255, "ab"})
def test_parts_bound_the_length(query: str, corpus: set[str]) -> None:
    texts = _SortedTexts.of({text: i for i, text in enumerate(sorted(corpus | {"a"}))})
    assert (np.diff(texts.lengths) >= 0).all()
    counts, divided = _divide([query], texts.frequent)
    rare, frequent, length = (
        process.cdist([one], of.tolist(), scorer=LCSseq.similarity)[0]
        for one, of in zip(divided[:, 0], texts.parts, strict=True)
    )
    common = _common(counts[:, 0], texts.counts, texts.frequent)
    others = _common(counts[:, 0], texts.counts, ~texts.frequent)
    assert (common + others <= np.minimum(texts.lengths, len(query))).all()
    assert (length <= rare + frequent).all()
    assert (rare <= others).all()
    assert (frequent <= common).all()


def test_progress_counts_every_query(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    best_matches(["ab"], ["ab"], progress="soon over")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(string_search, "_DELAY", 0)
    best_matches(["ab", "abcdef", "", "ab"], ["ab"], progress="strings")
    assert "strings: 100%" in capsys.readouterr().err
    best_matches(["ab"], ["ab"])
    assert capsys.readouterr().err == ""
