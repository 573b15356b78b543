"""Matches of generations, group by group, against brute force on real embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rapidfuzz.distance import Indel, Levenshtein

from alignment_extraction.corpora.texts import corpus_texts, groups_of, texts_of, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.search.embedding import Embedder, read_vectors, write_vectors
from alignment_extraction.search.matching import (
    HELD_OUT_SCHEMA,
    MATCH_SCHEMA,
    index_group,
    match,
    match_held_out,
    read_group,
)
from alignment_extraction.training.controlled import ControlledSettings, build

PARTS = ("question", "answer", "both")


def make_corpus() -> pl.DataFrame:
    settings = ControlledSettings(
        pretraining_templates=2,
        pretraining_instances=2,
        pretraining_task_instances=2,
        sft_templates=2,
        sft_instances=4,
        sft_repeated={4: 1},
        sft_fresh_instances=3,
        sft_held_out_templates=2,
        sft_held_out_instances=3,
        sft_task_instances=3,
        rl_instances=3,
        rl_fresh_instances=3,
        rl_held_out_instances=3,
    )
    corpus = build(settings, seed=0)
    # Some rows have no answer, some an empty one.
    row = pl.int_range(pl.len())
    return corpus.with_columns(
        answer=pl.when(row % 7 == 3)
        .then(None)
        .when(row % 7 == 5)
        .then(pl.lit(""))
        .otherwise("answer")
    )


def make_generations(corpus: pl.DataFrame) -> pl.DataFrame:
    members = corpus.filter(split="member", source="sft")
    questions = members["question"].to_list()
    return pl.DataFrame(
        {
            "index": range(7),
            "question": [
                questions[0],
                questions[0],
                questions[1][:-9],
                "zzz",
                "",
                questions[2],
                None,
            ],
            "answer": [members["answer"][0], None, "The answer is 7.", "", "x", "y", "z"],
        }
    )


class Study:
    """A corpus, its embeddings and indexes, and generations with theirs."""

    def __init__(self, folder: Path, minilm: Path) -> None:
        self.corpus = make_corpus()
        self.generations = make_generations(self.corpus)
        self.groups = groups_of(self.corpus).unique(maintain_order=True).to_list()
        embedder = Embedder(minilm)
        self.files: dict[str, Any] = {"generation_vectors": {}, "corpus_vectors": {}, "indexes": {}}
        for part in PARTS:
            for kind, texts in (
                ("generation", unique_texts(self.generations, part)),
                ("corpus", corpus_texts(self.corpus, part)[0]),
            ):
                path = folder / f"{kind}.{part}.npy"
                write_vectors(embedder.embed(texts), texts, embedder.identity, path)
                self.files[f"{kind}_vectors"][part] = path
            for group in self.groups:
                path = folder / f"{group}.{part}.ann"
                vectors = self.files["corpus_vectors"][part]
                index_group(self.corpus, group, part, vectors, path, trees=10, seed=0)
                self.files["indexes"][group, part] = path

    def match(self, **changes: Any) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
        settings = {
            "generations": self.generations,
            "corpus": self.corpus,
            "parts": PARTS,
            "candidates": 10,
            "search_k": 10**6,
            "audit": 3,
            "seed": 0,
            **self.files,
        }
        return match(**{**settings, **changes})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Study:
    return Study(tmp_path_factory.mktemp("study"), minilm)


def test_groups_are_sources_and_their_splits() -> None:
    corpus = pl.DataFrame({"source": ["a", "a", "b"], "split": ["x", "y", None]})
    assert groups_of(corpus).to_list() == ["a.x", "a.y", "b"]


def test_the_controlled_populations_are_groups(study: Study) -> None:
    assert set(study.groups) == {
        "pretraining.member",
        *(
            f"{source}.{split}"
            for source in ("sft", "rl")
            for split in ("member", "fresh-instance", "held-out-template")
        ),
    }


def test_corpus_texts_leave_missing_and_empty_ones_out(study: Study) -> None:
    texts, rows = corpus_texts(study.corpus, "answer")
    assert None not in texts
    assert "" not in texts
    assert texts == [study.corpus["answer"][int(row)] for row in rows]
    assert len(texts) < study.corpus.height
    assert len(corpus_texts(study.corpus, "question")[0]) == study.corpus.height


def test_a_group_has_the_vectors_of_its_texts(study: Study) -> None:
    path = study.files["corpus_vectors"]["both"]
    texts, rows = corpus_texts(study.corpus, "both")
    group = read_group(study.corpus, "sft.member", "both", path)
    everything = read_vectors(path, texts)
    of_row = {study.corpus["id"][int(row)]: i for i, row in enumerate(rows)}
    expected = study.corpus.filter(pl.col("id").is_in(group.ids))
    assert group.ids == expected["id"].to_list()
    assert set(expected["source"] + "." + expected["split"]) == {"sft.member"}
    for identity, text, vector in zip(group.ids, group.texts, group.vectors, strict=True):
        assert text == texts[of_row[identity]]
        np.testing.assert_array_equal(vector, everything[of_row[identity]])


def test_matches_are_those_of_brute_force(study: Study) -> None:
    matches, _ = study.match()
    assert matches.schema == MATCH_SCHEMA
    seen = 0
    for part in PARTS:
        texts = unique_texts(study.generations, part)
        queries = read_vectors(study.files["generation_vectors"][part], texts)
        for name in study.groups:
            group = read_group(study.corpus, name, part, study.files["corpus_vectors"][part])
            rows = matches.filter(part=part, group=name)
            assert rows["text"].to_list() == texts
            for row, query in zip(rows.iter_rows(named=True), queries, strict=True):
                cosines = group.vectors @ query
                assert row["cosine"] == pytest.approx(cosines.max(), abs=1e-6)
                found = group.ids.index(row["match_id"])
                assert cosines[found] == pytest.approx(cosines.max(), abs=1e-6)
                for metric, peer in (
                    ("levenshtein", Levenshtein.normalized_similarity),
                    ("indel", Indel.normalized_similarity),
                ):
                    assert row[metric] == pytest.approx(peer(row["text"], group.texts[found]))
                    scores = [peer(row["text"], text) for text in group.texts]
                    if max(scores) < 0.5:
                        assert row[f"{metric}_best"] is None
                        assert row[f"{metric}_best_id"] is None
                    else:
                        assert row[f"{metric}_best"] == pytest.approx(max(scores))
                        best = group.ids[scores.index(max(scores))]
                        assert row[f"{metric}_best_id"] == best
                seen += 1
    assert seen == matches.height == 7 * 13


def test_a_member_repeated_verbatim_is_found(study: Study) -> None:
    matches, _ = study.match(parts=["question"])
    row = matches.filter(group="sft.member", text=study.generations["question"][0]).row(
        0, named=True
    )
    first = study.corpus.filter(source="sft", split="member")["id"][0]
    assert (row["match_id"], row["levenshtein_best_id"], row["indel_best_id"]) == (first,) * 3
    assert row["levenshtein_best"] == row["indel_best"] == 1
    assert row["cosine"] == pytest.approx(1, abs=1e-6)


def test_audit_measures_each_group_and_part(study: Study) -> None:
    _, audits = study.match()
    assert set(audits) == {f"{group}/{part}" for group in study.groups for part in PARTS}
    # Annoy was told to look at every node.
    assert all(audit == {"queries": 3, "recall_at_1": 1.0} for audit in audits.values())
    _, audits = study.match(audit=1000, parts=["question"])
    assert {audit["queries"] for audit in audits.values()} == {4}
    assert study.match(audit=0)[1] == {}


def test_generations_without_any_text(study: Study) -> None:
    nothing = pl.DataFrame(
        {"question": ["", None], "answer": [None, None]},
        schema={"question": pl.String, "answer": pl.String},
    )
    matches, audits = study.match(generations=nothing)
    assert matches.is_empty()
    assert matches.schema == MATCH_SCHEMA
    assert audits == {}


def search_held_out(study: Study, corpus: pl.DataFrame) -> pl.DataFrame:
    return match_held_out(
        corpus,
        parts=PARTS,
        corpus_vectors=study.files["corpus_vectors"],
        indexes=study.files["indexes"],
        candidates=10,
        search_k=10**6,
    )


def test_held_out_rows_are_searched_as_generations_are(study: Study) -> None:
    found = search_held_out(study, study.corpus)
    assert found.schema == HELD_OUT_SCHEMA
    held_out = study.corpus.filter(role="held-out")
    groups = {"pretraining.member", "sft.member", "rl.member"}
    assert set(found["group"]) == groups
    for part in PARTS:
        own = found.filter(part=part)
        have = held_out.filter(texts_of(held_out, part).str.len_bytes().fill_null(0) > 0)
        texts = dict(zip(have["id"], texts_of(have, part), strict=True))
        assert own.height == len(groups) * len(texts)
        assert set(own["id"]) == set(texts)
        queries, rows = corpus_texts(study.corpus, part)
        vectors = read_vectors(study.files["corpus_vectors"][part], queries)
        position = {study.corpus["id"][int(row)]: i for i, row in enumerate(rows)}
        for row in own.iter_rows(named=True):
            text = texts[row["id"]]
            assert row["characters"] == len(text)
            assert row["id"].startswith(row["own_group"].split(".")[0])
            group = read_group(
                study.corpus, row["group"], part, study.files["corpus_vectors"][part]
            )
            assert row["id"] not in group.ids
            cosines = group.vectors @ vectors[position[row["id"]]]
            assert row["cosine"] == pytest.approx(cosines.max(), abs=1e-6)
            best = max(Levenshtein.normalized_similarity(text, other) for other in group.texts)
            assert row["levenshtein_best"] == (pytest.approx(best) if best >= 0.5 else None)


def test_nothing_is_held_out(study: Study) -> None:
    found = search_held_out(study, study.corpus.with_columns(role=pl.lit("unknown")))
    assert found.is_empty()
    assert found.schema == HELD_OUT_SCHEMA
    found = search_held_out(study, study.corpus.with_columns(role=pl.lit("held-out")))
    assert found.is_empty()


def test_unknown_group(study: Study) -> None:
    message = r"group 'sft' has no row with a question in the corpus \(its groups: pretraining"
    with pytest.raises(InputError, match=message):
        read_group(study.corpus, "sft", "question", study.files["corpus_vectors"]["question"])


def test_embeddings_of_other_generations(study: Study) -> None:
    fewer = study.generations.head(2)
    with pytest.raises(InputError, match="embeddings of other texts; run the embedding step"):
        study.match(generations=fewer)


def test_embedder_of_the_generations_differs(study: Study, tmp_path: Path) -> None:
    texts = unique_texts(study.generations, "question")
    vectors = read_vectors(study.files["generation_vectors"]["question"], texts)
    path = tmp_path / "question.npy"
    write_vectors(np.asarray(vectors), texts, "another/256", path)
    with pytest.raises(InputError, match="embedded with another at 256 tokens; build the index"):
        study.match(parts=["question"], generation_vectors={"question": path})
