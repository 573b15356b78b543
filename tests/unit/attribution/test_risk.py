"""The risk of a source: closed forms, and simulated samples of known probabilities."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.risk import SAMPLES, risk
from alignment_extraction.attribution.tables import SCHEMAS
from tests.likelihoods import make_corpus, make_likelihood, nothing_predicted, rows_of


def risk_of(
    corpus: pl.DataFrame,
    log_probability: list[float | None],
    predicted: pl.DataFrame | None = None,
) -> pl.DataFrame:
    rows = rows_of(make_likelihood(corpus, log_probability), corpus)
    return risk(rows, 0, nothing_predicted() if predicted is None else predicted)


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
    assert table.schema == SCHEMAS["risk"]
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


def test_rows_of_unknown_part_in_the_training_have_a_risk_too() -> None:
    corpus = make_corpus([("a", "unknown", None), ("a", "unknown", None), ("a", "control", None)])
    table = risk_of(corpus, [np.log(0.5), np.log(1e-9), np.log(0.5)])
    assert set(table["role"]) == {"unknown"}
    assert table.filter(samples=100)["at_risk"].to_list() == [1]


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
    truth, runs = [], 100
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


def test_observed_rows_are_of_those_scored() -> None:
    """Where a part of the rows was scored, what came of the others is not laid beside."""
    corpus = make_corpus([("a", "member", "t0") for _ in range(4)])
    predicted = pl.DataFrame(
        {
            "prefix": ["user"] * 4,
            "seed": [0] * 4,
            "source": ["a"] * 4,
            "role": ["member"] * 4,
            "id": ["0", "1", "2", "3"],
            "samples": [10] * 4,
            "log_probability": [np.log(0.5), np.log(0.1), None, None],
            "hits": [5, 1, 2, 2],
        }
    )
    table = risk_of(corpus, [np.log(0.5), np.log(0.1), None, None], predicted)
    assert table.filter(samples=10)["observed_distinct"].item() == pytest.approx(2)
