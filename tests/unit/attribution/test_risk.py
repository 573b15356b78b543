"""The risk of a source: closed forms, and simulated samples of known probabilities."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.risk import RISK, SAMPLES, calibration, risk
from alignment_extraction.attribution.rows import predictions, rows
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from tests.likelihoods import make_corpus, make_likelihood
from tests.tiny_models import make_tiny_gguf
from tests.unit.attribution.test_rows import conditions


def risk_of(corpus: pl.DataFrame, log_probability: list[float | None]) -> pl.DataFrame:
    likelihood = make_likelihood(corpus, log_probability)
    return risk(rows("m", likelihood, corpus, trained_on=["a"]), seed=0)


def test_the_grid() -> None:
    assert SAMPLES.tolist()[:5] == [1, 3, 10, 32, 100]
    assert SAMPLES[-1] == 10**9


def test_sums_of_chances() -> None:
    corpus = make_corpus([("a", "member", f"t{i % 2}") for i in range(5)] + [("a", "twin", "t0")])
    # Rows 0 and 4 ask the same and count once; row 3 fits no context.
    corpus = corpus.with_columns(
        question=pl.when(pl.col("id") == "4").then(pl.lit("q0")).otherwise("question")
    )
    p = np.array([0.5, 0.01, 1e-6])
    table = risk_of(corpus, [*np.log(p), None, np.log(0.5), np.log(0.02)])
    assert table.schema == RISK
    assert table.select("source", "role").unique(maintain_order=True).rows() == [
        ("a", "member"),
        ("a", "twin"),
    ]
    member = table.filter(role="member")
    assert member["samples"].to_list() == SAMPLES.tolist()
    assert set(member["rows"]) == {3}
    chances = 1 - (1 - p[:, None]) ** SAMPLES[:9].astype(float)
    np.testing.assert_allclose(member["expected_distinct"][:9], chances.sum(axis=0))
    assert member["at_risk"].to_list()[:9] == (chances >= 0.1).sum(axis=0).tolist()
    assert member["expected_distinct"][-1] == pytest.approx(3)
    # One twin stands for three members; without a second row there is no interval.
    twin = table.filter(role="twin", samples=100).row(0, named=True)
    assert (twin["rows"], twin["at_risk"], twin["resampled"]) == (1, 3, "row")
    assert twin["expected_distinct"] == pytest.approx(3 * (1 - 0.98**100))
    assert twin["distinct_low"] is None
    assert set(member["resampled"]) == {"template"}
    assert table["observed_distinct"].is_null().all()


def test_none_at_risk_is_not_certain() -> None:
    corpus = make_corpus([("a", "member", f"t{i % 5}") for i in range(100)])
    first = risk_of(corpus, [-60.0] * 100).row(0, named=True)
    assert (first["at_risk"], first["at_risk_low"]) == (0, 0)
    assert first["at_risk_high"] == pytest.approx(100 * (1 - 0.025 ** (1 / 100)))


def test_intervals_hold_what_other_templates_would_give() -> None:
    """Templates drawn anew, their rows sampled: both intervals hold the new study's numbers' mean.

    The range of distinct rows must hold the number that is really found in 1,000 samples.
    """
    rng = np.random.default_rng(0)
    at = SAMPLES.tolist().index(1000)
    truth, runs = [], 150
    held = {"at_risk": 0, "distinct": 0}
    templates = np.repeat(np.arange(25), 8)
    corpus = make_corpus([("a", "member", f"t{t}") for t in templates])

    def draw() -> np.ndarray:
        return rng.normal(-9, 1.5, 25)[templates] + rng.normal(0, 1, 200)

    for _ in range(2000):
        truth.append((-np.expm1(1000 * np.log1p(-np.exp(draw()))) >= 0.1).sum())
    for _ in range(runs):
        log_probability = draw()
        row = risk_of(corpus, log_probability.tolist()).row(at, named=True)
        held["at_risk"] += row["at_risk_low"] <= np.mean(truth) <= row["at_risk_high"]
        found = (rng.poisson(1000 * np.exp(log_probability)) > 0).sum()
        held["distinct"] += row["distinct_low"] <= found <= row["distinct_high"]
    assert held["at_risk"] / runs > 0.89
    assert held["distinct"] / runs > 0.95


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
    return rows("m", likelihood, corpus, trained_on=["a"], predicted=predicted), predicted, p


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
