"""Near-duplicates against all pairs compared in plain Python."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.distillation.curation import near_duplicates

WORDS = [f"word{letter}" for letter in "abcdefghijklmnop"]


def brute_force(sets: list[set[str]], similarity: float) -> list[bool]:
    def near(left: set[str], right: set[str]) -> bool:
        union = len(left | right)
        return bool(union) and len(left & right) / union >= similarity - 1e-12

    return [any(near(own, other) for other in sets[:i]) for i, own in enumerate(sets)]


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
    found = near_duplicates(series(lists), similarity).to_list()
    assert found == brute_force([set(own) for own in lists], similarity)
    assert any(found)


def test_no_sets_and_sets_without_tokens() -> None:
    assert near_duplicates(series([]), 0.8).to_list() == []
    assert near_duplicates(series([[], []]), 0.8).to_list() == [False, False]
