"""How often a model repeats itself: estimates against known distributions, and the page."""

import numpy as np
import polars as pl
import pytest

from alignment_extraction.audits.repeats import clusters, repeats

DISTRIBUTIONS = {
    "even": np.full(3000, 1 / 3000),
    "zipf": (zipf := 1 / np.arange(1, 5001)) / zipf.sum(),
    "steep": (steep := 0.9 ** np.arange(200)) / steep.sum(),
    "one and many": np.append(0.05, np.full(19_000, 0.95 / 19_000)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [64, 300])
def test_against_the_truth(name: str, n: int) -> None:
    p = DISTRIBUTIONS[name]
    stream = np.random.default_rng(0)
    truth, found, covered, unseen, within = (p**2).sum(), [], 0, [], 0
    runs = 200
    for _ in range(runs):
        drawn = stream.choice(len(p), n, p=p)
        told = repeats(pl.Series(drawn).cast(pl.String))
        assert (told.n, told.distinct) == (n, len(np.unique(drawn)))
        found.append(told.collision.estimate)
        covered += told.collision.low <= truth <= told.collision.high
        assert told.support.low <= told.support.estimate <= told.support.high
        missing = 1 - p[np.unique(drawn)].sum()
        unseen.append(told.unseen.estimate - missing)
        within += told.unseen.low <= missing <= told.unseen.high
    error = np.std(found) / np.sqrt(runs)
    assert abs(np.mean(found) - truth) < 4 * error
    assert covered >= 0.9 * runs
    assert abs(np.mean(unseen)) < 4 * np.std(unseen) / np.sqrt(runs) + 1 / n
    assert within >= 0.9 * runs


def test_edges() -> None:
    different = repeats(pl.Series([str(i) for i in range(100)]))
    assert different.collision.estimate == different.collision.low == 0
    # As a text of 5.4 % would hide among them.
    assert different.collision.high == pytest.approx(0.0545**2, rel=1e-2)
    assert different.support.estimate == np.inf and different.support.low > 300
    assert different.unseen.estimate == different.unseen.high == 1
    assert 0.9 < different.unseen.low < 1 - 1 / 100
    same = repeats(pl.Series(["x"] * 100))
    assert same.collision.estimate == same.collision.high == 1
    assert same.unseen.estimate == same.unseen.low == 0 < same.unseen.high < 0.04


def test_clusters() -> None:
    texts = pl.Series(["a 1", "b 7", "a 2", "c", "a 1", "b 8"])
    found = clusters(texts, texts.str.replace_all(r"\d", "#"))
    assert found.select("key", "n", "distinct", "example").rows() == [
        ("a #", 3, 2, "a 1"),
        ("b #", 2, 2, "b 7"),
    ]
    assert found["rate"][0] == 0.5 and found["low"][0] < 0.2 and found["high"][0] > 0.85
