"""Membership by likelihood: how well a model's own likelihoods tell what it was trained on.

The attacks and their names are those of mimir (iamgroot42/mimir, `attacks/all_attacks.py`), each as
a score that is higher for what looks trained on:

| attack | score | source |
| --- | --- | --- |
| `loss` | mean log-probability of a token | Yeom et al. 2018 |
| `ref` | the same, less that under the model before training | Carlini et al. 2021 |
| `zlib` | the same, over the bytes of the text compressed | Carlini et al. 2021 |
| `min_k` | Min-K %, see `min_k` | Shi et al. 2023 |
| `min_k_plus_plus` | Min-K%++, see `min_k` | Zhang et al. 2024 |
| `response` | absolute change of an answer's mean log-probability, given its question | see below |

`response` is for models after reinforcement learning, which rewards answers of the model's own and
so changes how it answers the questions it saw, whether or not the reference answer gets likelier.
It is one part of the divergence in behaviour of Liu et al. (arXiv 2511.14045), who compare answers
sampled from both models, and their rewards, where here only the corpus's answer is scored: a miss
of this attack does not bound theirs.

Known limits. Members are held against twins; were the two unlike in kind, an attack would tell them
apart without any membership (Duan et al. 2024, arXiv 2402.07841), so run `membership` on the model
before training too: what that gives away cannot be membership. An AUC near 0.5 is no proof of
privacy: the rate of members found at few false alarms can be high at the same AUC (Carlini et al.
2022), and few twins cannot show it. Scores are of one checkpoint without shadow models.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom

from alignment_extraction.attribution.shift import compared
from alignment_extraction.statistics import (
    Interval,
    auc_interval,
    cluster_rate,
    design_effect,
)

FALSE_POSITIVE_RATE = 0.01

Array = np.ndarray[Any, Any]

MEMBERSHIP = pl.Schema(
    {
        "model": pl.String(),
        "base": pl.String(),
        "source": pl.String(),
        "attack": pl.String(),
        "target": pl.String(),
        "template": pl.Boolean(),
        "members": pl.Int64(),
        "twins": pl.Int64(),
        "auc": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "tpr": pl.Float64(),
        "tpr_low": pl.Float64(),
        "tpr_high": pl.Float64(),
        "resampled": pl.String(),
    }
)


def membership(
    model: str,
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    base_name: str | None = None,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """AUC, and true positive rate at a false positive rate of 1 %, of every attack on a model.

    Args:
        model: its name.
        likelihood: of the model.
        corpus: in the corpus schema.
        base_name: name of the model before training, where there is one.
        base: its likelihood; without it there are no `ref` and `response`.

    Returns:
        Columns `MEMBERSHIP`, for each source x target x template (whether the chat template stood
        around it) x attack: members, twins (rows of templates that both have), auc with its
        interval (`statistics.auc_interval`), tpr with its interval (`true_positive_rate`),
        resampled (what counts as independent: `template`, `pair` or `row`).

    Raises:
        InputError: see `shift.compared`.
    """
    table = compared(likelihood, corpus, base)
    found = []
    for (source, target, template), own in sorted(table.group_by("source", "target", "template")):
        member = own["member"].to_numpy()
        clusters = own["cluster"].to_numpy()
        for attack, scores in attack_scores(own).items():
            usable = ~np.isnan(scores)
            ours, theirs = usable & member, usable & ~member
            if not ours.any() or not theirs.any():
                continue
            sides = (scores[ours], scores[theirs], clusters[ours], clusters[theirs])
            auc, tpr = auc_interval(*sides), true_positive_rate(*sides)
            about = {"model": model, "base": base_name, "source": source, "attack": attack}
            about |= {"target": target, "template": template, "resampled": own["resampled"][0]}
            about |= {"members": int(ours.sum()), "twins": int(theirs.sum())}
            about |= dict(zip(("auc", "low", "high"), auc, strict=True))
            found.append(about | dict(zip(("tpr", "tpr_low", "tpr_high"), tpr, strict=True)))
    return pl.DataFrame(found, schema=MEMBERSHIP)


def attack_scores(table: pl.DataFrame) -> dict[str, Array]:
    """The score of each row by each attack that the columns allow, float64 (rows,).

    Args:
        table: columns of a likelihood table of one target, and base_log_probability.
    """
    loss = pl.col("log_probability") / pl.col("tokens")
    change = (pl.col("log_probability") - pl.col("base_log_probability")) / pl.col("tokens")
    scores = {
        "loss": loss,
        "ref": change,
        "zlib": loss / pl.col("zlib_bytes"),
        "min_k": pl.col("min_k"),
        "min_k_plus_plus": pl.col("min_k_plus_plus"),
        "response": pl.when(target="answer").then(change.abs()),
    }
    values = table.select(**scores)
    return {
        name: column.cast(pl.Float64).to_numpy()
        for name, column in zip(scores, values, strict=True)
        if column.null_count() < len(column)
    }


def allowed(twins: int, rate: float = FALSE_POSITIVE_RATE) -> int:
    """The most of so many twins that a false positive rate of `rate` lets through."""
    return int(np.floor(rate * twins + 1e-9))


def least_twins(rate: float = FALSE_POSITIVE_RATE, level: float = 0.95) -> int:
    """Twins below which the interval of `true_positive_rate` begins at 0: 437 at 1 %.

    With fewer, (1 - rate)^n leaves it open whether the threshold is above every one.
    """
    return int(np.ceil(np.log((1 - level) / 4) / np.log1p(-rate)))


def true_positive_rate(
    members: Array,
    twins: Array,
    member_clusters: Array | None = None,
    twin_clusters: Array | None = None,
    rate: float = FALSE_POSITIVE_RATE,
    level: float = 0.95,
) -> Interval:
    """Share of members above the threshold that lets a share `rate` of twins through.

    The estimate takes the threshold at which at most `rate` of these twins are above it. The
    interval is for the threshold that lets exactly `rate` of all such twins through, which is known
    only to lie between two of the twins' scores: as many of n are above it as a binomial (n, rate)
    gives. At both ends the interval of the members' share is taken; each of the two steps has half
    the error. Where rows come in clusters n is divided by the design effect of the twins above the
    estimate's threshold, and the members' interval is `statistics.cluster_rate`. It is wide where
    twins are few, and begins at 0 with fewer than `least_twins`.

    Args:
        members: scores, shape (members,).
        twins: scores, shape (twins,).
        member_clusters: the cluster of each member; without, each row is one.
        twin_clusters: the cluster of each twin.
        rate: false positive rate.
        level: coverage of the interval, at least.
    """
    if member_clusters is None or twin_clusters is None:
        member_clusters, twin_clusters = np.arange(len(members)), np.arange(len(twins))
    ranked = np.concatenate([np.sort(twins)[::-1], [-np.inf]])
    error = (1 - level) / 2
    place = allowed(len(twins), rate)
    effect = design_effect(twins > ranked[place], twin_clusters)
    sizes = binom.ppf([error / 2, 1 - error / 2], max(1, int(len(twins) / effect)), rate)
    fewest = int(np.floor(sizes[0] * effect))
    most = min(len(twins), int(np.ceil(sizes[1] * effect)))

    def above(position: int) -> Interval:
        return cluster_rate(members > ranked[position], member_clusters, 1 - error)

    low = above(fewest - 1).low if fewest else 0.0
    return Interval(above(place).estimate, float(low), float(above(most).high))
