"""Matches of generations, group by group, against brute force on real embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rapidfuzz.distance import Indel, Levenshtein

from alignment_extraction.corpora.texts import searched_rows, texts_of, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.search.embedding import Embedder, read_vectors
from alignment_extraction.search.matching import (
    group_of,
    index_group,
    match,
    match_exactly,
)
from alignment_extraction.settings.studies import IndexSettings
from alignment_extraction.vocabulary import CORPUS, MATCHES
from tests.vectors import write_vectors

FIELDS = ("question", "answer", "both")


def make_corpus() -> pl.DataFrame:
    """Four groups of two sources, and one that is not searched; some rows have no answer."""
    names = ("Ada", "Bo", "Chen", "Dara", "Emil", "Fay")
    rows = [
        {
            "id": f"{source}.{role}/{i}",
            "source": source,
            "role": role,
            "repetitions": 1,
            "question": f"{names[i]} has {n + i} {thing}. How many {thing} are {3 * i + n} more?",
            "answer": None if i == 3 else "" if i == 5 else f"There are {4 * i + 2 * n} {thing}.",
            "messages": [],
            "text": "",
        }
        for n, (source, role, thing) in enumerate(
            (
                ("sft", "member", "apples"),
                ("pretraining", "control", "pears"),
                ("sft", "twin", "apples"),
                ("rl", "member", "coins"),
                ("rl", "held-out", "boxes"),
            )
        )
        for i in range(6)
    ]
    return pl.DataFrame(rows, schema=CORPUS)


def make_generations(corpus: pl.DataFrame) -> pl.DataFrame:
    members = corpus.filter(role="member", source="sft")
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
        self.groups = ["sft.member", "sft.twin", "rl.member", "rl.held-out"]
        embedder = Embedder(minilm)
        self.files: dict[str, Any] = {"generation_vectors": {}, "corpus_vectors": {}, "indexes": {}}
        for field in FIELDS:
            for kind, texts in (
                ("generation", unique_texts(self.generations, field)),
                ("corpus", searched_rows(self.corpus, field)["compared"].to_list()),
            ):
                path = folder / f"{kind}.{field}.npy"
                write_vectors(embedder.embed(texts), texts, embedder.identity, path)
                self.files[f"{kind}_vectors"][field] = path
            for group in self.groups:
                path = folder / f"{group}.{field}.ann"
                vectors = self.files["corpus_vectors"][field]
                index_group(self.corpus, group, field, vectors, path, trees=10, seed=0)
                self.files["indexes"][group, field] = path

    def group(self, name: str, field: str) -> tuple[pl.DataFrame, np.ndarray]:
        rows = searched_rows(self.corpus, field)
        path = self.files["corpus_vectors"][field]
        return group_of(rows, name, read_vectors(path, rows["compared"].to_list()))

    def match(
        self, fields: tuple[str, ...] = FIELDS, audit: int = 3, **changes: Any
    ) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
        settings = {
            "generations": self.generations,
            "corpus": self.corpus,
            "settings": IndexSettings(candidates=10, search_k=10**6, audit=audit),
            "seed": 0,
            **self.files,
        }
        settings |= changes
        vectors = settings["generation_vectors"]
        return match(
            **settings | {"generation_vectors": {field: vectors[field] for field in fields}}
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Study:
    return Study(tmp_path_factory.mktemp("study"), minilm)


def test_white_space_at_the_ends_does_not_count() -> None:
    """Chat templates trim what they show: a padded row can be verbatim."""
    frame = pl.DataFrame({"question": ["\nWhich river?\n", " x"], "answer": ["Oder ", None]})
    assert texts_of(frame, "question").to_list() == ["Which river?", "x"]
    assert texts_of(frame, "both").to_list() == ["Which river?\nOder", None]


def test_rows_that_are_searched(study: Study) -> None:
    """Rows of role `control` are not, nor are rows without the field or with an empty one."""
    rows = searched_rows(study.corpus, "answer")
    assert rows["group"].unique(maintain_order=True).to_list() == study.groups
    kept = study.corpus.filter(pl.col("role") != "control", pl.col("answer") != "")
    assert rows["id"].equals(kept["id"])
    assert rows["compared"].equals(kept["answer"].alias("compared"))
    everything = study.corpus.filter(pl.col("role") != "control")
    assert searched_rows(study.corpus, "question")["id"].equals(everything["id"])


def test_a_group_has_the_vectors_of_its_texts(study: Study) -> None:
    rows = searched_rows(study.corpus, "both")
    everything = read_vectors(study.files["corpus_vectors"]["both"], rows["compared"].to_list())
    # Rows of a group need not be neighbours.
    for order in (np.arange(len(rows)), np.random.default_rng(0).permutation(len(rows))):
        group, vectors = group_of(rows[order], "sft.member", everything[order])
        assert group.equals(rows[order].filter(group="sft.member"))
        at = [rows["id"].to_list().index(identity) for identity in group["id"]]
        np.testing.assert_array_equal(vectors, everything[at])


def test_matches_are_those_of_brute_force(study: Study) -> None:
    matches, _ = study.match()
    assert matches.schema == MATCHES
    seen = 0
    for field in FIELDS:
        texts = unique_texts(study.generations, field)
        queries = read_vectors(study.files["generation_vectors"][field], texts)
        for name in study.groups:
            group, vectors = study.group(name, field)
            ids, own = group["id"].to_list(), group["compared"].to_list()
            rows = matches.filter(field=field, group=name)
            assert rows["text"].to_list() == texts
            for row, query in zip(rows.iter_rows(named=True), queries, strict=True):
                cosines = vectors @ query
                assert row["cosine"] == pytest.approx(cosines.max(), abs=1e-6)
                found = ids.index(row["match_id"])
                assert cosines[found] == pytest.approx(cosines.max(), abs=1e-6)
                for metric, peer in (
                    ("levenshtein", Levenshtein.normalized_similarity),
                    ("indel", Indel.normalized_similarity),
                ):
                    assert row[metric] == pytest.approx(peer(row["text"], own[found]))
                    scores = [peer(row["text"], text) for text in own]
                    if max(scores) < 0.5:
                        assert row[f"{metric}_best"] is None
                        assert row[f"{metric}_best_id"] is None
                    else:
                        assert row[f"{metric}_best"] == pytest.approx(max(scores))
                        best = ids[scores.index(max(scores))]
                        assert row[f"{metric}_best_id"] == best
                seen += 1
    assert seen == matches.height == len(study.groups) * 14


def test_a_member_repeated_verbatim_is_found(study: Study) -> None:
    matches, _ = study.match(fields=("question",))
    row = matches.filter(group="sft.member", text=study.generations["question"][0]).row(
        0, named=True
    )
    first = study.corpus.filter(source="sft", role="member")["id"][0]
    assert (row["match_id"], row["levenshtein_best_id"], row["indel_best_id"]) == (first,) * 3
    assert row["levenshtein_best"] == row["indel_best"] == 1
    assert row["cosine"] == pytest.approx(1, abs=1e-6)


def test_audit_measures_each_group_and_part(study: Study) -> None:
    _, audits = study.match()
    assert set(audits) == {f"{group}/{field}" for group in study.groups for field in FIELDS}
    # Annoy was told to look at every node.
    assert all(audit == {"queries": 3, "recall_at_1": 1.0} for audit in audits.values())
    _, audits = study.match(audit=1000, fields=("question",))
    assert {audit["queries"] for audit in audits.values()} == {4}
    assert study.match(audit=0)[1] == {}


@pytest.mark.parametrize("kind", ["annoy", "exact"])
def test_strings_among_near_rows(study: Study, kind: str) -> None:
    """With as many near rows as there are rows the same is found; with one, what is left out."""
    indexes = study.files["indexes"]
    changes = {"indexes": indexes if kind == "annoy" else dict.fromkeys(indexes)}
    whole, _ = study.match(**changes)
    given = {"kind": kind, "search_k": 10**6, "audit": 1000, "strings": "near"}
    near, audits = study.match(**changes, settings=IndexSettings(**given, candidates=1000))
    assert_frame_equal(near, whole)
    assert all(audit["copies"] == audit["copies_found"] for audit in audits.values())
    assert sum(audit["copies"] for audit in audits.values()) > 0

    near, audits = study.match(**changes, settings=IndexSettings(**given, candidates=1))
    assert all(audit["copies_found"] <= audit["copies"] for audit in audits.values())
    assert near["cosine"].equals(whole["cosine"])
    assert (near["levenshtein_best"].fill_null(0) <= whole["levenshtein_best"].fill_null(0)).all()
    # An equal row is found in any case.
    equal = pl.col("levenshtein_best") == 1
    assert near.filter(equal)["text"].equals(whole.filter(equal)["text"])


def test_generations_without_any_text(study: Study) -> None:
    nothing = pl.DataFrame(
        {"question": ["", None], "answer": [None, None]},
        schema={"question": pl.String, "answer": pl.String},
    )
    matches, audits = study.match(generations=nothing)
    assert matches.is_empty()
    assert matches.schema == MATCHES
    assert audits == {}


def test_a_search_without_files_finds_the_same(study: Study, minilm: Path) -> None:
    matches, _ = study.match(fields=("question",))
    texts = unique_texts(study.generations, "question")
    embed = Embedder(minilm).embed
    by_hand = match_exactly(texts, study.corpus, "question", embed)
    order = ["group", "text"]
    assert by_hand.sort(order).drop("cosine").equals(matches.sort(order).drop("cosine"))
    difference = by_hand.sort(order)["cosine"] - matches.sort(order)["cosine"]
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("name", ["sft", "pretraining.control"])
def test_unknown_group(study: Study, name: str) -> None:
    message = rf"group '{name}' has no row with that field in the corpus \(it has: sft.member"
    with pytest.raises(InputError, match=message):
        study.group(name, "question")


def test_embeddings_of_other_generations(study: Study) -> None:
    fewer = study.generations.head(2)
    with pytest.raises(InputError, match="embeddings of other texts; run the embedding step"):
        study.match(generations=fewer)


def test_embedder_of_the_generations_differs(study: Study, tmp_path: Path) -> None:
    texts = unique_texts(study.generations, "question")
    vectors = read_vectors(study.files["generation_vectors"]["question"], texts)
    path = tmp_path / "question.npy"
    write_vectors(np.asarray(vectors), texts, "another/256", path)
    with pytest.raises(InputError, match="other side with another at 256 tokens; embed both"):
        study.match(fields=("question",), generation_vectors={"question": path})
