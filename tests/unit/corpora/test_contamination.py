"""Contamination tags: runs of words against brute force, and both tests on copied rows."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.corpora.contamination import overlaps, tag, tag_corpus, word_lists
from alignment_extraction.corpora.texts import corpus_texts
from alignment_extraction.files import InputError
from alignment_extraction.search.embedding import Embedder, write_vectors
from alignment_extraction.settings.evidence import ContaminationSettings
from tests.scored_study import make_corpus
from tests.workflow.project import write_embedder


def brute_force(text: str, public: list[str], ngram: int) -> float:
    def runs(words: list[str], length: int) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]

    words = text.split()
    if not words:
        return 0.0
    length = min(ngram, len(words))
    known = {run for other in public for run in runs(other.split(), length)}
    covered = set()
    for i, run in enumerate(runs(words, length)):
        if run in known:
            covered |= set(range(i, i + length))
    return len(covered) / len(words)


SENTENCES = st.lists(st.lists(st.sampled_from("abc"), max_size=8).map(" ".join), max_size=5)


@given(SENTENCES, SENTENCES, st.integers(1, 5))
def test_overlaps_are_brute_force(texts: list[str], public: list[str], ngram: int) -> None:
    found = overlaps(texts, public, ngram)
    assert found.tolist() == pytest.approx([brute_force(t, public, ngram) for t in texts])


def test_words_are_letters_and_digits_in_lower_case() -> None:
    assert word_lists(["Éric's 12 apples -- cost $3.50!"])[0].to_list() == [
        "éric",
        "s",
        "12",
        "apples",
        "cost",
        "3",
        "50",
    ]


def test_each_test_tags_alone() -> None:
    rows = pl.DataFrame(
        {
            "id": ["copied", "alike", "other"],
            "group": ["g"] * 3,
            "role": ["member"] * 3,
            "text": ["one two three four five!", "six seven eight", "nine ten"],
        }
    )
    public = pl.DataFrame({"id": ["p", "q"], "text": ["zero one two three four", "unlike"]})
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    public_vectors = np.array([[0, 0.6, 0.8], [0, 1, 0]], np.float32)
    table = tag(rows, vectors, public, public_vectors, ngram=3, overlap=0.5, cosine=0.95)
    assert table["overlap"].to_list() == pytest.approx([0.8, 0, 0])
    assert table["by_ngram"].to_list() == [True, False, False]
    assert table["by_embedding"].to_list() == [False, True, False]
    assert table["tagged"].to_list() == [True, True, False]
    assert table["public_id"].to_list()[1:] == ["q", "p"]
    stricter = tag(rows, vectors, public, public_vectors, ngram=3, overlap=0.9, cosine=1.01)
    assert not stricter["tagged"].any()


def test_a_group_of_the_corpus_is_public(tmp_path: Path) -> None:
    corpus = make_corpus()
    # A member's text stands in the public group too.
    copied = corpus.filter(source="other")["question"][0]
    corpus = corpus.with_columns(
        question=pl.when(pl.col("id") == "sft/member/3").then(pl.lit(copied)).otherwise("question")
    )
    texts, _ = corpus_texts(corpus, "question")
    stream = np.random.default_rng(0)
    distinct = {text: stream.normal(size=32) for text in dict.fromkeys(texts)}
    vectors = np.array([distinct[text] for text in texts], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path / "c.npy"
    write_vectors(vectors, texts, "random", path)
    options = {"part": "question", "embedder": None, "max_tokens": 8, "batch_size": 8, "seed": 0}
    settings = ContaminationSettings(groups=("other",))
    table = tag_corpus(corpus, path, settings, **options)  # type: ignore[arg-type]
    assert set(table["group"]) == {
        "sft.member",
        "sft.fresh-instance",
        "sft.held-out-template",
    }
    assert table.filter("tagged")["id"].to_list() == ["sft/member/3"]
    assert table.filter("tagged").select("by_ngram", "by_embedding").row(0) == (True, True)
    source = {"name": "x", "format": "gsm8k", "role": "control", "path": "x.jsonl"}
    files = ContaminationSettings.model_validate({"sources": [source]})
    with pytest.raises(InputError, match="give --embedder"):
        tag_corpus(corpus, path, files, **options)  # type: ignore[arg-type]


def test_a_public_file_is_read_and_embedded(tmp_path: Path) -> None:
    """A benchmark on disk that holds one of the corpus's questions."""
    corpus = make_corpus()
    copied = corpus.row(3, named=True)
    file = tmp_path / "benchmark.jsonl"
    rows = [copied["question"], "a text that is nowhere else"]
    file.write_text("".join(json.dumps({"question": q, "answer": "#### 1"}) + "\n" for q in rows))
    texts, _ = corpus_texts(corpus, "question")
    folder = write_embedder(tmp_path / "embedder")
    model = Embedder(folder, max_tokens=64, batch_size=8)
    path = tmp_path / "c.npy"
    write_vectors(model.embed(texts), texts, model.identity, path)
    source = {"name": "benchmark", "format": "gsm8k", "role": "control", "path": str(file)}
    settings = ContaminationSettings.model_validate({"sources": [source]})
    options = {"part": "question", "max_tokens": 64, "batch_size": 8, "seed": 0}
    table = tag_corpus(corpus, path, settings, embedder=folder, **options)  # type: ignore[arg-type]
    assert table.height == len(texts)
    # Random weights put all texts close together: the runs of words tell them apart.
    tagged = table.filter("by_ngram")
    same = corpus.filter(question=copied["question"])["id"].to_list()
    assert tagged["id"].to_list() == same
    assert tagged["public_id"].str.starts_with("benchmark/").all()
    assert tagged["cosine"].to_list() == pytest.approx([1.0] * len(same))
    write_vectors(model.embed(texts), texts, "another", path)
    with pytest.raises(InputError, match="embedder"):
        tag_corpus(corpus, path, settings, embedder=folder, **options)  # type: ignore[arg-type]
