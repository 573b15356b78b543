"""Labelled edits: pairs, similarities worked out by hand, and which versions a model writes."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.edits import edit_similarity, written_variants
from alignment_extraction.settings.studies import ThresholdSettings

CORPUS = pl.DataFrame(
    {
        "id": ["a", "b", "a1", "a2", "a3"],
        "source": "sft",
        "role": ["member", "twin", "member", "twin", "member"],
        "seed_problem": ["a", "b", "a", "a", "a"],
        "edit": ["original", "original", "numbers", "numbers", "order"],
        "question": ["0123456789", "xxxxxxxxxx", "012345678x", "01234xxxxx", "9876543210"],
    }
)
VECTORS = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0], [0, 1]], np.float32)


def test_similarities_are_those_of_the_pairs() -> None:
    found = edit_similarity(CORPUS, VECTORS, "minilm").row(0, named=True)
    assert (found["embedder"], found["edit"], found["pairs"]) == ("minilm", "numbers", 2)
    assert found["cosine_reached"] == found["levenshtein_reached"] == 0.5
    assert found["cosine_median"] == pytest.approx(0.8)
    assert found["levenshtein_median"] == pytest.approx((0.9 + 0.5) / 2)


def _scores(rows: list[tuple[int, str, str, float, bool]]) -> pl.DataFrame:
    schema = ["index", "role", "match_id", "cosine", "verbatim"]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        model=pl.lit("m"),
        prefix=pl.lit("user"),
        seed=pl.lit(0, pl.Int64),
        field=pl.lit("question"),
        source=pl.lit("sft"),
        levenshtein_best_id=pl.col("match_id"),
        levenshtein_best=pl.col("cosine"),
    )


def test_a_version_is_written_where_the_best_row_reaches_the_threshold() -> None:
    scores = _scores(
        [
            (0, "member", "a1", 1.0, True),  # a trained version, verbatim
            (0, "twin", "a2", 0.96, False),
            (1, "member", "a", 0.97, False),  # nearer to an unseen version
            (1, "twin", "a2", 1.0, True),
            (2, "member", "a3", 0.95, False),  # a tie
            (2, "twin", "a2", 0.95, False),
            (3, "member", "a", 0.5, False),  # nothing
            (3, "twin", "b", 0.5, False),
        ]
    )
    found = {
        (row["metric"], row["edit"], row["role"]): row
        for row in written_variants(CORPUS, scores, ThresholdSettings()).iter_rows(named=True)
    }
    assert {row["generations"] for row in found.values()} == {4}
    unseen = found["cosine", "numbers", "twin"]
    assert (unseen["rows"], unseen["written"], unseen["hits"], unseen["wins"]) == (1, 1, 3, 1.5)
    assert found["cosine", "order", "member"]["wins"] == 0.5
    assert found["cosine", "numbers", "member"]["wins"] == 1.0
    assert found["cosine", "original", "member"]["wins"] == 0.0
    assert found["verbatim", "numbers", "twin"]["hits"] == 1
    assert found["verbatim", "numbers", "member"]["written"] == 1
    assert found["levenshtein", "numbers", "twin"]["hits"] == 3
    assert found["cosine", "original", "twin"]["hits"] == 0
