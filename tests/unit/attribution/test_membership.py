"""Membership: scikit-learn's ROC, mimir's formulas, coverage by simulation."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from alignment_extraction.attribution.membership import (
    attack_scores,
    membership,
    true_positive_rate,
)
from alignment_extraction.attribution.shift import compared
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.statistics import Interval
from tests.likelihoods import make_corpus, make_likelihood


def rate_of(members: np.ndarray, twins: np.ndarray) -> Interval:
    """Of single rows."""
    return true_positive_rate(members, twins, np.arange(len(members)), np.arange(len(twins)))


SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(SCORES, st.lists(st.integers(-5, 5), min_size=1, max_size=300))
def test_true_positive_rate_is_scikit_learns(members: list[int], twins: list[int]) -> None:
    found = rate_of(np.array(members), np.array(twins))
    labels = [1] * len(members) + [0] * len(twins)
    fpr, tpr, _ = roc_curve(labels, members + twins, drop_intermediate=False)
    assert found.estimate == pytest.approx(tpr[fpr <= 0.01].max())
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("twins", [50, 160, 1000])
def test_true_positive_rate_covers(twins: int) -> None:
    """Normal scores: at a false positive rate of 1 % the rate is 1 - Phi(z(0.99) - d)."""
    rng = np.random.default_rng(twins)
    truth = norm.sf(norm.isf(0.01) - 2)
    runs, covered = 600, 0
    for _ in range(runs):
        found = rate_of(rng.normal(2, 1, 200), rng.normal(0, 1, twins))
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_true_positive_rate_covers_clustered_rows() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 30)
    truth = norm.sf(norm.isf(0.01) - 2)
    runs, covered = 300, 0
    for _ in range(runs):
        effects = rng.normal(0, 0.7**0.5, (2, 40))[:, labels]
        scores = effects + rng.normal(0, 0.3**0.5, (2, 1200))
        found = true_positive_rate(scores[0] + 2, scores[1], labels, labels + 40)
        covered += found.low <= truth <= found.high
    assert covered / runs > 0.93


def test_few_twins_bound_nothing_from_below() -> None:
    members = np.full(500, 10.0)
    for count, bounded in ((436, False), (437, True)):
        found = rate_of(members, np.zeros(count))
        assert found.estimate == 1
        assert (found.low > 0) == bounded


CORPUS = make_corpus(
    [("a", role, f"t{i % 9}") for role in ("member", "twin") for i in range(90)]
    + [("a", "held-out", "u")] * 9
)


def likelihoods(seed: int, drift: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A model and its base; `drift` moves members' questions up, and their answers either way."""
    rng = np.random.default_rng(seed)
    tables: list[list[pl.DataFrame]] = [[], []]
    member = (CORPUS["role"] == "member").to_numpy()
    for target in ("question", "answer"):
        base = rng.normal(-40, 5, len(CORPUS))
        step = rng.choice([-1, 1], len(CORPUS)) if target == "answer" else 1
        ours = base + 2 + drift * member * step + rng.normal(0, 1, len(CORPUS))
        for table, values in zip(tables, (ours, base), strict=True):
            table.append(make_likelihood(CORPUS, values.tolist(), target=target))
    return pl.concat(tables[0]), pl.concat(tables[1])


def test_every_attack_meets_the_twins_of_its_source() -> None:
    ours, base = likelihoods(0, drift=4.0)
    table = membership(compared("m", ours, CORPUS, "b", base))
    assert table.schema == SCHEMAS["membership"]
    assert set(table.select("source", "members", "twins", "resampled").iter_rows()) == {
        ("a", 90, 90, "template")
    }
    attacks = dict(table.group_by("target").agg(pl.col("attack").sort()).iter_rows())
    likelihood_only = ["loss", "min_k", "min_k_plus_plus", "zlib"]
    assert attacks["question"] == sorted([*likelihood_only, "ref"])
    assert attacks["answer"] == sorted([*likelihood_only, "ref", "response"])
    # Training moved the members alone: the reference attack sees it, the model before does not.
    assert table.filter(attack="ref", target="question")["low"].item() > 0.9
    # Answers moved either way, which only the size of the change shows.
    response = table.filter(attack="response").row(0, named=True)
    signed = table.filter(attack="ref", target="answer").row(0, named=True)
    assert response["auc"] > signed["auc"]
    before = membership(compared("b", base, CORPUS))
    assert set(before["attack"]) == set(likelihood_only)
    assert before["base"].is_null().all()
    assert before.filter((pl.col("low") > 0.5) | (pl.col("high") < 0.5)).is_empty()


def test_nothing_learnt_is_nothing_found() -> None:
    runs, covered = 60, 0
    for seed in range(runs):
        table = membership(compared("m", likelihoods(seed)[0], CORPUS)).filter(target="question")
        covered += table.filter(attack="loss")["low"].item() <= 0.5
        covered += table.filter(attack="loss")["high"].item() >= 0.5
    assert covered / (2 * runs) >= 0.93


def test_auc_is_of_the_rows_that_are_compared() -> None:
    ours, base = likelihoods(3, drift=1.0)
    table = membership(compared("m", ours, CORPUS, "b", base))
    own = ours.join(base, on=["id", "target"], suffix="_base").join(CORPUS, on="id")
    own = own.filter(pl.col("role") != "held-out", target="question")
    change = own["log_probability"] - own["log_probability_base"]
    expected = roc_auc_score((own["role"] == "member").to_numpy(), change.to_numpy())
    found = table.filter(attack="ref", target="question")["auc"].item()
    assert found == pytest.approx(expected)


def test_attacks_are_mimirs() -> None:
    """mimir's scores are losses: loss, loss - loss of the reference, loss / zlib bytes."""
    ours, base = likelihoods(0)
    table = compared("m", ours, CORPUS, "b", base).filter(target="answer")
    scores = attack_scores(table)
    for i, row in enumerate(table.head(20).iter_rows(named=True)):
        loss = -row["log_probability"] / row["tokens"]
        reference = -row["base_log_probability"] / row["tokens"]
        assert scores["loss"][i] == pytest.approx(-loss)
        assert scores["zlib"][i] == pytest.approx(-loss / row["zlib_bytes"])
        assert scores["ref"][i] == pytest.approx(-(loss - reference))
        assert scores["min_k"][i] == row["min_k"]
        assert scores["response"][i] == pytest.approx(abs(loss - reference))
