"""The anatomy of copying against difflib, plain Python and the rates."""

import difflib
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.extraction import anatomy as module
from alignment_extraction.extraction import scores
from alignment_extraction.extraction.anatomy import (
    KINDS,
    anatomy,
    compare,
    kinds,
    longest_common_spans,
)
from alignment_extraction.extraction.scores import KEYS, is_hit
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
THRESHOLDS = ThresholdSettings()
WORDS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=12)


def lists(values: list[list[str]]) -> pl.Series:
    return pl.Series(values, dtype=pl.List(pl.String))


@given(WORDS)
def test_spans_are_those_of_difflib(values: list[list[str]]) -> None:
    left, right = values[: len(values) // 2], values[len(values) // 2 : len(values) // 2 * 2]
    expected = [
        difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size
        for a, b in zip(left, right, strict=True)
    ]
    assert longest_common_spans(lists(left), lists(right)).tolist() == expected


def test_spans_of_many_pairs_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sides = [[list(rng.choice(list("abc"), rng.integers(0, 60))) for _ in range(50)] for _ in "ab"]
    whole = longest_common_spans(lists(sides[0]), lists(sides[1]))
    monkeypatch.setattr(module, "_CELLS", 100)
    assert longest_common_spans(lists(sides[0]), lists(sides[1])).tolist() == whole.tolist()
    assert whole.max() >= 4


def test_no_pairs() -> None:
    assert longest_common_spans(lists([]), lists([])).tolist() == []


QUESTION = "Tom has 12 pens and gives 5 of them to his sister Ann. How many are left?"


@pytest.mark.parametrize(
    ("generation", "kind", "numbers_equal", "span"),
    [
        (QUESTION, "verbatim", True, 17),
        (QUESTION + " ", "templated", True, 17),
        (QUESTION.replace("12", "30,000,000").replace("Ann", "Elizabeth"), "templated", False, 9),
        (QUESTION.replace("pens", "pencils"), "templated", True, 13),
        ("His sister Ann gets 5 of 12 pens, what remains for Tom?", "paraphrased", False, 2),
        ("", "paraphrased", False, 0),
    ],
)
def test_kinds_of_pairs(generation: str, kind: str, numbers_equal: bool, span: int) -> None:
    row = compare(pl.Series([generation]), pl.Series([QUESTION]), 0.9).row(0, named=True)
    assert row["kind"] == kind
    assert row["numbers_equal"] == numbers_equal
    assert row["words"] == 17
    assert row["span"] == span
    assert row["covered"] == pytest.approx(span / 17)


def test_what_is_masked_nearly_all_over_is_no_template() -> None:
    pairs = compare(pl.Series(["1 2 3 4", "a 1 b"]), pl.Series(["50 60 70 80", "a 999 b"]), 0.9)
    assert pairs["masked_similarity"].to_list() == [1, 1]
    assert pairs["kind"].to_list() == ["paraphrased", "templated"]


def test_texts_without_numbers_or_words() -> None:
    pairs = compare(pl.Series(["a", "a"]), pl.Series(["b", "?!"]), 0.9)
    assert pairs["numbers_equal"].to_list() == [None, None]
    assert pairs["covered"].to_list() == [0.0, None]


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    generations = {cell: make_generations(CORPUS, cell) for cell in CELLS}
    scored = pl.concat(
        [
            scores.score_cell(cell, frame, make_matches(frame, CORPUS), CORPUS, PARTS)
            for cell, frame in generations.items()
        ]
    )
    rates = scores.rates(scored, THRESHOLDS)
    table = anatomy(scored, generations, CORPUS, THRESHOLDS)
    return {
        "generations": generations,
        "scored": scored,
        "rates": rates,
        "table": table,
        "kinds": kinds(table, rates, CORPUS),
    }


def test_every_hit_and_every_nearest_match_is_there(study: dict[str, Any]) -> None:
    table = study["table"]
    assert table.select(*KEYS, "generation").is_unique().all()
    hit = is_hit("embedding", 0.95) | is_hit("levenshtein", 0.9)
    hits = study["scored"].filter(hit, ~pl.col("reference").str.starts_with("role:"))
    assert table.filter("hit")["occurrences"].sum() == hits.height > 50
    assert table.filter("hit")["kind"].null_count() == 0
    assert table.filter(~pl.col("hit"))["kind"].is_null().all()
    cells = ["model", "prefix", "seed", "part"]
    nearest = scores.nearest_groups(study["scored"])
    texts = scores.generation_texts(study["generations"], PARTS)
    wanted = nearest.join(texts, on=[*cells, "index"]).select(*KEYS, "generation").unique()
    assert table.join(wanted, on=[*KEYS, "generation"], how="semi").height == wanted.height
    top = scores.top_matches(study["scored"], study["generations"], CORPUS)
    assert top.join(table, on=[*KEYS, "generation"], how="anti").is_empty()


def test_verbatim_is_what_the_rates_call_so(study: dict[str, Any]) -> None:
    verbatim = study["rates"].filter(metric="verbatim").select(*KEYS, verbatim="hits")
    joined = study["kinds"].filter(kind="verbatim").join(verbatim, on=KEYS)
    assert joined.height == verbatim.height
    assert (joined["hits"] == joined["verbatim"]).all()
    assert joined["hits"].sum() > 10


def test_kinds_add_up_to_the_hits_of_either_metric(study: dict[str, Any]) -> None:
    hit = is_hit("embedding", 0.95) | is_hit("levenshtein", 0.9)
    expected = study["scored"].group_by(KEYS).agg(expected=hit.sum(), samples=pl.len())
    table = study["kinds"]
    assert table.height == expected.height * len(KINDS)
    sums = table.group_by(KEYS).agg(pl.col("hits").sum(), pl.col("extracted", "n").first())
    joined = sums.join(expected, on=KEYS)
    assert joined.height == expected.height
    assert (joined["hits"] == joined["expected"]).all()
    assert (joined["extracted"] == joined["expected"]).all()
    assert (joined["n"] == joined["samples"]).all()


def test_shares_have_intervals(study: dict[str, Any]) -> None:
    for row in study["kinds"].iter_rows(named=True):
        rate = wilson(row["hits"], row["n"])
        assert (row["rate"], row["low"], row["high"]) == tuple(map(float, rate))
        if row["extracted"]:
            share = wilson(row["hits"], row["extracted"])
            found = (row["share"], row["share_low"], row["share_high"])
            assert found == tuple(map(float, share))
        else:
            assert row["share"] is row["share_low"] is row["share_high"] is None


def test_covered_counts_every_occurrence() -> None:
    keys = {"model": "m", "prefix": "p", "seed": 0, "part": "question", "reference": "g"}
    row = {**keys, "match_id": "a", "hit": True, "kind": "verbatim", "numbers_equal": None}
    table = pl.DataFrame(
        [
            {**row, "generation": "x", "occurrences": 3, "covered": 1.0},
            {**row, "generation": "y", "occurrences": 1, "covered": 0.2},
        ],
        schema_overrides={"numbers_equal": pl.Boolean},
    )
    rates = pl.DataFrame([{**keys, "metric": "embedding", "n": 9}])
    corpus = pl.DataFrame([{"source": "g", "split": None, "role": "member"}])
    found = kinds(table, rates, corpus).row(0, named=True)
    assert (found["covered"], found["hits"], found["items"]) == (1.0, 4, 1)
    assert found["covered_low"] == 1.0


def test_no_hits(study: dict[str, Any]) -> None:
    far = study["scored"].with_columns(pl.col("cosine", "levenshtein_best") / 2)
    table = anatomy(far, study["generations"], CORPUS, THRESHOLDS)
    assert not table["hit"].any()
    assert table.height > 0
    found = kinds(table, study["rates"], CORPUS)
    assert found.schema == study["kinds"].schema
    assert (found["hits"] == 0).all()
    assert found["covered"].is_null().all()
