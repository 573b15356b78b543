"""Membership by likelihood: how well a model's own likelihoods tell what it was trained on.

The attacks and their names are those of mimir (iamgroot42/mimir, `attacks/all_attacks.py`), each as
a score that is higher for what looks trained on; docs/method.md has their sources and limits.
"""

import numpy as np
import polars as pl
from scipy.stats import binom

from alignment_extraction import statistics
from alignment_extraction.attribution.shift import COMPARED
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.statistics import Array, Interval

FALSE_POSITIVE_RATE = 0.01


def membership(table: pl.DataFrame) -> pl.DataFrame:
    """The table `membership`: AUC and true positive rate of every attack on a model.

    For each source x target x template, from what is `shift.compared`; without a base there are no
    `ref` and `response`.
    """
    found = []
    for key, own in sorted(table.group_by(COMPARED)):
        member, clusters = own["member"].to_numpy(), own["cluster"].to_numpy()
        for attack, scores in attack_scores(own).items():
            usable = ~np.isnan(scores)
            ours, theirs = usable & member, usable & ~member
            if ours.any() and theirs.any():
                sides = (scores[ours], scores[theirs], clusters[ours], clusters[theirs])
                rates = (*statistics.auc_interval(*sides), *true_positive_rate(*sides))
                about = (*key[:3], attack, *key[3:], *map(len, sides[:2]))
                found.append((*about, *rates, own["resampled"][0]))
    return pl.DataFrame(found, schema=SCHEMAS["membership"], orient="row")


def attack_scores(table: pl.DataFrame) -> dict[str, Array]:
    """The score of each row of `shift.compared` by each attack that it allows, float64 (rows,)."""
    loss = pl.col("log_probability") / pl.col("tokens")
    change = (pl.col("log_probability") - pl.col("base_log_probability")) / pl.col("tokens")
    values = table.select(
        loss=loss,
        ref=change,
        zlib=loss / pl.col("zlib_bytes"),
        min_k="min_k",
        min_k_plus_plus="min_k_plus_plus",
        response=pl.when(target="answer").then(change.abs()),
    )
    return {
        column.name: column.cast(pl.Float64).to_numpy()
        for column in values
        if column.null_count() < len(column)
    }


def true_positive_rate(
    members: Array, twins: Array, member_clusters: Array, twin_clusters: Array
) -> Interval:
    """Share of members above the threshold that lets 1 % of twins through, at 95 %.

    The estimate takes the threshold at which at most 1 % of these twins are above it. The interval
    is for the threshold that lets exactly 1 % of all such twins through, which is known only to lie
    between two of the twins' scores: as many of n are above it as a binomial (n, 1 %) gives, n over
    the design effect where rows come in clusters. At both ends the interval of the members' share
    is taken (`statistics.cluster_rate`); each of the two steps has half the error.

    Args: scores of either side, and the cluster of each of its rows.
    """
    ranked = np.concatenate([np.sort(twins)[::-1], [-np.inf]])
    error = 0.025
    place = int(np.floor(FALSE_POSITIVE_RATE * len(twins) + 1e-9))
    effect = statistics.design_effect(twins > ranked[place], twin_clusters)
    independent = max(1, int(len(twins) / effect))
    sizes = binom.ppf([error / 2, 1 - error / 2], independent, FALSE_POSITIVE_RATE)
    fewest = int(np.floor(sizes[0] * effect))
    most = min(len(twins), int(np.ceil(sizes[1] * effect)))

    def above(position: int) -> Interval:
        return statistics.cluster_rate(members > ranked[position], member_clusters, 1 - error)

    low = above(fewest - 1).low if fewest else 0.0
    return Interval(above(place).estimate, float(low), float(above(most).high))
