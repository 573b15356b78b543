"""The search audit against brute force, and what it says of good and bad settings."""

import numpy as np
import pytest

from alignment_extraction.search.audit import (
    annoy_cosines,
    audit,
    exact_cosines,
    recall,
    summarise,
)
from alignment_extraction.search.embedding import Vectors


def unit(stream: np.random.Generator, rows: int, dimension: int = 16) -> Vectors:
    vectors = stream.normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def data() -> tuple[Vectors, Vectors]:
    stream = np.random.default_rng(0)
    vectors = unit(stream, 2000)
    near = vectors[:60] + 0.1 * unit(stream, 60)
    queries = np.concatenate([near / np.linalg.norm(near, axis=1, keepdims=True), unit(stream, 60)])
    return vectors, queries


def test_exact_cosines_are_brute_force(
    data: tuple[Vectors, Vectors], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = data
    monkeypatch.setattr("alignment_extraction.search.audit._ROWS", 300)
    wanted = -np.sort(-(queries @ vectors.T), axis=1)[:, :10]
    assert np.allclose(exact_cosines(vectors, queries, 10), wanted, atol=1e-6)


def test_recall_counts_neighbours_and_not_ranks() -> None:
    exact = np.array([[0.9, 0.8, 0.7, 0.6]] * 2, np.float32)
    # The best is missed: the three below it are found all the same.
    found = np.array([[0.8, 0.7, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6]], np.float32)
    assert recall(found, exact).tolist() == [3 / 4, 1]
    assert recall(found[:, :1], exact[:, :1]).tolist() == [0, 1]


def test_audit(data: tuple[Vectors, Vectors]) -> None:
    vectors, queries = data
    settings = {"trees": (2, 20), "search_k": (20, 100_000), "candidates": 10}
    found = audit(queries, vectors, **settings, seed=1)  # type: ignore[arg-type]
    again = audit(queries, vectors, **settings, seed=1)  # type: ignore[arg-type]
    assert found.neighbours.equals(again.neighbours)
    table = summarise(found.neighbours, 0.95)
    assert table.select("trees", "search_k").rows() == [
        (2, 20),
        (2, 100_000),
        (20, 20),
        (20, 100_000),
    ]
    everything = table.filter(search_k=100_000)
    assert (everything["recall_at_10"] == 1).all()
    assert (everything["recall_at_10_low"] < 1).all()
    assert (everything["missed"] == 0).all()
    hurried = table.filter(trees=2, search_k=20)
    assert hurried["recall_at_10"].item() < 0.9
    # What Annoy misses is the whole difference of the rates.
    gap = table["exact_rate"] - table["rate"] - table["missed"]
    assert gap.abs().max() < 1e-12  # type: ignore[operator]
    assert table["exact_rate"][0] == pytest.approx(
        ((queries @ vectors.T).max(axis=1) >= 0.95).mean()
    )
    assert found.speed.height == 5
    assert found.speed["trees"][0] is None
    assert (found.speed["slowest"] <= found.speed["queries_per_second"]).all()


def test_few_rows(data: tuple[Vectors, Vectors]) -> None:
    vectors, queries = data
    found = audit(queries, vectors[:4], trees=(3,), search_k=(-1,), candidates=50, seed=0)
    assert summarise(found.neighbours, 0.95)["recall_at_10"].item() == 1


def test_annoy_that_gives_too_few() -> None:
    class Index:
        def get_nns_by_vector(self, query: list[float], count: int, search_k: int) -> list[int]:
            return [1]

    vectors = np.eye(3, dtype=np.float32)
    found = annoy_cosines(Index(), vectors, vectors[1:2], 2, 2, -1)
    assert found.tolist() == [[1.0, -np.inf]]
