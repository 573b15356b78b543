"""Discoverable extraction: closed forms, simulated draws, and a real model's own samples."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.files import write_parquet
from alignment_extraction.generations.generation import generate
from alignment_extraction.likelihoods.discoverable import (
    calibration,
    chance,
    distinct,
    growth,
    predict,
    sampled_cells,
)
from alignment_extraction.likelihoods.likelihood import compare
from alignment_extraction.settings.studies import Cell
from tests.tiny_models import make_tiny_gguf
from tests.unit.likelihoods.test_likelihood import make_corpus


@given(st.floats(0, 1), st.integers(1, 1000))
def test_chance_is_the_closed_form(p: float, n: int) -> None:
    with np.errstate(divide="ignore"):
        found = chance(np.log(p), np.array(n))
    assert found == pytest.approx(1 - (1 - p) ** n, abs=1e-12)


def test_chance_of_the_unlikely() -> None:
    # 1 - (1 - p)^n is 0 in floating point; n p is right to 20 digits.
    assert chance(np.array(-100.0), np.array(10**6)) == pytest.approx(1e6 * np.exp(-100))
    assert chance(np.array(-2000.0), np.array(10)) == 0
    assert chance(np.array(0.0), np.array(1)) == 1


@pytest.mark.parametrize("scale", [1e-7, 1e-5, 1e-3, 1e-2])
def test_distinct_range_holds_multinomial_counts(scale: float) -> None:
    rng = np.random.default_rng(0)
    p = rng.exponential(1, 300) ** 2
    p *= min(scale, 0.9 / p.sum())
    n = 1000
    counts = rng.multinomial(n, [*p, 1 - p.sum()], 4000)[:, :-1]
    seen = (counts > 0).sum(axis=1)
    found = distinct(chance(np.log(p), np.array(n)))
    assert found.estimate == pytest.approx(seen.mean(), abs=4 * seen.std() / np.sqrt(4000) + 1e-3)
    inside = ((found.low <= seen) & (seen <= found.high)).mean()
    assert inside >= 0.95
    # Not by being far too wide: the bounds are near the quantiles of the counts.
    low, high = np.quantile(seen, [0.025, 0.975])
    assert found.low >= low - 2
    assert found.high <= high + 2


def invented_items(p: np.ndarray, hits: np.ndarray, samples: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": "m",
            "prefix": "user",
            "seed": 0,
            "reference": "g",
            "id": [str(i) for i in range(len(p))],
            "samples": samples,
            "log_probability": np.log(p),
            "expected": p * samples,
            "hits": hits,
        },
        schema_overrides={
            "samples": pl.Int64,
            "log_probability": pl.Float64,
            "expected": pl.Float64,
            "hits": pl.Int64,
        },
    )


def test_calibration_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    p = np.exp(rng.normal(-9, 3, 400))
    p *= 0.5 / p.sum()
    agrees = []
    for _ in range(150):
        hits = rng.multinomial(2000, [*p, 1 - p.sum()])[:-1]
        table = calibration(invented_items(p, hits, 2000))
        assert table["hits"].sum() == hits.sum()
        assert table["items"].sum() == 400
        agrees.extend(table["agrees"])
    assert len(agrees) > 1000
    assert np.mean(agrees) >= 0.94
    # And a prediction that is wrong by a half is found out.
    hits = rng.multinomial(20_000, [*p, 1 - p.sum()])[:-1]
    wrong = calibration(invented_items(p / 2, hits, 20_000))
    assert not wrong.filter(pl.col("expected") > 30)["agrees"].any()


def test_growth_is_the_sum_of_chances() -> None:
    p = np.array([0.5, 0.01, 1e-6])
    items = invented_items(p, np.array([40, 2, 0]), 100)
    unlikely = items[:1].with_columns(log_probability=None, expected=None, hits=pl.lit(0, pl.Int64))
    table = growth(pl.concat([items, unlikely.cast(items.schema)]))
    assert table["samples"].max() == 1000
    row = table.filter(samples=100).row(0, named=True)
    assert (row["items"], row["left_out"], row["drawn"]) == (3, 1, 100)
    assert row["expected_hits"] == pytest.approx(100 * p.sum())
    assert row["expected_distinct"] == pytest.approx((1 - (1 - p) ** 100).sum())
    assert [row[f"discoverable_{q}"] for q in (10, 50, 90)] == [2, 2, 1]
    assert (row["hits"], row["distinct"]) == (42, 2)
    assert row["hits_low"] < 42 < row["hits_high"]
    assert table.filter(pl.col("samples") != 100)["hits"].is_null().all()
    last = table.filter(samples=1000).row(0, named=True)
    assert [last[f"discoverable_{q}"] for q in (10, 50, 90)] == [2, 2, 2]
    assert (table["expected_distinct"].diff().drop_nulls() > 0).all()


def test_no_items_and_no_hits() -> None:
    empty = invented_items(np.zeros(0), np.zeros(0, int), 10)
    assert growth(empty).is_empty()
    assert calibration(empty).is_empty()
    table = growth(invented_items(np.array([1e-30]), np.array([0]), 10))
    row = table.filter(samples=10).row(0, named=True)
    assert (row["distinct_low"], row["distinct_high"], row["hits_low"]) == (0, 0, 0)
    assert 0 < row["hits_high"] < 10


# Two-character questions: a tiny model with random weights writes some of them by chance.
QUESTIONS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,?!", "What is", " the", "an", "a", "b"]
LIMIT = 3
SAMPLES = 3000


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """A real model's samples, matched exactly, against what its likelihood predicts."""
    folder = tmp_path_factory.mktemp("discoverable")
    path = make_tiny_gguf(folder / "tiny.gguf", seed=1, end_probability=0.3)
    long = "If I have 12 apples and give away 5, how many are left?"
    corpus = make_corpus(
        [(str(i), question, None) for i, question in enumerate([*QUESTIONS, long])],
        ["a.member"] * (len(QUESTIONS) + 1),
    )
    pair = {"pair_before": pl.lit("tiny"), "pair_after": pl.lit("tiny")}
    likelihood = compare(path, path, corpus, prefix="user", threads=1).with_columns(**pair)
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "slots": 64}
    shards, scores = {}, []
    for model, prefix, temperature in (
        ("tiny", "user", 1.0),
        ("tiny", "none", 1.0),
        ("tiny", "hot", 1.3),
        ("other", "user", 1.0),
    ):
        samples = SAMPLES if (model, prefix) == ("tiny", "user") else 8
        frame, about = generate(
            path,
            prefix="user" if prefix == "hot" else prefix,
            prefix_text=None,
            seed=0,
            first=0,
            samples=samples,
            max_tokens=LIMIT,
            max_answer_tokens=None,
            sampling=sampling | {"temperature": temperature},
            threads=1,
        )
        cell = Cell(model, prefix, 0)
        shards[cell] = folder / f"{model}-{prefix}.parquet"
        write_parquet(frame, shards[cell], about)
        first = corpus.unique("question", keep="first").select("id", "question")
        scores.append(
            frame.join(first, on="question", how="left").select(
                pl.lit(model).alias("model"),
                pl.lit(prefix).alias("prefix"),
                pl.lit(0, pl.Int64).alias("seed"),
                part=pl.lit("question"),
                reference=pl.lit("a.member"),
                levenshtein_best_id="id",
                levenshtein_best=pl.when(pl.col("id").is_not_null()).then(pl.lit(1.0)),
            )
        )
    bare = folder / "bare.parquet"
    write_parquet(frame, bare)
    shards[Cell("tiny", "bare", 0)] = bare
    return predict(likelihood, pl.concat(scores), sampled_cells(shards), corpus)


