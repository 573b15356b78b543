"""Likelihood before and after: closed forms, brute force and simulated coverage."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student_t

from alignment_extraction.attribution.shift import compared, shift, tails
from alignment_extraction.attribution.tables import SCHEMAS
from tests.likelihoods import make_corpus, make_likelihood


def test_the_difference_in_differences_by_hand() -> None:
    # Template t: two members, one twin; u: one member, two twins; v: no twin.
    kinds = ["member t", "member t", "twin t", "member u", "twin u", "twin u", "member v"]
    corpus = make_corpus([("a", *kind.split()) for kind in kinds])
    before = make_likelihood(corpus, [-20.0] * 7, tokens=4)
    after = make_likelihood(corpus, [-10.0, -12, -18, -15, -19, -17, 0], tokens=4)
    table = shift(compared("m", after, corpus, "b", before), seed=0)
    assert table.schema == SCHEMAS["shift"]
    question = table.filter(per="question").row(0, named=True)
    assert (question["members"], question["twins"]) == (3, 3)
    # Members: 10, 8, 5. Twins: 2 in t, which weighs 2; 1 and 3 in u, which weighs 1.
    assert question["member_change"] == pytest.approx(23 / 3)
    assert question["twin_change"] == pytest.approx(2)
    assert question["difference"] == pytest.approx(23 / 3 - 2)
    assert question["resampled"] == "template"
    token = table.filter(per="token").row(0, named=True)
    assert token["difference"] == pytest.approx(question["difference"] / 4)
    assert token["detectable"] == pytest.approx(question["detectable"] / 4)


def test_what_is_resampled() -> None:
    for template, pair, expected in (("t", True, "pair"), (None, False, "row")):
        corpus = make_corpus([("a", role, template) for role in ("member", "twin")] * 4)
        if not pair:
            corpus = corpus.with_columns(pair=pl.lit(None, pl.String))
        likelihood = make_likelihood(corpus, np.arange(-8.0, 0).tolist())
        table = compared("m", likelihood, corpus)
        assert set(table["resampled"]) == {expected}
        assert table["cluster"].n_unique() == (4 if pair else 8)
        found = shift(compared("m", likelihood, corpus, "b", likelihood), seed=0)
        assert found["difference"].to_list() == [0, 0]
        assert found["low"].to_list() == [0, 0]


def test_rows_that_did_not_fit_and_sources_without_twins_are_left_out() -> None:
    corpus = make_corpus([("a", "member", None)] * 3 + [("a", "twin", None)] * 2)
    corpus = pl.concat([corpus, make_corpus([("b", "member", None)]).with_columns(id=pl.lit("x"))])
    after = make_likelihood(corpus, [None, -1, -1, -1, -1, -1])
    before = make_likelihood(corpus, [-1.0, None, -1, -1, -1, -1])
    table = shift(compared("m", after, corpus, "b", before), seed=0)
    assert table.select("source", "members", "twins").unique().rows() == [("a", 1, 2)]
    assert shift(compared("m", after.head(0), corpus, "b", before), seed=0).is_empty()


@pytest.mark.parametrize("templates", [5, 40])
def test_the_interval_covers_and_what_is_detectable_is_detected(templates: int) -> None:
    """Templates that training changed by much and unlike amounts, twins as much as members."""
    rng = np.random.default_rng(templates)
    labels = np.repeat(np.arange(templates), 6)
    corpus = make_corpus([("a", role, f"t{t}") for role in ("member", "twin") for t in labels])
    before = make_likelihood(corpus, [-30.0] * len(corpus))
    size = len(labels)
    runs, covered, errors, promised = 200, 0, [], []
    for run in range(runs):
        change = np.tile(rng.normal(3, 5, templates)[labels], 2) + rng.normal(0, 1, 2 * size)
        change[:size] += rng.normal(0.5, 0.4, templates)[labels]
        after = make_likelihood(corpus, (change - 30).tolist())
        row = shift(compared("m", after, corpus, "b", before), seed=run).row(0, named=True)
        covered += row["low"] <= 0.5 <= row["high"]
        errors.append(row["difference"] - 0.5)
        promised.append(row["detectable"])
    assert covered / runs > 0.91
    assert abs(np.mean(errors)) < 4 * np.std(errors) / runs**0.5
    quantiles = student_t.ppf(0.975, templates - 1) + student_t.ppf(0.8, templates - 1)
    assert np.mean(promised) == pytest.approx(quantiles * np.std(errors), rel=0.15)


def test_templates_alike_by_luck_make_no_narrow_interval() -> None:
    """Three templates of which twins lost one nat more each, in rows that vary by three."""
    noise = np.random.default_rng(0).normal(0, 3, 30)
    noise -= noise.mean()
    corpus = make_corpus(
        [("a", role, f"t{t}") for t in range(3) for role in ("member", "twin") for _ in noise]
    )
    before = make_likelihood(corpus, [-30.0] * len(corpus))
    after = make_likelihood(
        corpus, [x - 30 - lost for _ in range(3) for lost in (0, 1) for x in noise]
    )
    row = shift(compared("m", after, corpus, "b", before), seed=0).row(0, named=True)
    assert row["difference"] == pytest.approx(1)
    error = np.std(noise) * (2 / 90) ** 0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert row["detectable"] == pytest.approx(2.8 * error, rel=0.1)


def test_tails_count_both_sides_before_and_after() -> None:
    corpus = make_corpus([("a", "member", None)] * 3 + [("a", "twin", None)] * 3)
    ten = np.log(10)
    before = make_likelihood(corpus, (ten * np.array([-5.5, -7.5, -9, -5.5, -9, -9])).tolist())
    after = make_likelihood(corpus, (ten * np.array([-4.5, -6.5, -7.5, -5.5, -9, -9])).tolist())
    table = tails(compared("m", after, corpus, "b", before))
    member = table.filter(role="member")
    assert member["threshold"].to_list() == [-5, -6, -7, -8]
    assert member["before"].to_list() == [0, 1, 1, 2]
    assert member["after"].to_list() == [1, 1, 2, 3]
    twin = table.filter(role="twin")
    assert twin["before"].to_list() == twin["after"].to_list() == [0, 1, 1, 1]
    assert set(table["rows"]) == {3}
    assert tails(compared("m", after, corpus))["before"].is_null().all()
