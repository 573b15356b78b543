"""Annoy's search against exact search, exact search against numpy, and damaged indexes."""

import json
from pathlib import Path

import numpy as np
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.search import index as module
from alignment_extraction.search.index import (
    Annoy,
    Exact,
    Neighbours,
    build_index,
    recall_at_1,
)

EMBEDDER = "0123456789abcdef/256"


def unit_vectors(rows: int, dimension: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit_vectors(600)
# Near some row, as generations are near what they repeat.
QUERIES = VECTORS[::3] + 0.1 * unit_vectors(200, seed=1)
QUERIES /= np.linalg.norm(QUERIES, axis=1, keepdims=True)


def build(path: Path, vectors: np.ndarray = VECTORS, trees: int = 20, seed: int = 0) -> Path:
    build_index(vectors, path, trees=trees, seed=seed, identity=EMBEDDER)
    return path


def find(path: Path, queries: np.ndarray = QUERIES, **settings: int) -> Neighbours:
    settings = {"candidates": 10} | settings
    return Annoy(path, VECTORS, identity=EMBEDDER, **settings).search(queries)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(tmp_path / "group.question.ann")


@pytest.mark.parametrize("block", [module._BLOCK, 7])
def test_search_is_exact_if_annoy_looks_everywhere(
    path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    found = find(path, search_k=10**6)
    similarity = QUERIES @ VECTORS.T
    np.testing.assert_array_equal(found.position, similarity.argmax(axis=1))
    np.testing.assert_allclose(found.cosine, similarity.max(axis=1), atol=1e-6)
    assert found.cosine.dtype == np.float32
    assert recall_at_1(found.cosine, Exact(VECTORS).search(QUERIES).cosine) == 1


def test_scores_are_exact_and_recall_says_what_was_missed(tmp_path: Path) -> None:
    queries = unit_vectors(300, seed=2)  # near nothing: hard
    path = build(tmp_path / "x.ann", trees=1)
    found = find(path, queries, candidates=1, search_k=1)
    np.testing.assert_allclose(
        found.cosine, (queries * VECTORS[found.position]).sum(axis=1), atol=1e-6
    )
    exact = (queries @ VECTORS.T).argmax(axis=1)
    recall = recall_at_1(found.cosine, Exact(VECTORS).search(queries).cosine)
    assert recall == np.mean(found.position == exact)
    assert 0 < recall < 0.9


def test_more_candidates_than_rows(tmp_path: Path) -> None:
    path = build(tmp_path / "x.ann", VECTORS[:3])
    found = Annoy(path, VECTORS[:3], identity=EMBEDDER, candidates=10).search(QUERIES)
    np.testing.assert_array_equal(found.position, (QUERIES @ VECTORS[:3].T).argmax(axis=1))


def test_one_row(tmp_path: Path) -> None:
    path = build(tmp_path / "x.ann", VECTORS[:1])
    found = Annoy(path, VECTORS[:1], identity=EMBEDDER, candidates=10).search(VECTORS[:2])
    assert found.position.tolist() == [0, 0]
    assert found.cosine[0] == pytest.approx(1)


def test_no_queries(path: Path) -> None:
    found = find(path, QUERIES[:0])
    assert len(found.position) == len(found.cosine) == 0


def test_first_of_equal_rows(tmp_path: Path) -> None:
    vectors = np.concatenate([VECTORS[:20], VECTORS[:20]])
    path = build(tmp_path / "x.ann", vectors)
    found = Annoy(path, vectors, identity=EMBEDDER, candidates=10).search(VECTORS[:20])
    assert found.position.tolist() == list(range(20))
    assert Exact(vectors).search(VECTORS[:20]).position.tolist() == list(range(20))


def test_exact_search_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 64)
    monkeypatch.setattr(module, "_ROWS", 100)
    found = Exact(VECTORS).search(QUERIES)
    similarity = QUERIES @ VECTORS.T
    np.testing.assert_array_equal(found.position, similarity.argmax(axis=1))
    np.testing.assert_allclose(found.cosine, similarity.max(axis=1), atol=1e-6)


def test_recall_counts_equal_scores_as_found() -> None:
    found, exact = np.array([1, 0.5, 0.4]), np.array([1, 0.5, 0.9])
    assert recall_at_1(found, exact) == pytest.approx(2 / 3)


def test_the_same_vectors_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again.ann")
    other = build(tmp_path / "other.ann", seed=1)
    assert path.read_bytes() == again.read_bytes() != other.read_bytes()
    assert path.with_suffix(".json").read_bytes() == again.with_suffix(".json").read_bytes()


def test_index_of_another_embedder_is_refused(path: Path) -> None:
    message = "embedder is 0123456789abcdef/8 but was 0123456789abcdef/256 when the index was built"
    with pytest.raises(InputError, match=message):
        Annoy(path, VECTORS, identity="0123456789abcdef/8", candidates=10).search(QUERIES)


def test_index_over_other_rows_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="rows is 599 but was 600 when the index was built; build"):
        Annoy(path, VECTORS[:-1], identity=EMBEDDER, candidates=10).search(QUERIES)


