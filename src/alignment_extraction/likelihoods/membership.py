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

Members are held against held-out items. Were the two unlike in kind, an attack would tell them
apart without any membership (Duan et al. 2024, arXiv 2402.07841), so the model before training is
attacked too: what it gives away cannot be membership.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binom

from alignment_extraction.statistics import Interval, named_seed, wilson

ATTACKS = ("loss", "ref", "zlib", "min_k", "min_k_plus_plus")
FALSE_POSITIVE_RATE = 0.01
_CELLS = 4_000_000  # resampled counts held at a time

Array = np.ndarray[Any, Any]

SCHEMA = pl.Schema(
    {
        "target": pl.String(),
        "template": pl.Boolean(),
        "group": pl.String(),
        "control": pl.String(),
        "templates": pl.Int64(),
        "side": pl.String(),
        "attack": pl.String(),
        "members": pl.Int64(),
        "held_out": pl.Int64(),
        "auc": pl.Float64(),
        "auc_low": pl.Float64(),
        "auc_high": pl.Float64(),
        "false_positives": pl.Int64(),
        "tpr": pl.Float64(),
        "tpr_low": pl.Float64(),
        "tpr_high": pl.Float64(),
    }
)


def membership(likelihood: pl.DataFrame, seed: int) -> pl.DataFrame:
    """AUC, and true positive rate at a false positive rate of 1 %, of every attack.

    Args:
        likelihood: from `likelihood.compare`.
        seed: of the bootstrap.

    Returns:
        One row for each target x template x member group x held-out group of its source (of all
        sources, where its own holds nothing out) x side (`before`, `after`: the model attacked) x
        attack (`ref` for `after` alone). Columns target, template, group, control (the held-out
        group), templates (those that both have: where there are any, items of others are left out,
        so that like is compared with like; else 0), side, attack, members, held_out (items of
        each), auc, auc_low, auc_high (see `auc_intervals`), false_positives (held-out items that
        the 1 % lets through), tpr, tpr_low, tpr_high (see `true_positive_rate`). No
        rows where nothing is held out.
    """
    table = likelihood.filter(pl.col("tokens") > 0).drop_nulls(["before", "after"])
    rows: list[dict[str, Any]] = []
    for (target, template), part in table.group_by("target", "template", maintain_order=True):
        members = part.filter(role="member")
        for (group,), own in members.group_by("group", maintain_order=True):
            for (control,), other in _held_out(part, str(group)).group_by(
                "group", maintain_order=True
            ):
                key = {"target": target, "template": template, "group": group, "control": control}
                stream = named_seed(seed, f"membership/{target}/{template}/{group}/{control}")
                ours, theirs, key["templates"] = _alike(own, other)
                rows.extend(key | row for row in _attacked(ours, theirs, stream))
    return pl.DataFrame(rows, schema=SCHEMA)


def attack_scores(likelihood: pl.DataFrame) -> dict[tuple[str, str], Array]:
    """The scores of every attack on every side, float64 (rows,) each, by (side, attack)."""
    frame = likelihood.with_columns(
        *[pl.col(side).truediv("tokens").alias(f"{side}_loss") for side in ("before", "after")]
    ).with_columns(
        *[
            pl.col(f"{side}_loss").truediv("zlib_bytes").alias(f"{side}_zlib")
            for side in ("before", "after")
        ],
        after_ref=pl.col("after_loss") - pl.col("before_loss"),
    )
    return {
        (side, attack): frame[f"{side}_{attack}"].to_numpy()
        for side in ("before", "after")
        for attack in ATTACKS
        if f"{side}_{attack}" in frame.columns
    }


def _held_out(part: pl.DataFrame, group: str) -> pl.DataFrame:
    held_out = part.filter(role="held-out")
    of_source = held_out.filter(pl.col("group").str.split(".").list.first() == group.split(".")[0])
    return of_source if len(of_source) else held_out


