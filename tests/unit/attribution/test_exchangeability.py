"""The blind test: what it sees, what it must not see, and what it cannot say."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from alignment_extraction.attribution.exchangeability import FEWEST, exchangeability
from alignment_extraction.statistics import placements
from tests.unit.attribution.conftest import corpus_of

NAMES = ("pens", "hens", "trains", "apples", "marbles", "coins")


def texts(stream: np.random.Generator, count: int) -> list[str]:
    return [
        f"Ann has {stream.integers(1000)} {stream.choice(NAMES)} and {stream.integers(1000)} "
        f"{stream.choice(NAMES)}."
        for _ in range(count)
    ]


def paired(seed: int, pairs: int, mark: str = "", repeated: int = 1) -> pl.DataFrame:
    stream = np.random.default_rng(seed)
    drawn = texts(stream, 2 * pairs)
    rows = []
    for pair in range(pairs):
        for side, role in enumerate(stream.permutation(["member", "twin"])):
            text = drawn[2 * pair + side] + (mark if role == "member" else "")
            for copy in range(repeated if role == "member" else 1):
                row = (f"{pair}-{side}-{copy}", str(role), "t", f"p{pair}", repeated, text)
                rows.append(row)
    return corpus_of(rows)


def test_twins_by_a_coin_are_exchangeable() -> None:
    held = []
    for seed in range(8):
        row = exchangeability(paired(seed, 120), 0).row(0, named=True)
        assert row["verdict"] == "exchangeable"
        assert row["needed"] is None
        held.append(row["low"] <= 0.5 <= row["high"])
    assert sum(held) >= 6


def test_a_difference_in_the_texts_is_seen() -> None:
    row = exchangeability(paired(1, 120, mark=" Thanks!"), 0).row(0, named=True)
    assert (row["verdict"], row["auc"]) == ("told apart", pytest.approx(1))
    assert exchangeability(paired(1, 120, mark=" Thanks!"), 0).row(0, named=True) == row


def test_repetitions_are_not_seen() -> None:
    table = exchangeability(paired(2, 120, repeated=5), 0)
    assert table["members"][0] <= 120
    assert table["verdict"][0] == "exchangeable"


def test_few_twins_give_no_verdict() -> None:
    row = exchangeability(paired(3, 40), 0).row(0, named=True)
    assert (row["verdict"], row["auc"], row["needed"]) == ("too few", None, FEWEST)


def test_templates_are_folded_whole() -> None:
    # Each template has its words: a row tells its template, which must not tell its side.
    stream = np.random.default_rng(4)
    words = [f"{a}{b}" for a in "klmnpr" for b in "aeiou"]
    rows = []
    for template in range(30):
        role = "member" if template % 2 else "held-out"
        rows += [
            (f"{template}-{at}", role, f"t{template}", None, 1, f"{words[template]} {text}")
            for at, text in enumerate(texts(stream, 20))
        ]
    row = exchangeability(corpus_of(rows), 0).row(0, named=True)
    assert (row["level"], row["members"], row["twins"]) == ("templates", 300, 300)
    assert row["verdict"] == "exchangeable"


def test_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment_extraction.attribution.exchangeability.MOST", 150)
    table = exchangeability(paired(5, 300, mark="!"), 0)
    assert (table["members"][0], table["twins"][0]) == (150, 150)


def test_area_is_scikit_learns_and_its_variance_delongs() -> None:
    stream = np.random.default_rng(6)
    score, member = stream.integers(0, 20, 300).astype(float), stream.random(300) < 0.4
    area, *added = placements(score[member], score[~member])
    assert area == pytest.approx(roc_auc_score(member, score))
    wins = score[member][:, None] > score[~member]
    ties = score[member][:, None] == score[~member]
    kernel = wins + 0.5 * ties
    variance = kernel.mean(1).var() / member.sum() + kernel.mean(0).var() / (~member).sum()
    assert sum((each**2).sum() for each in added) == pytest.approx(variance)
