"""Held-out rows beside generations: their best scores, length bands and weights."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.extraction.scores import score_cell
from alignment_extraction.search.held_out import (
    ALL_LENGTHS,
    band_edges,
    band_labels,
    comparisons,
    held_out_scores,
    length_weights,
    populations,
)
from alignment_extraction.settings.studies import ThresholdSettings
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches
from tests.tracked_study import held_out_matches


def test_the_best_of_a_role_counts() -> None:
    rows = pl.concat(
        [
            held_out_matches().head(1).with_columns(group=pl.lit(group), cosine=pl.lit(cosine))
            for group, cosine in (("a", 0.4), ("b", 0.6), ("c", 0.9))
        ]
    )
    groups = pl.DataFrame(
        {"source": ["a", "b", "c"], "split": [None] * 3, "role": ["member", "member", "unknown"]},
        schema_overrides={"split": pl.String},
    )
    found = held_out_scores(rows, groups)
    best = dict(found.select("reference", "cosine").iter_rows())
    assert best == {"role:member": 0.6, "role:unknown": 0.9}
    assert found["characters"].to_list() == [rows["characters"][0]] * 2
    assert held_out_scores(rows.clear(), groups).is_empty()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=50))
def test_each_band_has_texts_and_a_name(lengths: list[int]) -> None:
    edges = band_edges(np.array(lengths))
    labels = band_labels(edges)
    assert len(labels) == len(set(labels)) == len(edges) + 1 <= 4
    bands = np.searchsorted(edges, lengths)
    assert set(bands) == set(range(len(labels)))
    for length, band in zip(lengths, bands, strict=True):
        label = labels[band].split()
        if label[0] == "up":
            assert length <= int(label[-1])
        elif label[0] == "over":
            assert length > int(label[-1])
        elif labels != [ALL_LENGTHS]:
            assert int(label[0]) <= length <= int(label[-1])


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
)
def test_weights_give_held_out_rows_the_lengths_of_generations(
    generations: list[int], held_out: list[int]
) -> None:
    weights = length_weights(np.array(generations), np.array(held_out), 4)
    shares = np.bincount(held_out, weights, minlength=4) / len(held_out)
    for band in range(4):
        expected = np.mean(np.array(generations) == band) if band in held_out else 0
        assert shares[band] == pytest.approx(expected)


def test_comparisons_of_a_study() -> None:
    study = make_corpus()
    cells = {cell: make_generations(study, cell) for cell in CELLS}
    scored = pl.concat(
        [
            score_cell(cell, generations, make_matches(generations, study), study, PARTS)
            for cell, generations in cells.items()
        ]
    )
    matches = pl.concat(
        [
            held_out_matches()
            .head(12)
            .with_columns(
                own_group=pl.lit(own),
                id=pl.format("{} {}", pl.lit(own), "id"),
                group=pl.lit("other"),
            )
            for own in ("sft.fresh-instance", "sft.held-out-template")
        ]
    )
    found = list(comparisons(scored, held_out_scores(matches, study)))
    assert all(c.generations.height for c in found)
    whole = [c for c in found if c.keys["length_band"] == ALL_LENGTHS]
    assert {(c.keys["part"], c.keys["reference"], c.keys["held_out"]) for c in whole} == {
        # Answers were not searched for, and nothing in the members.
        ("question", "role:unknown", "role:held-out"),
        ("question", "role:unknown", "sft.fresh-instance"),
        ("question", "role:unknown", "sft.held-out-template"),
        ("question", "role:member", None),
        ("answer", "role:unknown", None),
        ("answer", "role:member", None),
    }
    # The bands of a cell are all of its generations.
    for first in (c for c in whole if c.keys["held_out"] in (None, "role:held-out")):
        keys = {k: v for k, v in first.keys.items() if k != "length_band"}
        bands = [
            c
            for c in found
            if c.keys["length_band"] != ALL_LENGTHS and keys.items() <= c.keys.items()
        ]
        assert sum(c.generations.height for c in bands) in (0, first.generations.height)
    # What is empty has no item and no score; it is no hit, but it was drawn.
    first = next(c for c in whole if c.keys["part"] == "question")
    sides = populations(first, ThresholdSettings())
    assert len(sides.items) == 60
    assert set(sides.items) == set(range(sides.items.max() + 1))
    empty = first.generations["match_id"].is_null().to_numpy()
    assert empty.sum() == 5
    assert (sides.generations["embedding"][empty] == -1).all()
    assert (sides.generations["indel"] >= 0.5).all()
