"""Clusters of near-duplicates against all pairs compared in plain Python."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.distillation import near_duplicates as module
from alignment_extraction.distillation.near_duplicates import near_duplicates

WORDS = [f"word{letter}" for letter in "abcdefghijklmnop"]


def brute_force(sets: list[set[str]], similarity: float) -> list[int]:
    parent = list(range(len(sets)))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for i, left in enumerate(sets):
        for j, right in enumerate(sets[:i]):
            union = len(left | right)
            if union and len(left & right) / union >= similarity - 1e-12:
                a, b = sorted((root(i), root(j)))
                parent[b] = a
    return [root(i) for i in range(len(sets))]


def random_sets(seed: int, count: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    lists = [rng.choice(WORDS, rng.integers(0, 14)).tolist() for _ in range(count // 3)]
    while len(lists) < count:
        own = list(lists[rng.integers(0, count // 3)])
        if own:
            own[rng.integers(0, len(own))] = str(rng.choice(WORDS))
        lists.append(own)
    return lists


def series(lists: list[list[str]]) -> pl.Series:
    return pl.Series(lists, dtype=pl.List(pl.String))


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_all_pairs(seed: int, similarity: float) -> None:
    lists = random_sets(seed)
    found = near_duplicates(series(lists), similarity).tolist()
    assert found == brute_force([set(own) for own in lists], similarity)
    assert len(set(found)) < len(lists)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = series(random_sets(9, 150))
    whole = near_duplicates(sets, 0.6)
    monkeypatch.setattr(module, "_PAIRS", 10)
    assert near_duplicates(sets, 0.6).tolist() == whole.tolist()


def test_no_sets_and_sets_without_tokens() -> None:
    assert near_duplicates(series([]), 0.8).tolist() == []
    assert near_duplicates(series([[], []]), 0.8).tolist() == [0, 1]
