"""How often a model repeats itself: what its generations alone say of how many texts it has.

Generations are independent draws from a distribution p over texts. Three numbers of it, none of
which needs the training data:

- the collision rate, sum of p^2: the chance that two draws are the same text;
- the effective support, 1 / collision rate: so many equally likely texts would collide as often;
- the unseen mass: the chance that the next draw is a text not drawn yet.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.stats import chi2

from alignment_extraction.statistics import Interval, clopper_pearson


class Repeats(NamedTuple):
    """What so many draws say; intervals are at 95 %."""

    n: int
    distinct: int
    collision: Interval
    unseen: Interval

    @property
    def support(self) -> Interval:
        """Effective number of texts; infinite where no bound is known."""
        with np.errstate(divide="ignore"):
            estimate, high, low = (1 / np.float64(value) for value in self.collision)
        return Interval(float(estimate), float(low), float(high))


def repeats(texts: pl.Series) -> Repeats:
    """Collision rate and unseen mass of texts, with intervals.

    The collision rate is the share of pairs that are equal, an unbiased U-statistic. Its interval
    is the exact one of a Poisson count (Garwood 1936) of the equal pairs, divided by how much more
    they vary than a Poisson count for sharing texts: Var / E = 1 + 2 (n - 2) (sum p^3 / sum p^2 -
    sum p^2), from the draws' own factorial moments. It ends no lower than the square of the highest
    likely share of the commonest text, which few draws may have met once. The unseen mass is Good
    and Turing's, texts drawn once / n (Good 1953), and its interval Clopper and Pearson's with
    Esty's variance (1983).

    Args:
        texts: String, at least two.
    """
    counts = texts.value_counts()["count"].to_numpy().astype(np.float64)
    n = float(counts.sum())
    pairs, equal = n * (n - 1) / 2, float((counts * (counts - 1)).sum() / 2)
    triples = float((counts * (counts - 1) * (counts - 2)).sum())
    rate = equal / pairs
    spread = 1.0
    if equal and n > 2:
        cubes = triples / (n * (n - 1) * (n - 2))
        spread = max(1.0, 1 + 2 * (n - 2) * (cubes / rate - rate))
    number = equal / spread
    low = float(chi2.ppf(0.025, 2 * number)) / 2 if number else 0.0
    high = float(chi2.ppf(0.975, 2 * number + 2)) / 2
    alone = float(clopper_pearson(counts.max(), n).high) ** 2
    collision = Interval(rate, spread * low / pairs, min(1.0, max(alone, spread * high / pairs)))

    once, twice = float((counts == 1).sum()), float((counts == 2).sum())
    # All draws different: each pair that might have been equal takes two texts off at once.
    effect = 2.0 if once == n else 1.0
    if 0 < once < n:
        effect = 1 + 2 * twice / (once * (1 - once / n))
    bounds = clopper_pearson(once / effect, n / effect)
    unseen = Interval(once / n, float(bounds.low), float(bounds.high))
    return Repeats(int(n), len(counts), collision, unseen)


def clusters(texts: pl.Series, keys: pl.Series) -> pl.DataFrame:
    """Texts put together by a key, such as their masked form, the largest cluster first.

    Args:
        texts: String (texts,).
        keys: String (texts,), in the same order.

    Returns:
        Columns key, n (texts), distinct (of them), example, rate (of all texts), low, high; only
        of keys that more than one text has.
    """
    found = (
        pl.DataFrame({"key": keys, "text": texts})
        .group_by("key", maintain_order=True)
        .agg(n=pl.len(), distinct=pl.col("text").n_unique(), example=pl.col("text").first())
        .filter(pl.col("n") > 1)
        .sort("n", descending=True, maintain_order=True)
    )
    rate = clopper_pearson(found["n"].to_numpy(), len(texts))
    return found.with_columns(
        pl.Series("rate", rate.estimate), pl.Series("low", rate.low), pl.Series("high", rate.high)
    )
