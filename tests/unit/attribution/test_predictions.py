"""Predicted hits: closed forms, and what samples of known probabilities and real models find."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.attribution.predictions import (
    calibration,
    chance,
    predictions,
    sampled_conditions,
)
from alignment_extraction.attribution.risk import risk
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import write_parquet
from alignment_extraction.vocabulary import Condition
from tests.likelihoods import (
    conditions,
    make_corpus,
    make_likelihood,
    make_scores,
    rows_of,
    verbatim,
)
from tests.tiny_models import make_tiny_gguf


@given(st.floats(0, 1), st.integers(1, 1000))
def test_chance_is_the_closed_form(p: float, n: int) -> None:
    with np.errstate(divide="ignore"):
        found = chance(np.log(p), np.array(n))
    assert found == pytest.approx(1 - (1 - p) ** n, abs=1e-12)


def test_chance_of_the_unlikely() -> None:
    # 1 - (1 - p)^n is 0 in floating point; n p is right to many digits.
    assert chance(np.array(-100.0), 1e6) == pytest.approx(1e6 * np.exp(-100), rel=1e-12)
    assert chance(np.array(-700.0), 1e9) == pytest.approx(1e9 * np.exp(-700), rel=1e-9)
    assert chance(np.array(-2000.0), 10) == 0
    assert chance(np.array([0.0, 1e-9]), 1).tolist() == [1, 1]
    assert np.isnan(chance(np.array(np.nan), 10))


def test_predictions_follow_the_limit_and_the_groups() -> None:
    corpus = make_corpus([("a", "member", None)] * 5 + [("a", "twin", None)])
    # Rows 0 and 4 ask the same.
    corpus = corpus.with_columns(
        question=pl.when(pl.col("id") == "4").then(pl.lit("q0")).otherwise("question")
    )
    likelihood = make_likelihood(
        corpus, [-1.0, -2, -3, None, -1, -1], end=[-0.5, -0.5, -0.5, None, -0.5, -0.5]
    ).with_columns(tokens=pl.Series([5, 20, 21, 5, 5, 5]))
    scores = make_scores([verbatim("0"), verbatim("4"), verbatim("1"), {}])
    found = predictions(likelihood, corpus, scores, conditions())
    assert found["id"].to_list() == ["0", "1", "2", "3"]
    # As long as the limit: no end token needed. Longer: not writable. No context: unknown.
    assert found["log_probability"].to_list() == [-1.5, -2.0, None, None]
    assert found["hits"].to_list() == [2, 1, 0, 0]
    assert found["expected"][0] == pytest.approx(100 * np.exp(-1.5))


@pytest.mark.parametrize(
    ("changed", "predicted"),
    [
        ({}, 1),
        ({"prefix_text": "<s>"}, 0),
        ({"uncut": False}, 0),
    ],
)
def test_other_prefixes_and_ways_of_sampling_have_no_prediction(
    changed: dict[str, object], predicted: int
) -> None:
    corpus = make_corpus([("a", "member", None)])
    likelihood = make_likelihood(corpus, [-1.0])
    found = predictions(likelihood, corpus, make_scores([{}]), conditions(**changed))
    assert len(found) == predicted


def test_conditions_are_read_from_the_files(tmp_path: Path) -> None:
    about = {"prefix": "<u>", "max_tokens": "20", "temperature": "1.0", "top_k": "0"}
    about |= {"top_p": "1.0", "min_p": "0.0"}
    frame = pl.DataFrame({"index": [0, 1, 2]})
    for name, told in (("a", about), ("b", about | {"top_k": "40"})):
        write_parquet(frame, tmp_path / name, told)
    found = sampled_conditions({Condition("m", n, 0): [tmp_path / n] for n in "ab"})
    assert found.rows() == [
        ("m", "a", 0, 3, "<u>", 20, True),
        ("m", "b", 0, 3, "<u>", 20, False),
    ]


@pytest.fixture(scope="module")
def sampled() -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """400 rows of known probability, 200 of each role, and the hits of two seeds' samples."""
    rng = np.random.default_rng(0)
    corpus = make_corpus([("a", role, None) for role in ("member", "twin") for _ in range(200)])
    p = np.exp(rng.normal(-9, 3, 400))
    p *= 0.5 / p.sum()
    samples = 5000
    scores = []
    for seed in (0, 1):
        drawn = rng.choice(401, samples, p=[*p, 1 - p.sum()])
        for role, start in (("member", 0), ("twin", 200)):
            own = np.where((drawn >= start) & (drawn < start + 200), drawn, 400)
            hit = pl.Series(own).replace_strict({400: None}, default=pl.Series(own).cast(str))
            scores.append(
                pl.DataFrame(
                    {"index": np.arange(samples), "levenshtein_best_id": hit}
                ).with_columns(
                    model=pl.lit("m"),
                    prefix=pl.lit("user"),
                    seed=pl.lit(seed, pl.Int64),
                    field=pl.lit("question"),
                    source=pl.lit("a"),
                    role=pl.lit(role),
                    verbatim=pl.col("levenshtein_best_id").is_not_null(),
                )
            )
    drawn = pl.concat([conditions(samples=samples, seed=seed) for seed in (0, 1)])
    likelihood = make_likelihood(corpus, np.log(p).tolist())
    predicted = predictions(likelihood, corpus, pl.concat(scores), drawn)
    return rows_of(likelihood, corpus, predicted=predicted), predicted, p


