"""Two embedders: agreement against peers and simulations, and the scoring under both."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from alignment_extraction.extraction.embedders import (
    agreement,
    compare,
    kappa,
    rank_correlation,
)
from alignment_extraction.extraction.scores import CELL_KEYS
from alignment_extraction.search.held_out import ALL_HELD_OUT
from alignment_extraction.settings.studies import ThresholdSettings
from tests.tracked_study import corpus, held_out_matches

STREAM = np.random.default_rng(0)


def test_kappa_is_scikit_learns() -> None:
    for _ in range(20):
        first, second = STREAM.random((2, 50)) < 0.4
        found = agreement(first, second, 0)
        assert found.estimate == pytest.approx(cohen_kappa_score(first, second))
        assert found.low <= found.estimate <= found.high


def test_kappa_at_its_edges() -> None:
    hits = np.array([True] * 5 + [False] * 20)
    assert agreement(hits, hits, 0).estimate == 1
    assert np.isnan(agreement(np.zeros(9, bool), np.zeros(9, bool), 0).estimate)
    assert kappa(np.array([0, 5, 5, 0])) == pytest.approx(-1)


def test_kappa_intervals_cover() -> None:
    """300 samples of 400 pairs that agree with known chances."""
    chances = np.array([0.2, 0.1, 0.05, 0.65])
    truth = float(kappa(chances))
    covered = 0
    for i in range(300):
        kinds = np.random.default_rng(i).choice(4, 400, p=chances)
        found = agreement(kinds <= 1, (kinds == 0) | (kinds == 2), i, draws=400)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_rank_correlation_is_scipys_and_covers() -> None:
    covered = 0
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # of a normal pair with correlation 0.6
    for i in range(200):
        stream = np.random.default_rng(i)
        first = stream.normal(size=300)
        second = 0.6 * first + 0.8 * stream.normal(size=300)
        found = rank_correlation(first, second, i, draws=300)
        assert found.estimate == pytest.approx(spearmanr(first, second).statistic)
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 200 <= 0.985
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5.0), 0).estimate)


def scored(n: int = 80) -> pl.DataFrame:
    stream = np.random.default_rng(1)
    cosine = stream.uniform(0.6, 1, n).astype(np.float32)
    return pl.DataFrame(
        {
            "model": ["sft"] * n,
            "prefix": ["user"] * n,
            "seed": [0] * n,
            "index": range(n),
            "part": ["question"] * n,
            "reference": ["role:member"] * n,
            "match_id": [f"sums.member:{i % 20}" for i in range(n)],
            "cosine": cosine,
            "levenshtein": cosine,
            "indel": cosine,
            "levenshtein_best": cosine,
            "indel_best": cosine,
            "characters": [20] * n,
        }
    )


@pytest.mark.parametrize("held_out", [0, 200])
def test_the_same_embedder_twice_agrees_wholly(held_out: int) -> None:
    scores, rows = scored(), held_out_matches()
    place = pl.int_range(pl.len())
    many = pl.concat([rows] * 10).head(held_out).with_columns(id=pl.format("row {}", place))
    found = scores.select(*CELL_KEYS, "index", second_id="match_id", second_cosine="cosine")
    table, shared = compare(
        scores,
        many,
        corpus(),
        found,
        many.select("id", second_cosine="cosine"),
        names=("one", "two"),
        part="question",
        reference="role:member",
        thresholds=ThresholdSettings(),
        seed=0,
    )
    numbers = ["false_positive_rate", "threshold", "n", "hits", "rate"]
    one, two = (table.filter(embedder=name).select(numbers) for name in ("one", "two"))
    assert one.equals(two, null_equal=True)
    fixed = shared.filter(pl.col("false_positive_rate").is_null()).row(0, named=True)
    hits = int((scores["cosine"] >= 0.95).sum())
    assert (fixed["both"], fixed["first_only"], fixed["second_only"]) == (hits, 0, 0)
    assert (fixed["kappa"], fixed["correlation"], fixed["agree"]) == pytest.approx((1, 1, 1))
    percent = shared.filter(false_positive_rate=0.01).row(0, named=True)
    assert (percent["both"] is None) == (held_out == 0)
    if held_out:
        limit = table.filter(false_positive_rate=0.01, embedder="one")["threshold"].item()
        assert percent["both"] == (scores["cosine"] > limit + 1e-6).sum()
        assert ALL_HELD_OUT == "role:held-out"
    thousandth = shared.filter(false_positive_rate=0.001).row(0, named=True)
    assert thousandth["both"] is None
