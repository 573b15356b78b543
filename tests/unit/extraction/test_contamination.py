"""Rates with and without tagged items: every hit is counted once."""

import polars as pl

from alignment_extraction.extraction.contamination import contamination_rates
from alignment_extraction.settings.studies import ThresholdSettings


def test_hits_are_split_by_the_item_they_are_nearest_to() -> None:
    n = 8
    ids = ["a", "a", "a", "b", "b", "c", "c", None]
    scored = pl.DataFrame(
        {
            "model": ["m"] * n,
            "prefix": ["user"] * n,
            "seed": [0] * n,
            "index": range(n),
            "part": ["question"] * n,
            "reference": ["role:member"] * n,
            "match_id": ids,
            "cosine": [0.99, 0.96, 0.2, 0.97, 0.2, 0.98, 0.99, None],
            "levenshtein_best_id": ["b", None, None, None, None, "a", None, None],
            "levenshtein_best": [1.0, None, None, None, None, 0.92, None, None],
            "indel_best_id": [None] * n,
            "indel_best": [None] * n,
        },
        schema_overrides={"indel_best_id": pl.String, "indel_best": pl.Float64},
    )
    tags = pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "group": ["g"] * 3,
            "role": ["member"] * 3,
            "tagged": [True, False, False],
        }
    )
    table = contamination_rates(scored, tags, ThresholdSettings())
    found = {(row["metric"], row["rows"]): row for row in table.iter_rows(named=True)}
    hits = {key: row["hits"] for key, row in found.items()}
    assert (hits["embedding", "all"], hits["embedding", "tagged"]) == (5, 2)
    assert hits["embedding", "untagged"] == 3
    assert (hits["levenshtein", "all"], hits["levenshtein", "tagged"]) == (2, 1)
    assert (hits["verbatim", "all"], hits["verbatim", "tagged"]) == (1, 0)
    assert hits["indel", "all"] == 0
    assert {row["items"] for (_, rows), row in found.items() if rows == "tagged"} == {1}
    assert all(row["n"] == n and row["low"] <= row["rate"] <= row["high"] for row in found.values())
    # A reference of which no item was tested is left out.
    elsewhere = scored.with_columns(reference=pl.lit("role:control"))
    assert contamination_rates(elsewhere, tags, ThresholdSettings()).is_empty()
