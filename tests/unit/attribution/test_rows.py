"""Row risk: closed forms, brute force, and p-values that hold where nothing was learnt."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.attribution.rows import (
    ROWS,
    chance,
    control_roles,
    predictable,
    predictions,
    rows,
    sampled_conditions,
)
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.vocabulary import Condition
from tests.likelihoods import make_corpus, make_likelihood


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


def test_control_roles() -> None:
    corpus = make_corpus(
        [
            ("a", "member", "t"), ("a", "twin", "t"), ("a", "held-out", "u"),
            ("b", "member", "t"), ("b", "held-out", "u"),
            ("c", "member", None), ("c", "held-out", None),
            ("d", "member", "t"), ("d", "held-out", "t"),
            ("e", "member", None), ("f", "held-out", None), ("f", "twin", None),
        ]
    )  # fmt: skip
    assert control_roles(corpus) == {"a": "twin", "c": "held-out", "d": "held-out"}


def conditions(**changed: object) -> pl.DataFrame:
    usual = {"model": "m", "prefix": "user", "seed": 0, "samples": 100, "prefix_text": "<u>"}
    usual |= {"max_tokens": 20, "uncut": True}
    return pl.DataFrame([usual | changed])


def make_scores(hits: list[dict[str, object]]) -> pl.DataFrame:
    usual = {"model": "m", "prefix": "user", "seed": 0, "field": "question", "source": "a"}
    usual |= {"role": "member", "match_id": None, "cosine": None, "levenshtein": None}
    usual |= {"levenshtein_best": None, "levenshtein_best_id": None, "verbatim": False}
    kinds = {"cosine": pl.Float32, "levenshtein": pl.Float64, "levenshtein_best": pl.Float64}
    kinds |= {"match_id": pl.String, "levenshtein_best_id": pl.String}
    return pl.DataFrame(
        [usual | {"index": i} | hit for i, hit in enumerate(hits)],
        schema_overrides=kinds,
        infer_schema_length=None,
    )


def verbatim(row: str, **changed: object) -> dict[str, object]:
    hit = {"match_id": row, "cosine": 1.0, "levenshtein": 1.0, "levenshtein_best": 1.0}
    return hit | {"levenshtein_best_id": row, "verbatim": True} | changed


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
    ("changed", "reason"),
    [
        ({}, None),
        ({"uncut": None, "prefix_text": None}, "settings"),
        ({"prefix_text": "<s>"}, "prefix"),
        ({"uncut": False}, "sampling"),
    ],
)
def test_conditions_without_a_prediction_say_why(
    changed: dict[str, object], reason: str | None
) -> None:
    corpus = make_corpus([("a", "member", None)])
    likelihood = make_likelihood(corpus, [-1.0])
    own = conditions(**changed).cast({"uncut": pl.Boolean, "prefix_text": pl.String})
    assert predictable(own, likelihood)["reason"].to_list() == [reason]
    found = predictions(likelihood, corpus, make_scores([{}]), own)
    assert len(found) == (reason is None)


def test_conditions_are_read_from_the_files(tmp_path: Path) -> None:
    about = {"prefix": "<u>", "max_tokens": "20", "temperature": "1.0", "top_k": "0"}
    about |= {"top_p": "1.0", "min_p": "0.0"}
    frame = pl.DataFrame({"index": [0, 1, 2]})
    for name, told in (("a", about), ("b", about | {"top_k": "40"}), ("c", {})):
        write_parquet(frame, tmp_path / name, told)
    found = sampled_conditions({Condition("m", n, 0): tmp_path / n for n in "abc"})
    assert found.rows() == [
        ("m", "a", 0, 3, "<u>", 20, True),
        ("m", "b", 0, 3, "<u>", 20, False),
        ("m", "c", 0, 3, None, None, None),
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
    found = rows("m", likelihood, corpus, trained_on=["a"], base=before)
    assert found.columns == ROWS
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
    alone = rows("m", likelihood, corpus, trained_on=["a"])
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
        found = rows(
            "m", make_likelihood(corpus, ours.tolist()), corpus, trained_on=[], base=before
        )
        tails.append((found["p_value"] <= 0.05).mean())
        false += bool(found["flagged"].any())
        ours[:60] += 8
        found = rows(
            "m", make_likelihood(corpus, ours.tolist()), corpus, trained_on=[], base=before
        )
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
    found = rows(
        "m",
        likelihood,
        corpus,
        trained_on=["a"],
        scores=scores,
        predicted=predicted,
        generations=generations.lazy(),
    ).sort("id")
    assert found["verbatim_hits"].to_list() == [1, 0, 0, 0, 0, None]
    assert found["near_hits"].to_list() == [1, 2, 0, 0, 0, None]
    best = found.select(pl.col("^best_.*$"))
    assert best.row(0) == ("m/user/seed-0", 0, "user 0", 1.0, 1.0)
    assert best.row(1) == ("m/full/seed-0", 2, "full 2", pytest.approx(0.99), 0.7)
    assert best.row(2) == ("m/user/seed-0", 1, "user 1", None, 0.8)
    assert best.row(3) == (None,) * 5
    assert found["expected"].to_list()[:5] == [pytest.approx(100 * np.exp(-2))] * 5
    assert found["expected"][5] is None


def test_bad_likelihoods_are_named() -> None:
    corpus = make_corpus([("a", "member", None)])
    likelihood = make_likelihood(corpus, [-1.0])
    with pytest.raises(InputError, match="row x has a likelihood"):
        rows("m", likelihood.with_columns(id=pl.lit("x")), corpus, trained_on=[])
    with pytest.raises(InputError, match="no question inside the chat template"):
        rows("m", likelihood.with_columns(template=False), corpus, trained_on=[])
