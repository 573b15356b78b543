"""Searches beside the main one: samples, an unrelated corpus, a second embedder."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rapidfuzz.distance import Levenshtein

from alignment_extraction.corpora.texts import corpus_texts, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.search import evidence
from alignment_extraction.search.embedding import Vectors, write_vectors
from tests.scored_study import CELLS, make_corpus, make_generations

CORPUS = make_corpus()
GENERATIONS = make_generations(CORPUS, CELLS[0])


def vectors_of(texts: list[str]) -> Vectors:
    """Counts of letters as unit vectors: an embedder that can be checked by hand."""
    counts = np.array([[text.count(c) for c in "abcdefghij"] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def written(path: Path, texts: list[str], identity: str = "letters") -> Path:
    write_vectors(vectors_of(texts), texts, identity, path)
    return path


def test_sample_is_a_seeded_part() -> None:
    few = evidence.sample(GENERATIONS, "question", 20, 0, "name")
    assert few.height == 20
    assert few["index"].is_sorted()
    assert few.equals(evidence.sample(GENERATIONS, "question", 20, 0, "name"))
    assert not few.equals(evidence.sample(GENERATIONS, "question", 20, 0, "another"))
    everything = evidence.sample(GENERATIONS, "answer", 1000, 0, "name")
    assert everything.height == GENERATIONS["answer"].drop_nulls().len()


def test_suspected_rows_are_members() -> None:
    rows, places = evidence.suspected_rows(CORPUS, "question")
    assert set(rows["role"]) == {"member"}
    texts, _ = corpus_texts(CORPUS, "question")
    assert rows["text"].to_list() == [texts[i] for i in places]
    unknown, _ = evidence.suspected_rows(CORPUS.filter(role="unknown"), "question")
    assert set(unknown["role"]) == {"unknown"}
    nothing, _ = evidence.suspected_rows(CORPUS.filter(role="held-out"), "question")
    assert nothing.is_empty()


def test_match_control_is_brute_force_over_as_many_rows(tmp_path: Path) -> None:
    control = CORPUS.filter(role="held-out")
    texts, _ = corpus_texts(control, "question")
    found = evidence.match_control(
        GENERATIONS,
        control,
        part="question",
        generation_vectors=written(tmp_path / "g.npy", unique_texts(GENERATIONS, "question")),
        control_vectors=written(tmp_path / "c.npy", texts),
        rows=1000,
        samples=1000,
        seed=0,
    )
    assert (found["rows"] == len(texts)).all()
    assert found["index"].to_list() == GENERATIONS["index"].to_list()
    for row, text in zip(found.iter_rows(named=True), GENERATIONS["question"], strict=True):
        if text == "":
            assert row["cosine"] is None and row["levenshtein_best"] is None
            continue
        assert row["cosine"] == pytest.approx((vectors_of(texts) @ vectors_of([text])[0]).max())
        best = max(Levenshtein.normalized_similarity(text, other) for other in texts)
        assert (row["levenshtein_best"] or 0) == pytest.approx(best if best >= 0.5 else 0)
    fewer = evidence.match_control(
        GENERATIONS,
        control,
        part="question",
        generation_vectors=tmp_path / "g.npy",
        control_vectors=tmp_path / "c.npy",
        rows=7,
        samples=10,
        seed=0,
    )
    assert fewer.height == 10
    assert (fewer["rows"] == 7).all()
    both = fewer.join(found, on="index").drop_nulls("cosine")
    assert (both["cosine"] <= both["cosine_right"] + 1e-6).all()


def test_second_scores(tmp_path: Path) -> None:
    texts, _ = corpus_texts(CORPUS, "question")
    sampled = evidence.sample(GENERATIONS, "question", 30, 0, "second")
    sample_path = written(tmp_path / "s.npy", evidence.distinct_texts(sampled))
    corpus_path = written(tmp_path / "c.npy", texts)
    scores, negatives = evidence.second_scores(
        sampled, sample_path, CORPUS, corpus_path, "question"
    )
    members = CORPUS.filter(role="member")
    for row, text in zip(scores.iter_rows(named=True), sampled["text"], strict=True):
        if text == "":
            assert row["second_cosine"] is None
            continue
        cosines = vectors_of(members["question"].to_list()) @ vectors_of([text])[0]
        assert row["second_cosine"] == pytest.approx(cosines.max())
        place = members["id"].to_list().index(row["second_id"])
        assert cosines[place] == pytest.approx(cosines.max())
    assert set(negatives["id"]) == set(CORPUS.filter(role="held-out")["id"])
    written(sample_path, evidence.distinct_texts(sampled), "another")
    with pytest.raises(InputError, match="embed both with one model"):
        evidence.second_scores(sampled, sample_path, CORPUS, corpus_path, "question")


def test_nothing_of_a_null_part() -> None:
    none = GENERATIONS.with_columns(answer=pl.lit(None, pl.String))
    assert evidence.sample(none, "answer", 5, 0, "x").is_empty()