def test_cells_without_a_prediction_say_why(predicted: dict[str, pl.DataFrame]) -> None:
    assert predicted["discoverable_cells"].select("model", "prefix", "reason").rows() == [
        ("tiny", "user", None),
        ("tiny", "none", "prefix"),
        ("tiny", "hot", "sampling"),
        ("other", "user", "model"),
        ("tiny", "bare", "settings"),
    ]
    assert set(predicted["discoverable"]["prefix"]) == {"user"}


def test_a_real_models_samples_are_as_predicted(predicted: dict[str, pl.DataFrame]) -> None:
    items = predicted["discoverable_items"]
    # Questions are distinct events of one draw: their probabilities add up to at most 1.
    assert items["log_probability"].exp().sum() <= 1
    row = predicted["discoverable"].filter(pl.col("samples") == pl.col("drawn")).row(0, named=True)
    assert row["drawn"] == SAMPLES
    # Longer than the limit; and "a" and "b" are there twice.
    assert (row["items"], row["left_out"]) == (len(QUESTIONS) - 2, 1)
    assert row["hits"] > 50
    assert row["hits_low"] <= row["expected_hits"] <= row["hits_high"]
    assert row["distinct_low"] <= row["distinct"] <= row["distinct_high"]
    assert predicted["discoverable_calibration"]["agrees"].mean() >= 0.75


def test_a_question_as_long_as_the_limit_needs_no_end(tmp_path: Path) -> None:
    corpus = make_corpus([("x", "abc", None)], ["a.member"])
    path = make_tiny_gguf(tmp_path / "tiny.gguf", seed=1)
    pair = {"pair_before": pl.lit("m"), "pair_after": pl.lit("m")}
    likelihood = compare(path, path, corpus, threads=1).with_columns(**pair)
    row = likelihood.filter("template").row(0, named=True)
    scores = pl.DataFrame(
        {
            "model": ["m"],
            "prefix": ["full"],
            "seed": [0],
            "part": ["question"],
            "reference": ["a.member"],
            "levenshtein_best_id": [None],
            "levenshtein_best": [None],
        },
        schema_overrides={"levenshtein_best_id": pl.String, "levenshtein_best": pl.Float32},
    )
    found = {}
    for limit in (row["tokens"] - 1, row["tokens"], row["tokens"] + 1):
        cells = pl.DataFrame(
            {
                "model": ["m"],
                "prefix": ["full"],
                "seed": [0],
                "prefix_text": [row["prefix"]],
                "max_tokens": [limit],
                "uncut": [True],
            }
        )
        items = predict(likelihood, scores, cells, corpus)["discoverable_items"]
        found[limit - row["tokens"]] = items["log_probability"][0]
    assert found == {-1: None, 0: row["after"], 1: row["after"] + row["after_end"]}
