"""Best string matches against a search of every pair, and the two similarities' definitions."""

import random
import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Indel, Levenshtein

from alignment_extraction import strings
from alignment_extraction.strings import METRICS, Metric, best_matches, pairwise

PEERS = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}
# Few letters, some outside ASCII, one outside the basic plane: likely to match in part.
TEXTS = st.lists(st.text("abé世😀", max_size=12), max_size=12)


def every_pair(metric: Metric, queries: list[str], corpus: list[str]) -> list[tuple[int, float]]:
    best = []
    for query in queries:
        scores = [PEERS[metric](query, text) for text in corpus]
        top = max(scores, default=0.0)
        best.append((scores.index(top), top) if top >= 0.5 else (-1, np.nan))
    return best


def assert_exact(queries: list[str], corpus: list[str], threads: int = 1) -> None:
    found = best_matches(queries, corpus, threads)
    for metric in METRICS:
        expected = every_pair(metric, queries, corpus)
        assert found[metric].position.tolist() == [position for position, _ in expected], metric
        assert found[metric].similarity.dtype == np.float32
        np.testing.assert_allclose(
            found[metric].similarity, [score for _, score in expected], atol=1e-7
        )


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
@example([], [])
@example(["a"], [])
@example([], ["a"])
@example(["", "a"], ["", "b", ""])
@example(["ab"], ["ac", "bb", "ab"])  # exactly 0.5 by Levenshtein, then the better one
@example(["ab"], ["a" * 4, "ac", "ba"])  # equal scores over different lengths: the first wins
def test_best_matches_are_those_of_every_pair(queries: list[str], corpus: list[str]) -> None:
    assert_exact(queries, corpus)


def noisy(rng: random.Random, text: str) -> str:
    out = list(text)
    for _ in range(rng.randrange(len(text) // 2)):
        at = rng.randrange(len(out))
        out[at : at + rng.randrange(2)] = rng.choices(string.ascii_lowercase, k=rng.randrange(3))
    return "".join(out) or "x"


@pytest.mark.parametrize("cells", [strings._CELLS, 500])
def test_long_texts_in_many_blocks(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "_CELLS", cells)
    rng = random.Random(0)
    corpus = [
        "".join(rng.choices(string.ascii_lowercase + " ", k=rng.randrange(20, 300)))
        for _ in range(60)
    ]
    corpus += corpus[:5]
    queries = [noisy(rng, rng.choice(corpus)) for _ in range(80)] + corpus[:3]
    assert_exact(queries, corpus)


def test_threads_change_nothing() -> None:
    rng = random.Random(1)
    corpus = ["".join(rng.choices("abcd", k=40)) for _ in range(50)]
    assert_exact([noisy(rng, text) for text in corpus], corpus, threads=2)


@pytest.mark.parametrize(
    ("left", "right", "levenshtein", "indel"),
    [
        ("kitten", "sitting", 1 - 3 / 7, 1 - 5 / 13),
        ("same", "same", 1, 1),
        ("", "", 1, 1),
        ("", "abc", 0, 0),
        ("😀b", "😀c", 0.5, 0.5),
        ("abc", "xyz", 0, 0),
    ],
)
def test_definitions(left: str, right: str, levenshtein: float, indel: float) -> None:
    assert pairwise("levenshtein", [left], [right])[0] == pytest.approx(levenshtein)
    assert pairwise("indel", [left], [right])[0] == pytest.approx(indel)


@given(st.text(max_size=30), st.text(max_size=30))
@example("a" * 5000, "a" * 4999 + "b")
def test_one_is_equality(left: str, right: str) -> None:
    for metric in METRICS:
        assert (pairwise(metric, [left], [right])[0] == 1) == (left == right)


def test_progress_counts_every_query(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    best_matches(["ab"], ["ab"], progress="soon over")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(strings, "_DELAY", 0)
    best_matches(["ab", "abcdef", ""], ["ab"], progress="strings")
    assert "strings: 100%" in capsys.readouterr().err
    best_matches(["ab"], ["ab"])
    assert capsys.readouterr().err == ""