@pytest.mark.parametrize("cut", [1, 4 * (3 + 24), 10_000])
def test_truncated_index_is_refused(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        InputError, match=r"bytes is \d+ but was \d+ when the index was built; build"
    ):
        find(path)


def test_missing_index(path: Path) -> None:
    path.unlink()
    with pytest.raises(InputError, match=r"bytes is 0 but was \d+ when the index was built; build"):
        find(path)


def test_missing_description(path: Path) -> None:
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="no such file; run the step that makes it"):
        find(path)


@pytest.mark.parametrize("about", [[], {}, {"rows": 600}])
def test_something_else_beside_the_index(path: Path, about: object) -> None:
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(
        InputError, match=r"is \S+ but was None when the index was built; build the"
    ):
        find(path)


@pytest.mark.parametrize("block", [65_536, 7])
def test_exact_search_on_a_device_of_pytorch(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 100)
    monkeypatch.setattr(module, "_DEVICE_BLOCK", block)
    # "cpu" is numpy's; this name is PyTorch's for the same processor, so that it runs anywhere.
    by_torch = Exact(VECTORS, device="cpu:0").search(QUERIES)
    by_numpy = Exact(VECTORS).search(QUERIES)
    np.testing.assert_array_equal(by_torch.position, (QUERIES @ VECTORS.T).argmax(axis=1))
    np.testing.assert_array_equal(by_torch.position, by_numpy.position)
    np.testing.assert_allclose(by_torch.cosine, by_numpy.cosine, atol=1e-6)
    assert by_torch.position.dtype == np.int64
    assert by_torch.cosine.dtype == np.float32
    nothing = Exact(VECTORS, device="cpu:0").search(QUERIES[:0])
    assert len(nothing.position) == len(nothing.cosine) == 0


@pytest.mark.parametrize("rows", [600, 100, 7])
def test_near_rows(rows: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest of all rows, whatever the blocks; Annoy's where it looks everywhere, too."""
    nearest = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]
    monkeypatch.setattr(module, "_ROWS", rows)
    exact = Exact(VECTORS, candidates=10).search(QUERIES)
    annoy = Annoy(path, VECTORS, identity=EMBEDDER, candidates=10, search_k=10**6, threads=2)
    for found in (exact, annoy.search(QUERIES)):
        np.testing.assert_array_equal(found.candidates, nearest)
        np.testing.assert_array_equal(found.position, nearest[:, 0])
    # The first of more equals than there are near rows is one of these.
    same = np.concatenate([VECTORS[:1]] * 41 + [VECTORS[1:]])
    found = Exact(same, candidates=5).search(VECTORS[:1])
    assert found.position.tolist() == [0] and 0 in found.candidates[0]
    few = Exact(VECTORS[:4], candidates=10).search(QUERIES)
    assert few.candidates.shape == (len(QUERIES), 4)


def test_both_kinds_answer_alike(path: Path) -> None:
    annoy = Annoy(path, VECTORS, identity=EMBEDDER, candidates=50, search_k=10**6)
    for index in (annoy, Exact(VECTORS)):
        found = index.search(QUERIES)
        np.testing.assert_array_equal(found.position, (QUERIES @ VECTORS.T).argmax(axis=1))
        # Queries come in any number of pieces.
        pieces = [index.search(piece).cosine for piece in np.array_split(QUERIES, 3)]
        np.testing.assert_allclose(np.concatenate(pieces), found.cosine, atol=1e-6)