def _alike(members: pl.DataFrame, held_out: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Both without the items of templates that the other lacks; all of both if they share none."""
    instance_of = pl.col("instance_of")
    shared = members.join(held_out, on="instance_of", how="semi")["instance_of"].unique()
    if shared.is_empty():
        return members, held_out, 0
    alike = instance_of.is_in(shared.to_list())
    return members.filter(alike), held_out.filter(alike), len(shared)


def _attacked(members: pl.DataFrame, held_out: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    ours, theirs = attack_scores(members), attack_scores(held_out)
    aucs = auc_intervals(np.stack([*ours.values()]), np.stack([*theirs.values()]), seed)
    rows = []
    for at, (side, attack) in enumerate(ours):
        tpr = true_positive_rate(ours[side, attack], theirs[side, attack])
        rows.append(
            {
                "side": side,
                "attack": attack,
                "members": len(members),
                "held_out": len(held_out),
                "auc": float(aucs.estimate[at]),
                "auc_low": float(aucs.low[at]),
                "auc_high": float(aucs.high[at]),
                "false_positives": allowed(len(held_out)),
                "tpr": tpr.estimate,
                "tpr_low": tpr.low,
                "tpr_high": tpr.high,
            }
        )
    return rows


def auc_intervals(
    members: Array, held_out: Array, seed: int, level: float = 0.95, draws: int = 1000
) -> Interval:
    """Area under the ROC curve of several attacks, with percentile bootstrap intervals.

    The AUC is the chance that a member scores higher than a held-out item, ties counting half.
    Members and held-out items are resampled apart, in the same way for every attack. Where every
    pair is in order no resample is out of it, and the bootstrap would be certain: the open end is
    then Wilson's bound on min(members, held-out items) pairs that share no item.

    Args:
        members: scores, shape (attacks, members).
        held_out: scores, shape (attacks, held-out items).
        seed: of the resampling.
        level: coverage of the interval.
        draws: resamples.

    Returns:
        float64 (attacks,) each.
    """
    count, other_count = members.shape[1], held_out.shape[1]
    scores = np.concatenate([members, held_out], axis=1)
    orders = np.argsort(scores, axis=1, kind="stable")
    stream = np.random.default_rng(seed)
    block = max(1, _CELLS // (count + other_count))
    # The first draw is the sample itself.
    drawn = [np.ones((1, count + other_count), np.int32)]
    results = [_weighted_aucs(scores, orders, drawn[0], count)]
    for start in range(0, draws, block):
        size = min(block, draws - start)
        weights = np.concatenate(
            [_resampled(stream, size, count), _resampled(stream, size, other_count)], axis=1
        )
        results.append(_weighted_aucs(scores, orders, weights, count))
    estimate = results[0][:, 0]
    resampled = np.concatenate(results[1:], axis=1)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
    pairs = min(count, other_count)
    low = np.where(estimate == 1, wilson(pairs, pairs, level).low, low)
    high = np.where(estimate == 0, wilson(0, pairs, level).high, high)
    return Interval(estimate, low, high)


def _resampled(stream: np.random.Generator, draws: int, count: int) -> Array:
    """How often each of `count` items is drawn, int32 (draws, count)."""
    items = stream.integers(0, count, (draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(items.ravel(), minlength=draws * count).reshape(draws, count).astype("i4")


def _weighted_aucs(scores: Array, orders: Array, weights: Array, count: int) -> Array:
    """AUCs, float64 (attacks, draws), of items that count `weights` (draws, items) times."""
    results = []
    own = np.concatenate([weights[:, :count], np.zeros_like(weights[:, count:])], axis=1)
    for values, order in zip(scores, orders, strict=True):
        ordered = values[order]
        # Equal scores are one place.
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        here = np.add.reduceat(own[:, order], starts, axis=1)
        others = np.add.reduceat(weights[:, order], starts, axis=1) - here
        below = np.cumsum(others, axis=1, dtype=np.int64) - others
        wins = (here * (below + others / 2)).sum(axis=1)
        results.append(wins / here.sum(axis=1) / others.sum(axis=1))
    return np.stack(results)


def allowed(held_out: int, rate: float = FALSE_POSITIVE_RATE) -> int:
    """The most of `held_out` items that a false positive rate of `rate` lets through."""
    return int(np.floor(rate * held_out + 1e-9))


def least_held_out(rate: float = FALSE_POSITIVE_RATE, level: float = 0.95) -> int:
    """Held-out items below which the interval of `true_positive_rate` begins at 0: 437 at 1 %.

    With fewer, (1 - rate)^n leaves it open whether the threshold is above every one.
    """
    return int(np.ceil(np.log((1 - level) / 4) / np.log1p(-rate)))


def true_positive_rate(
    members: Array, held_out: Array, rate: float = FALSE_POSITIVE_RATE, level: float = 0.95
) -> Interval:
    """Share of members above the threshold that lets a share `rate` of held-out items through.

    The estimate takes the threshold at which at most `rate` of these held-out items are above it.
    The interval is for the threshold that lets exactly `rate` of all such items through, which is
    known only to lie between two of the held-out scores: as many of n are above it as a binomial
    (n, rate) gives. At both ends Wilson's bound is taken; each of the two steps has half the error.
    It is wide where few items are held out, and begins at 0 with fewer than `least_held_out`.

    Args:
        members: scores, shape (members,).
        held_out: scores, shape (held-out items,).
        rate: false positive rate.
        level: coverage of the interval, at least.
    """
    ranked = np.concatenate([np.sort(held_out)[::-1], [-np.inf]])
    error = (1 - level) / 2
    fewest, most = binom.ppf([error / 2, 1 - error / 2], len(held_out), rate).astype(int)

    def above(position: int) -> int:
        return int(np.count_nonzero(members > ranked[position]))

    estimate = above(allowed(len(held_out), rate)) / len(members)
    low = wilson(above(fewest - 1), len(members), 1 - error).low if fewest else 0.0
    high = wilson(above(most), len(members), 1 - error).high
    return Interval(estimate, float(low), float(high))
