"""Row risk: closed forms, brute force, and p-values that hold where nothing was learnt."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.attribution.levels import compared_rows
from alignment_extraction.attribution.predictions import predictions
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.files import InputError
from tests.likelihoods import (
    conditions,
    make_corpus,
    make_likelihood,
    make_scores,
    rows_of,
    verbatim,
)


def test_who_is_held_against_the_members() -> None:
    corpus = make_corpus(
        [
            ("a", "member", "t"), ("a", "twin", "t"), ("a", "twin", "w"), ("a", "held-out", "u"),
            ("b", "member", "t"), ("b", "held-out", "u"),
            ("c", "member", None), ("c", "held-out", None), ("c", "unknown", None),
            ("d", "member", "t"), ("d", "held-out", "t"), ("d", "held-out", "u"),
            ("e", "member", "t"), ("e", "held-out", None),
            ("f", "held-out", None), ("f", "twin", None), ("g", "member", None),
        ]
    )  # fmt: skip
    compared = compared_rows(corpus)
    assert corpus.join(compared, on="id").select("source", "role", "template", "member").rows() == [
        ("a", "member", "t", True),
        ("a", "twin", "t", False),
        ("c", "member", None, True),
        ("c", "held-out", None, False),
        ("d", "member", "t", True),
        ("d", "held-out", "t", False),
    ]


def test_p_values_rank_among_twins_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    corpus = make_corpus(
        [("a", "member", None)] * 40 + [("a", "twin", None)] * 25 + [("b", "member", None)] * 3
    )
    ours, base = rng.integers(-30, -10, (2, 68)).astype(float)
    ours[3] = np.nan
    likelihood = make_likelihood(corpus, [None if np.isnan(x) else x for x in ours])
    before = make_likelihood(corpus, base.tolist(), end=[-9.0] * 68)
    found = rows_of(likelihood, corpus, base=before)
    assert found.schema == SCHEMAS["rows"]
    by_id = {row["id"]: row for row in found.iter_rows(named=True)}
    for at in range(68):
        row = by_id[str(at)]
        assert row["trained"] == (at < 40)
        assert row["base_log_probability"] == base[at] - 9
        if at >= 40 or at == 3:
            assert row["p_value"] is row["flagged"] is None
            continue
        # By the question alone: the base model's end token is not held against it.
        twins = [ours[i] - base[i] for i in range(40, 65)]
        above = sum(twin >= ours[at] - base[at] for twin in twins)
        assert row["p_value"] == (1 + above) / 26
        assert row["chance_1e6"] == pytest.approx(-np.expm1(1e6 * np.log1p(-np.exp(ours[at]))))
    alone = rows_of(likelihood, corpus)
    assert alone["base_log_probability"].is_null().all()
    assert alone.filter(id="0")["score"].item() == ours[0]


def test_nothing_is_flagged_where_nothing_was_learnt_and_what_was_is() -> None:
    rng = np.random.default_rng(0)
    pairs = 300
    corpus = make_corpus(
        [("a", role, f"t{i % 7}") for role in ("member", "twin") for i in range(pairs)]
    )
    tails, false, power = [], 0, []
    for _ in range(60):
        hard = np.tile(rng.normal(-40, 10, pairs), 2)  # of a pair alike: the text's own difficulty
        base = hard + rng.normal(0, 1, 2 * pairs)
        ours = base + rng.normal(1, 1, 2 * pairs)
        before = make_likelihood(corpus, base.tolist())
        found = rows_of(make_likelihood(corpus, ours.tolist()), corpus, base=before)
        tails.append((found["p_value"] <= 0.05).mean())
        false += bool(found["flagged"].any())
        ours[:60] += 8
        found = rows_of(make_likelihood(corpus, ours.tolist()), corpus, base=before)
        flagged = found.filter("flagged")["id"].cast(int)
        power.append((flagged < 60).sum() / 60)
        assert (flagged >= 60).sum() < 20
    assert np.mean(tails) == pytest.approx(0.05, abs=0.01)
    assert false <= 9  # 5 % of 60, and three standard errors
    assert np.mean(power) > 0.9


def test_hits_and_the_best_generation() -> None:
    corpus = make_corpus([("a", "member", None)] * 4 + [("a", "twin", None), ("b", "member", None)])
    scores = make_scores(
        [
            verbatim("0"),
            # Nearest by meaning to row 1, as a string to row 2.
            {"match_id": "1", "cosine": 0.97, "levenshtein": 0.5, "levenshtein_best": 0.8,
             "levenshtein_best_id": "2"},
            {"match_id": "1", "cosine": 0.99, "levenshtein": 0.7, "levenshtein_best": 0.95,
             "levenshtein_best_id": "1", "prefix": "full"},
            {"match_id": "1", "cosine": 0.5, "levenshtein": 0.2},
            verbatim("0", field="answer"),
            {},
        ]
    )  # fmt: skip
    scores = pl.concat([scores, make_scores([{"role": "twin"}])])
    generations = scores.select("model", "prefix", "seed", "index").unique()
    generations = generations.with_columns(
        question=pl.format("{} {}", pl.col("prefix"), pl.col("index"))
    )
    likelihood = make_likelihood(corpus, [-2.0] * 6)
    predicted = predictions(likelihood, corpus, scores, conditions())
    found = rows_of(
        likelihood, corpus, scores=scores, predicted=predicted, generations=generations
    ).sort("id")
    assert found["verbatim_hits"].to_list() == [1, 0, 0, 0, 0, None]
    assert found["near_hits"].to_list() == [1, 2, 0, 0, 0, None]
    best = found.select(pl.col("^best_.*$"))
    assert best.row(0) == ("m/user/seed-0", 0, "user 0", 1.0, 1.0)
    assert best.row(1) == ("m/full/seed-0", 2, "full 2", pytest.approx(0.99), pytest.approx(0.7))
    assert best.row(2) == ("m/user/seed-0", 1, "user 1", None, pytest.approx(0.8))
    assert best.row(3) == (None,) * 5
    assert found["expected"].to_list()[:5] == [pytest.approx(100 * np.exp(-2))] * 5
    assert found["expected"][5] is None


def test_a_model_without_a_chat_template_has_no_row_risk() -> None:
    corpus = make_corpus([("a", "member", None)])
    likelihood = make_likelihood(corpus, [-1.0]).with_columns(template=False)
    with pytest.raises(InputError, match="no question inside the chat template"):
        rows_of(likelihood, corpus)
