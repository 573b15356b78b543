"""Data sets of the students: sizes, matches, and what is taken out of the examination."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.distillation.data_sets import (
    BENCHMARKS,
    COLUMNS,
    DataSets,
    build,
    examination,
    match_thresholds,
)
from alignment_extraction.files import InputError
from alignment_extraction.search.matching import HELD_OUT_SCHEMA
from alignment_extraction.settings.distillation import FAMILIES, DistillationSettings
from tests.toy_training import toy_corpus

SETTINGS = DistillationSettings.model_validate(
    {"sft": {"model": "sft"}, "rl": {"model": "rl"}, "false_positive_rate": 0.2}
)


def written(rows: pl.DataFrame, suffix: str) -> pl.DataFrame:
    """Generations that are corpus rows with a word more, or equal to them."""
    return rows.select(
        pl.col("question") + suffix,
        "answer",
        seed=pl.lit(0, pl.Int64),
        index=pl.int_range(pl.len(), dtype=pl.Int64),
        question_finish=pl.lit("stop"),
        answer_finish=pl.lit("stop"),
    )


def scored(rows: pl.DataFrame, cosines: list[float]) -> pl.DataFrame:
    return rows.select(
        "index",
        model=pl.lit("sft"),
        prefix=pl.lit("user"),
        seed=pl.lit(0, pl.Int64),
        part=pl.lit("question"),
        reference=pl.lit("role:member"),
        match_id=pl.lit("x"),
        cosine=pl.Series(cosines, dtype=pl.Float32),
        levenshtein_best=pl.lit(None, pl.Float32),
        indel_best=pl.lit(None, pl.Float32),
        levenshtein=pl.lit(None, pl.Float32),
        indel=pl.lit(None, pl.Float32),
        characters=pl.col("question").str.len_chars().cast(pl.Int64),
    )


def held_out(cosines: list[float]) -> pl.DataFrame:
    rows = toy_corpus().filter(role="held-out").head(len(cosines))
    values = {
        "id": rows["id"],
        "part": ["question"] * rows.height,
        "own_group": ["sft.fresh-instance"] * rows.height,
        "characters": rows["question"].str.len_chars(),
        "group": ["sft.member"] * rows.height,
        "cosine": cosines,
    }
    empty = {name: [None] * rows.height for name in HELD_OUT_SCHEMA if name not in values}
    return pl.DataFrame({**values, **empty}, schema=HELD_OUT_SCHEMA)


def make(cosines: list[float] | None = None, seed: int = 0) -> DataSets:
    corpus = toy_corpus()
    sft = written(corpus.filter(source="sft", role="member"), "")
    rl = written(corpus.filter(source="rl", role="held-out", split="fresh-instance"), "")
    cosines = cosines or [0.99 if i % 2 else 0.5 for i in range(sft.height)]
    negatives = held_out([0.1, 0.2, 0.3, 0.4])
    return build({"sft": sft, "rl": rl}, scored(sft, cosines), negatives, corpus, SETTINGS, seed)


def test_all_data_sets_of_one_kind_are_of_one_size() -> None:
    made = make()
    for family, names in FAMILIES.items():
        assert len({made.data[family, name].height for name in names[1:]}) == 1
    assert all(tuple(rows.columns) == COLUMNS for rows in made.data.values())
    assert all(rows["id"].n_unique() == rows.height for rows in made.data.values())
    last = made.counts.filter(step="not-drawn")
    assert last.height == len(made.data)
    for row in last.iter_rows(named=True):
        assert made.data[row["family"], row["data_set"]].height == row["left"]


def test_non_matches_have_no_score_above_the_threshold() -> None:
    made = make()
    assert made.thresholds["embedding"] < 0.99
    indices = made.data["sft", "non-matches"]["id"].str.split("/").list.last().cast(pl.Int64)
    assert set((indices % 2).to_list()) == {0}
    row = made.counts.filter(data_set="non-matches", step="match").row(0, named=True)
    assert row["dropped"] == row["before"] - row["left"] > 0


def test_verified_questions_have_right_answers() -> None:
    made = make()
    assert made.data["rl", "verified"]["verdict"].to_list() == [True] * (
        made.data["rl", "verified"].height
    )


def test_the_threshold_lets_through_the_chosen_share_of_held_out_rows() -> None:
    corpus = toy_corpus()
    rows = written(corpus.filter(source="sft", role="member"), "")
    # All of one length, so that the weights are equal: 1 + count <= 0.2 x (9 + 1).
    scores = scored(rows, [0.5] * rows.height).with_columns(characters=pl.lit(50, pl.Int64))
    values = np.round(np.linspace(0.1, 0.9, 9), 2).tolist()
    negatives = pl.concat([held_out(values[:6]), held_out(values[6:])])
    ids = pl.Series([f"h{i}" for i in range(9)])
    negatives = negatives.with_columns(id=ids, characters=pl.lit(50, pl.Int64))
    found = match_thresholds(scores, negatives, corpus, SETTINGS)
    assert found["embedding"] == pytest.approx(0.8)


def test_without_held_out_rows_the_fixed_threshold_counts() -> None:
    corpus = toy_corpus()
    rows = written(corpus.filter(source="sft", role="member"), "")
    found = match_thresholds(scored(rows, [0.5] * rows.height), held_out([]), corpus, SETTINGS)
    assert found == {"embedding": SETTINGS.threshold}


def test_nothing_left_is_an_error_that_says_of_what() -> None:
    with pytest.raises(InputError, match="nothing is left of the sft data set 'non-matches'"):
        make([0.99] * toy_corpus().filter(source="sft", role="member").height)


def test_questions_that_occur_in_training_data_are_not_asked() -> None:
    corpus = toy_corpus()
    asked = corpus.filter(source="rl", split="fresh-instance")
    copied = asked.head(2).select(pl.col("question").str.to_uppercase())
    other = pl.DataFrame({"question": ["What else?"]})
    original = corpus.filter(source="rl", role="member").select("question")
    data = {("rl", "original"): original, ("rl", "extracted"): pl.concat([copied, other])}
    kept, overlap = examination(corpus, data)
    row = overlap.filter(benchmark="rl.fresh-instance").row(0, named=True)
    assert (row["in_extracted"], row["removed"]) == (2, 2)
    assert row["left"] == asked.height - 2
    assert set(asked["id"]) - set(kept["id"]) == set(asked.head(2)["id"])
    assert overlap["benchmark"].to_list() == list(BENCHMARKS)
    # A row that a model was trained on is no question either.
    doubled = pl.concat([corpus, asked.tail(1).with_columns(role=pl.lit("member"), id=pl.lit("m"))])
    _, overlap = examination(doubled.with_columns(split=pl.col("split")), data)
    assert overlap.filter(benchmark="rl.fresh-instance")["in_original"].item() >= 1


def test_the_same_seed_draws_the_same_rows() -> None:
    first, again, other = make(), make(), make(seed=1)
    for key, rows in first.data.items():
        assert rows.equals(again.data[key])
    drawn = ("sft", "extracted")
    assert not first.data[drawn].equals(other.data[drawn])
