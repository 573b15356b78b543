"""Clusters of near-duplicates against all pairs compared in plain Python."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.corpora import clusters as module
from alignment_extraction.corpora.clusters import clusters, masked_tokens, near_duplicates
from alignment_extraction.corpora.texts import groups_of
from alignment_extraction.corpora.masking import masked, tokens
from tests.scored_study import PARTS, make_corpus

WORDS = [f"word{letter}" for letter in "abcdefghijklmnop"]


def brute_force(texts: list[str], similarity: float) -> list[int]:
    sets = [set(own) for own in tokens(masked(pl.Series(texts)).str.to_lowercase()).to_list()]
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for i, left in enumerate(sets):
        for j, right in enumerate(sets[:i]):
            union = len(left | right)
            if left == right or (union and len(left & right) / union >= similarity - 1e-12):
                a, b = sorted((root(i), root(j)))
                parent[b] = a
    return [root(i) for i in range(len(texts))]


def random_texts(seed: int, count: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 14))) for _ in range(count // 3)]
    while len(texts) < count:
        own = texts[rng.integers(0, count // 3)].split()
        if own:
            own[rng.integers(0, len(own))] = str(rng.choice(WORDS))
        texts.append(" ".join(own))
    return texts


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_all_pairs(seed: int, similarity: float) -> None:
    texts = random_texts(seed)
    found = near_duplicates(masked_tokens(texts), similarity).tolist()
    assert found == brute_force(texts, similarity)
    assert similarity == 1.0 or len(set(found)) < len(set(texts))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(9, 150)
    whole = near_duplicates(masked_tokens(texts), 0.6)
    monkeypatch.setattr(module, "_PAIRS", 10)
    assert near_duplicates(masked_tokens(texts), 0.6).tolist() == whole.tolist()


def test_other_numbers_and_names_are_near_duplicates() -> None:
    texts = ["So how many pens has Ann, if 3?", "alone", "So how many pens has Bob, if 41?", "", ""]
    assert near_duplicates(masked_tokens(texts)).tolist() == [0, 1, 0, 3, 3]


def test_no_texts_and_texts_without_tokens() -> None:
    assert near_duplicates(masked_tokens([])).tolist() == []
    assert near_duplicates(masked_tokens(["", " "])).tolist() == [0, 0]


def test_table_of_a_corpus() -> None:
    corpus = make_corpus()
    # The second item of the first group repeats the first one's question.
    twice = corpus.with_columns(
        question=pl.when(pl.col("id") == corpus["id"][1])
        .then(pl.lit(corpus["question"][0]))
        .otherwise("question")
    )
    table = clusters(twice, PARTS)
    assert table.filter(part="question").height == corpus.height - 1
    assert table.filter(part="answer").height == corpus["answer"].count()
    assert corpus["id"][1] not in table.filter(part="question")["id"]
    about = twice.select(
        "id", reference=groups_of(twice), length=pl.col("question").str.len_chars()
    )
    joined = table.filter(part="question").join(about, on=["id", "reference"], how="inner")
    assert joined.height == corpus.height - 1
    assert (joined["characters"] == joined["length"]).all()
    sizes = table.group_by("part", "reference", "cluster").agg(size=pl.len())
    joined = table.join(sizes, on=["part", "reference", "cluster"])
    assert (joined["cluster_size"] == joined["size"]).all()