def test_sampling_confirms_the_likelihood(
    sampled: tuple[pl.DataFrame, pl.DataFrame, np.ndarray],
) -> None:
    table, predicted, p = sampled
    found = calibration(predicted)
    assert found.select("prefix", "seed", "role", "rows").rows() == [
        ("user", seed, role, 200) for seed in (0, 1) for role in ("member", "twin")
    ]
    assert found["agrees"].all()
    assert found["predicted"][0] == pytest.approx(5000 * p[:200].sum())
    assert (found["low"] <= found["observed"]).all()
    assert (found["observed"] <= found["high"]).all()
    # And a prediction that is wrong by a half is found out.
    wrong = calibration(predicted.with_columns(expected=pl.col("expected") / 2))
    assert not wrong["agrees"].any()
    assert table.filter(role="member")["expected"].sum() == pytest.approx(10_000 * p[:200].sum())


def test_the_rarefied_samples_lie_on_the_curve(
    sampled: tuple[pl.DataFrame, pl.DataFrame, np.ndarray],
) -> None:
    table, predicted, _ = sampled
    curve = risk(table, seed=0, predicted=predicted)
    drawn = curve.filter(pl.col("samples") <= 10_000)
    assert drawn["observed_distinct"].is_not_null().all()
    assert curve.filter(pl.col("samples") > 10_000)["observed_distinct"].is_null().all()
    assert (
        drawn["observed_distinct"]
        .is_between(drawn["distinct_low"] - 1e-9, drawn["distinct_high"] + 1e-9)
        .all()
    )
    last = drawn.filter(role="member", samples=10_000)
    seen = predicted.filter(role="member").group_by("id").agg(pl.col("hits").sum())
    assert last["observed_distinct"].item() == pytest.approx((seen["hits"] > 0).sum())


def test_calibration_covers() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(1000, 0.002, 2000)
    about = {"model": "m", "prefix": "user", "source": "a", "role": "member", "samples": 1000}
    predicted = pl.DataFrame(
        {"seed": np.arange(2000), "hits": hits, "expected": 2.0, "log_probability": -6.2}
    ).with_columns(**{name: pl.lit(value) for name, value in about.items()})
    assert calibration(predicted)["agrees"].mean() >= 0.95


def test_a_real_models_samples_are_as_predicted(tmp_path: Path) -> None:
    """Short questions that random weights write by chance, and one too long for the limit."""
    questions = [*"abcdefghijklmnopqrstuvwxyz0123456789.,?!", "What is", " the", "an"]
    questions.append("If I have 12 apples and give away 5, how many are left?")
    corpus = make_corpus([("a", "member", None)] * len(questions)).with_columns(
        question=pl.Series(questions)
    )
    limit, samples = 3, 3000
    path = make_tiny_gguf(tmp_path / "tiny.gguf", seed=1, end_probability=0.3)
    with Model(path, threads=1) as model:
        prefix = model.tokenize("user\n")
        drawn = sample(model, prefix, samples, seed=0, max_tokens=limit)
        texts = [model.tokenize(question, special=False) for question in questions]
        # Whatever ends a turn ends it here: all end tokens together, as p of one is too small.
        sums, ends = [], []
        for token in sorted(model.eog):
            scores = score(model, [(prefix, [*text, token]) for text in texts])
            running = np.concatenate([[0.0], np.cumsum(scores.log_probabilities)])
            sums.append(running[scores.offsets[1:] - 1] - running[scores.offsets[:-1]])
            ends.append(scores.log_probabilities[scores.offsets[1:] - 1])
    likelihood = make_likelihood(
        corpus, sums[0].tolist(), end=np.logaddexp.reduce(ends, axis=0).tolist()
    ).with_columns(tokens=pl.Series([len(text) for text in texts]))
    hits = drawn.join(
        corpus.select("question", levenshtein_best_id="id"), on="question", how="left"
    )
    scores_table = hits.select(
        "index",
        "levenshtein_best_id",
        model=pl.lit("m"),
        prefix=pl.lit("user"),
        seed=pl.lit(0, pl.Int64),
        field=pl.lit("question"),
        source=pl.lit("a"),
        role=pl.lit("member"),
        verbatim=pl.col("levenshtein_best_id").is_not_null(),
    )
    own = conditions(samples=samples, max_tokens=limit)
    predicted = predictions(likelihood, corpus, scores_table, own)
    assert predicted["log_probability"].null_count() > 0
    # Questions are distinct events of one draw: their probabilities add up to at most 1.
    assert predicted["log_probability"].exp().sum() <= 1
    row = calibration(predicted).row(0, named=True)
    assert row["observed"] > 50
    assert row["agrees"]
