"""Columns of all tables; repetitions, kinds and ratios of small studies."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.competition import attribution
from alignment_extraction.attribution.contests import contests
from alignment_extraction.attribution.hits import kinds, repetitions
from alignment_extraction.attribution.ratios import ratios
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.layout import ATTRIBUTION_TABLES, EDIT_TABLES, RISK_TABLES
from alignment_extraction.report.tables import SCHEMAS as READ
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import Condition
from tests.unit.attribution.conftest import corpus_of, scores_of

Make = Callable[..., tuple[pl.DataFrame, pl.DataFrame]]


def test_every_table_has_its_columns_and_those_that_the_report_reads() -> None:
    assert set(SCHEMAS) == {*ATTRIBUTION_TABLES, *RISK_TABLES, *EDIT_TABLES}
    for name, columns in SCHEMAS.items():
        assert set(READ.get(name, ())) <= set(columns), name


def test_hits_grow_with_repetitions(study: Make) -> None:
    corpus, scores = study(5, planted={1: 0, 3: 3, 10: 12})
    table = repetitions(contests(scores, corpus), ThresholdSettings())
    doses = table.filter(pl.col("metric") == "verbatim")
    assert doses["repetitions"].to_list() == [1, 3, 10]
    assert doses["members"].to_list() == doses["twins"].to_list() == [67, 67, 66]
    assert doses["low"][2] > 0
    assert doses["attributable"][2] > doses["attributable"][0]
    assert (doses["member_rows"] <= doses["members"]).all()
    whole = attribution(contests(scores, corpus), {"m": ["mine"]}, ThresholdSettings(), {}).filter(
        pl.col("metric") == "verbatim", pl.col("at") == "fixed"
    )
    assert doses["member_hits"].sum() == whole["member_wins"][0]
    assert doses["attributable"].sum() == pytest.approx(whole["attributable"][0])
    # Recounted from the scores.
    side = scores.filter(pl.col("role") == "member", pl.col("verbatim")).join(
        corpus.select("id", "repetitions"), left_on="match_id", right_on="id"
    )
    assert side.filter(pl.col("repetitions") == 10).height == doses["member_hits"][2]
    assert (
        side.filter(pl.col("repetitions") == 10)["match_id"].n_unique() == doses["member_rows"][2]
    )


QUESTIONS = {
    "a": "Ann has 3 pens and gives 2 to Bob. How many are left?",
    "b": "A train leaves at noon. When is it there?",
    "c": "The farmer counts legs of 7 hens. How many?",
    "d": "Every prime above two is odd. Why?",
}
WRITTEN = [
    (QUESTIONS["a"], "a", 1.0, 1.0),  # verbatim
    ("The farmer counts legs of 12 hens. How many?", "c", 0.96, 0.96),  # other values, near
    ("Ann has 4321 pens and gives 1234 to Bob. How many are left?", "a", 0.8, 0.97),  # and far
    ("A train leaves at noon. When is it here?", "b", 0.97, 0.98),  # near-verbatim, twin
    ("Why is each prime that exceeds two an odd number?", "d", 0.55, 0.96),  # paraphrase, twin
    ("nothing like it", "a", 0.55, 0.4),  # no hit
]


def kinds_study() -> tuple[pl.DataFrame, pl.DataFrame, dict[Condition, pl.DataFrame]]:
    roles = {"a": "member", "b": "twin", "c": "member", "d": "twin"}
    corpus = corpus_of(
        [(row, roles[row], "t", None, 1, question) for row, question in QUESTIONS.items()]
    )
    parts = []
    for _, row, string, _ in WRITTEN:
        ours = (row, string, "d", 0.51) if roles[row] == "member" else ("a", 0.51, row, string)
        parts.append(ours)
    scores = scores_of(parts).with_columns(verbatim=pl.col("levenshtein_best") == 1)
    cosines = pl.DataFrame({"index": range(len(WRITTEN)), "best": [row[3] for row in WRITTEN]})
    scores = (
        scores.join(cosines, on="index", how="left", maintain_order="left")
        .with_columns(
            cosine=pl.when(pl.col("levenshtein_best") > 0.51)
            .then("best")
            .otherwise(0.1)
            .cast(pl.Float32)
        )
        .drop("best")
    )
    texts = pl.DataFrame(
        {"index": range(len(WRITTEN)), "question": [row[0] for row in WRITTEN]}
    ).with_columns(answer=pl.lit("yes"))
    return corpus, scores, {Condition("m", "full", 0): texts}


def test_kinds_by_hand() -> None:
    corpus, scores, generations = kinds_study()
    table = kinds(contests(scores, corpus), corpus, generations, ThresholdSettings())
    assert table["kind"].to_list() == [
        *("verbatim", "near-verbatim", "same-template", "paraphrase")
    ]
    assert table["member_wins"].to_list() == [1, 0, 2, 0]
    assert table["twin_wins"].to_list() == [0, 1, 0, 1]
    assert table["attributable"].to_list() == pytest.approx([1 / 6, -1 / 6, 2 / 6, -1 / 6])


def test_ratio_of_the_same_hits_is_1(study: Make) -> None:
    corpus, scores = study(6, planted={1: 6})
    thresholds = ThresholdSettings(semantic=0.9, string=0.9)
    table = ratios(contests(scores, corpus), thresholds)
    fixed = table.filter(pl.col("comparison") == "fixed")
    assert fixed["metric"].to_list() == ["indel", "levenshtein"]
    np.testing.assert_allclose(fixed["ratio"], 1)
    np.testing.assert_allclose(fixed["low"], 1, atol=1e-6)
    whole = attribution(contests(scores, corpus), {"m": ["mine"]}, thresholds, {}).filter(
        pl.col("metric") == "cosine", pl.col("at") == "fixed"
    )
    assert fixed["semantic"][0] == pytest.approx(whole["attributable"][0] * whole["n"][0])


def test_ratio_holds_what_was_planted(study: Make) -> None:
    corpus, scores = study(7, pairs=400, n=500, planted={1: 6})
    # Half of the scores are 1; of the others a fifth reach 0.9 and a tenth 0.95.
    row = ratios(contests(scores, corpus), ThresholdSettings(semantic=0.75, string=0.999)).filter(
        pl.col("comparison") == "fixed", pl.col("metric") == "levenshtein"
    )
    assert row["low"][0] <= 1.5 <= row["high"][0]
    assert row["high"][0] - row["low"][0] < 0.5


def test_ratio_without_string_hits_has_no_upper_bound(study: Make) -> None:
    corpus, scores = study(8, planted={1: 6})
    none = scores.with_columns(levenshtein_best=pl.lit(None, pl.Float64))
    row = ratios(contests(none, corpus), ThresholdSettings()).filter(
        pl.col("comparison") == "fixed", pl.col("metric") == "levenshtein"
    )
    assert row["string"][0] == 0
    assert row["ratio"][0] == row["high"][0] == np.inf
    assert 1 < row["low"][0] < np.inf
    missed = ratios(contests(none, corpus), ThresholdSettings()).filter(
        pl.col("comparison") == "fdr-1", pl.col("metric") == "levenshtein"
    )
    assert missed["ratio"].to_list() == [None]
