"""Competition by hand, by brute force, and of whole studies."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.competition import (
    attribution,
    block_wins,
    discovery_threshold,
    false_discovery_rate,
)
from alignment_extraction.attribution.contests import contests, wins
from alignment_extraction.attribution.intervals import block_values
from alignment_extraction.settings.studies import ThresholdSettings
from tests.attributed_study import false_discoveries, memorised, pairs, placebo, templates
from tests.unit.attribution.conftest import corpus_of, scores_of

Make = Callable[..., tuple[pl.DataFrame, pl.DataFrame]]

CORPUS = corpus_of(
    [
        ("a", "member", "t", "p"),
        ("b", "twin", "t", "p"),
        ("c", "member", "t", "q"),
        ("d", "twin", "t", "q"),
        ("x", "member", "elsewhere", None),
    ]
)
SCORES = scores_of(
    [
        ("a", 1.0, "b", 0.6),
        ("a", 0.97, "b", 0.97 + 1e-7),
        ("c", 0.5, "b", 0.96),
        ("c", 0.92, "d", None),
        ("x", 1.0, "d", 0.99),
        (None, None, None, None),
    ]
)
TRAINED = {"m": ["mine"]}


def at(table: pl.DataFrame, metric: str, kind: str = "fixed") -> dict[str, float]:
    return table.filter(pl.col("metric") == metric, pl.col("at") == kind).row(0, named=True)


def test_wins_by_hand() -> None:
    table = attribution(contests(SCORES, CORPUS), TRAINED, ThresholdSettings(), {})
    cosine, levenshtein, verbatim = (at(table, m) for m in ("cosine", "levenshtein", "verbatim"))
    # The row whose template has no twin takes its generation out of the competition.
    assert (cosine["n"], cosine["members"], cosine["twins"], cosine["blocks"]) == (6, 2, 2, 2)
    assert (cosine["member_wins"], cosine["twin_wins"]) == (1.5, 1.5)
    assert cosine["attributable"] == 0
    assert (levenshtein["member_wins"], levenshtein["twin_wins"]) == (2.5, 1.5)
    assert levenshtein["attributable"] == pytest.approx(1 / 6)
    assert (verbatim["member_wins"], verbatim["twin_wins"]) == (1, 0)
    assert cosine["trained"]
    # Of the pair p the member has the nearest generation, of q the member has the only one.
    assert (levenshtein["member_blocks"], levenshtein["twin_blocks"]) == (2, 0)
    assert levenshtein["false_discovery_rate"] == 0.5
    assert at(table, "cosine", "fdr-5")["threshold"] is None
    assert at(table, "cosine", "fdr-5")["low"] is None


def test_the_sweep_counts_what_reaches_each_threshold() -> None:
    table = attribution(contests(SCORES, CORPUS), TRAINED, ThresholdSettings(), {})
    sweep = table.filter(pl.col("metric") == "cosine", pl.col("at") == "sweep")
    assert sweep["threshold"].to_list() == pytest.approx(list(np.linspace(0.5, 1, 51)))
    for row in sweep.iter_rows(named=True):
        members = sum(s >= row["threshold"] for s in (1, 0.92)) + 0.5 * (row["threshold"] <= 0.97)
        twins = (row["threshold"] <= 0.96) + 0.5 * (row["threshold"] <= 0.97)
        assert (row["member_wins"], row["twin_wins"]) == (members, twins)
    assert table.filter(pl.col("metric") == "verbatim")["at"].to_list() == [
        "fdr-1",
        "fdr-5",
        "fixed",
    ]


def test_block_values_are_a_double_loop(study: Make) -> None:
    corpus, scores = study(1, pairs=15, n=300)
    (contest,) = contests(scores, corpus)
    comparison = contest.comparison
    found = wins(contest, "cosine")
    thresholds = np.array([0.6, 0.9, 1.0])
    expected = np.zeros((comparison.blocks, 3))
    for score, row, member, weight in zip(
        found.score, found.row, found.member, found.weight, strict=True
    ):
        for column, threshold in enumerate(thresholds):
            if score >= threshold - 1e-6:
                expected[comparison.block[row], column] += weight * (1 if member else -1)
    blocks = np.array([0, 3, 4, 14])
    np.testing.assert_array_equal(
        block_values(found, comparison, blocks, thresholds), expected[blocks]
    )


def test_discoveries_by_hand() -> None:
    np.testing.assert_allclose(
        false_discovery_rate(np.array([0, 40, 200]), np.array([0, 1, 1]), 1.0), [1, 0.05, 0.01]
    )
    np.testing.assert_allclose(false_discovery_rate(np.array([40]), np.array([1]), 0.5), [0.025])
    score = np.linspace(1, 0.7, 31)
    member = np.ones(31)
    member[25] = 0
    blocks = (score, member, 1 - member)
    assert discovery_threshold(blocks, 1.0, 0.05, 0.5) == pytest.approx(0.76)
    assert discovery_threshold(blocks, 1.0, 0.05, 0.8) == pytest.approx(0.8)
    assert discovery_threshold(blocks, 1.0, 0.01, 0.5) is None
    # Where all are as near, all are counted.
    assert discovery_threshold((np.ones(31), member, 1 - member), 1.0, 0.05, 0.5) is None


def test_a_block_goes_to_its_nearest_generation() -> None:
    (contest,) = contests(SCORES, CORPUS)
    score, member, twin = block_wins(wins(contest, "cosine"), contest.comparison)
    np.testing.assert_allclose(score, [1, 0.92], atol=1e-6)
    assert (member.tolist(), twin.tolist()) == ([1, 1], [0, 0])


def test_of_equally_near_generations_the_more_decide() -> None:
    often = [("a", 1.0, "d", 0.5), ("a", 1.0, "d", 0.5), ("c", 0.5, "b", 1.0)]
    (contest,) = contests(scores_of(often), CORPUS)
    score, member, twin = block_wins(wins(contest, "verbatim"), contest.comparison)
    assert (score.tolist(), member.tolist(), twin.tolist()) == ([1], [1], [0])
    (contest,) = contests(scores_of(often[1:]), CORPUS)
    assert block_wins(wins(contest, "verbatim"), contest.comparison)[1].tolist() == [0.5]


@pytest.mark.parametrize("level", ["rows", "templates"])
@pytest.mark.parametrize("tail", ["even", "pareto"])
def test_the_false_discovery_rate_is_met(level: str, tail: str) -> None:
    for share, hits in ((0.0, 300), (0.6, 20), (0.6, 300)):
        found = false_discoveries(
            lambda stream, share=share, hits=hits: memorised(  # type: ignore[misc]
                pairs(200, tail, hits, stream)
                if level == "rows"
                else templates(200, 4, tail, hits, stream),
                share,
                400 if share else 0,
                True,
                stream,
            ),
            level,
            runs=150,
            seed=5,
        )
        assert found["false"] <= 0.05 + 3 * found["error"]
        if share and hits == 20:
            assert found["claimed"] > 0.3 * found["memorised"]


def test_19_of_20_labellings_of_a_study_without_memorisation_hold_0(study: Make) -> None:
    corpus, scores = study(2, pairs=100, n=3000)
    table = placebo(scores, corpus, ThresholdSettings(), seed=0)
    held = table.group_by("run").agg(pl.col("holds").all())
    assert held.height == 20
    assert held["holds"].sum() >= 19
    assert table.equals(placebo(scores, corpus, ThresholdSettings(), seed=0))


def test_planted_repetitions_are_found_and_relabelling_loses_them(study: Make) -> None:
    corpus, scores = study(3, n=300, planted={1: 0, 10: 8})
    table = attribution(contests(scores, corpus), TRAINED, ThresholdSettings(), {})
    n = scores.height // 2
    for metric in ("cosine", "levenshtein", "verbatim"):
        found = at(table, metric)
        assert found["low"] > 0
        # Of the 800 planted half score 1; of the rest a tenth reach 0.95, a fifth 0.9.
        share = {"verbatim": 0.5, "cosine": 0.55, "levenshtein": 0.6}[metric]
        assert found["low"] <= share * 800 / n <= found["high"]
    assert placebo(scores, corpus, ThresholdSettings(), seed=1)["holds"].mean() >= 0.9


def test_thresholds_that_meet_the_false_discovery_rate(study: Make) -> None:
    corpus, scores = study(3, n=5, planted={1: 0, 10: 8})
    table = attribution(contests(scores, corpus), TRAINED, ThresholdSettings(), {})
    met = at(table, "levenshtein", "fdr-5")
    assert 0.5 <= met["threshold"] <= 1
    assert met["false_discovery_rate"] <= 0.05
    assert met["member_blocks"] >= 20 * (met["twin_blocks"] + 1)
    assert at(table, "levenshtein", "fdr-1")["threshold"] is None


def test_a_base_model_that_knows_the_rows_accounts_for_them(study: Make) -> None:
    corpus, scores = study(4)
    hits = scores.filter(pl.col("verbatim")).group_by("match_id").len()
    base = corpus.join(hits, left_on="id", right_on="match_id", how="left").select(
        "id", base_log_probability=pl.col("len").cast(pl.Float64).log() - 9
    )
    plain = at(attribution(contests(scores, corpus), TRAINED, ThresholdSettings(), {}), "verbatim")
    known = at(
        attribution(contests(scores, corpus), TRAINED, ThresholdSettings(), {"m": base}), "verbatim"
    )
    assert plain["predicted"] == 0
    assert known["predicted"] == pytest.approx(plain["attributable"])
    assert known["attributable"] == pytest.approx(0, abs=1e-12)
    assert known["high"] - known["low"] < plain["high"] - plain["low"]
